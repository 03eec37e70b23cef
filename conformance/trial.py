"""One graph as a trial of the converter and of ``verify``: converted, run, and held against another engine's answer.

The numbers are judged twice: here, without coreproof's own tolerances, and by ``verify``, which has to say the same.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import math
import os
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from multiprocessing import TimeoutError, get_context
from multiprocessing.pool import IMapIterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import coreproof as cp
from conformance.origin import write_record
from coreproof.errors import ConversionError, RunError, UnsupportedOperatorsError
from coreproof.model.base import Model
from coreproof.runtime.exact_integers import add_exactly

FORMATS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "mlprogram-fp32": ("mlprogram", {"precision": "fp32"}),
    "mlprogram-fp16": ("mlprogram", {"precision": "fp16"}),
    "neuralnetwork": ("neuralnetwork", {}),
}
FAULTS = ("wrong", "false alarm", "missed", "does not run", "breaks")
"""What must not happen; "refused" is allowed, and counted."""

Feed = dict[str, np.ndarray[Any, Any]]
Allowed = Callable[[bool], dict[str, float] | None]
"""What each output may be off, asked with whether the format computes in float16."""
Task = TypeVar("Task")


def run_source(model: onnx.ModelProto, fed: Feed) -> Feed:
    """ONNX Runtime's answer, without its rewrites; that of ONNX's reference implementation where ONNX Runtime has none."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    names = [o.name for o in model.graph.output]
    exact = onnx.ModelProto()
    exact.CopyFrom(model)
    add_exactly(exact, {})  # some processors' kernels stop in the middle of a sum of 8-bit products
    try:
        session = ort.InferenceSession(exact.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # onnxruntime's exceptions share no base class: it has not this operator, or not in this version
        from onnx.reference import ReferenceEvaluator

        return dict(zip(names, ReferenceEvaluator(model).run(None, fed), strict=True))
    arrays = {name: np.asarray(value) for name, value in fed.items()}  # a single number that was computed is no array
    return dict(zip(names, session.run(names, arrays), strict=True))


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

    def draws() -> Iterator[Feed]:
        for _ in range(4):
            near = {
                n: (v * (1 + unit * rng.uniform(-1, 1, v.shape))).astype(v.dtype) if v.dtype.kind == "f" else v
                for n, v in fed.items()
            }
            yield run_source(_shaken(model, rng, unit), near)
        if (cancelled := _cancelled(model, unit)) is not None:
            yield run_source(cancelled, fed)

    for made in draws():
        for name, value in made.items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                return None
            moved[name] = max(moved[name], difference(exact[name], value))
    return moved


def _shaken(model: onnx.ModelProto, rng: np.random.Generator, unit: float) -> onnx.ModelProto:
    """The model with its float32 weights moved by ``unit``, and each inner value by half of that, which is what rounding does.

    A graph that is fed nothing rests on its weights alone; and what a constant becomes may lie at the edge of a step.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _shake_inner(copy, rng, unit / 2)
    for stored in copy.graph.initializer:
        if stored.data_type == TensorProto.FLOAT:
            weights = numpy_helper.to_array(stored)
            moved = (weights * (1 + unit * rng.uniform(-1, 1, weights.shape))).astype(np.float32)
            stored.CopyFrom(numpy_helper.from_array(moved, stored.name))
    return copy


def _shake_inner(model: onnx.ModelProto, rng: np.random.Generator, unit: float) -> None:
    """Multiplies every inner float32 value by 1 within ``unit``."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    floats = {v.name for v in inferred.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    floats -= {o.name for o in model.graph.output}
    nodes, named = [], dict[str, str]()
    for node in model.graph.node:
        node.input[:] = [named.get(name, name) for name in node.input]
        nodes.append(node)
        for name in node.output:
            if name in floats and node.op_type != "Constant":
                factor, named[name] = f"{name}__factor", f"{name}__shaken"
                nodes += [
                    _number(factor, 1 + unit * rng.uniform(-1, 1)),
                    helper.make_node("Mul", [name, factor], [named[name]]),
                ]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _cancelled(model: onnx.ModelProto, unit: float) -> onnx.ModelProto | None:
    """The model with 0 for each difference that is within ``unit`` of what it is made of; None where nothing asks for zeros.

    Whether a number is zero is asked by a cast to bool and by Equal. Rounding makes a zero of two numbers that are nearly alike,
    and no draw from around them ever does.
    """
    asks = any(
        node.op_type == "Equal" or (node.op_type == "Cast" and node.attribute[0].i == TensorProto.BOOL)
        for node in model.graph.node
    )
    if not asks:
        return None
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    inferred = onnx.shape_inference.infer_shapes(copy).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    floats = {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    nodes: list[onnx.NodeProto] = []
    for node in copy.graph.node:
        result = node.output[0]
        if node.op_type not in ("Add", "Sub") or result not in floats:
            nodes.append(node)
            continue
        whole = f"{result}__whole"
        node.output[0] = whole
        part = [f"{result}__{letter}" for letter in "abcdefg"]
        nodes += [
            node,
            *(helper.make_node("Abs", [name], [size]) for name, size in zip((*node.input, whole), part, strict=False)),
            helper.make_node("Max", part[:2], [part[3]]),
            _number(part[4], unit),
            helper.make_node("Mul", [part[3], part[4]], [part[5]]),
            helper.make_node("Less", [part[2], part[5]], [part[6]]),
            _number(f"{result}__zero", 0.0),
            helper.make_node("Where", [part[6], f"{result}__zero", whole], [result]),
        ]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del copy.graph.node[:]
    copy.graph.node.extend(kept)
    return copy


def _number(name: str, value: float) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.float32(value), name))


