"""coremltools is imported without the packages whose front ends nobody asks for, and is whole for who asks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"


def ran(program: str) -> str:
    """What a process prints that has just started."""
    whole = f"import sys\nsys.path.insert(0, {str(SOURCE)!r})\n{program}"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", whole], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.thorough
def test_beside_pytorch_what_compresses_its_modules_is_imported_when_it_is_asked_for() -> None:
    pytest.importorskip("torch", reason="needs the torch extra")
    said = ran(
        "import torch\n"
        "from coreproof.conversion.coremltools_import import import_coremltools\n"
        "ct = import_coremltools()\n"
        "later = 'coremltools.optimize.torch'\n"
        "print(later in sys.modules, 'sklearn' in sys.modules, hasattr(ct.optimize, 'nothing'))\n"
        "print(ct.optimize.torch.__name__, later in sys.modules)\n"
        "from coremltools.optimize.torch.quantization import LinearQuantizer\n"
        "print(LinearQuantizer.__name__, import_coremltools() is ct)\n"
    )
    assert said.splitlines() == [
        "False False False",
        "coremltools.optimize.torch True",
        "LinearQuantizer True",
    ]


def test_without_pytorch_nothing_of_it_is_imported() -> None:
    said = ran(
        "from coreproof.conversion.coremltools_import import import_coremltools\n"
        "ct = import_coremltools()\n"
        "print('torch' in sys.modules, 'coremltools.optimize.torch' in sys.modules, hasattr(ct.optimize, 'torch'))\n"
        "print(hasattr(ct.converters, 'mil'))\n"
    )
    assert said.splitlines() == ["False False False", "True"]
