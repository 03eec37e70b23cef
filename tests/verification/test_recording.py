"""Saved runs: what was computed comes back, stands for the model in verify, and damage is told."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from coreproof.conversion.convert import convert
from coreproof.difference.diff import diff
from coreproof.errors import ConversionError, CoreproofError, InputError, RunError, TooLargeError, UnreadableModelError
from coreproof.feeding.drawn import random_feeds
from coreproof.model.base import Model
from coreproof.model.load import load
from coreproof.model.onnx.model import OnnxModel
from coreproof.model.recording import HEADER, Recording, is_recording, load_recording
from coreproof.runtime.coreml import scores_in_order, with_distinct_labels
from coreproof.runtime.open import session
from coreproof.runtime.session import Session
from coreproof.verification import recording as writing
from coreproof.verification.recording import record
from coreproof.verification.tolerance import TYPICAL
from coreproof.verification.verify import verify
from tests.build import as_half, conv_relu_onnx, residual_net


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return record(residual_net(), tmp_path_factory.mktemp("saved") / "run.npz", memory=1 << 40)


def test_every_value_comes_back_as_it_was_computed(saved: Recording) -> None:
    with session(residual_net()) as running:
        inner = [n for n in saved.names if n != "y"]
        made = running.run(saved.samples[0], inner)
        assert len(inner) == 17
        assert all(np.array_equal(saved.value(n), made[n]) for n in inner)
        assert np.array_equal(saved.value("y"), running.run(saved.samples[0])["y"])
    assert saved.engine == "ONNX Runtime"
    assert saved.recorded == "onnx"
    assert saved.graph.producer("conv2").operator == "Conv"  # type: ignore[union-attr]
    assert load(str(saved.path)).name == saved.name


@pytest.mark.sweep(1)
@pytest.mark.parametrize("fault", ["", "swapped channel", "no bias"])
def test_a_saved_run_judges_as_the_live_model_does(saved: Recording, fault: str) -> None:
    other = residual_net(fault=fault)
    live, replayed = verify(residual_net(), other), verify(saved, other)
    assert [(r.candidate, r.how, r.agrees) for r in replayed.rows] == [
        (r.candidate, r.how, r.agrees) for r in live.rows
    ]
    assert replayed.agrees == (not fault)
    assert replayed.engines == ("ONNX Runtime, saved", "ONNX Runtime")
    assert "saved run" in replayed.inputs


@pytest.mark.thorough
def test_a_saved_run_is_judged_as_the_live_model_is(tmp_path: Path) -> None:
    half, exact = as_half(residual_net(half=True)), residual_net()
    live, replayed = verify(exact, half), verify(exact, record(half, tmp_path / "half.npz"))
    assert live
    assert replayed
    assert [r.candidate for r in replayed.rows] == [r.candidate for r in live.rows]
    # the half net runs twice, with other values brought out, and kernels may sum in another order each time: its values, and so
    # the errors from which tolerances are carried on, may part by what float32 explains at each value up to here
    float32 = 0.0
    exactly = {row.candidate: row.tolerance.relative for row in verify(exact, exact).rows}
    for now, then in zip(live.rows, replayed.rows, strict=True):
        float32 += (
            TYPICAL * exactly[now.candidate.removesuffix("/half")]
        )  # what y is cast from is a value of the half net alone
        assert then.tolerance.relative == pytest.approx(now.tolerance.relative, abs=float32)
        assert float32 < now.tolerance.relative / 20


def test_two_saved_runs_are_compared_without_either_model(saved: Recording, tmp_path: Path) -> None:
    wrong = record(residual_net(fault="epsilon"), tmp_path / "wrong.npz", saved.samples)
    found = verify(saved, wrong)
    assert found.first_divergence is not None
    assert found.first_divergence.candidate == "norm2"


def test_a_conversion_is_held_against_the_run_of_its_source(saved: Recording) -> None:
    converted = convert(residual_net(), "mlprogram")
    assert verify(saved, converted)
    assert sum(r.how == "provenance" for r in verify(saved, converted).rows) > 5


def test_outputs_alone_when_the_engine_shows_no_more(tmp_path: Path) -> None:
    saved = record(residual_net(), tmp_path / "outputs.npz", outputs_only=True)
    assert saved.names == ("y",)
    assert [r.how for r in verify(saved, residual_net()).rows] == ["output"]
    with session(saved) as running, pytest.raises(RunError, match="conv2"):
        running.run(saved.samples[0], ["conv2"])


def test_several_samples_each_with_its_own_values(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    inputs = [{"x": rng.standard_normal((1, 16, 12, 12)).astype(np.float32)} for _ in range(3)]
    saved = record(residual_net(), tmp_path / "run.npz", inputs)
    assert not np.array_equal(saved.value("y", 0), saved.value("y", 2))
    assert verify(saved, residual_net()).rows[0].judgement.max_error == 0
    assert verify(saved, residual_net(), inputs=inputs[1])
    with pytest.raises(InputError, match="no values for these inputs"):
        verify(saved, residual_net(), inputs={"x": inputs[0]["x"] + 1})


def test_memory_bounds_how_much_is_brought_out_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    class Counting:
        def __init__(self, running: Session) -> None:
            self.running = running

        def __getattr__(self, name: str) -> Any:
            return getattr(self.running, name)

        def __enter__(self) -> Counting:
            return self

        def __exit__(self, *error: object) -> None:
            self.running.close()

        def run(self, inputs: Any, taps: Any = ()) -> Any:
            seen.append(len(taps))
            return self.running.run(inputs, taps)

        def walk(self, inputs: Any, groups: Any) -> Any:
            seen.extend(map(len, groups))
            return self.running.walk(inputs, groups)

    monkeypatch.setattr(writing, "session", lambda *arguments: Counting(session(*arguments)))
    told: list[tuple[int, int]] = []
    once = random_feeds(residual_net(), residual_net())[0]
    record(
        residual_net(), tmp_path / "run.npz", once, memory=1, progress=lambda _, done, total: told.append((done, total))
    )
    assert max(seen) == 1
    assert sum(seen) == 17
    assert told[-1] == (18, 18)


def test_nothing_is_left_where_recording_fails(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="wrong shape"):
        record(residual_net(), tmp_path / "run.npz", {"x": np.zeros((1, 3, 4, 4), np.float32)})
    with pytest.raises(InputError, match=r"run\.npz"):
        record(residual_net(), tmp_path / "run.parquet")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kept", [0, 10, 0.3, 0.9, 0.999])
def test_a_file_cut_short_is_told(saved: Recording, tmp_path: Path, kept: float) -> None:
    whole = Path(str(saved.path)).read_bytes()
    cut = tmp_path / "cut.npz"
    cut.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    assert not is_recording(cut)
    with pytest.raises(UnreadableModelError, match="not a saved run, or it is damaged"):
        load(cut)


@pytest.mark.thorough
def test_no_single_changed_byte_passes_unseen(tmp_path: Path) -> None:
    """Every change either is told, or leaves every value as it was."""
    saved = record(OnnxModel(conv_relu_onnx(), name="small"), tmp_path / "run.npz")
    whole = bytearray(Path(str(saved.path)).read_bytes())
    rng = np.random.default_rng(11)
    told = 0
    for position in rng.integers(0, len(whole), 100):
        changed = whole.copy()
        changed[position] ^= 0x55
        path = tmp_path / "changed.npz"
        path.write_bytes(changed)
        try:
            again = load_recording(path)
            values = [(again.value(n), saved.value(n)) for n in saved.names] + [
                (again.samples[0][n], saved.samples[0][n]) for n in saved.samples[0]
            ]
        except UnreadableModelError:
            told += 1
            continue
        assert all(np.array_equal(a, b) for a, b in values)
    assert told > 50


def rewritten(saved: Recording, path: Path, **changes: Any) -> Path:
    """The saved run with another header."""
    with zipfile.ZipFile(str(saved.path)) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            if name != HEADER:
                new.writestr(name, old.read(name))
        header = {k: v for k, v in json.loads(old.read(HEADER)).items() if k not in changes}
        new.writestr(HEADER, json.dumps({**header, **{k: v for k, v in changes.items() if v is not None}}))
    return path


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": 2}, "version 2 .*\n.*update coreproof"),
        ({"version": "1"}, "version: expected a whole number, found a text"),
        ({"version": None}, "version is missing"),
        ({"graph": None}, "graph is missing"),
        ({"graph": {"name": "g", "nodes": 3}}, "graph.nodes: expected a list, found a whole number"),
        ({"samples": []}, "samples: expected a sample, found none"),
        ({"feedings": {"x": [{"size": 3}]}}, r"feedings\.x\[0\]\.size: expected a list"),
        ({"samples": [{"inputs": {"x": "99999.npy"}, "values": {}}]}, "arrays are missing"),
        ({"samples": [{"inputs": {"x": "a"}, "values": {}}, {"inputs": {}, "values": {}}]}, "the same inputs in every"),
        ({"samples": [{"inputs": {"z": "a"}, "values": {}}]}, "inputs of the signature, found .'z'. in sample 0"),
        ({"signature": []}, "signature: expected a table, found a list"),
        ({"profiles": [1]}, "profiles: expected a table, found a list"),
        ({"profiles": {"y": [1e400, 0, "a"]}}, r"profiles\.y\[0\]: expected a whole number"),
        ({"notes": [3]}, r"notes\[0\]: expected a text"),
        ({"format": ["onnx"]}, "format: expected .* found \\['onnx'\\]"),
        ({"model": "\ud800"}, "half of a surrogate pair"),
    ],
)
def test_a_header_that_makes_no_sense_is_told(
    saved: Recording, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UnreadableModelError, match=said):
        load(rewritten(saved, tmp_path / "changed.npz", **changes))


def test_an_array_that_claims_a_terabyte_is_refused(saved: Recording, tmp_path: Path) -> None:
    path = rewritten(saved, tmp_path / "huge.npz", samples=[{"inputs": {"x": "huge.npy"}, "values": {"y": "huge.npy"}}])
    with zipfile.ZipFile(path, "a") as archive:
        header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }"
        archive.writestr("huge.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 64)
    with pytest.raises(UnreadableModelError, match="4398046511104 bytes, and 64 are stored"):
        load_recording(path).value("y")


def with_array(saved: Recording, path: Path, content: bytes, compression: int = zipfile.ZIP_DEFLATED) -> Recording:
    """The saved run with a member of that content as its value y."""
    path = rewritten(saved, path, samples=[{"inputs": {"x": "00000.npy"}, "values": {"y": "bad.npy"}}])
    with zipfile.ZipFile(path, "a", compression) as archive:
        archive.writestr("bad.npy", content)
    return load_recording(path)


def npy(header: bytes, content: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + len(header).to_bytes(2, "little") + header + content


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "magic string"),
        (npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1,"), "EOF in multi-line statement|Cannot parse"),
        (npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"\0" * 8), "is not read"),
        (npy(b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", b"\0" * 4), "is not read"),
        (npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }"), "is not read"),
        (npy(b"{'descr': '|V4', 'fortran_order': False, 'shape': (1,), }", b"\0" * 4), "is not read"),
        (npy(b"{'descr': '<f16', 'fortran_order': False, 'shape': (1,), }", b"\0" * 16), "is not read|descr"),
        (npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", b"\0" * 4), "8 bytes, and 4 are stored"),
        (npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", b"\0" * 8), "4 bytes, and 8 are stored"),
        (npy(b"{'descr': 'no', 'fortran_order': False, 'shape': (1,), }"), "descr"),
        (npy(b"[" * 5000), "."),
        (npy(b"{}", version=b"\x09\x00"), "version"),
    ],
)
def test_an_array_whose_header_makes_no_sense_is_told(
    saved: Recording, tmp_path: Path, content: bytes, said: str
) -> None:
    with pytest.raises(UnreadableModelError, match=rf"(?s)bad\.npz.*({said})"):
        with_array(saved, tmp_path / "bad.npz", content).value("y")


def test_numbers_of_another_byte_order_are_read_as_numbers_of_this_machine(saved: Recording, tmp_path: Path) -> None:
    header = b"{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }"
    content = np.array([1.5, -2], ">f4").tobytes()
    value = with_array(saved, tmp_path / "swapped.npz", npy(header, content)).value("y")
    assert value.dtype.isnative
    assert value.tolist() == [1.5, -2]


def test_an_array_that_expands_beyond_the_budget_is_refused(
    saved: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COREPROOF_MEMORY_BUDGET", "1MB")
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (2000000,), }"
    bomb = with_array(saved, tmp_path / "bomb.npz", npy(header, b"\0" * 2_000_000))
    with pytest.raises(TooLargeError, match=r"'bad\.npy'[\s\S]*bomb\.npz[\s\S]*2,000,000 bytes"):
        bomb.value("y")
    whole = with_array(saved, tmp_path / "whole.npz", npy(header, b"\0" * 2_000_000), zipfile.ZIP_STORED)
    assert whole.value("y").size == 2_000_000  # its bytes are there


def test_deeply_nested_json_is_told(saved: Recording, tmp_path: Path) -> None:
    path = tmp_path / "deep.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(HEADER, "[" * 100_000)
    with pytest.raises(UnreadableModelError, match="nested too deeply"):
        load(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "run.npz")
    with pytest.raises(UnreadableModelError, match="a pipe"):
        load(tmp_path / "run.npz")


WRONG: tuple[Any, ...] = (None, 3, -7, 10**30, 1e400, "x", "\ud800", True, [], [[]], {}, {"x": []}, ["x", 3])


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document; of a long list the first two."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, held in inside:
        yield from places(held, (*path, key))


@pytest.mark.thorough
def test_whatever_an_entry_holds_it_is_told_or_the_run_can_be_shown(saved: Recording, tmp_path: Path) -> None:
    with zipfile.ZipFile(str(saved.path)) as archive:
        text = archive.read(HEADER)
    listed = list(places(json.loads(text)))
    told = 0
    for number, path in enumerate(listed[1:]):
        wrong = WRONG[number % len(WRONG)]
        header = json.loads(text)
        held = header
        for key in path[:-1]:
            held = held[key]
        held[path[-1]] = wrong
        file = tmp_path / "changed.npz"
        with zipfile.ZipFile(str(saved.path)) as old, zipfile.ZipFile(file, "w") as new:
            for name in old.namelist():
                new.writestr(name, json.dumps(header) if name == HEADER else old.read(name))
        try:
            again = load_recording(file)
            assert again._repr_html_()
            assert again.graph._repr_html_()
            diff(saved, again)
            verify(saved, again)
        except CoreproofError:
            told += 1
    assert told > len(listed) / 2


def test_plain_arrays_are_no_saved_run(tmp_path: Path) -> None:
    np.savez(tmp_path / "arrays.npz", x=np.zeros(3))
    with pytest.raises(UnreadableModelError, match="--inputs"):
        load(tmp_path / "arrays.npz")


def test_scores_by_label_are_put_in_class_order() -> None:
    assert scores_in_order({"a": 0.25, "b": 0.75}, ("b", "a")).tolist() == [0.75, 0.25]
    with pytest.raises(RunError, match="none for b"):
        scores_in_order({"a": 1.0}, ("b", "a"))


@pytest.mark.parametrize("target", ["neuralnetwork", "mlprogram"])
def test_labels_that_are_the_same_are_told_apart_and_nothing_else_changes(target: Any) -> None:
    labels = ("crane", "dog", "crane", "crane #2", "cat", *(f"class {i}" for i in range(5)))
    model = convert(residual_net(), target, labels=labels)
    apart = with_distinct_labels(model)
    assert apart.signature.labels == ("crane", "dog", "crane #3", "crane #2", "cat", *labels[5:])
    assert model.signature.labels == labels
    assert verify(model, apart).rows[-1].judgement.max_error == 0
    assert with_distinct_labels(apart) is apart


def test_a_recorded_classifier_keeps_its_scores(shared_data: Path, tmp_path: Path) -> None:
    model: Model = load(shared_data / "coreml" / "Apple_SqueezeNetInt8LUT.mlmodel")
    saved = record(model, tmp_path / "run.npz", outputs_only=True)
    assert saved.names == ("classLabelProbs",)
    assert saved.signature.labels == model.signature.labels
    assert saved.value("classLabelProbs").sum() == pytest.approx(1, abs=1e-3)
    (row,) = verify(saved, model).rows
    assert row.judgement.elements == 1000
    assert row.judgement.max_error == 0


@pytest.mark.thorough
def test_a_run_on_apples_engine_is_compared_where_there_is_none(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Core ML gives a picture's classes by label and shows no inner values; stood in for by coreproof's runtime."""
    model: Model = load(shared_data / "coreml" / "Apple_SqueezeNetInt8LUT.mlmodel")

    class Proxy:
        def __init__(self, path: str, compute_units: object) -> None:
            self.running = session(load(path))

        def predict(self, fed: dict[str, Any]) -> dict[str, Any]:
            assert isinstance(fed["image"], Image.Image)
            return self.running.run(fed)

    stand_in = SimpleNamespace(models=SimpleNamespace(MLModel=Proxy), ComputeUnit=SimpleNamespace(CPU_ONLY="cpu"))
    with monkeypatch.context() as mac:
        mac.setitem(sys.modules, "coremltools", stand_in)
        mac.setattr("coreproof.runtime.open.sys", SimpleNamespace(platform="darwin"))
        saved = record(model, tmp_path / "mac.npz", engine="coreml")
        live = verify(model, model, reference_engine="coreml")
    assert saved.engine == "Core ML"
    assert saved.names == ("classLabelProbs",)
    assert saved.feedings["image"][0].mean == (104.0, 117.0, 123.0)
    # the class that wins is no row of numbers, and not in the file
    for found, names in ((live, ["classLabelProbs", "classLabel"]), (verify(saved, model), ["classLabelProbs"])):
        assert [row.candidate for row in found.rows] == names
        assert found
        assert found.rows[0].judgement.elements == 1000


def test_it_cannot_be_run_otherwise(saved: Recording, tmp_path: Path) -> None:
    copy = saved.save(tmp_path / "copy.npz")
    assert copy.read_bytes() == Path(str(saved.path)).read_bytes()
    for target in ("mlprogram", "onnx"):
        with pytest.raises(ConversionError, match="no way from recording"):
            convert(saved, target)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="saved run already"):
        record(saved, tmp_path / "again.npz")


def test_an_output_that_is_named_twice_is_one_value_of_a_run(tmp_path: Path) -> None:
    network = conv_relu_onnx()
    network.graph.outputs.append(network.graph.outputs[0])
    model = OnnxModel(network, name="twice")
    run = record(model, tmp_path / "run.npz")
    assert [feature.name for feature in run.signature.outputs] == ["y"]
    assert verify(run, model).agrees
