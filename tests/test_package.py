"""The package's face: every verb is there, and importing rooms does not hide it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import coreproof


@pytest.mark.parametrize("name", coreproof.__all__)
def test_every_verb_is_callable(name: str) -> None:
    assert callable(getattr(coreproof, name))


def test_rooms_do_not_hide_verbs() -> None:
    program = (
        "import coreproof.verify.tolerance, coreproof.run.photos, coreproof.convert.torch_to_onnx, coreproof.prove\n"
        "import coreproof as cp\n"
        "assert all(callable(getattr(cp, n)) for n in ('verify', 'compare', 'convert', 'prove'))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_front_door_hands_the_views_down_and_below_it_a_result_is_shown_as_text() -> None:
    program = (
        "from coreproof.model import shown\n"
        "class Result(shown.Shown): __repr__ = lambda self: '<b>'\n"
        "assert '&lt;b&gt;' in Result()._repr_html_() and 'class=\"cp\"' in Result()._repr_html_()\n"
        "shown.view = shown.plain\n"
        "assert Result()._repr_html_() == '<pre>&lt;b&gt;</pre>'"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