def interpolated(model: onnx.ModelProto, fed: Feed) -> float:
    """What rounding the places may do at which a Resize reads between neighbours, as a share of the scale; 0 without one.

    A place on an axis of length L is a quotient and a product of float32, each off by L / 2^24, and neighbours lie up to a few
    times the scale apart.
    """
    if not any(node.op_type == "Resize" for node in model.graph.node):
        return 0.0
    known = onnx.shape_inference.infer_shapes(model).graph
    shapes = [np.shape(value) for value in fed.values()]
    shapes += [tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in known.value_info]
    return 6 * 2.0**-24 * max((length for shape in shapes for length in shape), default=0)


def difference(a: Any, b: Any) -> float:
    a, b = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    if a.size != b.size:
        return float("inf")
    # one engine masks a place by the lowest number of float32, another by minus infinity
    a, b = (np.where(v == np.finfo(np.float32).min, -np.inf, v) for v in (a, b))
    with np.errstate(invalid="ignore"):
        apart = np.where(a == b, 0.0, np.abs(a - b))
    return float(np.max(apart, initial=0.0)) if not np.isnan(apart).any() else float("inf")


_POLES = frozenset({"Tan", "Div", "Reciprocal", "Pow"})
"""Operators whose result has no bound near some places."""

_UNBOUNDED = frozenset(
    [
        "Abs",
        "Add",
        "Cast",
        "Ceil",
        "Concat",
        "Expand",
        "Floor",
        "LeakyRelu",
        "MatMul",
        "Mul",
        "Neg",
        "PRelu",
        "Pad",
        "ReduceMean",
        "ReduceSum",
        "Relu",
        "Reshape",
        "Resize",
        "Round",
        "Slice",
        "Squeeze",
        "Sub",
        "Transpose",
        "Trilu",
        "Unsqueeze",
    ]
)
"""Operators that make no bound of what has none; any other is taken to make one."""


def _beyond_poles(model: onnx.ModelProto, scale: Mapping[str, float], moved: Mapping[str, float]) -> dict[str, float]:
    """What ``noise`` measured; without a bound where an output moves by half of its size and comes from where a pole may lie.

    Nearer to a pole than any of the draws came, a number is larger than all of them: the largest of a few bounds nothing.
    """
    makers = {name: node for node in model.graph.node for name in node.output}

    def comes_from_pole(name: str) -> bool:
        node = makers.get(name)
        if node is None:
            return False
        return node.op_type in _POLES or (node.op_type in _UNBOUNDED and any(map(comes_from_pole, node.input)))

    return {n: math.inf if off >= scale[n] / 2 > 0 and comes_from_pole(n) else off for n, off in moved.items()}


def allowances(model: onnx.ModelProto, fed: Feed, exact: Feed, half: bool) -> dict[str, float] | None:
    """Per output, what no honest conversion exceeds; None where the format itself cannot hold the graph's values.

    Sixteen roundings in float32, eight in float16, are made at once: a number near the edge of a step has to cross it.
    """
    scale = {n: float(np.max(np.abs(np.asarray(v, np.float64)), initial=0.0)) for n, v in exact.items()}
    if not half:
        # what the source itself rounds to float16 is off by that much wherever it is computed otherwise
        own = any(v.dtype == np.float16 for v in (*fed.values(), *exact.values()))
        moved = noise(model, fed, exact, 4 * 2.0**-11 if own else 16 * 2.0**-22)
        place = interpolated(model, fed)
        if moved is None:
            return None
        moved = _beyond_poles(model, scale, moved)
        step = {n: 2.0**-10 if exact[n].dtype == np.float16 else 1e-4 for n in exact}
        return {n: (step[n] + place) * scale[n] + 1e-6 + moved[n] for n in exact}
    # an output beyond float16 is computed in it as the rest is
    if any(scale[n] > float(np.finfo(np.float16).max) for n in exact if exact[n].dtype.kind == "f"):
        return None
    narrow = run_source(rounded(model), fed)
    moved = noise(model, fed, exact, 8 * 2.0**-10)
    if moved is None or any(not np.isfinite(np.asarray(v, np.float64)).all() for v in narrow.values()):
        return None
    moved = _beyond_poles(model, scale, moved)
    lost = {n: difference(exact[n], narrow[n]) for n in exact}
    return {n: 4e-3 * scale[n] + 1e-4 + max(moved[n], 8 * lost[n]) for n in exact}


