"""Random valid ONNX graphs, drawn by NNSmith, as a judge that nobody here wrote: converted, run, held against ONNX Runtime.

    python -m conformance.random_graphs [--seeds 0-399] [--only SEED...] [--formats mlprogram-fp32 ...] [--keep FOLDER]

Each graph (12 operators at most, float32, ranks 0 to 4) is run by ONNX Runtime, converted to each format and run by coreproof's
runtime. Its numbers are judged as ``conformance.allowed`` says; ``--record`` writes conformance/results/random_graphs.json.
"""

from __future__ import annotations

import argparse
import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from conformance.allowed import Feed, run_source
from conformance.trial import FORMATS, carry_out, first_line, onnx_trial, quiet

RESULTS = Path(__file__).parent / "results" / "random_graphs.json"
_ANSWER_SECONDS = 30.0
"""How long NNSmith's solver may think about one question; one without answer counts as a no."""
_MOST_WEIGHTS = 1 << 28
"""Bytes of weights up to which a graph is judged: rounding all of them many times over would take the memory of a machine."""


@contextmanager
def _bounded_answers() -> Iterator[None]:
    """Interrupts a question to the solver that has no quick answer: NNSmith's own limit is looked at between two of them.

    A limit of z3's own would make it search in another way, and each seed another graph.
    """
    import z3

    done = threading.Event()

    def watch() -> None:
        while not done.wait(_ANSWER_SECONDS):
            z3.main_ctx().interrupt()

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield
    finally:
        done.set()
        watching.join()


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
        with _bounded_answers():
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


def judge(task: tuple[int, tuple[str, ...], Path | None]) -> dict[str, Any]:
    """What became of one graph, per format, in one word and a reason."""
    seed, formats, keep = task
    quiet()
    record: dict[str, Any] = {"seed": seed}
    try:
        model = draw(seed)
        weights = sum(tensor.ByteSize() for tensor in model.graph.initializer)
        if weights > _MOST_WEIGHTS:
            return {**record, "skipped": f"{weights >> 20:,} MiB of weights"}
        fed = feed(model, seed)
        exact = run_source(model, fed)
    except Exception as error:  # NNSmith's or ONNX Runtime's own business: no graph, no trial
        return {**record, "skipped": first_line(error)[:140]}
    record["operators"] = sorted({n.op_type for n in model.graph.node})
    if not all(np.isfinite(v).all() for v in exact.values() if v.dtype.kind == "f"):
        return {**record, "skipped": "the source's own answer is not finite"}
    for name in formats:
        record[name] = list(onnx_trial(model, fed, exact, name))
    # what is refused as well: it may be a fault of ours, and another day's graph of this seed does not show it
    if keep is not None and any(record[name][0] != "right" for name in formats):
        keep.mkdir(parents=True, exist_ok=True)
        onnx.save(model, keep / f"{seed}.onnx")
        (keep / f"{seed}.feed.pickle").write_bytes(pickle.dumps(fed))
    return record


def main() -> int:
    """Runs the seeds; 1 when any graph ended as none may."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", default="0-399", help="first-last")
    parser.add_argument("--only", nargs="*", type=int)
    parser.add_argument("--formats", nargs="*", default=list(FORMATS), choices=list(FORMATS))
    # NNSmith's solver works against the clock: the same seed may be another graph tomorrow, so that what ended badly is kept
    kept = Path(__file__).parent.parent / "build" / "random_graphs"
    parser.add_argument(
        "--keep", type=Path, default=kept, help="a folder for the graphs that ended badly or were refused"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--record", action="store_true", help="write conformance/results/random_graphs.json")
    given = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":  # NNSmith walks sets: only so does a seed mean one graph
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "conformance.random_graphs", *sys.argv[1:]])
    first, _, last = given.seeds.partition("-")
    seeds = given.only or list(range(int(first), int(last or first) + 1))
    tasks = [(seed, tuple(given.formats), given.keep) for seed in seeds]
    command = f"python -m conformance.random_graphs --seeds {given.seeds}"
    begin_with = ("conformance.preloaded", "z3", "nnsmith.graph_gen", "nnsmith.materialize")
    return carry_out(judge, tasks, given.jobs, RESULTS if given.record else None, command, begin_with)


if __name__ == "__main__":
    sys.exit(main())
