"""Each node against its operator's definition, before any pass reads an input or an attribute that is not there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import onnx
import onnx_ir as ir
from onnx.defs import OpSchema

from coreproof.errors import ConversionError, first_few

_ANY = 1 << 20
"""Where any number of them will do, a schema says the largest int of C++."""


def check_against_schemas(model: ir.Model, name: str) -> None:
    """ConversionError that names each node whose inputs, outputs or attributes are not those that its operator is defined with.

    Source: ``min_input``, ``max_input``, ``min_output``, ``max_output`` and the required attributes of ONNX's schemas
    (onnx.defs), in the opset that the model, or the function, imports. What the standard does not define is left to who
    translates it.
    """
    wrong = [*_wrong(model.graph, model.opset_imports)]
    for function in model.functions.values():
        wrong += _wrong(function.graph, {**model.opset_imports, **function.opset_imports})
    if not wrong:
        return
    fix = "export the model again, or mend the node with `coreproof edit`"
    if len(wrong) == 1:
        node, found, expected = wrong[0]
        raise ConversionError(
            f"{node.op_type} is not what its definition asks for",
            where=f"{name}, {_place(node)}",
            expected=expected,
            found=found,
            fix=fix,
        )
    raise ConversionError(
        f"{len(wrong)} nodes are not what their operators' definitions ask for",
        where=name,
        found=first_few([f"{_place(n)} ({n.op_type}): {found}; expected {expected}" for n, found, expected in wrong]),
        fix=fix,
    )


def _wrong(graph: ir.Graph, opsets: Mapping[str, int]) -> Iterator[tuple[ir.Node, str, str]]:
    """Each node that is not as it is defined, what was found, and what was expected."""
    for node in graph.all_nodes():
        try:
            schema = onnx.defs.get_schema(node.op_type, opsets.get(node.domain, 1), node.domain)
        except onnx.defs.SchemaError:
            continue
        differences = [
            *_counted("inputs", node.inputs, schema.min_input, schema.max_input),
            *_counted("outputs", node.outputs, schema.min_output, schema.max_output),
            *_left_out(node, schema),
            *(
                (f"no attribute {attribute!r}", f"the attribute {attribute!r}")
                for attribute, declared in schema.attributes.items()
                if declared.required and attribute not in node.attributes
            ),
        ]
        if differences:
            found, expected = zip(*differences, strict=True)
            yield node, ", ".join(found), ", ".join(expected)


def _counted(what: str, values: Sequence[ir.Value | None], least: int, most: int) -> Iterator[tuple[str, str]]:
    if least <= len(values) <= most:
        return
    named = f" ({', '.join(repr(v.name or '') for v in values if v is not None)})" if values else ""
    said = f"{least} or more" if most >= _ANY else str(least) if least == most else f"{least} to {most}"
    yield f"{_counts(len(values), what)}{named}", f"{said} {what[:-1] if least == most == 1 else what}"


def _counts(count: int, what: str) -> str:
    return f"{count} {what[:-1] if count == 1 else what}"


def _left_out(node: ir.Node, schema: OpSchema) -> Iterator[tuple[str, str]]:
    """Inputs without a name, which only optional ones may be."""
    for declared, value in zip(schema.inputs, node.inputs, strict=False):
        if value is None and declared.option == OpSchema.FormalParameterOption.Single:
            yield f"no input {declared.name!r}", f"the input {declared.name!r}"


def _place(node: ir.Node) -> str:
    return f"node {node.name or next((value.name for value in node.outputs if value.name), '')!r}"
