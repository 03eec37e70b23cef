"""Whole ML Programs on their way to Core AI: names, functions, states, control flow, classifiers, and what is refused."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.conversion.mil_to_coreai.convert import coreml_to_coreai, left_behind, translated
from coreproof.errors import InputError, MissingDependencyError, UnsupportedOperatorsError
from coreproof.model.coreai.model import CoreAIModel
from coreproof.model.coreai.program import operations
from coreproof.model.coreml.model import CoreMLModel
from tests.aimodels import needs_coreai
from tests.build import mil, onnx_net, program
from tests.build.programs import counter, two_functions
from tests.conversion.coreml_to_onnx.mlprogram.ops.test_convolution import conv as judged_conv

RNG = np.random.default_rng(11)


def read(model: CoreMLModel) -> CoreAIModel:
    return CoreAIModel(translated(model), name="made")


def both(model: CoreMLModel) -> list[Any]:
    """A session of our lowering, and one of Apple's interpreter where that is installed."""
    made = [cp.session(read(model))]
    return made if find_spec("coreai") is None else [*made, cp.session(coreml_to_coreai(model), engine="coreai")]


def test_every_value_keeps_its_name_and_every_weight(tmp_path: Path) -> None:
    weight, bias = RNG.standard_normal((4, 3, 3, 3)).astype(np.float32), RNG.standard_normal(4).astype(np.float32)

    def build(mb: Any, x: Any) -> Any:
        made = mb.conv(x=x, weight=weight, bias=bias, pad_type="same", name="features")
        return mb.softmax(x=mb.relu(x=made, name="active"), axis=1, name="shares")

    model = mil(tmp_path, build, (1, 3, 6, 5))
    made = read(model)
    assert {"features", "active", "shares"} <= set(made.graph.values)
    held = [o.constant for o in operations(made.function.block) if o.constant is not None]
    assert any(np.array_equal(array, weight) for array in held)
    found = cp.verify(model, made)
    assert found.agrees
    assert {row.reference for row in found.rows} >= {"features", "active", "shares"}


@pytest.mark.parametrize("by_channel", [False, True])
def test_quantised_weights_are_stored_as_the_numbers_that_they_stand_for(by_channel: bool, tmp_path: Path) -> None:
    stored = RNG.integers(0, 256, (4, 2, 3, 3)).astype(np.uint8)
    scale = np.float32([0.01, 0.02, 0.005, 0.01]) if by_channel else np.float32(0.01)
    shift = np.float32([-1, -2, 0, 0.5]) if by_channel else np.float32(-1)
    form = {"quantization_type": "linear", "nbits": 8, "strides": [2, 1], "pad_type": "same", "groups": 2}
    numbers = {"quant_scale": scale, "quant_bias": shift}
    x = RNG.standard_normal((1, 4, 5, 6)).astype(np.float32)
    model = program(
        tmp_path,
        lambda mb, a: mb.conv_quantized(x=a, weight=stored, name="y", **numbers, **form),
        [(x.shape, "float32")],
        target="iOS15",
    )
    along = (-1, 1, 1, 1) if by_channel else ()
    wanted = judged_conv(x, stored * scale.reshape(along) + shift.reshape(along), None, [2, 1], "same", groups=2)
    for session in both(model):
        with session as running:
            np.testing.assert_allclose(np.asarray(running.run({"a": x})["y"]), wanted, rtol=1e-5, atol=2e-5)


def test_all_operations_that_are_not_translated_are_named_at_once(tmp_path: Path) -> None:
    def build(mb: Any, x: Any) -> Any:
        drawn = mb.random_normal(shape=[2, 3], mean=0.0, stddev=1.0, seed=1)
        return mb.add(x=x, y=mb.add(x=mb.random_uniform(shape=[2, 3], low=0.0, high=1.0, seed=1), y=drawn))

    with pytest.raises(UnsupportedOperatorsError) as caught:
        translated(mil(tmp_path, build, (2, 3)))
    assert {"random_normal", "random_uniform"} <= set(caught.value.operators)
    assert "draws no random numbers: the app draws them" in str(caught.value)


