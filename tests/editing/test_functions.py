"""Packages of several functions: looked at one by one, edited one by one, and made of programs that share their weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import coreproof as cp
from coreproof.errors import ConversionError, EditError
from coreproof.model.coreml.model import CoreMLModel
from tests.build import counter, onnx_net, two_functions
from tests.decoders import decoder, torch

FED = {"x": np.array([1.0, 2.0], np.float32)}


def _run(model: object) -> list[float]:
    with cp.session(model) as running:
        return list(map(float, running.run(FED)["y"]))


def test_each_function_is_a_model_of_its_own_to_every_verb(tmp_path: Path) -> None:
    path = tmp_path / "both.mlpackage"
    package = two_functions(path)
    assert package.functions == ("once", "thrice")
    for thrice in (cp.load(f"{path}#thrice"), cp.load(path, function="thrice"), package.at_function("thrice")):
        assert thrice.name == "both#thrice"
        assert _run(thrice) == [3.0, 6.0]
        assert thrice.graph.name == "thrice"
        assert cp.diagnose(thrice).healthy
        assert not cp.diff(thrice, thrice)
    assert _run(f"{path}#once") == _run(path) == [1.0, 2.0]
    exported = cp.convert(cp.load(f"{path}#thrice"), "onnx")
    assert _run(exported) == [3.0, 6.0]
    assert cp.verify(f"{path}#thrice", exported).proves
    assert not cp.verify(f"{path}#once", exported)
    assert cp.diff(f"{path}#once", f"{path}#thrice")


@pytest.mark.parametrize("function", ["twice", "", "main"])
def test_a_function_that_there_is_not_is_named_with_those_that_there_are(tmp_path: Path, function: str) -> None:
    path = tmp_path / "both.mlpackage"
    two_functions(path)
    with pytest.raises(ConversionError, match=r"no such function[\s\S]*once or thrice"):
        cp.load(f"{path}#{function}")


def test_a_folder_whose_name_holds_the_sign_is_meant_where_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.mlpackage#thrice.mlpackage"
    two_functions(tmp_path / "both.mlpackage").save(path)
    assert _run(path) == _run(str(path)) == [1.0, 2.0]


def test_an_edit_of_one_function_leaves_the_others_and_the_default_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "both.mlpackage"
    package = two_functions(path)
    edited = cp.edit(f"{path}#thrice", [cp.Edit("set", {"layer": "y", "attribute": "y", "value": [5.0]})]).model
    assert _run(edited) == [5.0, 10.0]
    written = cp.load(edited.save(tmp_path / "new.mlpackage"))
    assert isinstance(written, CoreMLModel)
    assert written.spec.description.defaultFunctionName == "once"
    assert _run(written) == [1.0, 2.0]
    assert _run(f"{tmp_path / 'new.mlpackage'}#thrice") == [5.0, 10.0]
    assert written.spec.mlProgram.functions["once"] == package.spec.mlProgram.functions["once"]


def test_a_package_that_is_loaded_at_a_function_is_written_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "both.mlpackage"
    package = two_functions(path)
    assert package.at_function("thrice").stored() == package.stored()


def _scaled(factor: float, weight: np.ndarray) -> cp.CoreproofError | object:
    net = onnx_net(
        [("MatMul", "x w", "h", {}), ("Mul", "h k", "y", {})],
        {"x": [1, 64]},
        {"y": [1, 64]},
        w=weight,
        k=np.float32([factor]),
    )
    return cp.convert(net, "mlprogram", target="iOS18")


def test_programs_become_functions_and_what_they_share_is_stored_once(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    one, two, other = _scaled(1.0, weight), _scaled(2.0, weight), _scaled(2.0, weight + 1)
    package = cp.join_functions({"one": one, "two": two, "other": other}, default="two")  # type: ignore[dict-item]
    path = package.save(tmp_path / "all.mlpackage")
    # two of the three matrices are the same
    size = (path / "Data/com.apple.CoreML/weights/weight.bin").stat().st_size
    assert 2 * weight.size * 2 < size < 3 * weight.size * 2
    x = {"x": np.random.default_rng(1).normal(size=(1, 64)).astype(np.float32)}
    for name, alone in (("one", one), ("two", two), ("other", other)):
        with cp.session(path, function=name) as whole, cp.session(alone) as part:
            np.testing.assert_array_equal(whole.run(x)["y"], part.run(x)["y"])
    stored = cp.load(path)
    assert stored.functions == ("two", "one", "other")


@pytest.mark.thorough
def test_prefill_and_decode_are_two_functions_that_share_weights_and_states(tmp_path: Path) -> None:
    net, _ = decoder()
    parts = {name: cp.convert(decoder(tokens), "mlprogram") for name, tokens in (("decode", 1), ("prefill", 4))}
    path = cp.join_functions(parts).save(tmp_path / "llm.mlpackage")
    alone = parts["decode"].save(tmp_path / "decode.mlpackage")
    bins = [(p / "Data/com.apple.CoreML/weights/weight.bin").stat().st_size for p in (path, alone)]
    assert bins[0] < 1.2 * bins[1]
    ids, place = [3, 7, 1, 19, 4, 4], list(range(6))
    with cp.session(path, function="prefill") as prefill, cp.session(path, function="decode") as decode:
        state = prefill.state()
        fed = {"ids": np.array([ids[:4]]), "position": np.array(place[:4])}
        got = [prefill.run(fed, state=state)["output"]]
        for at in (4, 5):
            got.append(decode.run({"ids": np.array([[ids[at]]]), "position": np.array([at])}, state=state)["output"])
    with torch.no_grad():
        wanted = net(torch.tensor([ids]), torch.arange(6)).numpy()
    np.testing.assert_allclose(np.concatenate(got, axis=1), wanted, atol=5e-3)


@pytest.mark.parametrize("default", [None, "gone"])
def test_what_cannot_be_functions_is_refused_all_at_once(tmp_path: Path, default: str | None) -> None:
    old = cp.convert(onnx_net([("Neg", "x", "y", {})], {"x": [2]}, {"y": [2]}), "mlprogram", target="iOS16")
    fitting = counter(tmp_path / "counter.mlpackage")
    given = {"a b": fitting, "old": old, "source": onnx_net([("Neg", "x", "y", {})], {"x": [2]}, {"y": [2]})}
    with pytest.raises(EditError) as caught:
        cp.join_functions(given, default=default)
    for told in ("'a b' is no name", "old: specification version 7", "source: onnx"):
        assert told in str(caught.value)
    assert ("default function 'gone'" in str(caught.value)) == (default is not None)
