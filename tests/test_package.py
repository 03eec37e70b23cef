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
