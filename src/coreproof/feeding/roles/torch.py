"""The flow of a PyTorch model's exported program, in ONNX's words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from coreproof.conversion.registry import registers
from coreproof.feeding.roles.flow import Array, Flow, FlowStep
from coreproof.model.features import Shape
from coreproof.model.torch.model import TorchModel

if TYPE_CHECKING:
    import torch

_SMALL = 4096

_ALIKE = "abs acos acosh add asin atanh div exp log mul neg pow reciprocal relu softmax sqrt sub where"
"""ONNX's names, but for the first letter."""
_ONE_TO_ONE = {
    **{name: name.capitalize() for name in _ALIKE.split()},
    "amax": "ReduceMax",
    "amin": "ReduceMin",
    "bitwise_and": "And",
    "bitwise_not": "Not",
    "bitwise_or": "Or",
    "clamp": "Clip",
    "clamp_min": "Max",
    "clamp_max": "Min",
    "cumsum": "CumSum",
    "eq": "Equal",
    "floor_divide": "Div",
    "__floordiv__": "Div",
    "ge": "GreaterOrEqual",
    "gt": "Greater",
    "le": "LessOrEqual",
    "log10": "Log",
    "log2": "Log",
    "log_softmax": "LogSoftmax",
    "_log_softmax": "LogSoftmax",
    "logical_and": "And",
    "logical_not": "Not",
    "logical_or": "Or",
    "lt": "Less",
    "maximum": "Max",
    "mean": "ReduceMean",
    "minimum": "Min",
    "ne": "NotEqual",
    "remainder": "Mod",
    "fmod": "Mod",
    "_softmax": "Softmax",
    "_safe_softmax": "Softmax",
    "scaled_dot_product_attention": "Attention",
    "sum": "ReduceSum",
}
_SIZING = {"add": "add", "sub": "sub", "mul": "mul", "neg": "neg", "floordiv": "floor_divide"}
"""What is done to numbers that were taken from a tensor, by the names of what is done to tensors."""
_LEFT: Mapping[str, int | float] = {"direction=LEFT": 1}
_BITS: dict[str, tuple[str, Mapping[str, int | float]]] = {
    **dict.fromkeys(("bitwise_and", "__and__"), ("BitwiseAnd", {})),
    **dict.fromkeys(("bitwise_or", "__or__"), ("BitwiseOr", {})),
    **dict.fromkeys(("bitwise_xor", "__xor__"), ("BitwiseXor", {})),
    **dict.fromkeys(("__rshift__", "bitwise_right_shift"), ("BitShift", {})),
    **dict.fromkeys(("__lshift__", "bitwise_left_shift"), ("BitShift", _LEFT)),
}
"""What is done to the bits of whole numbers; of truth values the same names are logic."""
_MOVES = frozenset(
    (
        "_local_scalar_dense",
        "_to_copy",
        "_unsafe_view",
        "alias",
        "broadcast_to",
        "clone",
        "constant_pad_nd",
        "contiguous",
        "detach",
        "dropout",
        "expand",
        "flatten",
        "flip",
        "lift_fresh_copy",
        "movedim",
        "narrow",
        "pad",
        "permute",
        "repeat",
        "reshape",
        "roll",
        "select",
        "slice",
        "split",
        "split_with_sizes",
        "squeeze",
        "t",
        "to",
        "transpose",
        "tril",
        "triu",
        "type_as",
        "unflatten",
        "unsqueeze",
        "view",
    )
)


def torch_flow(model: TorchModel) -> Flow:
    """The program that the engine's taps are read from, step by step."""
    program = model.exported()
    signature = program.graph_signature
    stored: dict[str, object] = {}
    titles: dict[str, str] = {}
    for spec in signature.input_specs:
        if spec.kind.name != "USER_INPUT":
            # weights and buffers stand in the state, lifted constants beside it
            held = program.state_dict.get(spec.target)
            stored[spec.arg.name] = program.constants.get(spec.target) if held is None else held
            titles[spec.arg.name] = str(spec.target)
    # in the order of forward's arguments, which is that of the inputs
    users = [s.arg.name for s in signature.input_specs if s.kind.name == "USER_INPUT"]
    reading = _Reading(stored)
    outputs: tuple[str, ...] = ()
    for node in program.graph.nodes:
        reading.note(node)
        if node.op == "call_function":
            reading.steps.extend(reading.translated(node))
        elif node.op == "output":
            outputs = tuple(n.name for n in node.all_input_nodes)
    return Flow(
        tuple(reading.steps),
        dict(zip(model.input_names, users, strict=False)),
        outputs,
        reading.shapes,
        reading.dtypes,
        frozenset(reading.stored),
        reading.numbers,
        titles,
    )


