"""What every test may ask for (the folder of real models and photos, where there is one), and what it begins with."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import pytest

from coreproof.conversion.coremltools_import import import_coremltools
from coreproof.model.collector import only_what_is_new
from tests import drawn
from tests.forked import Commands, commands
from tests.sweeps import mark_thorough, share_of

# A shell starts what stands in the background deaf to Ctrl-C, and so are its children: tests that interrupt need ears.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests that run side by side have a core each: engines' further threads would take it from one another, waiting busily.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parent.parent


_frozen = 0
"""How many modules there were when garbage was last looked for among what they made."""
_set_aside = ExitStack()


def pytest_sessionstart() -> None:
    """A worker imports, for all its tests, what each of them would import with more than it needs."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        with suppress(ImportError):
            importlib.import_module("torch")
        import_coremltools()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    mark_thorough(items)
    if share := os.environ.get("COREPROOF_THOROUGH"):
        thorough = [item for item in items if item.get_closest_marker("thorough")]
        kept = share_of(thorough, share)
        left = [item for item in thorough if item.nodeid not in kept]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in set(left)]


def pytest_collection_finish() -> None:
    gc.collect()
    _set_aside.enter_context(only_what_is_new())
    freeze()


def pytest_runtest_logfinish() -> None:
    """A test has imported PyTorch, coremltools or the like."""
    if len(sys.modules) > _frozen + 200:
        freeze()


def freeze() -> None:
    """What importing has made stays to the end: to look through it for garbage again and again takes a tenth of the time."""
    global _frozen
    gc.collect()
    gc.freeze()
    _frozen = len(sys.modules)


def pytest_unconfigure() -> None:
    _set_aside.close()
    gc.unfreeze()  # libraries tell at the end what was never given back


def pytest_collectstart(collector: pytest.Collector) -> None:
    if isinstance(collector, pytest.Module):
        drawn.begin_file()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    own = getattr(getattr(item, "module", None), "RNG", None)
    drawn.begin_test(own if isinstance(own, np.random.Generator) else None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with trained models and photos; tests that need it are skipped, with the reason, where it is absent."""
    named = os.environ.get("COREPROOF_TEST_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}: set COREPROOF_TEST_DATA to the folder that holds it")
    return folder


@pytest.fixture(scope="session")
def forked() -> Iterator[Commands]:
    """Commands that begin with everything imported which takes seconds: one process imports it for all tests of a worker."""
    with commands({}, ("onnx", "onnx_ir", "onnxruntime", "coremltools", "torch")) as runs:
        yield runs


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three small pictures, each of one colour."""
    from PIL import Image

    folder = tmp_path / "photos"
    folder.mkdir()
    for number, colour in enumerate(((220, 10, 10), (10, 10, 220), (30, 200, 40))):
        Image.new("RGB", (12, 9), colour).save(folder / f"{number}.png")
    return folder
