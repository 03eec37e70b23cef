"""Linked models: what they name is looked for beside them, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coreproof.errors import ConversionError, CoreproofError, UnsupportedModelError
from coreproof.model.load import load
from coreproof.runtime.open import session
from tests.build import classic


def link(name: str, path: str = "") -> Any:
    file = {"linkedModelFileName": {"defaultValue": name}, "linkedModelSearchPath": {"defaultValue": path}}
    return classic("linkedModel", {"x": "double"}, {"y": "double"}, linkedModelFile=file)


def test_the_model_beside_the_file_answers(tmp_path: Path) -> None:
    target = classic("scaler", {"x": "double"}, {"y": "double"}, scaleValue=[3.0])
    target.save(tmp_path / "Other.mlmodel")
    (tmp_path / "sub").mkdir()
    target.save(tmp_path / "sub" / "Deep.mlmodel")
    links = [("Other.mlmodelc", ""), ("Other.mlmodelc", "$BUNDLE_MAIN:."), ("Deep.mlmodelc", "sub")]
    for number, (name, path) in enumerate(links):
        stored = link(name, path).save(tmp_path / f"link{number}.mlmodel")
        with session(load(stored)) as running:
            assert running.run({"x": 2}) == {"y": 6.0}


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"Gone\.mlmodel or \.mlpackage beside"):
        session(load(link("Gone.mlmodelc").save(tmp_path / "link.mlmodel")))


@pytest.mark.parametrize("path", ["..", "/", "/tmp"])
def test_nothing_outside_the_folder_is_read(tmp_path: Path, path: str) -> None:
    (tmp_path / "inner").mkdir()
    classic("scaler", {"x": "double"}, {"y": "double"}).save(tmp_path / "Other.mlmodel")
    with pytest.raises(CoreproofError, match=r"folder|path"):
        session(load(link("Other.mlmodelc", path).save(tmp_path / "inner" / "link.mlmodel")))


def test_models_that_link_in_a_circle_are_refused(tmp_path: Path) -> None:
    link("b.mlmodelc").save(tmp_path / "a.mlmodel")
    link("a.mlmodelc").save(tmp_path / "b.mlmodel")
    with pytest.raises(ConversionError, match="in a circle"):
        session(load(tmp_path / "a.mlmodel"))
