"""What ``--help`` shows of a verb: an example, its docstring in lines of the terminal's own, kinds of values in a short word."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

EXAMPLES: Mapping[str, str] = {
    "init": "coreproof init my_model.py --size 224",
    "prove": "coreproof prove my_model.py:model --photos photos --out proof",
    "check": "coreproof check model.onnx --target iOS16",
    "advise": "coreproof advise model.mlpackage --min-ios 17",
    "convert": "coreproof convert model.onnx model.mlpackage --precision fp16",
    "migrate": "coreproof migrate model.mlpackage model.aimodel --photos photos",
    "show": "coreproof show model.mlpackage",
    "predict": "coreproof predict model.mlpackage photo.jpg",
    "verify": "coreproof verify model.onnx model.mlpackage --require 0.99",
    "doctor": "coreproof doctor broken.mlmodel --against model.onnx --fix repaired.mlmodel",
    "edit": "coreproof edit model.mlpackage edits.toml edited.mlpackage",
    "split": "coreproof split pipeline.mlmodel stages",
    "join": "coreproof join first.mlmodel second.mlmodel pipeline.mlmodel",
    "upgrade": "coreproof upgrade old.mlmodel new.mlpackage --target iOS17",
    "diff": "coreproof diff before.mlpackage after.mlpackage",
    "shrink": "coreproof shrink model.mlpackage --against model.onnx",
    "compare": "coreproof compare lineup.toml --photos photos --out comparison",
    "check-proof": "coreproof check-proof proof my_model.py:model --photos photos",
    "compare-proofs": "coreproof compare-proofs proof-1.0 proof-1.1",
    "app": "coreproof app model.mlpackage --photos photos --out PhotoApp",
    "view": "coreproof view model.onnx --layer conv1",
    "mcp": "coreproof mcp path/to/project",
}


_KINDS: Mapping[object, str] = {
    bool: "",
    int: "N",
    float: "NUMBER",
    str: "TEXT",
    Path: "PATH",
    list[str]: "TEXT",
    list[Path]: "PATH",
}
"""Short, because 80 columns hold the names, these and what is said of them; a switch takes no value."""


def call_kinds(parameters: Iterable[Any]) -> None:
    """Gives Typer's parameters the word for what each takes, where they have none of their own."""
    for parameter in parameters:
        kind = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
        if parameter.metavar is None and parameter.param_type_name == "argument":
            parameter.metavar = parameter.name.upper()
        elif parameter.metavar is None and isinstance(kind, type(list[str]) | type):
            parameter.metavar = _KINDS.get(kind)


def flowing(docstring: str) -> str:
    """A docstring whose paragraphs are one line each, so that a terminal of any width breaks them itself.

    Indented lines are commands and stay as they are.
    """
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(docstring))
    kept = [text if text.startswith(" ") else " ".join(text.split()) for text in paragraphs]
    return "\n\n".join(kept)
