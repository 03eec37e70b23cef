"""The flow of a PyTorch model's exported program, in ONNX's words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from coreproof.feeding.roles.flow import Array, Flow, FlowStep
from coreproof.model.features import Shape
from coreproof.model.torch.model import TorchModel

_SMALL = 4096

_ONE_TO_ONE = {
    "abs": "Abs",
    "acos": "Acos",
    "acosh": "Acosh",
    "add": "Add",
    "amax": "ReduceMax",
    "amin": "ReduceMin",
    "asin": "Asin",
    "atanh": "Atanh",
    "bitwise_and": "And",
    "bitwise_not": "Not",
    "bitwise_or": "Or",
    "clamp": "Clip",
    "clamp_min": "Max",
    "clamp_max": "Min",
    "cumsum": "CumSum",
    "div": "Div",
    "eq": "Equal",
    "exp": "Exp",
    "ge": "GreaterOrEqual",
    "gt": "Greater",
    "le": "LessOrEqual",
    "log": "Log",
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
    "mul": "Mul",
    "ne": "NotEqual",
    "neg": "Neg",
    "pow": "Pow",
    "reciprocal": "Reciprocal",
    "relu": "Relu",
    "remainder": "Mod",
    "fmod": "Mod",
    "softmax": "Softmax",
    "_softmax": "Softmax",
    "_safe_softmax": "Softmax",
    "scaled_dot_product_attention": "Attention",
    "sqrt": "Sqrt",
    "sub": "Sub",
    "sum": "ReduceSum",
    "where": "Where",
}
_MOVES = frozenset(
    (
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
    stored: dict[str, Any] = {}
    titles: dict[str, str] = {}
    for spec in signature.input_specs:
        if spec.kind.name != "USER_INPUT":
            held = program.state_dict.get(spec.target)
            stored[spec.arg.name] = program.constants.get(spec.target) if held is None else held
            titles[spec.arg.name] = str(spec.target)
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

    def note(self, node: Any) -> None:
        meta = node.meta.get("val")
        if hasattr(meta, "shape"):
            self.shapes[node.name] = tuple(d if isinstance(d, int) else str(d) for d in meta.shape)
            self.dtypes[node.name] = str(meta.dtype).removeprefix("torch.")

    def numbers(self, name: str) -> Array | None:
        held = self.stored.get(name)
        if held is None or (hasattr(held, "numel") and held.numel() > _SMALL):
            return None
        return np.asarray(held.detach().double().cpu().numpy() if hasattr(held, "detach") else held)

    def operand(self, given: Any) -> str:
        if given is None:
            return ""
        if hasattr(given, "name"):
            return str(given.name)
        if isinstance(given, bool | int | float):
            name = f"%{given}"
            self.stored[name] = np.asarray(given)
            return name
        return ""

    def translated(self, node: Any) -> Iterator[FlowStep]:
        target, args = str(node.target), tuple(node.args)
        name = target.split(".")[1] if target.startswith("aten.") else target.split(".")[0]
        out = (node.name,)
        if name in _FORMS:
            yield from _FORMS[name](self, node.name, args)
        elif name in _ONE_TO_ONE:
            yield FlowStep(_ONE_TO_ONE[name], tuple(self.operand(a) for a in args), out)
        elif name in _MOVES and args:
            to = self.dtypes.get(node.name)
            yield FlowStep("Cast" if to == "bool" else "Identity", (self.operand(args[0]),), out)
        elif name in ("scalar_tensor", "full", "tensor") and not node.all_input_nodes:
            given = args[1] if name == "full" else args[0]
            if isinstance(given, bool | int | float):
                self.stored[node.name] = np.asarray(given)
        else:
            yield FlowStep(name, tuple(n.name for n in node.all_input_nodes), out)


_Form = Callable[[_Reading, str, Sequence[Any]], Iterator[FlowStep]]
_FORMS: dict[str, _Form] = {}


def _form(*names: str) -> Callable[[_Form], _Form]:
    def keep(form: _Form) -> _Form:
        _FORMS.update(dict.fromkeys(names, form))
        return form

    return keep


@_form("embedding")
def _embedding(at: _Reading, out: str, args: Sequence[object]) -> Iterator[FlowStep]:
    yield FlowStep("Gather", (at.operand(args[0]), at.operand(args[1])), (out,), {"axis": 0})


@_form("embedding_bag", "_embedding_bag", "_embedding_bag_forward_only")
def _embedding_bag(at: _Reading, out: str, args: Sequence[object]) -> Iterator[FlowStep]:
    yield FlowStep("EmbeddingBag", tuple(at.operand(a) for a in args[:3]), (out,))


@_form("index_select")
def _index_select(at: _Reading, out: str, args: Sequence[object]) -> Iterator[FlowStep]:
    yield FlowStep("Gather", (at.operand(args[0]), at.operand(args[2])), (out,), {"axis": args[1]})


@_form("gather")
def _gather(at: _Reading, out: str, args: Sequence[object]) -> Iterator[FlowStep]:
    yield FlowStep("GatherElements", (at.operand(args[0]), at.operand(args[2])), (out,), {"axis": args[1]})


@_form("scatter", "scatter_add", "scatter_reduce", "index_add", "index_copy", "index_fill")
def _scatter(at: _Reading, out: str, args: Sequence[object]) -> Iterator[FlowStep]:
    operands = (at.operand(args[0]), at.operand(args[2]), at.operand(args[3]))
    yield FlowStep("ScatterElements", operands, (out,), {"axis": args[1]})


@_form("index", "index_put", "_unsafe_index", "_unsafe_index_put")
def _index(at: _Reading, out: str, args: Sequence[Any]) -> Iterator[FlowStep]:
    """``x[i, :, j]`` is a Gather for each index; of an assignment the operands' values go through as well."""
    data, listed = at.operand(args[0]), list(args[1])
    for axis, each in enumerate(listed):
        if each is not None:
            yield FlowStep(
                "Gather", (data, at.operand(each)), (f"{out}/{axis}",), {"axis": axis, "written": len(args) > 2}
            )
    yield FlowStep("Identity", (data,), (out,))
    if len(args) > 2:
        yield FlowStep("Identity", (at.operand(args[2]),), (f"{out}/values",))


