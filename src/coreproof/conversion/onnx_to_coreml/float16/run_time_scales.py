"""Scales of a Resize that are computed while the model runs: a length follows from them, and float16 would make it another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

_PLACES = {"Resize": 2, "Upsample": 1}


def scales_at_run_time(graph: ir.Graph, constants: Mapping[str, np.ndarray]) -> Iterator[str]:
    """What such a Resize gives, and the floats from which its scales come: they are computed in float32."""
    for node in graph:
        place = _PLACES.get(node.op_type)
        if place == 2 and len(node.inputs) == 2:  # the form of opset 10
            place = 1
        scales = None if place is None or len(node.inputs) <= place else node.inputs[place]
        if scales is None or scales.const_value is not None or scales.name in constants:
            continue
        yield node.outputs[0].name or ""
        waiting, seen = [scales], set[str]()
        while waiting:
            value = waiting.pop()
            producer = value.producer()
            if producer is None or (value.name or "") in seen or value.dtype not in (None, ir.DataType.FLOAT):
                continue
            seen.add(value.name or "")
            yield value.name or ""
            waiting.extend(v for v in producer.inputs if v is not None)
