"""Agreement that proves little is called that: NaN on both sides, zeros, constants, values that rounding may change by half."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import coreproof as cp
from coreproof.model.weakness import Weakness, qualified
from coreproof.verification.content import Content
from coreproof.verification.tolerance import Tolerance
from coreproof.verification.verify import verify
from tests.build import onnx_model, onnx_proto

Nodes = list[onnx.NodeProto]


def net(nodes: Nodes, outputs: list[str], shape: tuple[int, ...] = (1, 6), **weights: np.ndarray) -> onnx.ModelProto:
    """x, float32 of ``shape``, through ``nodes`` to ``outputs``."""
    made = onnx_proto(nodes, {"x": list(shape)}, dict.fromkeys(outputs), weights)
    return onnx.shape_inference.infer_shapes(made)


def chain(*operators: tuple[str, ...], **weights: float) -> onnx.ModelProto:
    """Operators one after the other, each with the names of its further operands."""
    names = ["x", *(f"v{k}" for k in range(1, len(operators))), "y"]
    nodes = [
        helper.make_node(operator, [names[k], *more], [names[k + 1]]) for k, (operator, *more) in enumerate(operators)
    ]
    return net(nodes, ["y"], **{name: np.float32(value) for name, value in weights.items()})


VACUOUS: dict[str, tuple[Callable[[], onnx.ModelProto], str, str]] = {
    "NaN": (lambda: chain(("Sub", "big"), ("Log",), big=1e9), "not-finite", "NaN on both sides"),
    "infinity": (lambda: chain(("Exp",), ("Div", "none"), none=0), "not-finite", "infinite on both sides"),
    "zero": (lambda: chain(("Sub", "big"), ("Relu",), big=1e4), "zero", "all zero on both sides"),
    "constant": (lambda: chain(("Clip", "low", "high"), low=1e6, high=2e6), "constant", "1e+06 everywhere"),
    "constant but for rounding": (
        lambda: chain(("Mul", "third"), ("Div", "x"), third=1 / 3),
        "constant",
        "0.3333 everywhere",
    ),
    "rounding": (lambda: chain(("Add", "big"), ("Sub", "big"), big=1.2e7), "rounding", "may change half of output 'y'"),
}
"""What an output may be of which agreement proves nothing: the model, the kind of weakness, words of the verdict."""


@pytest.mark.parametrize("fault", VACUOUS)
def test_an_output_that_proves_nothing_is_said_first_and_fails(fault: str, tmp_path: Path) -> None:
    make, kind, words = VACUOUS[fault]
    path = tmp_path / "net.onnx"
    onnx.save(make(), path)
    cp.convert(path, "mlprogram", precision="fp32").save(tmp_path / "net.mlpackage")
    found = verify(path, tmp_path / "net.mlpackage")
    first = found.summary().splitlines()[0]
    assert found.agrees, first
    assert not found.proves
    assert "proves little" in first
    assert words in first
    assert [w.kind for w in found.weaknesses if w.fails] == [kind]
    assert found.weaknesses[0].values == (found.outputs[0].candidate,)
    document = json.loads(json.dumps(found.to_json()))
    assert (document["agrees"], document["proves"]) == (True, False)
    assert document["weaknesses"][0]["kind"] == kind
    assert document["rows"][-1]["weakness"] == kind


@pytest.mark.parametrize(("precision", "said"), [("fp16", True), ("fp32", False)])
def test_where_float16_loses_an_output_the_summary_says_what_to_do(precision: str, said: bool) -> None:
    model = chain(("Add", "big"), ("Sub", "big"), big=3e3 if said else 1.2e7)
    found = verify(model, cp.convert(model, "mlprogram", precision=precision, check=False))
    assert found.agrees
    assert not found.proves
    assert ("convert with `--keep-fp32 auto`" in found.summary()) == said


def test_a_model_that_diverges_is_not_called_weak(tmp_path: Path) -> None:
    one, other = tmp_path / "one.onnx", tmp_path / "other.onnx"
    onnx.save(net([helper.make_node("Mul", ["x", "w"], ["y"])], ["y"], w=np.float32(1)), one)
    onnx.save(net([helper.make_node("Mul", ["x", "w"], ["y"])], ["y"], w=np.float32(0)), other)
    found = verify(one, other)
    assert not found.agrees
    assert not found.weaknesses


def test_single_inner_values_are_counted_and_fail_nothing() -> None:
    nodes = [
        helper.make_node("Sub", ["x", "big"], ["low"]),
        helper.make_node("Relu", ["low"], ["dead"]),
        helper.make_node("Add", ["x", "dead"], ["y"]),
    ]
    model = cp.load(net(nodes, ["y"], big=np.float32(1e4)))
    found = verify(model, model)
    assert found.proves
    assert [row.candidate for row in found.weak] == ["dead"]
    dead = next(w for w in found.weaknesses if w.kind == "zero")
    assert (dead.values, dead.fails) == (("dead",), False)
    assert "1 inner value all zero" in found.summary().splitlines()[0]


def test_a_scalar_in_one_sample_is_no_constant() -> None:
    model = cp.load(net([helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)], ["y"]))
    found = verify(model, model, {"x": np.ones((1, 6), np.float32)})
    assert found.proves
    assert [w.kind for w in found.weaknesses] == ["few-samples"]


def test_the_only_output_that_never_moves_proves_nothing_and_beside_another_it_is_counted() -> None:
    fixed = np.arange(6, dtype=np.float32)
    nodes = [helper.make_node("Mul", ["x", "none"], ["still"]), helper.make_node("Add", ["still", "fixed"], ["y"])]
    fed = [{"x": np.full((1, 6), k, np.float32)} for k in range(3)]
    frozen = cp.load(net(nodes, ["y"], none=np.float32(0), fixed=fixed))
    found = verify(frozen, frozen, fed)
    assert not found.proves
    assert "output 'y' is the same in all 3 samples" in found.summary().splitlines()[0]
    beside = cp.load(
        net([*nodes, helper.make_node("Add", ["x", "fixed"], ["z"])], ["y", "z"], none=np.float32(0), fixed=fixed)
    )
    found = verify(beside, beside, fed)
    assert found.proves
    assert next(w for w in found.weaknesses if w.kind == "unmoved").values == ("y",)
    same = [fed[1], fed[1]]
    assert verify(frozen, frozen, same).proves, "samples that are all alike tell nothing of what moves"


def test_what_only_some_samples_show_does_not_fail() -> None:
    model = cp.load(net([helper.make_node("Log", ["x"], ["y"])], ["y"]))
    good, bad = np.linspace(1, 2, 6, dtype=np.float32)[None], np.full((1, 6), -1, np.float32)
    assert verify(model, model, [{"x": good}, {"x": good + 1}, {"x": bad}]).proves
    assert not verify(model, model, [{"x": good}, {"x": bad}, {"x": bad}]).proves
    half = good.copy()
    half[0, :1] = -1
    assert not verify(model, model, {"x": half}).proves, "NaN in every sample"


def test_an_output_without_elements_proves_nothing() -> None:
    nodes = [
        helper.make_node("NonZero", ["none"], ["where"]),
        helper.make_node("Gather", ["x", "where"], ["y"], axis=1),
    ]
    model = cp.load(net(nodes, ["y"], none=np.zeros(3, np.float32)))
    found = verify(model, model)
    assert not found.proves
    assert "output 'y' has no elements" in found.summary().splitlines()[0]


def test_random_weights_are_said_and_do_not_weaken_values() -> None:
    model = cp.load(net([helper.make_node("Tanh", ["x"], ["y"])], ["y"]))
    model.untrained = True
    found = verify(model, cp.load(net([helper.make_node("Tanh", ["x"], ["y"])], ["y"])))
    assert found.proves
    assert "untrained weights" in found.summary().splitlines()[0]
    assert found.to_json()["proves"]


def test_a_tolerance_that_allows_half_is_said() -> None:
    model = cp.load(net([helper.make_node("Tanh", ["x"], ["y"])], ["y"]))
    found = verify(model, model, tolerance=Tolerance(relative=0.5))
    assert found.proves
    assert "half of output 'y' is tolerated" in found.summary().splitlines()[0]


def test_the_sentence_names_what_fails_before_what_is_counted() -> None:
    some, fatal = Weakness("few-samples", "one sample"), Weakness("zero", "output 'y' is all zero", ("y",), fails=True)
    assert qualified("all agree", []) == "all agree"
    assert qualified("all agree", [], "apart by 1") == "all agree; apart by 1"
    assert qualified("all agree", [some], "apart by 1") == "all agree; apart by 1 (one sample)"
    assert qualified("all agree", [fatal, some], "apart by 1") == (
        "all agree, but that proves little: output 'y' is all zero (one sample)"
    )


def test_an_output_that_only_one_side_has_is_named() -> None:
    nodes = [helper.make_node("Tanh", ["x"], ["y"]), helper.make_node("Neg", ["x"], ["z"])]
    for one, other in ((["y", "z"], ["y"]), (["y"], ["y", "z"])):
        found = verify(cp.load(net(nodes, one)), cp.load(net(nodes, other)))
        assert found.lone == ("z",)
        assert "output 'z' compared with nothing" in found.summary().splitlines()[0]
        assert found.to_json()["outputs_without_partner"] == ["z"]


@pytest.mark.parametrize(("small", "weak"), [(0, False), (1, False), (2, False), (3, True), (4, True)])
def test_rounding_makes_an_output_weak_where_it_may_change_half_of_it_in_most_samples(small: int, weak: bool) -> None:
    """Beside 100,000 float32 has steps of 0.008: of numbers of 0.01 little is left, and of numbers of 100 all that counts."""
    rng = np.random.default_rng(3)
    made = cp.load(chain(("Add", "big"), ("Sub", "big"), big=1e5))
    scales = [1e-2] * small + [100.0] * (4 - small)
    fed = [{"x": (scale * rng.normal(size=(1, 6))).astype(np.float32)} for scale in scales]
    found = verify(made, made, fed)
    assert found.agrees
    assert found.proves is not weak
    told = [w for w in found.weaknesses if w.kind == "rounding" and w.values == ("y",)]
    assert [w.fails for w in told] == ([weak] if small else [])
    if small and not weak:
        assert f"in {small} of 4 samples rounding changes half of output 'y', or may" in found.summary().splitlines()[0]


@pytest.mark.parametrize(("off", "step", "how", "weak"), [
    (1.6, 0.0, "output", True), (0.4, 0.0, "output", False), (1.6, 0.5, "output", False), (1.6, 0.0, "name", False),
])  # fmt: skip
def test_an_element_that_only_a_wide_bound_excuses_proves_nothing(
    off: float, step: float, how: str, weak: bool
) -> None:
    """A bound of 2.7 of the scale lets an element be off by more than its size, where the whole is off by a fifth."""
    made = cp.load(chain(("Mul", "w"), w=2))
    found = verify(made, made)
    (row,) = found.rows
    tolerance = Tolerance(2.65, 0.0, 0.35, step=step)
    judged = replace(row.judgement, tolerance=tolerance, required_relative=off, rms_relative_error=0.18)
    assert row.content is not None
    content = replace(row.content, strayed=off)
    found = replace(found, rows=(replace(row, how=how, judgement=judged, content=content, needed=(off, 0.18)),))
    assert found.agrees
    assert found.proves is not weak
    first = found.summary().splitlines()[0]
    assert ("an element of output 'y' is off by 1.6 of its size, which only so wide a bound lets pass" in first) is weak
    assert (found.rows[0].weakness == "rounding") is weak


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_what_a_masks_minimum_leaves_behind_is_not_weak(precision: str, tmp_path: Path) -> None:
    """The rounding of -1e9 is a share of it: a maximum that leaves the masked places behind does not carry it on."""
    nodes = [
        helper.make_node("Tanh", ["x"], ["t"]),
        helper.make_node("Where", ["masked", "low", "t"], ["w"]),
        helper.make_node("ReduceMax", ["w"], ["y"], axes=[1], keepdims=0),
    ]
    masked = np.zeros((1, 8, 1), bool)
    masked[:, 5:] = True
    path = tmp_path / "net.onnx"
    onnx.save(net(nodes, ["y"], (1, 8, 6), masked=masked, low=np.float32(-1e9)), path)
    cp.convert(path, "mlprogram", precision=precision).save(tmp_path / "net.mlpackage")
    found = verify(path, tmp_path / "net.mlpackage")
    assert found.agrees
    assert found.proves, found.summary().splitlines()[0]
    assert found.rows[-1].judgement.tolerance.relative < (1e-4 if precision == "fp32" else 0.1)


@pytest.mark.parametrize("low", [-1e9, float(np.finfo(np.float32).min)])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_mask_that_is_computed_does_not_drown_what_a_softmax_keeps(low: float, precision: str) -> None:
    """A causal mask plus a padding mask times 0: its own rounding is large, and stays behind with what it masks."""
    causal = np.triu(np.full((6, 6), low, np.float32), 1)
    nodes = [
        helper.make_node("Mul", ["x", "none"], ["n"]),
        helper.make_node("Add", ["causal", "n"], ["c"]),
        helper.make_node("Tanh", ["x"], ["t"]),
        helper.make_node("Add", ["t", "c"], ["s"]),
        helper.make_node("Softmax", ["s"], ["y"], axis=-1),
    ]
    source = cp.load(net(nodes, ["y"], (6, 6), causal=causal, none=np.float32(0)))
    found = verify(source, cp.convert(source, "mlprogram", precision=precision))  # type: ignore[arg-type]
    assert found, found.summary()
    assert found.proves, found.summary()
    (row,) = found.outputs
    assert (row.tolerance.typical or 1.0) < 2e-2


def test_a_softmax_over_nothing_but_masked_places_is_still_weak() -> None:
    """All of a row lies so low that float32 keeps no digit of the scores."""
    nodes = [
        helper.make_node("Sub", ["x", "big"], ["s"]),
        helper.make_node("Softmax", ["s"], ["y"], axis=-1),
    ]
    source = cp.load(net(nodes, ["y"], (6, 6), big=np.float32(1e9)))
    found = verify(source, cp.convert(source, "mlprogram", precision="fp32"))
    assert not found.proves


def test_a_comparison_that_float16_turns_into_another_constant_is_told_by_what_rounding_does() -> None:
    """p > atan(p) for small p: 1 everywhere in the source, 0 in float16, where both are the same number."""
    text = "(float[9] p) => (bool[9] y) { a = Atan(p) y = Greater(p, a) }"
    source = onnx_model(f'<ir_version: 8, opset_import: ["": 17]> net {text}')
    made = cp.convert(source, "mlprogram", precision="fp16", check=False)
    found = cp.verify(source, made, {"p": np.linspace(0.003, 0.02, 9, dtype=np.float32)})
    assert found
    assert not found.proves
    assert "rounding before it changes output 'y'" in found.summary()


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.500002), (16777216.0, 16777217.0), (1.0, 2.0)])
def test_numbers_that_differ_by_more_than_rounding_are_no_constant(low: float, high: float) -> None:
    assert Content(1, 4, 0, 0, 0, low, high).kind is None
    assert Content(1, 4, 0, 0, 0, low, low).kind == "constant"


def test_one_number_that_float32_came_to_in_several_ways_is_a_constant() -> None:
    weights = np.random.default_rng(0).normal(size=(64, 1000)).astype(np.float32)
    shares = np.exp(weights) / np.exp(weights).sum(1, keepdims=True)
    sums = shares.sum(1)
    assert sums.min() < sums.max()
    assert Content(1, sums.size, 0, 0, 0, float(sums.min()), float(sums.max())).kind == "constant"