@_form("one_hot")
def _one_hot(at: _Reading, out: str, args: Sequence[object]) -> Iterator[FlowStep]:
    yield FlowStep("OneHot", (at.operand(args[0]), at.operand(args[1] if len(args) > 1 else None)), (out,))


@_form("masked_fill")
def _masked_fill(at: _Reading, out: str, args: Sequence[object]) -> Iterator[FlowStep]:
    yield FlowStep("Where", (at.operand(args[1]), at.operand(args[2]), at.operand(args[0])), (out,))


@_form("rsub")
def _rsub(at: _Reading, out: str, args: Sequence[object]) -> Iterator[FlowStep]:
    yield FlowStep("Sub", (at.operand(args[1]), at.operand(args[0])), (out,))


@_form("cat", "stack")
def _concat(at: _Reading, out: str, args: Sequence[Any]) -> Iterator[FlowStep]:
    yield FlowStep("Concat", tuple(at.operand(a) for a in args[0]), (out,))


@_form("log1p")
def _log1p(at: _Reading, out: str, args: Sequence[object]) -> Iterator[FlowStep]:
    yield FlowStep("Add", (at.operand(args[0]), at.operand(1.0)), (f"{out}/sum",))
    yield FlowStep("Log", (f"{out}/sum",), (out,))


@_form("rsqrt")
def _rsqrt(at: _Reading, out: str, args: Sequence[object]) -> Iterator[FlowStep]:
    yield FlowStep("Sqrt", (at.operand(args[0]),), (f"{out}/root",))
    yield FlowStep("Reciprocal", (f"{out}/root",), (out,))


@_form("clamp_min_", "hardtanh")
def _hardtanh(at: _Reading, out: str, args: Sequence[object]) -> Iterator[FlowStep]:
    yield FlowStep("Clip", tuple(at.operand(a) for a in args[:3]), (out,))
