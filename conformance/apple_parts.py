"""The pieces in which Apple's suite is run: a directory, or a shard of a large one, each with a record of its own.

The whole suite takes hours. A piece that ran to its end leaves a mark beside its record, and the next run goes on behind it.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SEED = 20250101
STRICT_FP16 = "1e-2:1e-2"
"""Relative and absolute tolerance of float16 tests; Apple's own, 0.05 and 0.5, hardly notices a wrong result."""
SECONDS = "900"
"""What one test may take: a busy machine is not a failure."""

NO_WIDE_SORTS = "AVX2 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR"
"""What NumPy leaves unused, so that it orders short rows as on Apple's machines: the first of equal numbers first.

With these instructions its argsort names any of them first, and tests of top-k expect what it names.
"""

MIL = "converters/mil/mil/ops/tests"
DIRECTORIES = (*(f"{MIL}/iOS{version}" for version in (14, 15, 16, 17, 18)), "test/neural_network")
SLICE = (f"{MIL}/iOS16", f"{MIL}/iOS18", "test/neural_network/test_numpy_nn_layers.py")
"""What takes a few minutes: operations in their newer forms, compressed weights, states, and nearly every layer."""

FRONT_END = "converters/mil/frontend/torch/test"
SAMPLE = 4000
"""How many of the PyTorch front end's 50,000 tests are drawn; about four fifths of them reach a prediction."""

WHOLE: Mapping[str, int] = {
    "test/neural_network": 1,
    "test/pipeline": 1,
    "test/sklearn_tests": 1,
    "test/xgboost_tests": 1,
    "test/api": 1,
    "test/ml_program": 1,
    "test/modelpackage": 1,
    "test/optimize/coreml": 8,
    "optimize/coreml/experimental": 1,
    "converters/mil/backend": 1,
    "converters/mil/frontend/milproto": 1,
    "converters/mil/mil/tests": 1,
    "converters/mil/test_inputs_outputs_shape.py": 1,
    "converters/mil/mil/passes": 8,
    f"{MIL}/iOS15": 1,
    f"{MIL}/iOS16": 3,
    f"{MIL}/iOS14": 24,
    f"{MIL}/iOS17": 24,
    f"{MIL}/iOS18": 16,
    FRONT_END: 12,
}
"""Every directory of the suite that reaches a prediction, and in how many shards it runs: a shard takes some minutes."""


@dataclass(frozen=True)
class Part:
    """What runs in one go: shard number ``shard`` of ``shards`` of a directory, ``sample`` of its tests (0 for all)."""

    directory: str
    shard: int = 0
    shards: int = 1
    sample: int = 0

    @property
    def name(self) -> str:
        """What its record is called."""
        suffix = f".{self.shard}of{self.shards}" if self.shards > 1 else ""
        return self.directory.replace("/", "_") + suffix

    def record(self, folder: Path) -> Path:
        """Where its tests and predictions are written, a line an event."""
        return folder / f"{self.name}.jsonl"

    def _mark(self, folder: Path) -> Path:
        return folder / f"{self.name}.done.json"

    def finished_at(self, folder: Path) -> str | None:
        """The commit at which it ran to its end, if it did."""
        mark = self._mark(folder)
        if not mark.is_file() or not self.record(folder).is_file():
            return None
        return str(json.loads(mark.read_text())["commit"])

    def finish(self, folder: Path, commit: str) -> None:
        """Marks that it ran to its end."""
        self._mark(folder).write_text(json.dumps({"commit": commit}) + "\n")

    def forget(self, folder: Path) -> None:
        """Takes the mark away: what runs anew has not ended yet."""
        self._mark(folder).unlink(missing_ok=True)


def whole_suite() -> list[Part]:
    """Every directory that reaches a prediction, in full; of the PyTorch front end a seeded sample."""
    return [
        Part(directory, shard, shards, SAMPLE if directory == FRONT_END else 0)
        for directory, shards in WHOLE.items()
        for shard in range(shards)
    ]


def run_part(
    suite: Path, python: str, part: Part, folder: Path, sets: int, only: str | None, workers: int | None = None
) -> bool:
    """Runs one part into its record in ``folder``; False when it was cut off before its end.

    ``sets``: parameter sets of each test function, 0 for all. ``workers``: processes among which its tests are dealt out, 0 for
    none but its own; without it what NPROC or the suite says.
    """
    environment = {
        **os.environ,
        "PYTHON": python,
        "PYTHONPATH": os.pathsep.join([str(HERE.parent / "src"), str(HERE.parent)]),
        "PYTEST_ADDOPTS": " ".join(["-p conformance.seeded", *([f"-k '{only}'"] if only else [])]),
        "APPLE_SUITE_FP16_TOL": STRICT_FP16,
        "INCLUDE_MIL_FP32_UNIT_TESTS": "1",
        "NPY_DISABLE_CPU_FEATURES": NO_WIDE_SORTS,
        "TMO": os.environ.get("TMO", SECONDS),
    }
    if workers is not None:
        environment["NPROC"] = str(workers)
    if sets:
        environment["APPLE_SUITE_PER_FUNC"] = f"{sets}:{SEED}"
    if part.sample:
        environment["APPLE_SUITE_SAMPLE"] = f"{part.sample}:{SEED}"
    if part.shards > 1:
        environment["APPLE_SUITE_SHARD"] = f"{part.shard}/{part.shards}"
    record = part.record(folder)
    record.parent.mkdir(parents=True, exist_ok=True)
    # run.sh answers 1 for failed tests, too; what was stopped by a signal has not ended.
    ended = subprocess.run(
        ["bash", str(suite / "run.sh"), "coreproof.testing:predict", str(record), part.directory],
        env=environment,
        check=False,
    )
    return ended.returncode in (0, 1)
