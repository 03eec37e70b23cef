"""Verbs on the width in which an ML Program computes: widen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from coreproof.errors import EditError
from coreproof.surgery.body import Body
from coreproof.surgery.edit import verb


@verb
def widen(body: Body, layers: Sequence[str] | str, weights: Mapping[str, Any] | None = None) -> None:
    """Makes operations of a float16 ML Program compute in float32, with casts where they meet float16.

    ``weights``: "layer/argument" -> the weight as it was before it was rounded to float16; others are widened as stored.
    """
    from coreproof.surgery.program import ProgramBody
    from coreproof.surgery.widen import widen_body

    if not isinstance(body, ProgramBody):
        raise EditError(
            "only an ML Program has operations in float16",
            where=body.model.name,
            expected="an ML Program",
            found=body.model.format,
        )
    names = [layers] if isinstance(layers, str) else list(layers)
    operations = [body.node(name).outputs[0] for name in names]
    given = {}
    for place, weight in (weights or {}).items():
        layer, _, argument = place.rpartition("/")
        node = body.node(layer)
        if node.outputs[0] not in operations:
            raise EditError(f"the weight {place!r} is for a layer that is not widened", expected=", ".join(names))
        given[node.outputs[0], argument] = np.asarray(weight, np.float32)
    widen_body(body, operations, given)
