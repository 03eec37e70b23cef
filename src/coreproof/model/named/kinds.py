"""Which texts name a model that is no file here: the prefixes that ``load`` knows, in one place for all who ask."""

from __future__ import annotations

import re
from typing import Literal

Named = Literal["torchvision", "timm", "hf", "address"]

PREFIXES: tuple[Named, ...] = ("torchvision", "timm", "hf")
"""``PREFIX:NAME``; what is behind them is a name in a library or on the hub, never Python code."""

_ADDRESS = re.compile(r"https?:/", re.IGNORECASE)
NAMES = "torchvision:NAME, timm:NAME, hf:OWNER/REPO[/FILE], https://HOST/FILE#sha256=DIGEST"
"""How they are written, for messages."""


def named_kind(text: str) -> Named | None:
    """What kind of name a text is; None for paths, and for ``module.path:callable``."""
    if _ADDRESS.match(text):
        return "address"
    prefix, colon, _ = text.partition(":")
    return next((each for each in PREFIXES if colon and each == prefix), None)
