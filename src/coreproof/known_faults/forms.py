"""The forms that are known to be good, as edits: each computes what the layers computed."""

from __future__ import annotations

from collections.abc import Mapping

from coreproof.editing.edit import Edit
from coreproof.known_faults.record import Sighting
from coreproof.known_faults.sight import fed, shape, whole
from coreproof.model.base import Model
from coreproof.model.formats.free_name import free_name
from coreproof.model.graph import Graph, Node


class _Writer:
    """Edits of one sighting: new layers with names that are free, one after the other.

    A layer that stays keeps its meaning with its name, for by that its value is held against others: the last one of a pattern
    makes what it made, and the others are made anew.
    """

    def __init__(self, model: Model, root: str) -> None:
        self.graph: Graph = model.graph
        self._root = root
        self._taken = {*self.graph.values, *(node.name for node in self.graph.nodes)}
        self.edits: list[Edit] = []

    def put(self, operator: str, word: str, after: str, inputs: list[str], *before: str, **attributes: object) -> str:
        """A new layer behind the value ``after``; only the layers ``before`` read it. Returns what it makes."""
        name = free_name(f"{self._root}_{word}", self._taken, 2)
        self._taken.add(name)
        said: Mapping[str, object] = {"inputs": inputs, "before": list(before), **attributes}
        self.edits.append(Edit("insert", {"operator": operator, "name": name, "after": after, **said}))
        return name

    def replace(self, layer: Node, operator: str, inputs: list[str], **attributes: object) -> None:
        self.edits.append(Edit("replace", {"layer": layer.name, "operator": operator, "inputs": inputs, **attributes}))

    def drop(self, *layers: Node) -> None:
        """Takes out layers that nothing reads any more, the last one first."""
        for node in layers:
            readers = self.graph.consumers(node.outputs[0])
            if node.outputs[0] in self.graph.outputs or len(readers) != 1:
                return
            self.edits.append(Edit("delete", {"layer": node.name, "reconnect": False}))

    def done(self) -> tuple[Edit, ...]:
        return tuple(self.edits)


def softplus(model: Model, sighting: Sighting) -> tuple[Edit, ...]:
    """Before and after: of a number that is never positive no exponential grows::

    softplus x
    relu x + softplus(-|x|)
    """
    (node,) = sighting.layers
    write = _Writer(model, node.name)
    value = _fed(write.graph, node)
    magnitude = write.put("abs", "abs", value, [value])
    negative = write.put("mul", "neg", magnitude, [magnitude], y=-1.0)
    small = write.put("softplus", "small", negative, [negative])
    positive = write.put("relu", "relu", value, [value])
    write.replace(node, "add", [positive, small])
    return write.done()


def softplus_written_out(model: Model, sighting: Sighting) -> tuple[Edit, ...]:
    """Before and after::

    log(1 + exp x)
    relu x + log(1 + exp(-|x|))
    """
    log, add, exp = sighting.layers
    write = _Writer(model, log.name)
    value = _fed(write.graph, exp)
    magnitude = write.put("abs", "abs", value, [value])
    negative = write.put("mul", "neg", magnitude, [magnitude], y=-1.0)
    power = write.put("exp", "exp", negative, [negative])
    one_more = write.put("add", "one_more", power, [power], y=1.0)
    small = write.put("log", "small", one_more, [one_more], **_kept(log, "epsilon"))
    positive = write.put("relu", "relu", value, [value])
    write.replace(log, "add", [positive, small])
    write.drop(add, exp)
    return write.done()


def logsumexp(model: Model, sighting: Sighting) -> tuple[Edit, ...]:
    """Before and after::

    reduce_log_sum_exp x
    m + reduce_log_sum_exp(x - m), m = reduce_max x
    """
    (node,) = sighting.layers
    write = _Writer(model, node.name)
    value = _fed(write.graph, node)
    how = {key: _list(node.attributes[key]) for key in ("axes", "keep_dims") if key in node.attributes}
    largest = write.put("reduce_max", "max", value, [value], **{**how, "keep_dims": True})
    lower = write.put("sub", "shifted", value, [value, largest])
    small = write.put("reduce_log_sum_exp", "small", lower, [lower], **how)
    if not node.attributes.get("keep_dims", False):
        largest = write.put("reduce_max", "max_as_it_is", value, [value], **how)
    write.replace(node, "add", [small, largest])
    return write.done()


def log_of_sum(model: Model, sighting: Sighting) -> tuple[Edit, ...]:
    """Before and after, for a sum or a running sum::

    log(sum(exp x))
    m + log(sum(exp(x - m))), m = reduce_max x
    """
    log, total, exp = sighting.layers
    write = _Writer(model, log.name)
    value = _fed(write.graph, exp)
    axes = total.attributes.get("axes", (total.attributes.get("axis", 0),))
    keeps = "axes" not in total.attributes or bool(total.attributes.get("keep_dims", False))
    largest = write.put("reduce_max", "max", value, [value], axes=_list(axes), keep_dims=True)
    lower = write.put("sub", "shifted", value, [value, largest])
    power = write.put("exp", "exp", lower, [lower])
    how = {key: _list(held) for key, held in total.attributes.items()}
    summed = write.put(total.operator, "sum", power, [power], **how)
    small = write.put("log", "small", summed, [summed], **_kept(log, "epsilon"))
    if not keeps:
        largest = write.put("reduce_max", "max_as_it_is", value, [value], axes=_list(axes), keep_dims=False)
    write.replace(log, "add", [small, largest])
    write.drop(total, exp)
    return write.done()


