"""How large the numbers of a graph may become, value by value as it is walked: which of its integers may leave 32 bits.

What may leave them is looked at while the model runs (``checked_integers``), or refused in a NeuralNetwork:
a product whose factors may be any integer that can be fed; their sum along an axis, two of them added, one and a constant of 2^30
or more, or as many as reach 2^34; a float that is cast to 64 bits. Let through is what only picks elements or says a shape, as
there what is too large is wrong in the source as well (a hash, of which a remainder picks, is looked at), and what is known to be
small: truths, masks, positions, lengths, remainders, and what is counted of them. A difference of two numbers leaves 32 bits only
from the edge of what can be fed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from math import inf, isfinite, log2, prod

import numpy as np
import onnx
import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.checked_integers import Kind
from coreproof.conversion.onnx_to_coreml.paths import Use
from coreproof.conversion.operators import ONNX, meaning
from coreproof.errors import ConversionError
from coreproof.model.onnx.constants import constant_of

_ANY = float(2**31)
_LENGTH = 0.0
"""The size of lengths and positions: what is made of them is within memory, however often they are multiplied."""
_GROWN = float(2**34)
"""What terms that are added one by one reach before it counts: many times what can be fed."""
_SOME = 2**16
"""How many terms a sum is taken to have where its length is free."""

_WIDE = (ir.DataType.INT64, ir.DataType.UINT64, ir.DataType.UINT32)
_MASK = re.compile(r"(?:^|[_.])mask(?:$|[_.\d])", re.IGNORECASE)
"""A name by which people call a mask, which holds 0 and 1."""

_PRODUCTS = ("Mul", "Pow", "ReduceProd", "MatMul", "Gemm", "Einsum", "ReduceSumSquare")
_SUMS = ("CumSum", "ReduceSum", "ReduceL1")
_ADDED = ("Add", "Sub", "Sum")
_GROW = (
    *_ADDED,
    *["Where", "Max", "Min", "Concat", "Reshape", "Unsqueeze", "Squeeze", "Transpose", "Slice", "Expand", "Identity"],
)
"""What makes more of terms that were added before, or hands it on."""
_SCATTERED = ("ScatterElements", "ScatterND")
_NARROW = (ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16, ir.DataType.UINT16)
_WRAPS = (*_PRODUCTS, *_SUMS, *_ADDED, *_SCATTERED, "Neg", "Abs", "Div")
BOUNDED = {"Sigmoid": 1.0, "Tanh": 1.0, "Erf": 1.0, "Sin": 1.0, "Cos": 1.0, "Softmax": 1.0, "Softsign": 1.0, "HardSigmoid": 1.0,
            "Sign": 1.0, "Atan": 2.0, "Acos": 4.0, "Asin": 2.0, "Log": 256.0}  # fmt: skip


_OPSET = 17
"""Taken for the operators' version where a file does not say it."""


@cache
def _result_dtype(operator: str, domain: str, version: int, at: int) -> int | str | None:
    """By an operator's schema, which operand has the dtype of that result of it, or the dtype itself; None if it says neither."""
    try:
        schema = onnx.defs.get_schema(operator, version, domain)
    except onnx.defs.SchemaError:  # a contributed operator, of which ONNX knows nothing
        return None
    if not schema.outputs:
        return None
    # an operator with any number of results describes all of them last; those of a loop are each of another dtype
    result = schema.outputs[min(at, len(schema.outputs) - 1)]
    if not result.is_homogeneous:
        return None
    made = result.type_str
    allowed = next((c.allowed_type_strs for c in schema.type_constraints if c.type_param_str == made), [made])
    if len(allowed) == 1 and (one := re.fullmatch(r"tensor\((\w+)\)", allowed[0])):
        return one[1]
    return next((at for at, read in enumerate(schema.inputs) if read.type_str == made), None)


