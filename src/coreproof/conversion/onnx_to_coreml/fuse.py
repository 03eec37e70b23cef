"""Several ONNX nodes that Core ML has one operation for, written as one: a program has no more layers than it needs.

A model is exported with the nodes that its format has: a bias is an Add, SiLU a Sigmoid and a Mul. The value between the two has
no partner in the converted model, as that of a convolution whose BatchNormalization is merged into it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from coreproof.model.onnx.constants import known_tensor

_MOST = 5
"""Dimensions of a Core ML array."""


@dataclass(frozen=True)
class Joined:
    """A node in the place of ``last``, whose value it makes; the values of ``gone`` nobody else reads, the last of them first."""

    made: ir.Node
    last: ir.Node
    gone: tuple[ir.Node, ...]
    before: tuple[ir.Node, ...] = ()
    """Nodes that it needs in front of it."""


def fuse(graph: ir.Graph, kept: Collection[str] = ()) -> None:
    """Joins such nodes in place, save those whose values or operators are ``kept`` by name."""
    for node in list(graph):
        for rule in _RULES.get(node.op_type, ()):
            # a node without a graph was taken out by a join before
            found = None if node.domain or node.graph is None else rule(node)
            if found is None:
                continue
            all_of_it = (found.last, *found.gone)
            if {n.op_type for n in all_of_it}.union(v.name or "" for n in all_of_it for v in n.outputs).isdisjoint(
                kept
            ):
                _put(graph, found)
                break


def _put(graph: ir.Graph, found: Joined) -> None:
    old, new = found.last.outputs[0], found.made.outputs[0]
    name, new.type, new.shape = old.name, old.type, old.shape
    graph.insert_before(found.last, (*found.before, found.made))
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    graph.remove([found.last], safe=True)
    # only now: two values of one graph may not bear one name
    new.name = name
    for node in found.gone:
        # a factor or a transposition that somebody else reads as well stays
        if not any(value.uses() or value.is_graph_output() for value in node.outputs):
            graph.remove([node], safe=True)


def _only_reader(value: ir.Value | None, operators: Collection[str]) -> ir.Node | None:
    """The node of one of these operators that alone reads a value, which is no output."""
    if value is None or value.is_graph_output():
        return None
    uses = value.uses()
    if len(uses) != 1:
        return None
    (use,) = uses
    return use.node if use.node.op_type in operators and not use.node.domain and use.node.graph is not None else None


def _other(node: ir.Node, value: ir.Value) -> ir.Value | None:
    """The second operand of a node with two."""
    if len(node.inputs) != 2 or node.inputs[0] is node.inputs[1]:
        return None
    return node.inputs[1] if node.inputs[0] is value else node.inputs[0]


def _number(value: ir.Value | None) -> float | None:
    """A constant of one element."""
    held = known_tensor(value)
    if held is None or not held.dtype.is_floating_point() or held.size != 1:
        return None
    return float(held.numpy().reshape(-1)[0])


def _is(value: ir.Value | None, wanted: float) -> bool:
    found = _number(value)
    # a constant may have been rounded to float16, by up to 2^-11 of it
    return found is not None and bool(np.isclose(found, wanted, rtol=1e-3))


# a product and its bias


def _with_bias(node: ir.Node) -> Joined | None:
    """MatMul with a constant matrix, and an Add of one number a column."""
    left, weight = node.inputs[0], node.inputs[1]
    added = _only_reader(node.outputs[0], ["Add"])
    if left is None or weight is None or added is None or left.shape is None or not 1 < len(left.shape) <= _MOST:
        return None
    columns = _columns(weight)
    bias = known_tensor(_other(added, node.outputs[0]))
    if columns is None or bias is None or not bias.dtype.is_floating_point():
        return None
    lengths = bias.shape.numpy()
    if not lengths or len(lengths) > len(left.shape) or lengths[-1] != columns or bias.size != columns:
        return None
    row = _other(added, node.outputs[0])
    # ONNX's Gemm has two dimensions; the handler makes MIL's linear of it, which has more
    return Joined(ir.node("Gemm", [left, weight, row], name=added.name or node.name), added, (node,))


def _columns(weight: ir.Value) -> int | None:
    """How many columns a constant matrix has, also one that is stored in integers."""
    maker = weight.producer()
    if maker is not None and maker.op_type == "DequantizeLinear" and maker.inputs[0] is not None:
        if any(known_tensor(value) is None for value in maker.inputs if value is not None):
            return None
        held = known_tensor(maker.inputs[0])
    else:
        held = known_tensor(weight)
    lengths = () if held is None else held.shape.numpy()
    return int(lengths[1]) if len(lengths) == 2 else None


# activations


def _silu(node: ir.Node) -> Joined | None:
    """x * Sigmoid(x)."""
    x = node.inputs[0]
    product = _only_reader(node.outputs[0], ["Mul"])
    if x is None or product is None or _other(product, node.outputs[0]) is not x:
        return None
    # of opset 24, whatever the model's is: only the handlers see it
    return Joined(ir.node("Swish", [x], name=product.name or node.name), product, (node,))


def _gelu(node: ir.Node) -> Joined | None:
    """x * (1 + Erf(x / sqrt(2))) * 0.5, in whichever order it is multiplied."""
    scaled = node.inputs[0].producer() if node.inputs[0] is not None else None
    if scaled is None or len(scaled.inputs) != 2 or _only_reader(node.inputs[0], ["Erf"]) is None:
        return None
    x, factor = scaled.inputs[0], scaled.inputs[1]
    if scaled.op_type == "Mul" and _number(x) is not None:
        x, factor = factor, x
    if x is None or not _is(factor, {"Div": 2**0.5, "Mul": 0.5**0.5}.get(scaled.op_type, np.nan)):
        return None
    raised = _only_reader(node.outputs[0], ["Add"])
    if raised is None or not _is(_other(raised, node.outputs[0]), 1):
        return None
    products = _products(raised, x)
    if products is None:
        return None
    first, last = products
    return Joined(ir.node("Gelu", [x], name=last.name or node.name), last, (first, raised, node, scaled))


def _products(raised: ir.Node, x: ir.Value) -> tuple[ir.Node, ir.Node] | None:
    """The products by x and by one half, the last one second: both behind ``raised``, or the half of x beside it."""
    first = _only_reader(raised.outputs[0], ["Mul"])
    if first is None:
        return None
    factor = _other(first, raised.outputs[0])
    second = _only_reader(first.outputs[0], ["Mul"])
    if second is not None:
        last = _other(second, first.outputs[0])
        if (factor is x and _is(last, 0.5)) or (_is(factor, 0.5) and last is x):
            return first, second
    half = factor.producer() if factor is not None else None
    if half is None or half.op_type != "Mul" or _only_reader(factor, ["Mul"]) is not first:
        return None
    return (half, first) if x in half.inputs and _is(_other(half, x), 0.5) else None


# an average over the picture, and its flattening


def _flat_average(node: ir.Node) -> Joined | None:
    """The average over all axes behind the channels, of which a Flatten or Reshape leaves [batch, channels]."""
    x, value = node.inputs[0], node.outputs[0]
    flat = _only_reader(value, ["Flatten", "Reshape", "Squeeze"])
    if x is None or x.shape is None or flat is None or flat.inputs[0] is not value or not 3 <= len(x.shape) <= _MOST:
        return None
    made = flat.outputs[0].shape
    if made is None or list(made) != list(x.shape[:2]) or not isinstance(made[1], int):
        return None
    axes = list(range(2, len(x.shape)))
    if node.op_type == "ReduceMean" and not _reduces(node, axes, len(x.shape)):
        return None
    # a mean over the picture has one name in every opset
    return Joined(ir.node("GlobalAveragePool", [x], {"keepdims": 0}, name=flat.name or node.name), flat, (node,))


def _reduces(node: ir.Node, axes: list[int], rank: int) -> bool:
    """Whether a ReduceMean keeps the rank, and averages over these axes."""
    if node.attributes.get_int("keepdims", 1) != 1:
        return False
    listed = node.attributes.get_ints("axes", ())
    held = known_tensor(node.inputs[1]) if len(node.inputs) > 1 else None
    given = list(listed) if held is None else held.numpy().reshape(-1).tolist()
    return sorted(int(axis) % rank for axis in given) == axes


# axes


def _turned_once(node: ir.Node) -> Joined | None:
    """A transposition of a transposition."""
    x = node.inputs[0]
    second = _only_reader(node.outputs[0], ["Transpose"])
    first_order = node.attributes.get_ints("perm", ())
    order = second.attributes.get_ints("perm", ()) if second is not None else ()
    if x is None or second is None or not first_order or len(order) != len(first_order):
        return None
    # axis i of the result is axis order[i] of what the first one made, and that was first_order[order[i]] of x
    together = [int(first_order[axis]) for axis in order]
    if together == sorted(together):
        return Joined(ir.node("Identity", [x], name=second.name or node.name), second, (node,))
    return Joined(ir.node("Transpose", [x], {"perm": together}, name=second.name or node.name), second, (node,))


def _only_relabelled(node: ir.Node) -> Joined | None:
    """A transposition that moves axes of length 1 alone, behind which a Reshape says the shape anyway."""
    x, shaped = node.inputs[0], _only_reader(node.outputs[0], ["Reshape"])
    order = node.attributes.get_ints("perm", ())
    if x is None or x.shape is None or shaped is None or len(order) != len(x.shape):
        return None
    longer = [int(axis) for axis in order if x.shape[int(axis)] != 1]
    made = shaped.outputs[0].shape
    if longer != sorted(longer) or made is None or not made.is_static() or shaped.inputs[0] is not node.outputs[0]:
        return None
    before, reshaped = _reshaped(x, list(made.numpy()), f"{node.outputs[0].name}_shape")
    reshaped.name = shaped.name or node.name
    return Joined(reshaped, shaped, (node,), before=(before,))


def _reshaped(x: ir.Value, lengths: Sequence[int], name: str) -> tuple[ir.Node, ir.Node]:
    """The constant and the Reshape that give a value these lengths."""
    constant = ir.node("Constant", [], {"value": ir.tensor(np.array(lengths, np.int64))})
    constant.outputs[0].name = name
    made = ir.node("Reshape", [x, constant.outputs[0]])
    made.outputs[0].shape = ir.Shape(lengths)
    return constant, made


def _turned_without(node: ir.Node) -> Joined | None:
    """A transposition with an axis that an Unsqueeze brings and a Squeeze takes away: PyTorch's MultiheadAttention."""
    brought = node.inputs[0].producer() if node.inputs[0] is not None else None
    taken = _only_reader(node.outputs[0], ["Squeeze"])
    if brought is None or taken is None or brought.op_type != "Unsqueeze" or len(brought.inputs) != 2:
        return None
    x, order = brought.inputs[0], [int(axis) for axis in node.attributes.get_ints("perm", ())]
    values = [known_tensor(n.inputs[1]) if len(n.inputs) == 2 else None for n in (brought, taken)]
    if x is None or not order or any(v is None or v.size != 1 for v in values):
        return None
    axis, gone = (int(v.numpy().reshape(-1)[0]) % len(order) for v in values if v is not None)
    if order[gone] != axis or _only_reader(node.inputs[0], ["Transpose"]) is not node:
        return None
    left = [each - (each > axis) for each in order if each != axis]
    made = ir.node("Transpose", [x], {"perm": left}, name=taken.name or node.name)
    return Joined(made, taken, (node, brought))


