"""Small ONNX files that others made as a judge: converted, run, held against ONNX Runtime or ONNX's own reference.

    python -m conformance.small_files FOLDER [--formats mlprogram-fp32 ...] [--every N]

Made for those of burn-onnx (crates/onnx-tests/tests of tracel-ai/burn-onnx: one to three operators a file, many opsets).
FOLDER is by default burn_onnx in the folder that COREPROOF_DATA names; where it is absent, that is said and nothing fails.
``--record`` writes conformance/results/small_files.json.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import coreproof as cp
from conformance.allowed import run_source
from conformance.trial import FORMATS, carry_out, first_line, onnx_trial, quiet
from coreproof.conversion.operators import meaning
from coreproof.feeding.drawn import random_feeds

RESULTS = Path(__file__).parent / "results" / "small_files.json"


def judge(task: tuple[Path, tuple[str, ...]]) -> dict[str, Any]:
    """What became of one file, per format, in one word and a reason."""
    path, formats = task
    quiet()
    record: dict[str, Any] = {"file": path.name}
    try:
        model = onnx.load(path)
        source = cp.load(path)
        fed = {n: np.asarray(v) for n, v in random_feeds(source, source)[0].items()}
    except Exception as error:
        return {**record, **{name: ["breaks", first_line(error)] for name in formats}}
    record["operators"] = sorted({n.op_type for n in model.graph.node})
    try:
        exact = run_source(model, fed)
    except Exception as error:
        return {**record, "skipped": f"no engine runs it: {first_line(error)[:140]}"}
    if not all(isinstance(v, np.ndarray) and v.dtype.kind in "fiub" for v in exact.values()):
        return {**record, "skipped": "it answers what no Core ML model can: text, sequences or nothing"}
    if not all(np.isfinite(v).all() for v in exact.values() if v.dtype.kind == "f"):
        return {**record, "skipped": "the source's own answer is not finite"}
    if any(meaning(operator).get("random", False) for operator in record["operators"]):
        return {**record, "skipped": "it draws its numbers: those of another engine are others"}
    return {**record, **{name: list(onnx_trial(model, fed, exact, name)) for name in formats}}


def main() -> int:
    """Runs the files; 1 when any ended as none may."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--formats", nargs="*", default=list(FORMATS), choices=list(FORMATS))
    parser.add_argument("--only", default="", help="a part of the file's name")
    parser.add_argument("--every", type=int, default=1, help="each N-th file")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--record", action="store_true", help="write conformance/results/small_files.json")
    given = parser.parse_args()
    folder = given.folder or Path(os.environ.get("COREPROOF_DATA") or ".") / "burn_onnx"
    paths = [p for p in sorted(folder.glob("**/*.onnx")) if given.only in p.name][:: given.every]
    if not paths:
        print(f"skipped: there are no ONNX files in {folder.name}/: name their folder, or set COREPROOF_DATA")
        return 0 if given.folder is None else 2
    tasks = [(path, tuple(given.formats)) for path in paths]
    command = "python -m conformance.small_files" + (f" --every {given.every}" if given.every > 1 else "")
    return carry_out(judge, tasks, given.jobs, RESULTS if given.record else None, command)


if __name__ == "__main__":
    sys.exit(main())