class _Reading:
    """A program being read; numbers among the arguments become constants with names of their own."""

    def __init__(self, stored: dict[str, object]) -> None:
        self.stored = stored
        self.steps: list[FlowStep] = []
        self.shapes: dict[str, Shape] = {}
        self.dtypes: dict[str, str] = {}

    def note(self, node: torch.fx.Node) -> None:
        meta = node.meta.get("val")
        if hasattr(meta, "shape"):
            # a symbolic length by its expression ("s0"), so that two of them can be told apart
            self.shapes[node.name] = tuple(d if isinstance(d, int) else str(d) for d in meta.shape)
            self.dtypes[node.name] = str(meta.dtype).removeprefix("torch.")

    def numbers(self, name: str) -> Array | None:
        held = self.stored.get(name)
        if held is None or (hasattr(held, "numel") and held.numel() > _SMALL):
            return None
        return np.asarray(held.detach().double().cpu().numpy() if hasattr(held, "detach") else held)

    def operand(self, given: object) -> str:
        """The name of a node, or of a number, which becomes a constant; "" for what is neither."""
        if isinstance(given, bool | int | float):
            # no node of a program is called so, since % begins no Python name
            name = f"%{given}"
            self.stored[name] = np.asarray(given)
            return name
        return str(getattr(given, "name", ""))

    def translated(self, node: torch.fx.Node) -> Iterator[FlowStep]:
        target, args = str(node.target), tuple(node.args)
        # "aten.add.Tensor"; what Python itself calls is a bare name, "<built-in function add>" with numbers that size something
        built_in = target.removeprefix("<built-in function ").removesuffix(">")
        name = target.split(".")[1] if target.startswith("aten.") else _SIZING.get(built_in, target.split(".")[0])
        out = (node.name,)
        if name in _FORMS:
            yield from _FORMS[name](self, node.name, args)
        elif name in _REORDERED:
            operator, places, has_axis = _REORDERED[name]
            operands = tuple(self.operand(args[at] if at < len(args) else None) for at in places)
            yield FlowStep(operator, operands, out, {"axis": args[1]} if has_axis else {})
        elif name in _BITS and self.dtypes.get(node.name) != "bool":
            operator, attributes = _BITS[name]
            yield FlowStep(operator, tuple(self.operand(a) for a in args), out, attributes)
        elif name in _ONE_TO_ONE:
            yield FlowStep(_ONE_TO_ONE[name], tuple(self.operand(a) for a in args), out)
        elif name in _MOVES and args:
            to = self.dtypes.get(node.name)
            # what is cast to bool is a question whether it is 0, and no number any more
            yield FlowStep("Cast" if to == "bool" else "Identity", (self.operand(args[0]),), out)
            # lengths that are fed: of a view, an expansion, parts
            sizes = tuple(n.name for n in node.all_input_nodes if n is not args[0])
            if sizes:
                yield FlowStep("Sizes", sizes, (f"{node.name}/sizes",))
        elif name in ("scalar_tensor", "full", "tensor") and not node.all_input_nodes:
            given = args[1] if name == "full" else args[0]
            if isinstance(given, bool | int | float):
                self.stored[node.name] = np.asarray(given)
        else:
            yield FlowStep(name, tuple(n.name for n in node.all_input_nodes), out)


_REORDERED: dict[str, tuple[str, tuple[int, ...], bool]] = {
    "embedding": ("Gather", (0, 1), False),
    **dict.fromkeys(
        ("embedding_bag", "_embedding_bag", "_embedding_bag_forward_only"), ("EmbeddingBag", (0, 1, 2), False)
    ),
    "index_select": ("Gather", (0, 2), True),
    "gather": ("GatherElements", (0, 2), True),
    **dict.fromkeys(
        ("scatter", "scatter_add", "scatter_reduce", "index_add", "index_copy", "index_fill"),
        ("ScatterElements", (0, 2, 3), True),
    ),
    "one_hot": ("OneHot", (0, 1), False),
    "masked_fill": ("Where", (1, 2, 0), False),
    "rsub": ("Sub", (1, 0), False),
    **dict.fromkeys(("clamp_min_", "hardtanh"), ("Clip", (0, 1, 2), False)),
}
"""ONNX's operator, which arguments are its operands, and whether argument 1 is its axis."""


_END = 1 << 62
"""Behind the last element of any axis."""
_Form = Callable[[_Reading, str, Sequence[object]], Iterator[FlowStep]]
_FORMS: dict[str, _Form] = {}


_form = registers(_FORMS)


