"""Dictionaries as arrays: by a list of the keys that have a place, or by keys that are places themselves."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.classic.held import Dictionary, Labels
from coreproof.conversion.coreml_to_onnx.classic.stage import STRING, Stage, f64, label_array

_FIRST = np.array([0], np.int64)


def keys_array(stage: Stage, held: Dictionary) -> ir.Value:
    """The keys of a dictionary as a value."""
    return held.keys if isinstance(held.keys, ir.Value) else stage.b.constant(label_array(held.keys), "keys")


def placed(stage: Stage, held: Dictionary, vocabulary: Labels) -> ir.Value:
    """The values of a dictionary, each at the place of its key in the vocabulary; keys that are not in it are left out."""
    texts = isinstance(vocabulary[0], str)
    keys = keys_array(stage, held)
    if (keys.dtype == STRING) != texts:
        if keys not in stage.b.inputs:
            raise stage.refuse("the keys of its dictionary are of another type than those that it knows")
        # what is fed is declared with keys of another type: those that have a place say of which they are
        keys.type = ir.TensorType(STRING if texts else ir.DataType.INT64)
    return _scattered(stage, held, stage.positions(keys, vocabulary), len(vocabulary))


def dense(stage: Stage, held: Dictionary, count: int) -> ir.Value:
    """The values of a dictionary of whole numbers, each at the place that its key is; a key beyond ends the run with an error."""
    if isinstance(held.keys, tuple) and held.keys == tuple(range(count)):
        return held.values
    keys = keys_array(stage, held)
    if keys.dtype == STRING:
        raise stage.refuse("the keys of a dictionary that becomes an array are texts, where they are its places")
    result = stage.b.op("ScatterElements", np.zeros(count), keys, held.values, axis=0)
    node = result.producer()
    if node is not None:
        node.name = f"{stage.where}: a key of the dictionary is no place of its array of {count}"
    return result


def _scattered(stage: Stage, held: Dictionary, places: ir.Value, count: int) -> ir.Value:
    # those of unknown keys go to one place more, which is cut off
    whole = stage.b.op("ScatterElements", f64(np.zeros(count + 1)), places, held.values, axis=0)
    return stage.b.op("Slice", whole, _FIRST, np.array([count], np.int64))
