"""Patterns of layers that a unit computes wrongly, or not at all."""

from __future__ import annotations

from collections.abc import Iterator

from coreproof.known_faults.record import Seen, Sighting
from coreproof.known_faults.sight import back, called, every, fed, is_half, made_by, makes_half, of, shape, told, whole
from coreproof.model.graph import Graph, Node

_SAFE_BATCH = 9
"""The thread's script is right with so many samples, and wrong with one more."""
_WIDE_STRIDE, _WIDE_KERNEL = 16, 16
_WIDE_HEAD = 512
"""Heads of 256 numbers are fine, says the thread; the global ones of its models, which are not, have 512."""
_WIDENED = ("broadcast_to", "broadcast_in_dims", "tile", "expand_dims")
"""What lies between a slice of places and what is gathered there."""


def attention_of_ten(seen: Seen) -> Iterator[Sighting]:
    """``matmul, (scale,) add, softmax, matmul`` with ten or more samples."""
    graph = seen.graph
    for last in of(seen, "matmul"):
        softmax = made_by(graph, last.inputs[0], "softmax")
        add = None if softmax is None else back(graph, softmax, "add")
        if softmax is None or add is None:
            continue
        first = next((m for read in graph.data(add) if (m := _matmul_behind(graph, read)) is not None), None)
        lengths = shape(graph, last.outputs[0])
        samples = whole(lengths[0]) if lengths is not None and len(lengths) > 2 else None
        if first is not None and samples is not None and samples > _SAFE_BATCH:
            yield seen.sighted(
                f"attention over {samples} samples, {told(graph, last.outputs[0])}", last, softmax, add, first
            )


def _matmul_behind(graph: Graph, value: str) -> Node | None:
    """The product that a value is, as it is or scaled."""
    scaled = made_by(graph, value, "mul", "real_div")
    found = [value] if scaled is None else graph.data(scaled)
    return next((m for read in found if (m := made_by(graph, read, "matmul")) is not None), None)


def cropped_conv_transpose(seen: Seen) -> Iterator[Sighting]:
    """``conv_transpose`` with an output_shape other than what its other parameters make, and pad_type "valid"."""
    graph = seen.graph
    for node in of(seen, "conv_transpose"):
        wanted = node.attributes.get("output_shape")
        if not isinstance(wanted, tuple) or node.attributes.get("pad_type", "valid") != "valid":
            continue
        natural = _natural(graph, node)
        if natural is not None and tuple(wanted[2:]) != natural:
            words = f"output_shape {list(wanted)} where the layer makes {list(natural)} by itself"
            yield seen.sighted(words, node)


def _natural(graph: Graph, node: Node) -> tuple[int, ...] | None:
    """The spatial lengths that a transposed convolution makes without an output_shape and without pads."""
    taken, kernel = shape(graph, node.inputs[0]), node.parameters.get("weight")
    if taken is None or kernel is None:
        return None
    lengths = [whole(n) for n in taken[2:]]
    spatial = kernel[1][2:]
    strides, dilations = (_listed(node, key, len(spatial)) for key in ("strides", "dilations"))
    if len(lengths) != len(spatial) or None in lengths:
        return None
    each = zip(lengths, spatial, strides, dilations, strict=True)
    return tuple(((n or 0) - 1) * s + d * (k - 1) + 1 for n, k, s, d in each)


def _listed(node: Node, key: str, count: int) -> list[int]:
    held = node.attributes.get(key)
    return [int(n) for n in held] if isinstance(held, tuple) and len(held) == count else [1] * count


def uneven_conv_transpose(seen: Seen) -> Iterator[Sighting]:
    """``conv_transpose`` in float16 along one axis with more padding at one end than at the other."""
    graph = seen.graph
    for node in of(seen, "conv_transpose"):
        pads = node.attributes.get("pad")
        if node.attributes.get("pad_type") != "custom" or not isinstance(pads, tuple) or len(pads) != 2:
            continue
        if pads[0] != pads[1] and makes_half(graph, node):
            yield seen.sighted(f"pad {list(pads)} of {told(graph, node.outputs[0])}", node)


def matmul_of_a_vector(seen: Seen) -> Iterator[Sighting]:
    """``matmul`` with an operand of one axis."""
    for node in of(seen, "matmul"):
        ranks = [len(lengths) for read in node.inputs[:2] if (lengths := shape(seen.graph, read)) is not None]
        if 1 in ranks:
            operands = " by ".join(told(seen.graph, read) for read in node.inputs[:2])
            yield seen.sighted(f"matmul of {operands}", node)


def matmul_of_whole_numbers(seen: Seen) -> Iterator[Sighting]:
    """``matmul`` or ``linear`` of int32."""
    for node in of(seen, "matmul", "linear"):
        known = seen.graph.values.get(node.outputs[0])
        if known is not None and known.dtype == "int32":
            yield seen.sighted(f"{node.operator} of {told(seen.graph, node.outputs[0])}", node)


