"""What may be written over is told by its content, whatever it is called, and nothing of it is run."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import coreproof as cp
from coreproof.editing.script import write_script
from coreproof.errors import OutputExistsError
from coreproof.model.files import outputs
from coreproof.model.files.outputs import (
    ARRAYS,
    MLMODEL,
    ONNX,
    PACKAGE,
    PAGE,
    PLOT,
    PROGRAM,
    PROOF,
    RUN,
    SCRIPT,
    Kind,
    check_output,
)
from coreproof.model.onnx.model import OnnxModel
from tests.build import conv_relu_onnx

KINDS = [value for value in vars(outputs).values() if isinstance(value, Kind)]


@pytest.fixture
def net() -> OnnxModel:
    return OnnxModel(conv_relu_onnx(), name="net")


def test_each_kind_of_model_is_recognised_and_no_other(net: OnnxModel, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the torch extra")
    written: dict[str, Kind] = {
        net.save(tmp_path / "a").name: ONNX,
        cp.convert(net, "neuralnetwork").save(tmp_path / "b.mlmodel").name: MLMODEL,
        cp.convert(net, "neuralnetwork").save(tmp_path / "c").name: PACKAGE,
        cp.convert(net, "mlprogram").save(tmp_path / "d").name: PACKAGE,
        cp.load((torch.nn.Linear(3, 2), (torch.zeros(1, 3),))).save(tmp_path / "e").name: PROGRAM,
        write_script([cp.Edit("delete", {"layer": "a"})], tmp_path / "g.toml").name: SCRIPT,
    }
    assert cp.record(net, tmp_path / "f.npz").path == tmp_path / "f.npz"
    written["f.npz"] = RUN
    np.savez(tmp_path / "h.npz", a=np.zeros(3))
    written["h.npz"] = ARRAYS
    for name, kind in written.items():
        told = [k.name for k in KINDS if k.recognises(tmp_path / name)]
        assert told == [kind.name], name
        check_output(tmp_path / name, kind)


@pytest.mark.sweep(4)
@pytest.mark.parametrize(
    "content",
    [
        b"hello",
        b"\x08\x07",
        b"\x08\x07\x3a\x05\x0a",
        b"\x00" * 100,
        b"\xff" * 100,
        b"\x08\x07\x3a\x00" + b"\xc2\x3e\x00",
        b"PK\x03\x04 no archive",
        b"{}",
        b"[[[" * 50_000,
        b"\x89PN",
        b"<!doctype html><title>my page</title>",
        b"a = 1\n",
        b"\x08\x01" * 200_000 + b"\x3a\x00",
    ],
)
def test_nothing_else_is_taken_for_one(content: bytes, tmp_path: Path) -> None:
    for suffix in (".png", ".svg"):
        file = tmp_path / f"x{suffix}"
        file.write_bytes(content)
        for kind in KINDS:
            with pytest.raises(OutputExistsError, match="something else stands"):
                check_output(file, kind)
            check_output(file, kind, replace=True)


@pytest.mark.parametrize("manifest", [None, "{}", "[]", "no json", '{"itemInfoEntries": {}}'])
def test_a_folder_is_a_package_only_with_a_manifest_and_nothing_else(manifest: str | None, tmp_path: Path) -> None:
    folder = tmp_path / "x.mlpackage"
    (folder / "Data").mkdir(parents=True)
    (folder / "thesis.txt").write_text("years of work")
    if manifest is not None:
        (folder / "Manifest.json").write_text(manifest)
    with pytest.raises(OutputExistsError, match=r"thesis\.txt"):
        check_output(folder, PACKAGE)


def test_what_holds_nothing_may_go(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for name in ("empty", "folder", "nothing", "no/such/folder"):
        for kind in KINDS:
            check_output(tmp_path / name, kind)


def test_a_link_is_judged_by_what_it_leads_to(net: OnnxModel, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(net.save(tmp_path / "a.onnx"))
    check_output(tmp_path / "link", ONNX)
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputExistsError, match="leads nowhere"):
        check_output(tmp_path / "lost", ONNX)


def test_pages_of_coreproof_are_told_from_others(tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    page.write_text('\n<!doctype html><meta name="generator" content="coreproof">')
    check_output(page, PAGE)
    page.write_text('<!doctype html><meta name="generator" content="hugo">')
    with pytest.raises(OutputExistsError, match="a page of coreproof"):
        check_output(page, PAGE)
    (tmp_path / "proof.json").write_text(json.dumps({"verdict": {}, "steps": []}))
    check_output(tmp_path / "proof.json", PROOF)
    (tmp_path / "a.svg").write_text("<?xml version='1.0'?><svg/>")
    check_output(tmp_path / "a.svg", PLOT)


def test_saving_in_python_is_as_careful(net: OnnxModel, tmp_path: Path) -> None:
    target = tmp_path / "net.mlmodel"
    target.write_text("years of work")
    core_ml = cp.convert(net, "neuralnetwork")
    with pytest.raises(OutputExistsError, match="replace=True"):
        core_ml.save(target)
    assert target.read_text() == "years of work"
    core_ml.save(target, replace=True)
    core_ml.save(target)
    with pytest.raises(OutputExistsError, match="an ONNX model"):
        net.save(target)


def test_a_data_file_of_somebody_else_stays(net: OnnxModel, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    ir.save(net.ir, tmp_path / "in" / "net.onnx", external_data="weights.bin", size_threshold_bytes=0)
    edited = cp.edit(cp.load(tmp_path / "in" / "net.onnx"), [cp.Edit("rename", {"old": "c", "new": "d"})]).model
    (tmp_path / "out").mkdir()
    theirs = tmp_path / "out" / "weights.bin"
    theirs.write_bytes(b"years of work")
    with pytest.raises(OutputExistsError, match="data file"):
        edited.save(tmp_path / "out" / "net.onnx")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["weights.bin"]
    assert theirs.read_bytes() == b"years of work"
    edited.save(tmp_path / "out" / "net.onnx", replace=True)
    assert theirs.read_bytes() == (tmp_path / "in" / "weights.bin").read_bytes()
    edited.save(tmp_path / "out" / "net.onnx")


def test_an_archive_that_lies_is_none(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("coreproof.txt", "x")
    for kind in (RUN, ARRAYS, PROGRAM):
        with pytest.raises(OutputExistsError):
            check_output(tmp_path / "a.npz", kind)