def _picked(node: ir.Node) -> Joined | None:
    """One position of an axis, of which a Squeeze leaves nothing: a Gather of one number."""
    squeezed = _only_reader(node.outputs[0], ["Squeeze"])
    x = node.inputs[0]
    if x is None or squeezed is None or x.shape is None or len(x.shape) < 2 or len(squeezed.inputs) != 2:
        return None
    values = [known_tensor(v) for v in (*node.inputs[1:], squeezed.inputs[1]) if v is not None]
    if len(values) not in (4, 5) or any(v is None or v.size != 1 for v in values):
        return None
    numbers = [int(v.numpy().reshape(-1)[0]) for v in values if v is not None]
    # starts, ends and axes, steps where they are said, and the axis that is squeezed
    start, end, axis, gone, step = *numbers[:3], numbers[-1], numbers[3] if len(numbers) == 5 else 1
    rank = len(x.shape)
    length = x.shape[axis % rank]
    # the last place has no end that could be counted: exporters write the largest integer
    if (end != start + 1 and not (start == -1 and end > 2**30)) or step != 1 or axis % rank != gone % rank:
        return None
    if not isinstance(length, int) or not -length <= start < length:
        return None
    place = ir.node("Constant", [], {"value": ir.tensor(np.array(start, np.int64))})
    place.outputs[0].name = f"{node.outputs[0].name}_place"
    made = ir.node("Gather", [x, place.outputs[0]], {"axis": axis % rank}, name=squeezed.name or node.name)
    return Joined(made, squeezed, (node,), before=(place,))