def test_a_branch_and_a_loop_do_what_python_does(tmp_path: Path) -> None:
    def build(mb: Any, x: Any, n: Any) -> Any:
        count = mb.squeeze(x=n, axes=[0])
        _, doubled = mb.while_loop(
            _cond=lambda i, v: mb.less(x=i, y=count),
            _body=lambda i, v: (mb.add(x=i, y=1), mb.mul(x=v, y=2.0)),
            loop_vars=(mb.sub(x=count, y=count), x),
        )
        return mb.cond(
            pred=mb.greater(x=count, y=2),
            _true_fn=lambda: mb.add(x=doubled, y=0.5),
            _false_fn=lambda: mb.sub(x=x, y=1.0),
        )

    model = program(tmp_path, build, [((2, 3), "float32"), ((1,), "int32")], target="iOS17")
    x = RNG.standard_normal((2, 3)).astype(np.float32)
    (x_name, n_name), (y_name,) = [f.name for f in model.signature.inputs], [f.name for f in model.signature.outputs]
    for running in both(model):
        with running:
            for n in (0, 2, 5):
                found = running.run({x_name: x, n_name: np.array([n], np.int32)})[y_name]
                np.testing.assert_array_equal(found, x * 2**n + np.float32(0.5) if n > 2 else x - np.float32(1))


def test_a_state_is_carried_from_run_to_run(tmp_path: Path) -> None:
    model = counter(tmp_path / "counter.mlpackage")
    (fed,) = [f.name for f in model.signature.inputs]
    for running in both(model):
        with running:
            state, x = running.state(), np.array([[1, 2, 3, 4]], np.float16)
            for turn in (1, 2, 3):
                np.testing.assert_array_equal(running.run({fed: x}, state=state)["y"], 2 * turn * x)


def test_what_a_state_holds_afterwards_is_held_against_its_source(tmp_path: Path) -> None:
    model = counter(tmp_path / "counter.mlpackage")
    found = cp.verify(model, read(model))
    assert found.agrees
    assert len(found.outputs) == 2  # what is answered, and what the state holds afterwards


def test_each_function_is_there_under_its_name_the_default_one_first(tmp_path: Path) -> None:
    made = read(two_functions(tmp_path / "two.mlpackage"))
    assert made.functions == ("once", "thrice")
    x = np.array([1, -2], np.float32)
    for name, factor in (("once", 1), ("thrice", 3)):
        with cp.session(made.at_function(name)) as running:
            np.testing.assert_array_equal(running.run({"x": x})["y"], factor * x)


def test_of_a_classifier_the_scores_are_handed_out(tmp_path: Path) -> None:
    net = onnx_net([("Softmax", "x", "y", {"axis": 1})], {"x": [1, 3]}, {"y": [1, 3]})
    model = cp.convert(net, "mlprogram", precision="fp32", labels=["a", "b", "c"], check=False)
    assert isinstance(model, CoreMLModel)
    made = read(model)
    x = np.array([[1, 2, 4]], np.float32)
    with cp.session(made) as running:
        (scores,) = running.run({"x": x}).values()
    np.testing.assert_allclose(scores, np.exp(x) / np.exp(x).sum(), rtol=1e-6)


def test_a_choice_between_two_numbers_has_the_condition_s_shape(tmp_path: Path) -> None:
    """Whose result coremltools declares as one number."""
    model = mil(tmp_path, lambda mb, x: mb.mul(x=x, y=mb.select(cond=mb.greater(x=x, y=0.0), a=2.0, b=-1.0)), (2, 3))
    x = RNG.standard_normal((2, 3)).astype(np.float32)
    for running in both(model):
        with running:
            (found,) = running.run({model.signature.inputs[0].name: x}).values()
        np.testing.assert_array_equal(found, np.where(x > 0, 2 * x, -x))


def test_free_lengths_stay_free(tmp_path: Path) -> None:
    model = program(tmp_path, lambda mb, x: mb.relu(x=mb.mul(x=x, y=2.0)), [((None, 3), "float32")])
    made = read(model)
    (feature,) = made.signature.inputs
    assert feature.shape == (None, 3)
    x = RNG.standard_normal((5, 3)).astype(np.float32)
    with cp.session(made) as running:
        (found,) = running.run({feature.name: x}).values()
    np.testing.assert_array_equal(found, np.maximum(2 * x, 0))


def test_two_constants_behind_each_other_do_not_end_apple_s_interpreter(tmp_path: Path) -> None:
    """A number, then a whole tensor: its folding of them wrote beyond its memory where the second form did not broadcast."""
    whole = RNG.standard_normal((1, 300, 4)).astype(np.float32)
    model = mil(tmp_path, lambda mb, x: mb.mul(x=mb.mul(x=x, y=np.float32(0.1)), y=whole), (1, 300, 4))
    x = RNG.standard_normal((1, 300, 4)).astype(np.float32)
    for running in both(model):
        with running:
            (found,) = running.run({model.signature.inputs[0].name: x}).values()
        np.testing.assert_allclose(found, x * np.float32(0.1) * whole, rtol=1e-6)


