"""Conversion to Core AI beside coreai-onnx and coreai-torch, and the latency of what a Core AI model lowers to.

Runs in an environment that has `coreproof[coreai,torch]`, coreai-torch and coreai-onnx: its Python is what `--coreai` of
`python -m benchmarks.bench` names. `python -m benchmarks.coreai MODEL FOLDER ROUNDS THREADS` prints latencies as a line of JSON.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import CORE_AI, MARK, measured

HEAD = ["model", "tool", "conversion, s", "times ours", "start-up, s"]
LATENCY_HEAD = ["ResNet50, batch 1", "median, ms", "ratio to the source"]
AIM, AIM_LATENCY = 1.0, 1.0
OURS, SOURCE, LOWERED = "coreproof", "ONNX Runtime, source ONNX", "the Core AI model, as it lowers"


def conversions(
    python: str, networks: Sequence[str], folder: Path, repeats: int
) -> dict[tuple[str, str], dict[str, Any]]:
    """The best of ``repeats`` fresh processes of each tool on each model, the tools taking turns."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for _ in range(repeats):
        for model in networks:
            for tool in CORE_AI:
                command = [python, "-W", "ignore", "-m", "benchmarks.measure", tool, model, str(folder), "--coreai"]
                found.setdefault((tool, model), []).append(measured(command))
    return {pair: _best(runs) for pair, runs in found.items()}


def _best(runs: list[dict[str, Any]]) -> dict[str, Any]:
    good = [run for run in runs if "error" not in run]
    return {key: min(run[key] for run in good) for key in ("seconds", "start")} if good else runs[0]


def conversion_rows(results: dict[tuple[str, str], dict[str, Any]], networks: Sequence[str]) -> list[list[str]]:
    rows = []
    for model in networks:
        mine = results[OURS, model].get("seconds")
        for tool in CORE_AI:
            found = results[tool, model]
            if "error" in found:
                rows.append([model, tool, f"failed: {found['error']}", "", ""])
                continue
            ratio = "" if mine is None else f"{found['seconds'] / mine:.2f}"
            rows.append([model, tool, f"{found['seconds']:.2f}", ratio, f"{found['start']:.1f}"])
    return rows


def verdicts(results: dict[tuple[str, str], dict[str, Any]], networks: Sequence[str]) -> list[str]:
    """What share of the fastest peer's time ours takes, a line a model."""
    lines = []
    for model in networks:
        mine = results[OURS, model].get("seconds")
        peers = {t: r["seconds"] for (t, m), r in results.items() if m == model and t != OURS and "error" not in r}
        if mine is None or not peers:
            continue
        fastest = min(peers, key=lambda tool: peers[tool])
        met = "met" if mine <= AIM * peers[fastest] else "NOT met"
        lines.append(
            f"{model}: {mine / peers[fastest]:.2f} of the time of the fastest peer, {fastest} (aim: at most {AIM}; {met})"
        )
    return lines


def latency_rows(python: str, model: str, folder: Path, rounds: int, threads: int) -> list[list[str]]:
    """The median latency of the source and of what the Core AI model lowers to, measured in the other environment."""
    command = [python, "-W", "ignore", "-m", "benchmarks.coreai", model, str(folder), str(rounds), str(threads)]
    found = measured(command)
    if "error" in found:
        return [[LOWERED, f"failed: {found['error']}", ""]]
    return [[label, f"{found[label][0]:.1f}", f"{found[label][1]:.3f}"] for label in (SOURCE, LOWERED)]


def _latencies(model: str, folder: Path, rounds: int, threads: int) -> dict[str, tuple[float, float]]:
    import onnxruntime

    import coreproof as cp
    from benchmarks.latency import interleaved, median_ratio

    path = folder / f"{model}.onnx"
    with tempfile.TemporaryDirectory() as scratch:
        cp.convert(path, "coreai", precision="fp32", check=False).save(Path(scratch) / "m.aimodel")
        lowered = cp.convert(Path(scratch) / "m.aimodel", "onnx").save(Path(scratch) / "lowered.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        runs = {}
        for label, file in ((SOURCE, path), (LOWERED, lowered)):
            engine = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
            entry = engine.get_inputs()[0]
            fed = {entry.name: np.random.default_rng(0).standard_normal(entry.shape).astype(np.float32)}
            runs[label] = lambda engine=engine, fed=fed: engine.run(None, fed)  # type: ignore[misc]
        seconds = interleaved(runs, rounds)
    return {
        label: (statistics.median(times) * 1000, median_ratio(times, seconds[SOURCE]))
        for label, times in seconds.items()
    }


def main() -> None:
    model, folder, rounds, threads = sys.argv[1:]
    try:
        result: dict[str, Any] = dict(_latencies(model, Path(folder), int(rounds), int(threads)))
    except Exception as error:  # whatever stands in the way is the result
        result = {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]}
    print(MARK + json.dumps(result))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", sys.argv[4] if len(sys.argv) > 4 else "1")
    main()