# attention


def _attention(node: ir.Node) -> Joined | None:
    """softmax(q k^T) v of four dimensions, where nothing is added to the scores; factors of q and k become its scale."""
    scores = node.inputs[0].producer() if node.inputs[0] is not None else None
    seen = _only_reader(node.outputs[0], ["MatMul"])
    rank = len(node.outputs[0].shape) if node.outputs[0].shape is not None else 0
    if scores is None or seen is None or scores.op_type != "MatMul" or seen.inputs[0] is not node.outputs[0]:
        return None
    if (
        rank != 4
        or node.attributes.get_int("axis", -1) not in (-1, 3)
        or _only_reader(node.inputs[0], ["Softmax"]) is None
    ):
        return None
    q, first = _factor_of(scores.inputs[0], scores)
    turned, second = _factor_of(scores.inputs[1], scores)
    found = None if turned is None else _turned_key(turned)
    if q is None or found is None or seen.inputs[1] is None or not first or not second:
        return None
    key, between, before = found
    shapes = [None if v is None or v.shape is None or len(v.shape) != 4 else v.shape for v in (q, key, seen.inputs[1])]
    # queries that share keys have fewer heads there, which is another form
    if any(shape is None or list(shape[:2]) != list(shapes[0] or ())[:2] for shape in shapes):
        return None
    # the scale is said, or 1 / sqrt(width) would stand for it (ONNX, Attention)
    made = ir.node(
        "Attention", [q, key, seen.inputs[1]], {"scale": first * second}, name=seen.name or node.name, version=23
    )
    factors = zip(scores.inputs, (first, second), strict=True)
    scaled = [v.producer() for v, factor in factors if factor != 1 and v is not None]
    gone = (node, scores, *(n for n in scaled if n is not None), *between)
    return Joined(made, seen, gone, before)


