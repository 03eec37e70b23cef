"""A pytest plugin: Apple's own operator tests of coreai-torch (apple/coreai-torch, `tests/`), run by coreproof's lowering.

Each test makes a module, converts it with coreai-torch, saves it, runs it and compares with PyTorch. With this plugin the saved
model is read and lowered by coreproof, and ONNX Runtime runs it; the comparison stays the test's own. Outside of our
repository, in an environment that has `coreproof[coreai]`, torch, coreai-torch, pytest-asyncio and filecheck::

    cd coreai-torch && python -m pytest -p conformance.coreai_suite -p no:randomly tests/ops/test_ops.py

`COREAI_SUITE_EVERY=4` takes every fourth test, `COREAI_SUITE_RECORD=FILE` writes how each one ended and why.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from coreai.authoring import AIModelAsset
from coreai.runtime import NDArray

import coreproof as cp
from coreproof.errors import UnreadableModelError
from coreproof.model.coreai import apple
from coreproof.model.coreai.arrays import mapped
from coreproof.model.coreai.model import CoreAIModel
from coreproof.model.coreai.read import program_of
from coreproof.model.files.entries import parse_json
from coreproof.model.files.scratch import TemporaryFolder

_ENDED: dict[str, str] = {}


def _refused(found: str) -> UnreadableModelError:
    return UnreadableModelError("the test's model is not read", found=found)


def load(path: Path) -> CoreAIModel:
    """What ``cp.load`` makes of a model, without a process of its own for each of thousands."""
    with TemporaryFolder() as scratch:
        request = json.dumps({"path": str(path), "folder": scratch})
        apple.read(parse_json(request, _refused))
        document = parse_json((Path(scratch) / "graph.json").read_bytes(), _refused)
        constants = np.array(mapped(Path(scratch) / "constants"))
    return CoreAIModel(program_of(document, constants, _refused), name=path.stem, path=path)


class _Lowered:
    """Stands for what `load_function` gives: called with arrays of Apple's runtime, it answers with such."""

    def __init__(self, model: CoreAIModel) -> None:
        self._session = cp.session(model)
        signature = model.signature
        self.desc = SimpleNamespace(
            name=model.function.name,
            input_names=[f.name for f in signature.inputs],
            output_names=[f.name for f in signature.outputs],
            state_names=[f.name for f in signature.states],
        )

    async def __call__(
        self, inputs: Mapping[str, Any] | None = None, state: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        fed = {name: np.asarray(value.numpy()) for name, value in (inputs or {}).items()}
        kept = {name: np.array(value.numpy()) for name, value in (state or {}).items()}
        found = self._session.run(fed, state=kept if kept else None)
        for name, value in (state or {}).items():
            value.numpy()[...] = kept[name]
        return {name: NDArray(np.asarray(value)) for name, value in found.items()}


@asynccontextmanager
async def _executable(asset: Any, specialization_options: object = None) -> AsyncIterator[Any]:
    model = load(Path(asset.path))
    names = model.functions or (model.function.name,)
    yield SimpleNamespace(
        function_names=list(names),
        load_function=lambda name: _Lowered(model.at_function(name) if model.functions else model),
    )


def pytest_configure() -> None:
    AIModelAsset.executable = _executable


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    every = int(os.environ.get("COREAI_SUITE_EVERY", "1"))
    items[:] = items[::every]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.outcome != "passed":
        told = "" if report.outcome == "passed" else str(report.longrepr).strip().splitlines()[-1][:300]
        crash = getattr(report.longrepr, "reprcrash", None)
        _ENDED[report.nodeid] = report.outcome if crash is None else f"{report.outcome}: {crash.message[:400]}"
        if told and crash is None:
            _ENDED[report.nodeid] = f"{report.outcome}: {told}"


def pytest_sessionfinish() -> None:
    record = os.environ.get("COREAI_SUITE_RECORD")
    if record:
        Path(record).write_text(json.dumps(_ENDED, indent=1, sort_keys=True) + "\n", encoding="utf-8")