def gather_nd_of_computed_indices(seen: Seen) -> Iterator[Sighting]:
    """``gather_nd`` whose indices are computed or fed."""
    for node in of(seen, "gather_nd"):
        # a model stores its arguments in no order: what holds a number is told by the argument's name
        data = seen.graph.data(node)
        if "indices" not in node.parameters and "indices" not in node.attributes and data:
            yield seen.sighted(f"gather_nd with computed indices {told(seen.graph, data[-1])}", node)


def half_resample(seen: Seen) -> Iterator[Sighting]:
    """``resample`` in float16, whose coordinates are float16 too."""
    for node in of(seen, "resample"):
        coordinates = next((n for n in node.inputs[1:] if n in seen.graph.values and is_half(seen.graph, n)), None)
        if makes_half(seen.graph, node) and coordinates is not None:
            yield seen.sighted(f"resample at {told(seen.graph, coordinates)}", node)


def wide_attention(seen: Seen) -> Iterator[Sighting]:
    """``scaled_dot_product_attention`` in float16 with heads of 512 numbers, and two or more queries."""
    graph = seen.graph
    for node in of(seen, "scaled_dot_product_attention"):
        lengths = shape(graph, node.inputs[0])
        if lengths is None or len(lengths) < 3 or not makes_half(graph, node):
            continue
        queries, head = whole(lengths[-2]), whole(lengths[-1])
        if head is not None and head >= _WIDE_HEAD and queries != 1:
            yield seen.sighted(f"attention with queries {told(graph, node.inputs[0])}", node)


def branch(seen: Seen) -> Iterator[Sighting]:
    """A ``branch`` layer of a NeuralNetwork."""
    for node in every(seen, "branch"):
        yield seen.sighted("a branch layer", node)


def half_argmax(seen: Seen) -> Iterator[Sighting]:
    """``argmax`` of float16."""
    for node in of(seen, "argmax"):
        if is_half(seen.graph, node.inputs[0]):
            yield seen.sighted(f"argmax of {told(seen.graph, node.inputs[0])}", node)


def matmul_before_hardswish(seen: Seen) -> Iterator[Sighting]:
    """A product of two matrices in float16, with or without a bias, that goes straight into a hardswish."""
    graph = seen.graph
    for mul in of(seen, "mul"):
        # x * hard_sigmoid(x): the second operand comes from the first
        if len(mul.inputs) != 2:
            continue
        for value, factor in (mul.inputs, mul.inputs[::-1]):
            gate = graph.producer(factor)
            if gate is None or not _is_hard_sigmoid(gate) or fed(graph, gate) != value:
                continue
            product = _product_behind(graph, value)
            lengths = shape(graph, value)
            if product is not None and lengths is not None and len(lengths) == 2 and is_half(graph, value):
                yield seen.sighted(f"a product {told(graph, value)} that goes into a hardswish", mul, product)


def _is_hard_sigmoid(node: Node) -> bool:
    named = str(node.attributes.get("callee", "")) if called(node) == "invoke" else called(node)
    return "hard_sigmoid" in named or called(node) == "sigmoid_hard"


def _product_behind(graph: Graph, value: str) -> Node | None:
    add = made_by(graph, value, "add")
    inner = value if add is None else fed(graph, add)
    return None if inner is None else made_by(graph, inner, "matmul", "batch_matmul", "linear")


def gather_of_the_largest(seen: Seen) -> Iterator[Sighting]:
    """``gather_along_axis`` of float16 at the places of the largest values, as ``topk`` and what follows it are written."""
    graph = seen.graph
    for node in of(seen, "gather_along_axis"):
        sliced = None if len(node.inputs) < 2 else made_by(graph, node.inputs[1], "slice", *_WIDENED)
        for _ in range(3):
            if sliced is None or called(sliced) == "slice" or not sliced.inputs:
                break
            sliced = graph.producer(sliced.inputs[0])
        order = (
            None
            if sliced is None or called(sliced) != "slice" or not sliced.inputs
            else made_by(graph, sliced.inputs[0], "argsort")
        )
        # the values themselves are no matter of the thread: what is gathered is another tensor than what was sorted
        if order is not None and is_half(graph, node.inputs[0]) and order.inputs[0] != node.inputs[0]:
            yield seen.sighted(f"the largest of one value gathered from {told(graph, node.inputs[0])}", node, order)


def wide_conv_transpose(seen: Seen) -> Iterator[Sighting]:
    """``conv_transpose2d`` with a stride of 16 or more, or with one of 8 and a kernel of 16."""
    for node in of(seen, "conv_transpose2d", "conv_transpose3d"):
        strides = node.attributes.get("stride")
        weight = next((shape for _, shape in node.parameters.values() if len(shape) > 3), None)
        if not isinstance(strides, list) or weight is None:
            continue
        for stride, kernel in zip(strides, weight[2:], strict=False):
            if stride >= _WIDE_STRIDE or (stride >= _WIDE_STRIDE // 2 and kernel >= _WIDE_KERNEL):
                yield seen.sighted(f"a stride of {stride} over a kernel of {kernel}", node)
                break