def _factor_of(value: ir.Value | None, reader: ir.Node) -> tuple[ir.Value | None, float]:
    """What is multiplied by a constant, and by which; the value itself and 1 where it is not."""
    product = value.producer() if value is not None else None
    if product is None or product.op_type != "Mul" or _only_reader(value, [reader.op_type]) is not reader:
        return value, 1.0
    for x, other in (product.inputs, product.inputs[::-1]):
        if (factor := _number(other)) is not None:
            return x, factor
    return value, 1.0


def _turned_key(value: ir.Value) -> tuple[ir.Value, list[ir.Node], tuple[ir.Node, ...]] | None:
    """Of what these are the last two axes exchanged, the nodes that do it, the last first, and those that it needs instead."""
    node = value.producer()
    if node is None or node.inputs[0] is None:
        return None
    if node.op_type == "Transpose":
        order = node.attributes.get_ints("perm", ())
        return (node.inputs[0], [node], ()) if tuple(order) == (0, 1, 3, 2) else None
    # written with the leading axes as one
    middle = node.inputs[0].producer() if node.op_type == "Reshape" else None
    source = middle.inputs[0] if middle is not None and middle.op_type == "Transpose" else None
    if middle is None or source is None or source.shape is None or value.shape is None or len(value.shape) != 4:
        return None
    order, made = [int(axis) for axis in middle.attributes.get_ints("perm", ())], middle.outputs[0].shape
    if len(order) != 3 or made is None or list(made)[1:] != list(value.shape)[2:]:
        return None
    first = source.producer()
    x = first.inputs[0] if first is not None and first.op_type == "Reshape" else None
    turned = [value.shape[0], value.shape[1], value.shape[3], value.shape[2]]
    if first is not None and x is not None and x.shape is not None and order == [0, 2, 1] and list(x.shape) == turned:
        return x, [node, middle, first], ()
    if not all(isinstance(length, int) for length in turned):
        return None
    lengths = [length for length in turned if isinstance(length, int)]
    back = [order[0], order[2], order[1]]
    before: list[ir.Node] = []
    if back != [0, 1, 2]:
        before.append(ir.node("Transpose", [source], {"perm": back}))
        source = before[0].outputs[0]
        source.name = f"{value.name}_key_turned"
    constant, reshaped = _reshaped(source, lengths, f"{value.name}_key_shape")
    reshaped.outputs[0].name = f"{value.name}_key"
    return reshaped.outputs[0], [node, middle], (*before, constant, reshaped)