class Magnitudes:
    """How large the numbers of a graph may become, value by value as it is walked."""

    def __init__(self) -> None:
        self._known: dict[str, float] = {}
        self._dtypes: dict[str, ir.DataType | None] = {}
        self._masks: dict[str, bool] = {}

    def follow(self, node: ir.Node, operands: Sequence[object], *, is_network: bool) -> tuple[Kind, ir.DataType] | None:
        """Notes a node's results; what of it may not fit its dtype, or leave 32 bits, which a NeuralNetwork refuses.

        What it makes of integers of 8 and 16 bits wraps around in every format.
        """
        sizes = [self._size(o, v) for o, v in zip(operands, node.inputs, strict=True)]
        found = _result(node, sizes, operands)
        dtype = self._dtype_of(node)
        kind = self._unsure(node, found, sizes, operands) if dtype in _WIDE else None
        if is_network and node.op_type in _ADDED and dtype is not None and dtype.is_integer():
            # two numbers added are as exact as what can be fed
            large = found > _ANY and _large(operands, 2**24) and not _only_picks(node.outputs[0])
            kind = "sum" if large else kind if found >= _GROWN else None
        if is_network and kind == "cast":
            kind = None  # it stays a float, of any size
        if dtype in _NARROW and node.op_type in _WRAPS and not _fits(node, found, dtype):
            kind = "narrow"
            if is_network and found > 2**24:  # what float32 does not hold cannot be wrapped
                raise _refused(node, "product")
            found = float(2 ** (dtype.bitwidth - dtype.is_signed()))
        elif kind and is_network:
            raise _refused(node, kind)
        for at, value in enumerate(node.outputs):
            own = dtype if at == 0 else self._dtype_of(node, at)
            size = sizes[0] if node.op_type == "TopK" and at == 0 else found
            if own is not None and own.is_integer() and (kind or node.op_type not in _GROW or not isfinite(size)):
                size = min(size, _ANY)
            self._known[value.name or ""] = size
            self._dtypes[value.name or ""] = own
        return None if kind is None or dtype is None else (kind, dtype)

    def _unsure(self, node: ir.Node, found: float, sizes: Sequence[float], operands: Sequence[object]) -> Kind | None:
        """What a node of 64-bit integers makes that 32 bits may not hold."""
        kind: Kind | None = None
        operator = node.op_type
        if operator == "Cast":
            given = self._dtype(node.inputs[0])
            kind = "cast" if given is not None and given.is_floating_point() and found > _ANY else None
        elif operator in _PRODUCTS or (operator == "BitShift" and self._is_long(node)):
            kind = "product" if found > _ANY else None
        elif operator in _SUMS or (operator in _SCATTERED and added_up(node)):
            kind = "sum" if found > _ANY else None
        elif operator in _ADDED:
            most = _GROWN if operator == "Sub" else 2 * _ANY
            if found >= most or (found > _ANY and _large(operands, 2**30)) or self._below_zero(node, sizes):
                kind = "sum"
        return None if kind is None or _only_picks(node.outputs[0], cut=kind == "cast") else kind

    def _is_long(self, node: ir.Node) -> bool:
        """Whether 64 bits are shifted: of 32, those that leave them are lost in the source too."""
        dtype = self._dtype(node.inputs[0])
        return dtype is not None and dtype.bitwidth == 64

    def _below_zero(self, node: ir.Node, sizes: Sequence[float]) -> bool:
        """Whether a difference of numbers without a sign is one that the source has at the other end."""
        dtype = self._dtype(node.inputs[0])
        return node.op_type == "Sub" and dtype is not None and not dtype.is_signed() and sizes[1] > _LENGTH

    def _dtype(self, value: ir.Value | None) -> ir.DataType | None:
        return None if value is None else value.dtype or self._dtypes.get(value.name or "")

    def _dtype_of(self, node: ir.Node, at: int = 0) -> ir.DataType | None:
        """The dtype of a result, where the file does not say it: as it is cast to, or as what it is made from."""
        declared = node.outputs[at].dtype
        if node.op_type in _WRAPS and node.inputs:
            declared = self._dtype(node.inputs[0]) or declared  # arithmetic has one dtype, whatever a file declares
        if declared is not None:
            return declared
        if node.op_type == "Cast":
            return ir.DataType(node.attributes["to"].as_int())
        said = _result_dtype(node.op_type, node.domain, node.version or _OPSET, at)
        if isinstance(said, int):
            return self._dtype(node.inputs[said]) if said < len(node.inputs) else None
        return None if said is None else ir.DataType[said.upper()]

    def _size(self, operand: object, value: ir.Value | None) -> float:
        if isinstance(operand, np.ndarray):
            return _largest(operand)
        if value is None:
            return 0.0
        dtype = self._dtype(value)
        known = self._known.get(value.name or "", inf)
        if dtype == ir.DataType.BOOL:
            return 1.0
        if dtype is not None and not dtype.is_integer():
            return known
        if value.is_graph_input() and self._is_mask(value):
            return 1.0
        narrow = _ANY if dtype is None else float(2 ** min(dtype.bitwidth - dtype.is_signed(), 31))
        return known if isfinite(known) else narrow

    def _is_mask(self, value: ir.Value) -> bool:
        name = value.name or ""
        if name not in self._masks:
            self._masks[name] = _is_mask(value)
        return self._masks[name]


