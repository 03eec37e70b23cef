"""The data files of an ONNX model that is written land in the output folder, and on nothing that is not theirs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import coreproof as cp
from coreproof.editing.edit import Edit, edit
from coreproof.errors import OutputExistsError, UnsafeModelError
from tests.build import conv_relu_onnx
from tests.model.onnx.test_check import FLOATS, external


def edited(path: Path) -> cp.Model:
    model = cp.load(path)
    return edit(model, [Edit("rename", {"old": model.graph.nodes[0].name, "new": "first"})]).model


def stored_beside(tmp_path: Path, data: str = "net.data") -> Path:
    folder = tmp_path / "in"
    (folder / data).parent.mkdir(parents=True)
    ir.save(conv_relu_onnx(), folder / "net.onnx", external_data=data, size_threshold_bytes=0)
    return folder / "net.onnx"


def outputs(path: Path) -> np.ndarray:
    with cp.session(cp.load(path)) as running:
        return running.run({"x": np.ones((1, 3, 8, 8), np.float32)})["y"]


def test_data_files_come_along_and_may_be_replaced_by_the_next_run(tmp_path: Path) -> None:
    source, out = stored_beside(tmp_path), tmp_path / "out" / "net.onnx"
    model = edited(source)
    model.save(out)
    np.testing.assert_array_equal(outputs(out), outputs(source))
    (out.parent / "net.data").write_bytes(bytes((out.parent / "net.data").stat().st_size))
    model.save(out)
    np.testing.assert_array_equal(outputs(out), outputs(source))


def test_an_edited_model_that_is_edited_again_knows_where_its_data_lie(tmp_path: Path) -> None:
    source, out = stored_beside(tmp_path), tmp_path / "out" / "net.onnx"
    again = edited(source)
    edit(again, [Edit("rename", {"old": "first", "new": "second"})]).model.save(out)
    np.testing.assert_array_equal(outputs(out), outputs(source))


def test_a_file_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    source, out = stored_beside(tmp_path, "notes.txt"), tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"notes\.txt"):
        edited(source).save(out / "net.onnx")
    assert (out / "notes.txt").read_text() == "mine"
    assert not (out / "net.onnx").exists()


def test_a_link_in_the_output_folder_is_no_way_out_of_it(tmp_path: Path) -> None:
    source, out = stored_beside(tmp_path, "sub/net.data"), tmp_path / "out"
    (tmp_path / "elsewhere").mkdir()
    out.mkdir()
    (out / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeModelError, match="link"):
        edited(source).save(out / "net.onnx")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_weights_in_a_file_named_like_the_output(tmp_path: Path) -> None:
    with pytest.raises(UnsafeModelError, match="name of the output"):
        edited(stored_beside(tmp_path, "other.onnx")).save(tmp_path / "out" / "other.onnx")


def test_a_model_saved_elsewhere_holds_its_weights_itself(tmp_path: Path) -> None:
    source, out = stored_beside(tmp_path), tmp_path / "out" / "net.onnx"
    cp.load(source).save(out)
    assert [p.name for p in out.parent.iterdir()] == ["net.onnx"]
    np.testing.assert_array_equal(outputs(out), outputs(source))


def test_attributes_in_files_come_along_too(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    source, out = external(tmp_path / "in", length="4"), tmp_path / "out"
    model = cp.load(source)
    model.save(out / "whole.onnx")
    edit(model, [Edit("rename", {"old": "conv", "new": "first"})]).model.save(out / "edited.onnx")
    (tmp_path / "in" / "k.bin").unlink()
    fed = {"x": np.zeros(FLOATS, np.float32)}
    for name in ("whole", "edited"):
        with cp.session(cp.load(out / f"{name}.onnx")) as running:
            np.testing.assert_array_equal(running.run(fed)["y"], np.full((1, 4, 8, 8), 6.0, np.float32))