def _shuffled(node: ir.Node) -> Joined | None:
    """Channels of several values side by side, dealt out in turn: the first of each, the second of each (ShuffleNet).

    Concat -> Reshape [b, n, c, h, w] -> Transpose [0, 2, 1, 3, 4] -> Reshape [b, c n, h, w], which MIL's concat does by itself.
    """
    axis, parts = node.attributes.get("axis"), [value for value in node.inputs if value is not None]
    shapes = {None if value.shape is None else tuple(value.shape) for value in parts}
    apart = _only_reader(node.outputs[0], ["Reshape"])
    turned = None if apart is None else _only_reader(apart.outputs[0], ["Transpose"])
    last = None if turned is None else _only_reader(turned.outputs[0], ["Reshape"])
    if (
        axis is None
        or axis.as_int() not in (1, -3)
        or len(shapes) != 1
        or apart is None
        or turned is None
        or last is None
    ):
        return None
    (shape,) = shapes
    # of constants it would be computed by the standard's Concat, which knows no turns
    if shape is None or len(shape) != 4 or not all(isinstance(n, int) for n in shape) or any(map(known_tensor, parts)):
        return None
    b, c, h, w = shape
    of = [None if each.outputs[0].shape is None else list(each.outputs[0].shape) for each in (apart, last)]
    perm = turned.attributes.get("perm")
    if (
        of != [[b, len(parts), c, h, w], [b, c * len(parts), h, w]]
        or perm is None
        or list(perm.as_ints()) != [0, 2, 1, 3, 4]
    ):
        return None
    made = ir.node("Concat", parts, {"axis": 1, "interleave": 1}, name=last.name or node.name)
    return Joined(made, last, (turned, apart, node))


_RULES: dict[str, tuple[Callable[[ir.Node], Joined | None], ...]] = {
    "MatMul": (_with_bias,),
    "Sigmoid": (_silu,),
    "Erf": (_gelu,),
    "GlobalAveragePool": (_flat_average,),
    "ReduceMean": (_flat_average,),
    "Transpose": (_turned_once, _turned_without, _only_relabelled),
    "Slice": (_picked,),
    "Softmax": (_attention,),
    "Concat": (_shuffled,),
}
