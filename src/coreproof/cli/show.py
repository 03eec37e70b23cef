"""``coreproof show``: the layers of a model with inputs, outputs, shapes and parameters, one line a layer."""

from __future__ import annotations

import math
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import typer

from coreproof.cli.functions import each_function
from coreproof.cli.options import ModelArgument, Trust
from coreproof.cli.say import say, say_json
from coreproof.errors import CoreproofError, InputError

if TYPE_CHECKING:
    from coreproof.model.base import Model
    from coreproof.model.features import Feature
    from coreproof.model.graph import Graph, Node


def command(
    model: ModelArgument,
    layer: Annotated[
        str | None, typer.Option(help="Everything about one layer: attributes, parameters, neighbours.")
    ] = None,
    grep: Annotated[str | None, typer.Option(help="Only layers whose line matches this regular expression.")] = None,
    head: Annotated[int | None, typer.Option(help="Only the first N layers.", min=0)] = None,
    tail: Annotated[int | None, typer.Option(help="Only the last N layers.", min=0)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
    trust: Trust = False,
) -> None:
    """Show a model's features and layers, alike for PyTorch, ONNX, NeuralNetwork and ML Program."""
    from coreproof.model.load import load
    from coreproof.validation.known_shapes import with_shapes

    loaded = load(model, trust=trust)
    functions = each_function(loaded) if layer is None else {}
    documents: dict[str, object] = {}
    for shown in functions.values() or [loaded]:
        graph = with_shapes(shown)
        nodes = chosen_nodes(graph, layer=layer, grep=grep, head=head, tail=tail)
        if as_json:
            documents[shown.name] = as_document(shown, graph, nodes)
        elif layer is not None:
            for node in nodes:
                say(*describe(node, graph))
        else:
            say(*header(shown, graph))
            say(*table(nodes, graph, small_constants(shown), terminal_width()), *([""] if functions else []))
    if as_json:
        found = list(documents.values())
        say_json({"functions": dict(zip(functions, found, strict=True))} if functions else found[0])


def chosen_nodes(
    graph: Graph, *, layer: str | None = None, grep: str | None = None, head: int | None = None, tail: int | None = None
) -> list[Node]:
    """The nodes that the options leave, in stored order."""
    nodes = list(graph.nodes if layer is None else graph.find(layer))
    if grep is not None:
        try:
            pattern = re.compile(grep)
        except re.error as error:
            raise InputError("--grep is not a regular expression", found=f"{grep!r}: {error}") from None
        nodes = [n for n in nodes if pattern.search("  ".join(_cells(n, graph)))]
    if head is None and tail is None:
        return nodes
    # both ends, each layer once where they overlap
    return [node for place, node in enumerate(nodes) if place < (head or 0) or place >= len(nodes) - (tail or 0)]


def header(model: Model, graph: Graph) -> list[str]:
    """Name, format, functions, features and totals."""
    signature = model.signature
    parameters = sum(_parameter_count(n) for n in graph.nodes)
    lines = [f"{model.name}  ({model.format})"]
    if len(names := model.functions) > 1:
        lines.append(f"  functions  {', '.join(names)} (the first is the default one)")
    lines += [f"  input   {feature}" for feature in signature.inputs]
    lines += [f"  output  {feature}" for feature in signature.outputs]
    lines += [f"  state   {feature}" for feature in signature.states]
    if signature.labels:
        shown = ", ".join(map(str, signature.labels[:3]))
        lines.append(f"  labels  {len(signature.labels)}: {shown}{', ...' if len(signature.labels) > 3 else ''}")
    lines += [f"  note    {note}" for note in model.notes]
    lines.append(f"  {len(graph.nodes)} layers, {parameters:,} parameters")
    return [*lines, ""]


def table(
    nodes: list[Node],
    graph: Graph,
    constants: Mapping[str, str] = MappingProxyType({}),
    width: int | None = None,
) -> list[str]:
    """One aligned line a layer: name, operator, inputs -> outputs, shape, parameters, and last the attributes, which are not cut.

    ``constants``: what stands in small constants, by layer. What is wider than ``width`` goes on below; None: nothing does.
    """
    rows = [("layer", "operator", "inputs -> outputs", "shape", "parameters", "attributes")]
    for node in nodes:
        *cells, attributes = _cells(node, graph)
        name, operator, flow, shape, count = cells
        rows.append((name, operator, flow, shape, count, f"{attributes} {constants.get(node.name, '')}".strip()))
    widths = [min(max(len(r[i]) for r in rows), limit) for i, limit in enumerate((40, 28, 56, 20, 12, 0))]
    if width is None:
        return ["  ".join([*map(_fitted, row[:5], widths), row[5]]).rstrip() for row in rows]
    # the longest columns give way first, down to what still tells one layer from another
    while sum(widths[:5]) + 8 > width and any(have > least for have, least in zip(widths, _LEAST, strict=True)):
        most = max(range(5), key=lambda at: widths[at] - _LEAST[at])
        widths[most] -= 1
    room = width - sum(widths[:5]) - 10
    beside = room >= _BESIDE
    # below each other where there is no room beside
    indent = " " * (width - room if beside else 4)
    lines = []
    for row in rows if beside else [(*rows[0][:5], ""), *rows[1:]]:
        first, *others = textwrap.wrap(row[5], max(width - len(indent), 20), break_on_hyphens=False) or [""]
        line = "  ".join(map(_fitted, row[:5], widths))
        lines += [f"{line}  {first}".rstrip()] if beside else [line.rstrip(), *([indent + first] if first else [])]
        lines += [indent + other for other in others]
    return lines


_LEAST = (12, 10, 16, 8, 6, 0)
"""What the columns of the table keep on the narrowest terminal."""
_BESIDE = 40
"""Room for attributes from which on they stand beside the other columns."""
_SMALL = 4
"""Numbers of a constant that are shown: a mean, a deviation, an epsilon."""


def small_constants(model: Model) -> dict[str, str]:
    """What the smallest constants of each layer hold, by the layer's name."""
    import numpy as np

    from coreproof.model.layer_weights import all_weights

    found: dict[str, str] = {}
    for layer, weights in all_weights(model).items():
        small = [(name, ref) for name, ref in weights.items() if ref.size <= _SMALL and ref.dtype != "str"]
        with suppress(CoreproofError):  # what of a weight is damaged is said by whoever needs it
            told = [f"{name}=[{','.join(f'{v:g}' for v in np.ravel(ref.read()))}]" for name, ref in small]
            found[layer] = " ".join(told)
    return found


def terminal_width() -> int | None:
    """How wide the terminal is, or COLUMNS says; None where lines go into a file or another program, which wants them whole."""
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        return None
    return shutil.get_terminal_size().columns


def one_line(node: Node) -> str:
    """A layer in a line: operator, name, what it reads and makes, its attributes and weights."""
    settings = [f"{k}={_brief(v)}" for k, v in node.attributes.items()]
    settings += [f"{k}:{dtype}[{'x'.join(map(str, shape))}]" for k, (dtype, shape) in node.parameters.items()]
    flow = f"{', '.join(n for n in node.inputs if n not in node.parameters)} -> {', '.join(node.outputs)}"
    return f"{node.operator} {node.name}: {flow}  {' '.join(settings)}".rstrip()


def _cells(node: Node, graph: Graph) -> tuple[str, str, str, str, str, str]:
    read = [name for name in node.inputs if name and not graph.is_constant(name)]
    shapes = ", ".join(_shape(name, graph) for name in node.outputs)
    count = _parameter_count(node)
    attributes = " ".join(f"{k}={_brief(v)}" for k, v in node.attributes.items())
    source = f"[{node.source}] " if node.source else ""
    flow = f"{', '.join(read)} -> {', '.join(node.outputs)}"
    return node.name, node.operator, flow, shapes, f"{count:,}" if count else "", source + attributes


def _shape(name: str, graph: Graph) -> str:
    value = graph.values.get(name)
    if value is None or value.shape is None:
        return "?"
    return "x".join("?" if d is None else str(d) for d in value.shape) or "scalar"


def _parameter_count(node: Node) -> int:
    return sum(math.prod(shape) for dtype, shape in node.parameters.values() if dtype != "str" and shape)


def _brief(value: object) -> str:
    if isinstance(value, tuple | list) and len(value) > 8:
        return f"[{', '.join(map(str, value[:4]))}, ... {len(value)} values]"
    if isinstance(value, tuple | list):
        return f"[{','.join(_brief(v) for v in value)}]"
    if isinstance(value, float):
        return f"{value:g}"
    return " ".join(line.strip() for line in str(value).splitlines())


def _fitted(text: str, width: int) -> str:
    """A cell of this width; of a long name both ends tell it from others."""
    if len(text) > width:
        text = text[: width // 2 - 1] + "…" + text[len(text) - (width - width // 2) :]
    return text.ljust(width)


def describe(node: Node, graph: Graph) -> list[str]:
    """One layer in full: what it reads and from whom, what it makes and for whom."""
    lines = [f"{node.name}  ({node.operator})"]
    if node.source:
        lines.append(f"  source     {node.source}")
    for name in node.inputs:
        producer = graph.producer(name)
        origin = f"from {producer.name}" if producer else "constant" if graph.is_constant(name) else "input"
        lines.append(f"  reads      {name}  {_shape(name, graph)}  ({origin})")
    for name in node.outputs:
        readers = ", ".join(c.name for c in graph.consumers(name)) or "output"
        lines.append(f"  makes      {name}  {_shape(name, graph)}  (for {readers})")
    lines += [
        f"  parameter  {k}  {dtype}[{'x'.join(map(str, shape))}]" for k, (dtype, shape) in node.parameters.items()
    ]
    lines += [f"  attribute  {k} = {_brief(v)}" for k, v in node.attributes.items()]
    lines += [f"  block      {block.name}: {len(block.nodes)} layers" for block in node.blocks]
    return lines


def as_document(model: Model, graph: Graph, nodes: list[Node]) -> dict[str, object]:
    """What ``--json`` prints."""
    signature = model.signature

    def feature(f: Feature) -> dict[str, object]:
        image = None if f.image is None else vars(f.image)
        return {"name": f.name, "kind": f.kind, "dtype": f.dtype, "shape": f.shape, "image": image}

    return {
        "name": model.name,
        "format": model.format,
        "inputs": [feature(f) for f in signature.inputs],
        "outputs": [feature(f) for f in signature.outputs],
        "states": [feature(f) for f in signature.states],
        "labels": signature.labels,
        "notes": model.notes,
        "layers": [
            {
                "name": n.name,
                "operator": n.operator,
                "inputs": n.inputs,
                "outputs": n.outputs,
                "shapes": {o: v.shape if (v := graph.values.get(o)) else None for o in n.outputs},
                "attributes": n.attributes,
                "parameters": {k: {"dtype": d, "shape": s} for k, (d, s) in n.parameters.items()},
                "source": n.source,
            }
            for n in nodes
        ],
    }
