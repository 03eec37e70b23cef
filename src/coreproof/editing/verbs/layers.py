"""Verbs on layers: delete, connect, insert, replace, set, rename."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from coreproof.editing.editor import Editor, NewLayer
from coreproof.editing.verbs.registry import verb
from coreproof.errors import EditError
from coreproof.model.graph import Node


@verb
def delete(editor: Editor, layer: str, reconnect: bool = True) -> None:
    """Takes a layer out. ``reconnect``: whoever read its output reads its (first) input from then on; else they are cut."""
    node = editor.node(layer)
    if not reconnect:
        editor.remove(node.name)
        return
    source = _passes_on(editor, node)
    if node.outputs[0] in editor.graph.outputs:
        _end_at(editor, node, source)
        return
    editor.redirect(node.outputs[0], source, editor.graph.consumers(node.outputs[0]))
    editor.remove(node.name)


def _passes_on(editor: Editor, node: Node) -> str:
    """The value that stands in for the output of ``node`` when it is gone: the one that is not a constant."""
    fed = [n for n in node.inputs if n and n not in node.parameters and not editor.is_constant(n)]
    if not fed or len(node.outputs) != 1:
        raise EditError(
            f"layer {node.name!r} cannot be bridged",
            where=editor.graph.name,
            expected="a layer with an input and one output",
            found=f"{len(fed)} inputs, {len(node.outputs)} outputs",
            fix="delete it with reconnect = false, then connect its readers",
        )
    return fed[0]


def _end_at(editor: Editor, node: Node, source: str) -> None:
    """Takes out a layer that makes an output: the layer before it makes that output, under the same name."""
    graph = editor.graph
    before = graph.producer(source)
    if before is None or source in graph.outputs:
        raise EditError(
            f"layer {node.name!r} makes the output {node.outputs[0]!r} straight from {source!r}, which cannot be an output",
            fix="declare another output first",
        )
    output = node.outputs[0]
    # in this order the name is free when the layer before takes it
    editor.remove(node.name)
    editor.redirect(source, output, [reader for reader in graph.consumers(source) if reader.name != node.name])
    editor.set_outputs(before.name, [output if name == source else name for name in before.outputs])


@verb
def connect(editor: Editor, source: str, to: str, input: int | str | None = None) -> None:
    """Makes the layer ``to`` read ``source`` (a value, or the first output of the layer of that name).

    ``input`` says which of its inputs, by position or by the value that it reads now; it may be left out where there is one.
    """
    graph = editor.graph
    node = editor.node(to)
    value = editor.value(source)
    fed = list(node.inputs)
    dynamic = [i for i, n in enumerate(fed) if n not in node.parameters and not editor.is_constant(n)]
    if isinstance(input, str | int) and str(input) in fed:
        place = fed.index(str(input))  # names of values may be numbers: they come before positions
    elif isinstance(input, str) and not input.isdigit():
        if input not in fed:
            raise EditError(f"layer {node.name!r} does not read {input!r}", expected=", ".join(fed), found=input)
        place = fed.index(input)
    elif input is not None:
        place = int(input)
        if place >= len(fed):
            raise EditError(f"layer {node.name!r} has no input {place}", expected=f"0 to {len(fed) - 1}", found=place)
    elif len(dynamic) == 1:
        place = dynamic[0]
    else:
        raise EditError(
            f"layer {node.name!r} has {len(dynamic)} inputs",
            where=graph.name,
            expected="which of them is connected",
            found=", ".join(fed[i] for i in dynamic) or "none",
            fix="say input = 0, or the value that is replaced",
        )
    fed[place] = value
    editor.set_inputs(node.name, fed)


@verb
def insert(
    editor: Editor,
    operator: str,
    name: str,
    after: str,
    inputs: Sequence[str] | Mapping[str, str] | None = None,
    output: str | None = None,
    before: Sequence[str] | str | None = None,
    **attributes: object,
) -> None:
    """Puts a new layer behind the value ``after``; its readers (or only the layers ``before``) read the new one.

    ``operator`` and ``attributes`` are the format's own names; arrays are weights. ``inputs``: what it reads, default ``after``.
    """
    value = editor.value(after)
    made = output or name
    editor.require_new_layer(name)
    editor.require_free(made)
    only = [before] if isinstance(before, str) else list(before) if before is not None else None
    graph, read = editor.graph, value
    readers = [n for n in graph.consumers(value) if only is None or n.name in only]
    producer = graph.producer(value)
    if only is None and value in graph.outputs and producer is not None:
        # the output keeps its name: the new layer makes it, from what was the output under another name
        inner, made = editor.require_free(f"{value}_before_{name}"), value
        editor.set_outputs(producer.name, [inner if n == value else n for n in producer.outputs])
        inputs, value = [inner if n == value else n for n in inputs or [value]], inner
    editor.add(NewLayer(operator, name, inputs or [value], [made], attributes), graph.layer_of(read))
    editor.redirect(read, made, readers)


@verb
def replace(
    editor: Editor, layer: str, operator: str, inputs: Sequence[str] | None = None, **attributes: object
) -> None:
    """Puts another operator in the place of a layer, under the same name, with the same inputs (the data) and outputs."""
    node = editor.node(layer)
    graph = editor.graph
    # behind the layer before it, not behind what it reads: the order of the file stays
    index = graph.nodes.index(node)
    before = graph.nodes[index - 1].name if index else None
    fed = list(inputs) if inputs is not None else [n for n in node.inputs if n and not editor.is_constant(n)]
    outputs, spare = list(node.outputs), [f"{name}__replaced" for name in node.outputs]
    # the old layer steps aside under other names, so that it is still whole when the new one is refused
    # (renamed first: an ONNX node without a name is called after what it makes)
    name = node.name if node.name not in outputs else outputs[0]
    editor.rename_layer(node.name, f"{node.name}__replaced")
    editor.set_outputs(f"{node.name}__replaced", spare)
    try:
        editor.add(NewLayer(operator, name, fed, outputs, attributes), before)
    except EditError:
        editor.rename_layer(f"{node.name}__replaced", node.name)
        editor.set_outputs(node.name, outputs)
        raise
    editor.remove(f"{node.name}__replaced")


@verb
def set_(editor: Editor, layer: str, attribute: str, value: object = None) -> None:
    """Gives an attribute or a weight of a layer another value; no value (None) takes it away."""
    editor.set(editor.node(layer).name, attribute, value)


@verb
def rename(editor: Editor, old: str, new: str) -> None:
    """Renames a feature, a value or a layer, or both where they share the name, everywhere they are named.

    Nested blocks, preprocessing and the classifier are included.
    """
    is_layer = any(node.name == old for node in editor.graph.nodes)
    is_value = editor.is_value(old) or old in editor.graph.outputs
    if not is_layer and not is_value:
        editor.node(old)  # which says that there is none, and what is near
    if is_layer:
        editor.require_new_layer(new)
        editor.rename_layer(old, new)
    if is_value:
        editor.rename_value(old, new)
