"""Random valid ONNX graphs, drawn by NNSmith, as a judge that nobody here wrote: converted, run, held against ONNX Runtime.

    python -m conformance.random_graphs [--seeds 0-399] [--only SEED...] [--formats mlprogram-fp32 ...] [--keep FOLDER]

Each graph (12 operators at most, float32, ranks 0 to 4) is run by ONNX Runtime, converted to each format and run by coreproof's
runtime. Its numbers are judged twice: here, without coreproof's own tolerances, and by ``verify``, which has to say the same.
Writes conformance/results/random_graphs.json; what is done is kept, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import pickle
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import coreproof as cp
from coreproof.errors import ConversionError, UnsupportedOperatorsError
from coreproof.model.atomic import replacing

RESULTS = Path(__file__).parent / "results" / "random_graphs.json"
FORMATS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "mlprogram-fp32": ("mlprogram", {"precision": "fp32"}),
    "mlprogram-fp16": ("mlprogram", {"precision": "fp16"}),
    "neuralnetwork": ("neuralnetwork", {}),
}
FAULTS = ("wrong", "false alarm", "missed", "does not run", "breaks")
"""What must not happen; "refused" is allowed, and counted."""
SECONDS = 120
"""What one graph may take, in all formats."""

Feed = dict[str, np.ndarray[Any, Any]]


def draw(seed: int) -> onnx.ModelProto:
    """NNSmith's graph of that seed. NNSmith exports by tracing, which PyTorch no longer does unless it is told to."""
    import torch
    from nnsmith.abstract.dtype import DType
    from nnsmith.graph_gen import model_gen
    from nnsmith.materialize import Model
    from nnsmith.narrow_spec import auto_opset

    exporter: Callable[..., Any] = torch.onnx.export
    torch.onnx.export = lambda *given, **options: exporter(*given, **{"dynamo": False, **options})
    try:
        kind = Model.init("onnx", backend_target="cpu")
        graph = model_gen(
            opset=auto_opset(kind),
            method="symbolic-cinit",
            seed=seed,
            max_nodes=12,
            max_elem_per_tensor=4096,
            timeout_ms=8000,
            rank_choices=[1, 2, 3, 4],
            dtype_choices=[DType.float32],
        )
        torch.manual_seed(seed)
        model: onnx.ModelProto = kind.from_gir(graph.make_concrete()).native_model
    finally:
        torch.onnx.export = exporter
    return model


def feed(model: onnx.ModelProto, seed: int) -> Feed:
    """Drawn here, and not by NNSmith, whose own inputs may have no finite answer."""
    rng = np.random.default_rng(seed)
    constants = {i.name for i in model.graph.initializer}
    fed = {}
    for value in model.graph.input:
        if value.name not in constants:
            shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
            dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            drawn = rng.standard_normal(shape)
            fed[value.name] = (drawn > 0 if dtype.kind == "b" else drawn * 3 if dtype.kind in "iu" else drawn).astype(
                dtype
            )
    return fed


def run_source(model: onnx.ModelProto, fed: Feed) -> Feed:
    """ONNX Runtime's answer, without its rewrites."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, fed), strict=True))


def rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with every float32 value rounded to float16, inputs and weights too: what float16 alone does to it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    inferred = onnx.shape_inference.infer_shapes(copy)
    floats = {
        v.name
        for v in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)
        if v.type.tensor_type.elem_type == TensorProto.FLOAT
    } | {i.name for i in copy.graph.initializer if i.data_type == TensorProto.FLOAT}
    nodes: list[onnx.NodeProto] = []
    names: dict[str, str] = {}

    def through(name: str) -> None:
        half = f"{name}__half"
        names[name] = f"{name}__rounded"
        nodes.append(helper.make_node("Cast", [name], [half], to=TensorProto.FLOAT16))
        nodes.append(helper.make_node("Cast", [half], [names[name]], to=TensorProto.FLOAT))

    outputs = {o.name for o in copy.graph.output}
    for value in (*(i.name for i in copy.graph.input), *(i.name for i in copy.graph.initializer)):
        if value in floats and value not in names:
            through(value)
    for node in copy.graph.node:
        fresh = onnx.NodeProto()
        fresh.CopyFrom(node)
        del fresh.input[:]
        fresh.input.extend(names.get(name, name) for name in node.input)
        nodes.append(fresh)
        for name in node.output:
            if name in floats and name not in outputs:
                through(name)
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


def noise(model: onnx.ModelProto, fed: Feed, exact: Feed, unit: float) -> dict[str, float] | None:
    """Per output, how far it moves when what it is made from moves by ``unit``; None where it has no finite answer then.

    An ill-conditioned graph (a tangent near its pole) moves far, and no implementation can do better.
    """
    rng = np.random.default_rng(0)
    moved = dict.fromkeys(exact, 0.0)
    for _ in range(4):
        near = {
            n: (v * (1 + unit * rng.uniform(-1, 1, v.shape))).astype(v.dtype) if v.dtype.kind == "f" else v
            for n, v in fed.items()
        }
        for name, value in run_source(_shaken(model, rng, unit), near).items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                return None
            moved[name] = max(moved[name], _difference(exact[name], value))
    return moved


def _shaken(model: onnx.ModelProto, rng: np.random.Generator, unit: float) -> onnx.ModelProto:
    """The model with its float32 weights moved by ``unit``: a graph that is fed nothing rests on them alone."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for stored in copy.graph.initializer:
        if stored.data_type == TensorProto.FLOAT:
            weights = numpy_helper.to_array(stored)
            moved = (weights * (1 + unit * rng.uniform(-1, 1, weights.shape))).astype(np.float32)
            stored.CopyFrom(numpy_helper.from_array(moved, stored.name))
    return copy