def log_softmax(model: Model, sighting: Sighting) -> tuple[Edit, ...]:
    """Before and after: no small probability is made, whose logarithm would be that of zero::

    log(softmax x)
    y - reduce_log_sum_exp y, y = x - reduce_max x
    """
    log, softmax = sighting.layers
    write = _Writer(model, log.name)
    value = _fed(write.graph, softmax)
    along = {"axes": [softmax.attributes.get("axis", -1)], "keep_dims": True}
    largest = write.put("reduce_max", "max", value, [value], **along)
    lower = write.put("sub", "shifted", value, [value, largest])
    total = write.put("reduce_log_sum_exp", "total", lower, [lower], **along)
    write.replace(log, "sub", [lower, total])
    write.drop(softmax)
    return write.done()


def in_float32(model: Model, sighting: Sighting) -> tuple[Edit, ...]:
    """The layer in float32, with casts where it meets float16."""
    return (Edit("widen", {"layers": [sighting.layers[0].name]}),)


def vector_as_matrix(model: Model, sighting: Sighting) -> tuple[Edit, ...]:
    """Before and after, and the same for a vector on the right::

    matmul(v, m)
    squeeze(matmul(expand_dims v, m))
    """
    (node,) = sighting.layers
    write = _Writer(model, node.name)
    if len(node.inputs) < 2:
        return ()
    operands, gone = list(node.inputs[:2]), list[int]()
    for place, value in enumerate(node.inputs[:2]):
        lengths = shape(write.graph, value)
        if lengths is None or len(lengths) != 1:
            continue
        if value not in write.graph.made:
            return ()
        # counted from behind: a row that was made of a vector is the result's second-last axis, a column its last
        gone.append(place - 2)
        operands[place] = write.put("expand_dims", f"matrix{place}", value, [value], axes=[place])
    product = write.put("matmul", "product", operands[-1], operands)
    write.replace(node, "squeeze", [product], axes=gone)
    return write.done()


def product_in_floats(model: Model, sighting: Sighting) -> tuple[Edit, ...]:
    """Before and after: whole numbers below 2^24 are the same in float32::

    matmul(a, b)
    cast(matmul(cast a, cast b))
    """
    (node,) = sighting.layers
    write = _Writer(model, node.name)
    read = node.inputs[:2]
    if node.operator != "matmul" or len(read) < 2 or any(value not in write.graph.made for value in read):
        return ()
    floats = [write.put("cast", f"float{i}", v, [v], dtype="fp32") for i, v in enumerate(read)]
    turned = {key: node.attributes[key] for key in ("transpose_x", "transpose_y") if key in node.attributes}
    product = write.put("matmul", "product", floats[1], floats, **turned)
    write.replace(node, "cast", [product], dtype="int32")
    return write.done()


def gather_of_single_indices(model: Model, sighting: Sighting) -> tuple[Edit, ...]:
    """Before and after, where an index is one number, counted along the first axis::

    gather_nd(x, i)
    gather(x, squeeze i, axis 0)
    """
    (node,) = sighting.layers
    write = _Writer(model, node.name)
    computed = write.graph.data(node)
    if len(computed) != 2:
        return ()
    value, indices = computed
    lengths = shape(write.graph, indices)
    if lengths is None or len(lengths) < 2 or whole(lengths[-1]) != 1 or node.attributes.get("batch_dims", 0) != 0:
        return ()
    single = write.put("squeeze", "indices", indices, [indices], axes=[-1])
    write.replace(node, "gather", [value, single], axis=0, **_kept(node, "validate_indices"))
    return write.done()


def attention_written_out(model: Model, sighting: Sighting) -> tuple[Edit, ...]:
    """Before and after, with a mask of floats or none::

    scaled_dot_product_attention(q, k, v, mask)
    matmul(softmax(matmul(q / sqrt(d), k^T) + mask), v)
    """
    (node,) = sighting.layers
    write = _Writer(model, node.name)
    # the query first, the others by the names of the arguments: attn_mask where there is one, key, value
    if len(node.inputs) < 3:
        return ()
    query, *mask, key, value = node.inputs
    lengths = shape(write.graph, query)
    head = None if lengths is None else whole(lengths[-1])
    masks = [write.graph.values.get(name) for name in mask]
    if head is None or len(mask) > 1 or any(known is None or known.dtype != "float16" for known in masks):
        return ()
    scaled = write.put("mul", "scaled", query, [query], y=head**-0.5)
    scores = write.put("matmul", "scores", scaled, [scaled, key], transpose_x=False, transpose_y=True)
    if mask:
        scores = write.put("add", "masked", scores, [scores, mask[0]])
    weights = write.put("softmax", "weights", scores, [scores], axis=-1)
    write.replace(node, "matmul", [weights, value], transpose_x=False, transpose_y=False)
    return write.done()


def _fed(graph: Graph, node: Node) -> str:
    value = fed(graph, node)
    assert value is not None, "a pattern sights layers that read one value"
    return value


def _kept(node: Node, *keys: str) -> dict[str, object]:
    return {key: node.attributes[key] for key in keys if key in node.attributes}


def _list(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
