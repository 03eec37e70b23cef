"""The package's face: every verb is there, and importing rooms does not hide it."""

from __future__ import annotations

import importlib
import pickle
import pkgutil
import pydoc
import subprocess
import sys
import unittest.mock

import pytest

import coreproof


@pytest.mark.parametrize("name", coreproof.__all__)
def test_every_verb_is_callable(name: str) -> None:
    assert callable(getattr(coreproof, name))


def test_no_room_has_the_name_of_a_verb() -> None:
    rooms = {module.name for module in pkgutil.iter_modules(coreproof.__path__)}
    assert not rooms & set(coreproof.__all__)


@pytest.mark.parametrize("name", coreproof.__all__)
def test_every_public_object_can_be_pickled_found_by_pydoc_and_patched(name: str) -> None:
    public = getattr(coreproof, name)
    assert pickle.loads(pickle.dumps(public)) is public
    assert name in pydoc.render_doc(f"coreproof.{name}", renderer=pydoc.plaintext)
    with unittest.mock.patch(f"{public.__module__}.{public.__name__}") as stand_in:
        assert getattr(importlib.import_module(public.__module__), name) is stand_in


def test_a_module_can_be_imported_by_its_full_name() -> None:
    import coreproof.conversion.onnx_to_coreml as translator

    assert translator.__name__ == "coreproof.conversion.onnx_to_coreml"


def test_dir_lists_the_verbs() -> None:
    program = "import coreproof; print(*dir(coreproof))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(coreproof.__all__) <= set(done.stdout.split())


def test_the_front_door_hands_the_views_down_and_below_it_a_result_is_shown_as_text() -> None:
    program = (
        "from coreproof.model import notebook_view as shown\n"
        "class Result(shown.NotebookView): __repr__ = lambda self: '<b>'\n"
        "assert '&lt;b&gt;' in Result()._repr_html_() and 'class=\"cp\"' in Result()._repr_html_()\n"
        "shown.view = shown.plain\n"
        "assert Result()._repr_html_() == '<pre>&lt;b&gt;</pre>'"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
