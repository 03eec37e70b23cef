"""Operations and layers whose parameters make no sense to their handlers are refused in their own name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from coreproof.conversion.coreml_to_onnx.boundary import settled, told, understood
from coreproof.conversion.coreml_to_onnx.convert import coreml_to_onnx
from coreproof.errors import ConversionError, CoreproofError, TooLargeError
from coreproof.model.coreml.model import CoreMLModel
from tests.build import layer, mil, network


@pytest.fixture(scope="module")
def convolution(tmp_path_factory: pytest.TempPathFactory) -> CoreMLModel:
    weight = np.ones((2, 3, 1, 1), np.float32)
    return mil(
        tmp_path_factory.mktemp("conv"),
        lambda mb, a: mb.softmax(x=mb.conv(x=a, weight=weight, strides=[1, 1], pad_type="valid"), axis=1),
        (1, 3, 4, 4),
    )


def spoilt(model: CoreMLModel, operator: str, parameter: str, **tensor: list[Any]) -> CoreMLModel:
    """The model with another constant as a parameter of its first operation of that type."""
    spec = type(model.spec)()
    spec.CopyFrom(model.spec)
    function = spec.mlProgram.functions["main"]
    operations = function.block_specializations[function.opset].operations
    operation = next(o for o in operations if o.type == operator)
    binding = operation.inputs[parameter].arguments[0]
    value = binding.value
    constant = next((o for o in operations if o.outputs and o.outputs[0].name == binding.name), None)
    if binding.WhichOneof("binding") == "name" and constant is not None:
        value = constant.attributes["val"]
    value.ClearField("immediateValue")
    ((name, numbers),) = tensor.items()
    getattr(value.immediateValue.tensor, name).values.extend(numbers)
    value.type.tensorType.dataType = {"ints": 23, "strings": 2, "floats": 11, "bools": 1}[name]
    del value.type.tensorType.dimensions[:]
    if len(numbers) != 1:
        value.type.tensorType.dimensions.add().constant.size = len(numbers)
    return model.with_spec(spec)


@pytest.mark.parametrize(
    ("operator", "parameter", "tensor", "words"),
    [
        ("softmax", "axis", {"ints": [1, 2]}, r"softmax: its parameter 'axis' is of another type[\s\S]*\[1, 2\]"),
        ("softmax", "axis", {"strings": ["one"]}, r"expected: axis: one whole number[\s\S]*found: axis: 'one'"),
        ("softmax", "axis", {"floats": [1.5]}, "'axis' is of another type"),
        ("softmax", "axis", {"bools": [True]}, "'axis' is of another type"),
        ("conv", "pad_type", {"ints": [3]}, r"conv: its parameter 'pad_type'[\s\S]*found: pad_type: 3"),
        ("conv", "strides", {"strings": ["a", "b"]}, r"conv: it cannot be carried out[\s\S]*strides=\['a', 'b'\]"),
        ("conv", "strides", {"strings": ["a"]}, r"conv: it cannot[\s\S]*x=float\[1, 3, 4, 4\]"),
    ],
)  # fmt: skip
def test_a_parameter_of_another_type_is_named(
    convolution: CoreMLModel, operator: str, parameter: str, tensor: dict[str, list[Any]], words: str
) -> None:
    with pytest.raises(ConversionError, match=words):
        coreml_to_onnx(spoilt(convolution, operator, parameter, **tensor))


def test_a_parameter_of_several_values_is_refused(convolution: CoreMLModel) -> None:
    spec = type(convolution.spec)()
    spec.CopyFrom(convolution.spec)
    function = spec.mlProgram.functions["main"]
    operation = next(o for o in function.block_specializations[function.opset].operations if o.type == "softmax")
    operation.inputs["x"].arguments.add().CopyFrom(operation.inputs["x"].arguments[0])
    with pytest.raises(ConversionError, match="softmax: its parameter 'x' is bound to 2 values"):
        coreml_to_onnx(convolution.with_spec(spec))


def test_a_text_that_is_called_like_an_output_is_no_output(convolution: CoreMLModel) -> None:
    spec = type(convolution.spec)()
    spec.CopyFrom(convolution.spec)
    output = spec.description.output[0].name
    function = spec.mlProgram.functions["main"]
    operations = function.block_specializations[function.opset].operations
    text = next(o for o in operations if o.type == "const" and o.attributes["val"].type.tensorType.dataType == 2)
    maker = next(o for o in operations if o.outputs[0].name == output)
    maker.outputs[0].name, text.outputs[0].name = "elsewhere", output
    for operation in operations:
        for argument in operation.inputs.values():
            for binding in argument.arguments:
                known = {spec.description.input[0].name, *(o.outputs[0].name for o in operations)}
                if binding.WhichOneof("binding") == "name" and binding.name not in known:
                    binding.name = output
    with pytest.raises(ConversionError, match="is a text"):
        coreml_to_onnx(convolution.with_spec(spec))


def test_what_a_value_would_take_is_bounded_before_it_is_made(tmp_path: Path) -> None:
    model = mil(tmp_path, lambda mb, a: mb.tile(x=a, reps=[1, 2]), (4, 4))
    with pytest.raises(TooLargeError, match=r"memory[\s\S]*operation .*[\s\S]*\[4000000, 8000000\]"):
        coreml_to_onnx(spoilt(model, "tile", "reps", ints=[1_000_000, 2_000_000]))


# layers


def test_an_unknown_enumeration_value_is_named() -> None:
    message = layer("flatten", "x", "y")
    message.flatten.mode = 999
    with pytest.raises(ConversionError, match=r"flatten layer 'the flatten': its mode is not known[\s\S]*found: 999"):
        coreml_to_onnx(network([message], {"x": (2, 3, 4)}, {"y": None}))


@pytest.mark.parametrize("kind", ["add", "multiply", "max", "average", "concat", "concatND", "stack"])
def test_a_layer_of_any_number_of_inputs_needs_one(kind: str) -> None:
    with pytest.raises(ConversionError, match="wrong number of inputs"):
        coreml_to_onnx(network([layer(kind, "", "y")], {"x": (2,)}, {"y": None}))


def test_a_layer_of_no_type_is_named() -> None:
    message = layer("flatten", "x", "y")
    message.ClearField("flatten")
    with pytest.raises(CoreproofError, match="nothing"):
        coreml_to_onnx(network([message], {"x": (2,)}, {"y": None}))


def test_a_layer_says_which_settings_it_cannot_be_carried_out_with() -> None:
    message = layer("convolution", "x", "y", outputChannels=1, kernelChannels=3, kernelSize=[1, 1, 1, 1], valid={},
                    weights=np.ones(3), stride=[1, 1, 1])  # fmt: skip
    with pytest.raises(ConversionError, match=r"(?s)convolution layer 'the convolution': .*kernelSize=\(1, 1, 1, 1\)"):
        coreml_to_onnx(network([message], {"x": (3, 4, 4)}, {"y": None}))


@pytest.mark.parametrize(
    "message",
    [
        layer("fillStatic", "", "y", value=1.0, targetShape=[100_000, 100_000]),
        layer("rangeStatic", "", "y", endValue=1e12, stepSizeValue=0.001),
        layer("upsample", "x", "y", scalingFactor=[1_000_000, 1_000_000]),
        layer("padding", "x", "y", constant={}, paddingAmounts={"borderAmounts": [{"startEdgeSize": 10**9}] * 2}),
        layer("sequenceRepeat", "x", "y", nRepetitions=10**12),
    ],
    ids=lambda m: m.WhichOneof("layer"),
)
def test_a_layer_cannot_ask_for_any_amount_of_memory(message: Any) -> None:
    with pytest.raises(TooLargeError, match=f"(?s)layer 'the {message.WhichOneof('layer')}'"):
        coreml_to_onnx(network([message], {"x": (3, 4, 4)}, {"y": None}))


def test_a_range_is_not_made_before_it_is_known_to_fit() -> None:
    huge = layer("rangeStatic", "", "y", endValue=3e9, stepSizeValue=1.0)
    with pytest.raises(TooLargeError, match=r"(?s)layer 'the rangeStatic'.*3000000000"):
        coreml_to_onnx(network([huge], {"x": (3,)}, {"y": None}))
    endless = layer("rangeStatic", "", "y", endValue=float("inf"), stepSizeValue=1.0)
    with pytest.raises(ConversionError, match="its range has no end"):
        coreml_to_onnx(network([endless], {"x": (3,)}, {"y": None}))


# the boundary itself


def refuse(problem: str, **said: Any) -> ConversionError:
    return ConversionError(problem, where="here", **said)


@pytest.mark.parametrize("error", [TypeError("t"), KeyError("k"), ZeroDivisionError("z"), StopIteration("s")])
def test_only_what_foreign_numbers_cause_is_caught(error: Exception) -> None:
    expected: type[BaseException] = StopIteration if isinstance(error, StopIteration) else ConversionError
    with pytest.raises(expected), understood(refuse, lambda: {"x": 3}):
        raise error


def test_running_out_of_memory_is_said_with_the_place() -> None:
    with pytest.raises(TooLargeError, match=r"(?s)more memory.*here"), understood(refuse, dict):
        raise MemoryError


def test_an_error_of_ours_passes_unchanged() -> None:
    mine = ConversionError("mine")
    with pytest.raises(ConversionError) as caught, understood(refuse, dict):
        raise mine
    assert caught.value is mine


def test_numpys_numbers_count_as_whole_numbers_and_truth_values() -> None:
    def handler(low: Any, *, axis: int, keep: bool = True) -> None: ...

    handler.__annotations__.update(axis="int", keep="bool")
    given = settled(handler, {"axis": np.array([2], np.int8), "keep": np.bool_(False)}, refuse)
    assert given == {"axis": 2, "keep": False}


def test_values_are_told_in_a_line() -> None:
    assert told(np.zeros((30, 40), np.float32)) == "float32[30, 40]"
    assert told(np.array([1, 2])) == "[1, 2]"
    assert told(ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1, None]))) == "float[1, ?]"
    assert len(told("x" * 1000)) < 80
