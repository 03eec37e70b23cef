"""Core ML models are stored again as they were read: spec, weights, manifest and whatever else their package holds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from coreproof.model.coreml.model import load_coreml, package_spec


def contents(path: Path) -> dict[str, bytes]:
    if path.is_file():
        return {"": path.read_bytes()}
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


@pytest.mark.thorough
def test_every_file_is_stored_again_byte_for_byte(shared_data: Path, tmp_path: Path) -> None:
    for file in [*sorted(shared_data.glob("coreml/*")), *sorted(shared_data.glob("legacy/*/*.mlmodel"))]:
        saved = load_coreml(file).save(tmp_path / file.name)
        assert contents(saved) == contents(file), file


@pytest.fixture
def package(shared_data: Path, tmp_path: Path) -> Path:
    """A package with an item that is not Apple's, and an unusual place for its spec."""
    path = tmp_path / "given.mlpackage"
    shutil.copytree(shared_data / "coreml" / "dhruvweaver_DrawMNIST_first.mlpackage", path)
    manifest = json.loads((path / "Manifest.json").read_text())
    manifest["itemInfoEntries"]["MINE"] = {"author": "me", "description": "notes", "name": "n", "path": "me/notes.txt"}
    (path / "Manifest.json").write_text(json.dumps(manifest))
    (path / "Data" / "me").mkdir()
    (path / "Data" / "me" / "notes.txt").write_text("mine")
    return path


def test_an_edited_spec_leaves_the_rest_of_its_package(package: Path, tmp_path: Path) -> None:
    model = load_coreml(package)
    model.spec.description.metadata.author = "another"
    saved = model.save(tmp_path / "saved.mlpackage")
    before, after = contents(package), contents(saved)
    assert list(before) == list(after)
    assert [name for name in before if before[name] != after[name]] == [str(package_spec(package).relative_to(package))]
    assert load_coreml(saved).spec == model.spec


def test_a_model_is_stored_over_itself(package: Path) -> None:
    model = load_coreml(package)
    before = contents(package)
    model.spec.description.metadata.author = "another"
    model.save(package)
    assert (package / "Data" / "me" / "notes.txt").read_text() == "mine"
    model.spec.description.metadata.ClearField("author")
    model.save(package)
    assert load_coreml(package).spec == model.spec
    changed = [name for name in before if contents(package)[name] != before[name]]
    assert len(changed) <= 1


def test_other_weights_take_the_place_of_the_old(package: Path, tmp_path: Path) -> None:
    model = load_coreml(package)
    folder = tmp_path / "others"
    (folder / "weights").mkdir(parents=True)
    (folder / "weights" / "weight.bin").write_bytes(b"other weights")
    saved = model.with_spec(model.spec, folder).save(tmp_path / "saved.mlpackage")
    found = contents(saved)
    assert found[str(package_spec(package).relative_to(package).parent / "weights" / "weight.bin")] == b"other weights"
    assert found["Data/me/notes.txt"] == b"mine"


def test_what_lies_outside_the_package_is_not_copied(package: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    (package / "Data" / "me" / "link.txt").symlink_to(secret)
    saved = load_coreml(package).save(tmp_path / "saved.mlpackage")
    assert "Data/me/link.txt" not in contents(saved)


def test_a_model_whose_file_is_gone_is_stored_all_the_same(shared_data: Path, tmp_path: Path) -> None:
    file = tmp_path / "net.mlmodel"
    shutil.copyfile(shared_data / "coreml" / "ph1ps_MNIST.mlmodel", file)
    model = load_coreml(file)
    file.unlink()
    assert load_coreml(model.save(tmp_path / "saved.mlmodel")).spec == model.spec
    file.write_bytes(b"something else")
    assert load_coreml(model.save(tmp_path / "again.mlmodel")).spec == model.spec
