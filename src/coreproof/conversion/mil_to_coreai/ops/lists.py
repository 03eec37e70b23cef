"""MIL's lists of tensors of one shape in Core AI: one tensor with the list's length in front, which is known at run time only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coreproof.conversion.coreml_to_onnx.mlprogram.arguments import element_lengths
from coreproof.conversion.mil_to_coreai.loops import closed
from coreproof.conversion.mil_to_coreai.ops.gathering import taken
from coreproof.conversion.mil_to_coreai.translation import Operand, Tensor, Translation, si, translates, ui
from coreproof.model.coreai.element_types import DTYPES, TensorType

_ELEMENTS = {"fp16": "f16", "fp32": "f32", "int32": "si32", "bool": "i1"}


@translates("make_list")
def make_list(
    t: Translation,
    *,
    init_length: Operand = 1,
    dynamic_length: bool = True,
    elem_shape: Sequence[Operand] = (),
    dtype: str = "fp32",
) -> Tensor:
    if dtype not in _ELEMENTS:
        raise t.refuse("a list of this dtype is not known", expected=sorted(_ELEMENTS), found=dtype)
    lengths = element_lengths(elem_shape)
    shape = t.concat([_vector(t, init_length, "ui32"), ui([1 if n is None else n for n in lengths])], 0)
    zero = np.zeros((), DTYPES[_ELEMENTS[dtype]])
    return t.op("broadcast_to", zero, shape, shape=[None, *lengths])


@translates("list_length")
def list_length(t: Translation, *, ls: Operand) -> Tensor:
    return t.reshape(t.cast(t.slice(_dims(t, t.value(ls)), [0], [1]), "si32"), [])


@translates("list_read")
def list_read(t: Translation, *, ls: Operand, index: Operand) -> Tensor:
    return taken(t, t.value(ls), index, 0)


@translates("list_gather")
def list_gather(t: Translation, *, ls: Operand, indices: Operand) -> Tensor:
    return taken(t, t.value(ls), indices, 0)


@translates("list_write")
def list_write(t: Translation, *, ls: Operand, index: Operand, value: Operand) -> Tensor:
    held = t.value(ls)
    return _written(t, held, _vector(t, index, "si32"), t.expand_dims(t.value(value, held.element), [0]))


@translates("list_scatter")
def list_scatter(t: Translation, *, ls: Operand, indices: Operand, value: Operand) -> Tensor:
    held = t.value(ls)
    return _written(t, held, t.cast(indices, "si32"), t.value(value, held.element))


def _written(t: Translation, held: Tensor, places: Tensor, values: Tensor) -> Tensor:
    """With these values at these places; a list that is too short grows with zeros first."""
    rank = len(held.shape)
    length = t.slice(_dims(t, held), [0], [1])
    elements = t.slice(_dims(t, values), [1], [rank])
    shape = [None, *values.shape[1:]]
    if held.shape[1:] != values.shape[1:] or None in values.shape[1:]:
        # elements whose shape was not known yet take that of what is written
        held = t.op("broadcast_to", held, t.concat([length, elements], 0), shape=shape)
    last = t.reduce("reduce_max", places, [0])
    missing = t.binary("sub", t.binary("add", last, si([1])), t.cast(length, "si32"))
    after = t.cast(t.binary("maximum", missing, si([0])), "ui32")
    amounts = t.concat([ui([0]), after, ui([0] * (2 * rank - 2))], 0)
    grown = t.op("pad", held, amounts, t.like(0, held), shape=shape, padding_mode="#coreai.padding_mode<constant>")
    made = t.result(grown.held, "scatter_nd")
    child, kept, put = t.nested(), *(t.result(TensorType(held.element, ()), "argument") for _ in range(2))
    read = [grown, t.expand_dims(places, [1]), values]
    block = closed(child, [kept, put], "yield", [put])
    t.append("scatter_nd", [v.name for v in read], [made.name], {}, [block])
    return made


def _dims(t: Translation, x: Tensor) -> Tensor:
    return t.op("get_shape", x, shape=[len(x.shape)], element="ui32")


def _vector(t: Translation, number: Operand, element: str) -> Tensor:
    """A number as a vector of one."""
    return t.reshape(t.value(number, element), [1])