def added_up(node: ir.Node) -> bool:
    """Whether what is scattered to one place is added there."""
    reduction = node.attributes.get("reduction")
    return reduction is not None and reduction.as_string() == "add"


def _refused(node: ir.Node, kind: Kind) -> ConversionError:
    what, expected, fix = {
        "product": (f"{node.op_type} of integers", "factors whose product stays below 2147483648, whatever is fed",
                    "bound the factors (Clip, Mod), or cast them to float before they are multiplied"),
        "sum": (f"{node.op_type} of integers", "terms whose sum stays below 2147483648, whatever is fed",
                "bound the terms (Clip, Mod), or cast them to float before they are added"),
    }[kind]  # fmt: skip
    return ConversionError(
        f"{what} may not fit the 32 bits that Core ML has",
        where=f"node {node.name!r}, value {node.outputs[0].name!r}",
        expected=expected,
        found="; ".join(str(v.name) for v in node.inputs if v is not None),
        fix=f"{fix}; or convert to an ML Program, where a run in which it does not fit them fails",
    )


def _largest(array: np.ndarray) -> float:
    """The largest size among an array's finite numbers."""
    if array.dtype.kind not in "iubf" or not array.size:
        return 0.0 if array.dtype.kind in "iub" else inf if array.size else 0.0
    size = np.abs(array.astype(np.float64))
    return float(np.max(size, initial=0.0, where=np.isfinite(size)))


def _large(operands: Sequence[object], least: int) -> bool:
    """Whether an integer as large as ``least`` is stored among the operands."""
    return any(isinstance(o, np.ndarray) and o.dtype.kind in "iu" and _largest(o) >= least for o in operands)


def _fits(node: ir.Node, found: float, dtype: ir.DataType) -> bool:
    """Whether a result of integers of 8 or 16 bits is one of them without wrapping around."""
    if node.op_type in ("Sub", "Neg") and not dtype.is_signed():
        return False
    if found == _LENGTH and node.op_type in (*_SUMS, *_SCATTERED):
        found = _SOME  # of what is true, more may be counted
    return found < float(2 ** (dtype.bitwidth - dtype.is_signed()))


def _terms(node: ir.Node, otherwise: float) -> float:
    """How many numbers are added to one of a node's results; ``otherwise`` where a length is free."""
    given = node.inputs[0].shape if node.inputs[0] is not None else None
    made = node.outputs[0].shape
    if node.op_type == "CumSum":
        made = None if given is None else ir.Shape([])
    if given is None or made is None or not all(isinstance(n, int) for n in (*given, *made)):
        return otherwise
    return prod(int(n) for n in given) / max(prod(int(n) for n in made), 1)  # type: ignore[arg-type, misc]


def _result(node: ir.Node, sizes: list[float], operands: Sequence[object]) -> float:
    operator = node.op_type
    if meaning(operator).get("positions", False):
        return _LENGTH
    if operator in BOUNDED:
        return BOUNDED[operator]
    if operator in _SIZES:
        return _SIZES[operator](node, sizes, operands)
    if _hands_on(operator):
        return max(sizes) if operator == "Concat" else sizes[0] if sizes else inf
    return inf


