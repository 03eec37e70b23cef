"""Every operator of the standard in every version: a node of it converts, or is refused in a sentence about the node."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from onnx import TensorProto, defs, helper, numpy_helper
from onnx.defs import OpSchema

from coreproof.conversion.onnx_to_coreml.convert import onnx_to_coreml
from coreproof.errors import CoreproofError
from coreproof.model.onnx.model import from_message

KINDS = {
    "tensor(float)": TensorProto.FLOAT,
    "tensor(int64)": TensorProto.INT64,
    "tensor(int32)": TensorProto.INT32,
    "tensor(bool)": TensorProto.BOOL,
    "tensor(string)": TensorProto.STRING,
    "tensor(uint8)": TensorProto.UINT8,
    "tensor(int8)": TensorProto.INT8,
}
FORMS = [
    # the rank of the operands, whether whole numbers are constants, whether optional operands are given, what the others are
    (4, False, False, "same"),
    (4, False, True, "one"),
    (4, True, True, "rank"),
    (1, False, True, "same"),
]
FOREIGN = re.compile(
    r"\w\(\) |to unpack|NoneType|object (is|has)|Python scalar|argument|\w(Error|Exception)\b|Traceback"
)


def kind_of(parameter: OpSchema.FormalParameter) -> int | None:
    return next((number for name, number in KINDS.items() if name in parameter.types), None)


def attribute(declared: OpSchema.Attribute, rank: int) -> object:
    pads = "pad" in declared.name
    return {
        OpSchema.AttrType.INT: 1,
        OpSchema.AttrType.FLOAT: 1.0,
        OpSchema.AttrType.STRING: "a",
        OpSchema.AttrType.INTS: [0] * 2 * rank if pads else [1, 1],
        OpSchema.AttrType.FLOATS: [1.0] * rank,
        OpSchema.AttrType.STRINGS: ["a"],
        OpSchema.AttrType.TENSOR: numpy_helper.from_array(np.ones(2, np.float32)),
    }[declared.type]


def model_of(schema: OpSchema, rank: int, known: bool, whole: bool, others: str) -> onnx.ModelProto | None:
    """A model of one such node; None where an operand or an attribute is of a kind that is not made here (graphs, sequences)."""
    shape = [2, 3, 4, 4][:rank]
    lengths = {"same": shape, "one": [1], "rank": [rank]}[others]
    names, fed, stored = [], [], []
    for place, parameter in enumerate(schema.inputs):
        kind = kind_of(parameter)
        if parameter.option == OpSchema.FormalParameterOption.Optional and not whole:
            names.append("")
            continue
        if kind is None:
            return None
        names.append(f"x{place}")
        if place and known and kind in (TensorProto.INT64, TensorProto.INT32):
            stored.append(numpy_helper.from_array(np.ones(lengths, helper.tensor_dtype_to_np_dtype(kind)), names[-1]))
        else:
            fed.append(helper.make_tensor_value_info(names[-1], kind, lengths if place else shape))
    while names and not names[-1]:
        names.pop()
    try:
        attributes = {n: attribute(a, rank) for n, a in schema.attributes.items() if a.required}
    except KeyError:
        return None
    made = [o for o in schema.outputs if o.option != OpSchema.FormalParameterOption.Optional]
    outputs = [
        helper.make_tensor_value_info(f"y{i}", kind, None)
        if (kind := kind_of(o))
        else onnx.ValueInfoProto(name=f"y{i}")
        for i, o in enumerate(made)
    ]
    node = helper.make_node(schema.name, names, [o.name for o in outputs], "node", domain=schema.domain, **attributes)
    opsets = [helper.make_opsetid(schema.domain, schema.since_version)]
    if schema.domain:
        opsets.append(helper.make_opsetid("", 17))
    graph = helper.make_graph([node], "g", fed, outputs, stored)
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def models() -> Iterator[tuple[str, onnx.ModelProto]]:
    """One form of each version, each form of each operator in turn."""
    schemas = (s for s in defs.get_all_schemas_with_history() if s.domain in ("", "ai.onnx.ml"))
    for number, schema in enumerate(sorted(schemas, key=lambda s: (s.domain, s.name, s.since_version))):
        form = FORMS[number % len(FORMS)]
        if (model := model_of(schema, *form)) is not None:
            yield f"{schema.domain}:{schema.name}-{schema.since_version} {form}", model


MODELS = dict(models())


def told(error: CoreproofError) -> Iterator[CoreproofError]:
    yield from error.problems or (error,)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("part", range(8))
def test_it_converts_or_is_refused_in_a_sentence(part: int, caplog: pytest.LogCaptureFixture) -> None:
    converted = 0
    for form in list(MODELS)[part::8]:
        try:
            onnx_to_coreml(from_message(MODELS[form]), "mlprogram")
            converted += 1
        except CoreproofError as error:
            for each in told(error):
                assert not FOREIGN.search(str(each)), f"{form}: {each}"
                assert each.found or each.fix or "cannot be lowered" in each.problem, f"{form}: {each}"
    assert "Traceback" not in caplog.text
    assert converted > len(MODELS) // 8 / 3  # a form that makes sense to an operator is the rule