def trial(
    folder: Path,
    source: Model,
    fed: Feed,
    exact: Feed,
    name: str,
    allowed: Allowed,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> tuple[str, str]:
    """How one conversion ended, in one word of many, and why.

    ``exact``: another engine's answer by the outputs' names; ``allowed``: what each output may be off, asked for the format;
    None where the format cannot hold the source's own values. ``shapes`` are asked for where lengths are free.
    """
    to, options = FORMATS[name]
    stored = folder / ("model.mlpackage" if to == "mlprogram" else "model.mlmodel")
    doubt = ""
    try:
        try:
            converted = cp.convert(source, to, shapes=shapes, **options)
        except ConversionError as error:
            if "does not answer as its source does" not in error.problem:
                raise
            # it was lowered, and what convert's check says is a verdict as verify's is: the numbers tell whether it is right
            doubt = first_line(error)
            converted = cp.convert(source, to, shapes=shapes, check=False, **options)
        converted.save(stored)
    except (ConversionError, UnsupportedOperatorsError) as error:
        return "refused", first_line(error)
    except Exception as error:
        return "breaks", first_line(error)
    loaded = cp.load(stored)
    try:
        with cp.session(loaded) as running:
            # a single number is fed as an array of one, the least a Core ML input can be
            values = map(np.atleast_1d, fed.values())
            answer = running.run(dict(zip((f.name for f in loaded.signature.inputs), values, strict=True)))
    except Exception as error:
        return "does not run", first_line(error)
    allowance = allowed(name.endswith("fp16"))
    try:
        verification: cp.Verification | None = cp.verify(source, loaded, fed)
    except RunError as error:
        if error.where != source.name:
            return "breaks", f"verify: {first_line(error)}"
        verification = None  # no engine of ours runs the source: the numbers are judged here alone
    except Exception as error:
        return "breaks", f"verify: {first_line(error)}"
    by_name = dict(zip(exact, answer.values(), strict=False)) if not exact.keys() <= answer.keys() else answer
    if allowance is None:
        return "beyond the format", "" if verification else "verify says so"
    off = {n: difference(v, by_name[n]) for n, v in exact.items()}
    wrong = {n: f"{off[n]:.3g} (allowed {allowance[n]:.3g})" for n in exact if not off[n] <= allowance[n]}
    if wrong:
        return ("wrong", f"{wrong}") if not verification else ("missed", f"{wrong}")
    if verification is None:
        return "right", "not verified: ONNX Runtime does not run the source"
    if doubt and name.endswith("fp16"):
        return "refused", doubt  # on what convert draws itself, which float16 may not hold
    if not verification or doubt:
        row = next((r for r in verification.rows if not r.agrees), None)
        return (
            "false alarm",
            doubt if row is None else f"{row.operator} {row.candidate} ({row.how}): {row.judgement.problem}",
        )
    return "right", ""


def onnx_trial(model: onnx.ModelProto, fed: Feed, exact: Feed, name: str) -> tuple[str, str]:
    """The trial of an ONNX graph."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        onnx.save(model, folder / "source.onnx")
        try:
            source = cp.load(folder / "source.onnx")
        except Exception as error:
            return "breaks", first_line(error)
        free = {
            f.name: fed[f.name].shape
            for f in source.signature.inputs
            if any(not isinstance(n, int) for n in f.shape or ())
        }
        ended = trial(folder, source, fed, exact, name, lambda half: allowances(model, fed, exact, half), free)
    if ended[0] == "false alarm" and name.endswith("fp16") and leaves_range(model, fed):
        # the outputs may be right by chance, as the sine of a number that has no digits left: the alarm is true
        return "beyond the format", "an inner value is beyond float16, and verify says so"
    return ended


def leaves_range(model: onnx.ModelProto, fed: Feed) -> bool:
    """Whether an inner value of the source is a number that float16 does not hold."""
    known = onnx.shape_inference.infer_shapes(model)
    outputs = {value.name for value in known.graph.output}
    known.graph.output.extend(value for value in known.graph.value_info if value.name not in outputs)
    values = (np.asarray(value) for value in run_source(known, fed).values())
    largest = (np.max(np.abs(v[np.isfinite(v)]), initial=0.0) for v in values if v.dtype.kind == "f")
    return any(float(number) > float(np.finfo(np.float16).max) for number in largest)


def first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def quiet() -> None:
    """What libraries say while they work is of no use here."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")