@needs_coreai
def test_convert_writes_what_was_checked(tmp_path: Path) -> None:
    weight = RNG.standard_normal((3, 4)).astype(np.float32)
    net = onnx_net([("MatMul", "x w", "m", {}), ("Relu", "m", "y", {})], {"x": [2, 3]}, {"y": [2, 4]}, w=weight)
    made = cp.convert(net, "coreai", precision="fp32")
    assert any("checked: ran once" in note for note in made.notes)
    assert set(made.provenance.values()) >= {"m", "y"}
    stored = cp.load(made.save(tmp_path / "net.aimodel"))
    assert cp.verify(net, stored).agrees
    x = RNG.standard_normal((2, 3)).astype(np.float32)
    with cp.session(stored, engine="coreai") as running:
        np.testing.assert_allclose(running.run({"x": x})["y"], np.maximum(x @ weight, 0), rtol=1e-5, atol=1e-6)


def test_what_core_ml_declares_and_core_ai_does_not_is_said(tmp_path: Path) -> None:
    net = onnx_net([("Softmax", "x", "y", {"axis": 1})], {"x": [1, 3]}, {"y": [1, 3]})
    labelled = cp.convert(net, "mlprogram", labels=["a", "b", "c"], check=False)
    assert tuple(map(str, left_behind(labelled.signature))) == (
        "its labels are not in the file: Core AI knows no classifiers",
    )
    pixels = onnx_net([("Relu", "x", "y", {})], {"x": [1, 3, 4, 4]}, {"y": [1, 3, 4, 4]})
    picture = cp.convert(pixels, "mlprogram", images={"x": cp.ImageInput(colour="BGR")}, check=False)
    assert tuple(map(str, left_behind(picture.signature))) == (
        "x: a picture to its source, and here the tensor of its pixels, BGR, 0 to 255",
    )
    free = program(tmp_path, lambda mb, x: mb.relu(x=x), [((None, 3), "float32")])
    assert tuple(map(str, left_behind(free.signature))) == (
        "a: which lengths are allowed is not in the file, a length is free or it is not",
    )


@needs_coreai
def test_what_a_core_ai_model_has_no_place_for_is_refused() -> None:
    net = onnx_net([("Relu", "x", "y", {})], {"x": [1, 3]}, {"y": [1, 3]})
    with pytest.raises(InputError, match="labels= is for Core ML"):
        cp.convert(net, "coreai", labels=["a", "b", "c"])


@pytest.mark.skipif(find_spec("coreai") is not None, reason="Apple's package is installed")
def test_without_the_package_the_error_names_the_line_that_installs_it() -> None:
    net = onnx_net([("Relu", "x", "y", {})], {"x": [1, 3]}, {"y": [1, 3]})
    with pytest.raises(MissingDependencyError, match=r"pip install 'coreproof\[coreai\]'"):
        cp.convert(net, "coreai")
    assert cp.check(net, "coreai")


@needs_coreai
def test_a_value_that_only_the_reader_calls_so_is_no_partner_of_another_that_is_called_the_same(tmp_path: Path) -> None:
    """What Core AI calls "transpose_1" after its operation, ONNX's exporters call so by a count of theirs."""

    def build(mb: Any, x: Any) -> Any:
        turned = mb.transpose(x=mb.transpose(x=x, perm=[1, 0], name="far"), perm=[1, 0], name="transpose_1")
        return mb.exp(
            x=mb.matmul(x=mb.sub(x=turned, y=0.5, name="near"), y=np.eye(3, dtype=np.float32), transpose_y=True)
        )

    made = coreml_to_coreai(mil(tmp_path, build, (2, 3)))
    named = {value.name for value in made.graph.values.values() if not value.unnamed}
    # MIL's own names are kept through the file, also those that look like a count
    assert {"far", "transpose_1", "near"} <= named
    assert any(value.unnamed for value in made.graph.values.values() if not value.constant)
    other = onnx_net(
        [
            ("Exp", "x", "e", {}),
            ("Transpose", "e", "broadcasting_sub", {"perm": [1, 0]}),
            ("Neg", "broadcasting_sub", "y", {}),
        ],
        {"x": [2, 3]},
        {"y": [3, 2]},
    )
    unlike = cp.verify(other, made)
    assert not {row.candidate for row in unlike.rows if row.how == "name"} - named


@needs_coreai
def test_a_mask_of_truths_that_lies_beside_the_graph_is_read_back(tmp_path: Path) -> None:
    mask = np.triu(np.ones((40, 40), bool), 1)

    def build(mb: Any, x: Any) -> Any:
        return mb.select(cond=mask, a=np.float32(-1), b=x)

    model = mil(tmp_path, build, (40, 40))
    made, x = coreml_to_coreai(model), RNG.standard_normal((40, 40)).astype(np.float32)
    for engine in ("auto", "coreai"):
        with cp.session(made, engine=engine) as running:
            (found,) = running.run({"a": x}).values()
        np.testing.assert_array_equal(found, np.where(mask, np.float32(-1), x))