def _product(node: ir.Node, sizes: Sequence[float], operands: Sequence[object]) -> float:
    # a length times a small number is a length: of a flattened tensor, of an axis that is doubled
    return _LENGTH if _LENGTH in sizes and max(sizes) < 2**16 else _times(*sizes)


def _times(*sizes: float) -> float:
    """A product of integers that can be fed, whatever was made of them before."""
    return prod(max(min(size, _ANY) if isfinite(size) else size, 1) for size in sizes)


def _reduced_product(node: ir.Node, sizes: Sequence[float], operands: Sequence[object]) -> float:
    return _LENGTH if sizes[0] == _LENGTH else 1.0 if sizes[0] <= 1 else 2 * _ANY


def _power(node: ir.Node, sizes: Sequence[float], operands: Sequence[object]) -> float:
    # x to the 0 and to the 1, and powers of 0 and 1
    if min(sizes) <= 1:
        return sizes[0]
    # compared by logarithms: the power itself may be beyond any float
    return sizes[0] ** sizes[1] if isfinite(sizes[0]) and sizes[1] * log2(sizes[0]) <= 31 else 2 * _ANY


def _total(node: ir.Node, sizes: Sequence[float], operands: Sequence[object]) -> float:
    size, terms = sizes[0], _terms(node, _SOME)
    # what is true is counted
    return _LENGTH if size <= 1 else size * terms


def _squares(node: ir.Node, sizes: Sequence[float], operands: Sequence[object]) -> float:
    return _LENGTH if sizes[0] <= 1 else _times(sizes[0], sizes[0]) * _terms(node, _SOME)


def _sums_of_products(node: ir.Node, sizes: Sequence[float], operands: Sequence[object]) -> float:
    return _LENGTH if max(sizes) <= 1 else _times(*sizes) * _SOME


def _sum(node: ir.Node, sizes: Sequence[float], operands: Sequence[object]) -> float:
    return sum(sizes)


def _scattered(node: ir.Node, sizes: Sequence[float], operands: Sequence[object]) -> float:
    reduction = node.attributes.get("reduction")
    if not added_up(node):
        return max(sizes[0], sizes[2]) if reduction is None or reduction.as_string() != "mul" else inf
    return sizes[0] if sizes[2] <= 1 else sizes[0] + sizes[2] * _SOME


def _filled(node: ir.Node, sizes: Sequence[float], operands: Sequence[object]) -> float:
    value = node.attributes.get("value")
    return 0.0 if value is None else _largest(value.as_tensor().numpy())


def _common(node: ir.Node, sizes: Sequence[float], operands: Sequence[object]) -> float:
    # a remainder is below its divisor, and no more than what is divided; so are common bits
    return min(sizes)


def _quotient(node: ir.Node, sizes: Sequence[float], operands: Sequence[object]) -> float:
    by = operands[1]
    if not isinstance(by, np.ndarray) or by.dtype.kind != "f":
        floats = isinstance(node.inputs[0], ir.Value) and node.outputs[0].dtype in _FLOATS
        return inf if floats and sizes[1] > _LENGTH else sizes[0]
    least = float(np.abs(by.astype(np.float64)).min(initial=1.0))
    return inf if least == 0 else _LENGTH if sizes[0] == _LENGTH and least > 2**-16 else max(sizes[0], 1) / least


def _clipped(node: ir.Node, sizes: Sequence[float], operands: Sequence[object]) -> float:
    bounds = [n for v, n in zip(node.inputs[1:], sizes[1:], strict=True) if v is not None]
    return min(sizes[0], max(bounds)) if len(bounds) == 2 else max(sizes)


def _chosen(node: ir.Node, sizes: Sequence[float], operands: Sequence[object]) -> float:
    return max(sizes[1:] if node.op_type == "Where" else sizes)


def _same(node: ir.Node, sizes: Sequence[float], operands: Sequence[object]) -> float:
    return sizes[0]


def _shifted(node: ir.Node, sizes: Sequence[float], operands: Sequence[object]) -> float:
    if node.attributes["direction"].as_string().upper() == "RIGHT":
        return sizes[0]
    # by 31 places and more all that is not zero leaves 32 bits
    return 2 * _ANY if sizes[0] and sizes[1] > 31 else _product(node, [sizes[0], 2.0 ** min(sizes[1], 32)], operands)