@_form("index", "index_put", "_unsafe_index", "_unsafe_index_put")
def _index(at: _Reading, out: str, args: Sequence[object]) -> Iterator[FlowStep]:
    """``x[i, :, j]`` is a Gather for each index; of an assignment the operands' values go through as well."""
    data, written = at.operand(args[0]), len(args) > 2
    for axis, each in enumerate(_several(args[1])):
        if each is not None:
            attributes = {"axis": axis, "written": int(written)}
            yield FlowStep("Gather", (data, at.operand(each)), (f"{out}/{axis}",), attributes)
    yield FlowStep("Identity", (data,), (out,))
    if written:
        yield FlowStep("Identity", (at.operand(args[2]),), (f"{out}/values",))


@_form("slice")
def _slice(at: _Reading, out: str, args: Sequence[object]) -> Iterator[FlowStep]:
    axis, start, end = (args[place] if len(args) > place else None for place in (1, 2, 3))
    # what is left out begins at the first element, and ends behind the last
    ends = at.operand(0 if start is None else start), at.operand(_END if end is None else end)
    yield FlowStep("Slice", (at.operand(args[0]), *ends, at.operand(axis or 0)), (out,))


@_form("narrow")
def _narrow(at: _Reading, out: str, args: Sequence[object]) -> Iterator[FlowStep]:
    starts = at.operand(args[2])
    yield FlowStep("Slice", (at.operand(args[0]), starts, at.operand(args[3]), at.operand(args[1])), (out,))


@_form("select")
def _select(at: _Reading, out: str, args: Sequence[object]) -> Iterator[FlowStep]:
    data, _, place = args
    if not hasattr(place, "name"):
        yield FlowStep("Column", (at.operand(data),), (out,), {"axis": _integer(args[1]), "place": _integer(place)})
        return
    yield FlowStep("Gather", (at.operand(data), at.operand(place)), (out,), {"axis": _integer(args[1])})


@_form("getitem")
def _part(at: _Reading, out: str, args: Sequence[object]) -> Iterator[FlowStep]:
    made, place = args[0], args[1]
    if not str(getattr(made, "target", "")).startswith("aten.unbind"):
        yield FlowStep("getitem", (at.operand(made),), (out,))
        return
    data, *axis = made.args  # type: ignore[attr-defined] # a node, as it has a target
    where = {"axis": _integer(axis[0]) if axis else 0, "place": _integer(place)}
    yield FlowStep("Column", (at.operand(data),), (out,), where)


@_form("topk")
def _top_k(at: _Reading, out: str, args: Sequence[object]) -> Iterator[FlowStep]:
    axis = _integer(args[2]) if len(args) > 2 else -1
    yield FlowStep("TopK", (at.operand(args[0]), at.operand(args[1])), (out,), {"axis": axis})


@_form("arange")
def _arange(at: _Reading, out: str, args: Sequence[object]) -> Iterator[FlowStep]:
    start, limit = (at.operand(each) for each in ((0, args[0]) if len(args) == 1 else args[:2]))
    yield FlowStep("Range", (start, limit, at.operand(args[2] if len(args) > 2 else 1)), (out,))


@_form("full", "zeros", "ones", "empty")
def _filled(at: _Reading, out: str, args: Sequence[object]) -> Iterator[FlowStep]:
    lengths = [at.operand(each) for each in _several(args[0]) if hasattr(each, "name")]
    if lengths:
        yield FlowStep("Sizes", tuple(lengths), (out,))
    elif len(args) > 1 and isinstance(args[1], bool | int | float):
        at.stored[out] = np.asarray(args[1])
    else:
        yield FlowStep("full", tuple(at.operand(each) for each in args[1:] if hasattr(each, "name")), (out,))


def _integer(given: object) -> int:
    return given if isinstance(given, int) else -1


@_form("cat", "stack")
def _concat(at: _Reading, out: str, args: Sequence[object]) -> Iterator[FlowStep]:
    yield FlowStep("Concat", tuple(map(at.operand, _several(args[0]))), (out,))


def _several(argument: object) -> Sequence[object]:
    return argument if isinstance(argument, list | tuple) else ()


@_form("log1p")
def _log1p(at: _Reading, out: str, args: Sequence[object]) -> Iterator[FlowStep]:
    yield FlowStep("Add", (at.operand(args[0]), at.operand(1.0)), (f"{out}/sum",))
    yield FlowStep("Log", (f"{out}/sum",), (out,))


@_form("rsqrt")
def _rsqrt(at: _Reading, out: str, args: Sequence[object]) -> Iterator[FlowStep]:
    yield FlowStep("Sqrt", (at.operand(args[0]),), (f"{out}/root",))
    yield FlowStep("Reciprocal", (f"{out}/root",), (out,))