def _difference(a: Any, b: Any) -> float:
    a, b = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    if a.size != b.size:
        return float("inf")
    with np.errstate(invalid="ignore"):
        apart = np.abs(a - b)
    return float(np.max(apart, initial=0.0)) if not np.isnan(apart).any() else float("inf")


def allowances(model: onnx.ModelProto, fed: Feed, exact: Feed, half: bool) -> dict[str, float] | None:
    """Per output, what no honest conversion exceeds; None where the format itself cannot hold the graph's values."""
    scale = {n: float(np.max(np.abs(np.asarray(v, np.float64)), initial=0.0)) for n, v in exact.items()}
    if not half:
        moved = noise(model, fed, exact, 2.0**-22)
        return None if moved is None else {n: 1e-4 * scale[n] + 1e-6 + 16 * moved[n] for n in exact}
    narrow = run_source(rounded(model), fed)
    moved = noise(model, fed, exact, 2.0**-10)
    if moved is None or any(not np.isfinite(np.asarray(v, np.float64)).all() for v in narrow.values()):
        return None
    lost = {n: _difference(exact[n], narrow[n]) for n in exact}
    return {n: 4e-3 * scale[n] + 1e-4 + 8 * max(moved[n], lost[n]) for n in exact}


def judge(seed: int, formats: tuple[str, ...], keep: Path | None = None) -> dict[str, Any]:
    """What became of one graph, per format, in one word and a reason."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    record: dict[str, Any] = {"seed": seed}
    try:
        model = draw(seed)
        fed = feed(model, seed)
        exact = run_source(model, fed)
    except Exception as error:  # NNSmith's or ONNX Runtime's own business: no graph, no trial
        return {**record, "skipped": f"{type(error).__name__}: {str(error)[:120]}"}
    record["operators"] = sorted({n.op_type for n in model.graph.node})
    if not all(np.isfinite(v).all() for v in exact.values() if v.dtype.kind == "f"):
        return {**record, "skipped": "the source's own answer is not finite"}
    for name in formats:
        with tempfile.TemporaryDirectory() as folder:
            status, why = _trial(Path(folder), model, fed, exact, name)
        record[name] = [status, why]
        if keep is not None and status in FAULTS:
            keep.mkdir(parents=True, exist_ok=True)
            onnx.save(model, keep / f"{seed}.onnx")
            (keep / f"{seed}.feed.pickle").write_bytes(pickle.dumps(fed))
    return record


def _trial(folder: Path, model: onnx.ModelProto, fed: Feed, exact: Feed, name: str) -> tuple[str, str]:
    to, options = FORMATS[name]
    onnx.save(model, folder / "source.onnx")
    source = cp.load(folder / "source.onnx")
    stored = folder / ("model.mlpackage" if to == "mlprogram" else "model.mlmodel")
    try:
        converted = cp.convert(source, to, **options)
        converted.save(stored)
    except (ConversionError, UnsupportedOperatorsError) as error:
        return "refused", _first(error)
    except Exception as error:
        return "breaks", _first(error)
    loaded = cp.load(stored)
    try:
        with cp.session(loaded) as running:
            answer = running.run(fed)
    except Exception as error:
        return "does not run", _first(error)
    allowed = allowances(model, fed, exact, half=name.endswith("fp16"))
    try:
        verification = cp.verify(source, loaded, fed)
    except Exception as error:
        return "breaks", f"verify: {_first(error)}"
    by_name = dict(zip(exact, answer.values(), strict=False)) if not exact.keys() <= answer.keys() else answer
    if allowed is None:
        return "beyond the format", "" if verification else "verify says so"
    off = {n: _difference(v, by_name[n]) for n, v in exact.items()}
    wrong = {n: f"{off[n]:.3g} (allowed {allowed[n]:.3g})" for n in exact if not off[n] <= allowed[n]}
    if wrong:
        return ("wrong", f"{wrong}") if not verification else ("missed", f"{wrong}")
    if not verification:
        row = next((r for r in verification.rows if not r.agrees), None)
        return (
            "false alarm",
            "" if row is None else f"{row.operator} {row.candidate} ({row.how}): {row.judgement.problem}",
        )
    return "right", ""


def _first(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _in_child(task: tuple[int, tuple[str, ...], Path | None]) -> dict[str, Any]:
    """One graph in a process of its own: what dies there, dies alone."""
    seed, formats, keep = task
    command = [sys.executable, "-m", "conformance.random_graphs", "--one", str(seed), "--formats", *formats]
    if keep is not None:
        command += ["--keep", str(keep)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"seed": seed, **{name: ["breaks", f"no end in {SECONDS} s"] for name in formats}}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        reason = f"ended with {done.returncode}: {done.stderr.strip()[-200:]}"
        return {"seed": seed, **{name: ["breaks", reason] for name in formats}}
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def _warm(task: tuple[int, tuple[str, ...], Path | None]) -> dict[str, Any]:
    return judge(*task)


def records(
    seeds: list[int], formats: tuple[str, ...], keep: Path | None, jobs: int, alone: bool
) -> Iterator[dict[str, Any]]:
    """The records of the graphs, in order; ``alone``: each in a fresh process, slower and safer."""
    tasks = [(seed, formats, keep) for seed in seeds]
    with get_context("forkserver").Pool(jobs, maxtasksperchild=40) as pool:
        yield from pool.imap(_in_child if alone else _warm, tasks)


def summary(found: list[dict[str, Any]], formats: tuple[str, ...]) -> dict[str, Any]:
    """Counts by format, and the reasons of what was refused."""
    counts = {name: dict(Counter(r[name][0] for r in found if name in r)) for name in formats}
    refused = Counter(r[name][1][:100] for name in formats for r in found if name in r and r[name][0] == "refused")
    return {
        "graphs": len(found),
        "skipped": sum("skipped" in r for r in found),
        **counts,
        "refused": dict(refused.most_common(40)),
    }


def main() -> None:
    """Runs the seeds; ends with 1 when any graph ended as none may."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", default="0-399", help="first-last")
    parser.add_argument("--only", nargs="*", type=int)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--formats", nargs="*", default=list(FORMATS), choices=list(FORMATS))
    parser.add_argument("--keep", type=Path, help="a folder for the graphs that ended badly")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--alone", action="store_true", help="each graph in a fresh process")
    parser.add_argument("--record", action="store_true", help="write conformance/results/random_graphs.json")
    given = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":  # NNSmith walks sets: only so does a seed mean one graph
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "conformance.random_graphs", *sys.argv[1:]])
    formats = tuple(given.formats)
    if given.one is not None:
        print(json.dumps(judge(given.one, formats, given.keep)))
        return
    first, _, last = given.seeds.partition("-")
    seeds = given.only or list(range(int(first), int(last or first) + 1))
    found: list[dict[str, Any]] = []
    for record in records(seeds, formats, given.keep, given.jobs, given.alone):
        found.append(record)
        bad = {n: record[n] for n in formats if n in record and record[n][0] in FAULTS}
        if bad:
            print(record["seed"], json.dumps(bad), flush=True)
        if len(found) % 50 == 0:
            print(f"{len(found)} of {len(seeds)} graphs", flush=True)
    outcome = summary(found, formats)
    print(json.dumps(outcome, indent=2))
    if given.record:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip()
        command = f"python -m conformance.random_graphs --seeds {given.seeds}"
        whole = {
            "command": command,
            "commit": commit,
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            **outcome,
            "records": found,
        }
        with replacing(RESULTS) as fresh:
            fresh.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    failed = sum(r[name][0] in FAULTS for r in found for name in formats if name in r)
    print(f"{len(found) * len(formats) - failed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