def _root(node: ir.Node, sizes: Sequence[float], operands: Sequence[object]) -> float:
    return sizes[0] if sizes[0] <= 1 else sizes[0] ** 0.5


_FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_SIZES: dict[str, Callable[[ir.Node, list[float], Sequence[object]], float]] = {
    "Mul": _product,
    "ReduceProd": _reduced_product,
    "Pow": _power,
    **dict.fromkeys(_SUMS, _total),
    "ReduceSumSquare": _squares,
    **dict.fromkeys(("MatMul", "Gemm", "Einsum"), _sums_of_products),
    **dict.fromkeys(_ADDED, _sum),
    **dict.fromkeys(_SCATTERED, _scattered),
    **dict.fromkeys(("Mod", "BitwiseAnd"), _common),
    "ConstantOfShape": _filled,
    "Div": _quotient,
    "Clip": _clipped,
    **dict.fromkeys(("Where", "Max", "Min"), _chosen),
    **dict.fromkeys(("ReduceMean", "Floor", "Ceil", "Round", "Relu"), _same),
    "Sqrt": _root,
    "BitShift": _shifted,
}  # fmt: skip


def _hands_on(operator: str) -> bool:
    """Whether what it gives is no larger than its operand (of a Concat, its operands); a scatter has others' numbers too."""
    return "hands_on" in meaning(operator) and not operator.startswith("Scatter")


_CARRY_ON = ("Add", "Sub", "Mul", "Where")
"""What makes positions of positions, and leaves one that is beyond all there are as it is."""
_CUT = ("Min", "Max", "Clip")
"""What makes a position that there is of one beyond them."""
_CHOOSE = ("ReduceMax", "ReduceMin")
"""What hands on one of its numbers by their size: another one of those that wrapped around."""


def _only_picks(value: ir.Value, *, cut: bool = False) -> bool:
    """Whether a value is read as positions, lengths or shapes alone, so that one out of range is wrong in the source as well.

    A remainder of it, and what is cut to a range, is in range though it is not: hashes that pick rows. Of a coordinate that is
    cast and cut, as samplers do, as good as none is beyond 32 bits: ``cut`` lets it through.
    """
    through = (*_CARRY_ON, *_CUT) if cut else _CARRY_ON
    readers = _readers(value, through, stop=() if cut else _CHOOSE)
    return all(use is not None and _is_place(use) for use in readers)


def _is_mask(value: ir.Value) -> bool:
    """Whether an input of integers picks nothing, and is called a mask, or taken for truths, or from 1."""
    taken = bool(_MASK.search(value.name or ""))
    for use in _readers(value, ()):
        if use is None:
            continue
        if _is_place(use):
            return False
        reads = use.node.inputs
        taken |= use.node.op_type == "Cast" or (use.node.op_type == "Sub" and use.idx == 1 and _is_one(reads[0]))
    return taken


def _readers(value: ir.Value, through: Sequence[str], stop: Sequence[str] = ()) -> Iterator[Use | None]:
    """What reads a value's numbers, also behind what hands them on or is among ``through``; None for an output, and for nothing.

    A cast to truths reads them, and so does what is among ``stop``.
    """
    waiting, seen = [value], {id(value)}
    while waiting:
        one = waiting.pop()
        if one.is_graph_output() or not one.uses():
            yield None
        for use in one.uses():
            operator = use.node.op_type
            to_truth = operator == "Cast" and use.node.attributes["to"].value == ir.DataType.BOOL
            carried = operator in through or (_hands_on(operator) and operator not in stop)
            if _is_place(use) or to_truth or not carried:
                yield use
            elif id(use.node.outputs[0]) not in seen:
                seen.add(id(use.node.outputs[0]))
                waiting.append(use.node.outputs[0])


def _is_place(use: Use) -> bool:
    return use.node.op_type == "Range" or use.idx in ONNX.traits(use.node.op_type).get("places", ())


def _is_one(value: ir.Value | None) -> bool:
    known = constant_of(value)
    return known is not None and known.size > 0 and bool((known == 1).all())