def summary(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts by format, and the reasons of what was skipped and refused."""
    formats = [name for name in FORMATS if any(name in record for record in found)]
    counts = {name: dict(Counter(r[name][0] for r in found if name in r)) for name in formats}
    refused = Counter(r[name][1][:100] for name in formats for r in found if name in r and r[name][0] == "refused")
    return {
        "trials": len(found),
        "skipped": sum("skipped" in r for r in found),
        **counts,
        "refused": dict(refused.most_common(40)),
    }


def faults(record: Mapping[str, Any]) -> dict[str, Any]:
    """What must not be, by format."""
    return {name: record[name] for name in FORMATS if name in record and record[name][0] in FAULTS}


_MEMORY = 14 << 30
"""Address space of a worker in bytes: what runs wild gets a MemoryError before the machine has nothing left."""
_SECONDS = 240
"""After so long it is said that a trial still works, and written down where."""
_STANDING = Path(__file__).parent.parent / "build" / "trials"
"""Where a worker's file says in which lines its trial stands, once that takes so long; no output that looks like a failure."""


def _bounded() -> None:
    if sys.platform == "linux":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, most))


def _watched(judge: Callable[[Task], dict[str, Any]], task: Task) -> dict[str, Any]:
    with open(_STANDING / f"{os.getpid()}.txt", "w", encoding="utf-8") as standing:
        faulthandler.dump_traceback_later(_SECONDS, repeat=True, file=standing)
        try:
            return judge(task)
        finally:
            faulthandler.cancel_dump_traceback_later()


def _as_they_end(outcomes: IMapIterator[dict[str, Any]], tasks: int) -> Iterator[dict[str, Any]]:
    """The outcomes in the order of their tasks; a line on the console for one that is long in coming."""
    for number in range(1, tasks + 1):
        while True:
            try:
                outcome = outcomes.next(_SECONDS)
            except TimeoutError:
                print(
                    f"waiting for trial {number} of {tasks}; {_STANDING}/*.txt say where each worker stands", flush=True
                )
            else:
                yield outcome
                break


def carry_out(
    judge: Callable[[Task], dict[str, Any]],
    tasks: Sequence[Task],
    jobs: int,
    record: Path | None,
    command: str,
    begin_with: Sequence[str] = ("conformance.preloaded",),
) -> int:
    """Judges all tasks in worker processes, prints what must not be and a summary, and writes the record; 1 for any fault.

    The modules ``begin_with`` are imported once, and not by each of the workers, which end after some tasks.
    """
    found: list[dict[str, Any]] = []
    _STANDING.mkdir(parents=True, exist_ok=True)
    context = get_context("forkserver")
    context.set_forkserver_preload(list(begin_with))
    # a Pool waits for ever for a worker that the system kills, which the bound on its memory keeps from happening
    with context.Pool(jobs, initializer=_bounded, maxtasksperchild=40) as pool:
        for outcome in _as_they_end(pool.imap(partial(_watched, judge), tasks), len(tasks)):
            found.append(outcome)
            if bad := faults(outcome):
                print(next(iter(outcome.values())), json.dumps(bad), flush=True)
            if len(found) % 50 == 0:
                print(f"{len(found)} of {len(tasks)}", flush=True)
        # workers that end by themselves tidy up; of those that are ended, Python warns that something leaked
        pool.close()
        pool.join()
    counted = summary(found)
    print(json.dumps(counted, indent=2))
    if record is not None:
        write(record, command, counted, found)
    failed = sum(len(faults(outcome)) for outcome in found)
    tried = sum(name in outcome for outcome in found for name in FORMATS)
    print(f"{tried - failed} passed, {failed} failed, {counted['skipped']} skipped")
    return int(failed > 0)


def write(path: Path, command: str, counted: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> None:
    """The record of a run, with its command, commit and date."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    ).stdout.strip()
    whole = {
        "command": command,
        "commit": commit,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        **counted,
        "records": list(found),
    }
    write_record(path, whole)
