"""Errors planted at random places of converted models: does verify name the layer, and how long does that take?

    python -m conformance.planted_errors [NAME...] [--places N] [--again] [--results FILE]

writes conformance/results/planted_errors.json after each error, and goes on where the record ends; ``--again`` starts the
named models anew. Each error is planted in one node before conversion, so that the converted file is wrong in one layer; it
counts only where it changes what that layer makes of the right inputs by more than one percent. Judged: the first divergence
is that layer's value or, where the converter fused the layer, the next value that both have and whose suspects hold the
layer; the time, against running both models, opened once with all inner values brought out, on every draw that verify feeds.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

import coreproof as cp
from conformance.origin import origin, write_record
from conformance.planted_kinds import ERRORS
from conformance.planted_models import MODELS, Healthy, healthy
from conformance.trial import first_line
from coreproof.feeding.drawn import random_feeds
from coreproof.feeding.inputs import feeds_of
from coreproof.model.onnx.model import OnnxModel
from coreproof.pairing.align import value_index
from coreproof.runtime.open import session
from coreproof.runtime.subgraph import run_subgraph
from coreproof.verification.verification import Verification

RESULTS = Path(__file__).parent / "results" / "planted_errors.json"
VISIBLE = 0.01
"""An error counts when it changes its layer's output by this share of its scale."""

SEED = 2026

FORMATS = (("mlprogram", "fp16"), ("neuralnetwork", "fp32"))


@dataclass(frozen=True)
class Plant:
    """One error: what was done to which node, the value that it makes, and how much that changed."""

    kind: str
    node: str
    operator: str
    value: str
    effect: float
    model: OnnxModel


def plants(source: OnnxModel, count: int, seed: int) -> Iterator[Plant]:
    """``count`` visible errors at random nodes, each at another node while there are any left, and none twice.

    A small model has fewer places than that: then all that were met in twenty times as many draws.
    """
    rng = np.random.default_rng(seed)
    fed = random_feeds(source, source)[0]
    with session(source) as running:
        right = running.run(fed, sorted(running.tappable))
    right.update(fed)
    places = [i for i, node in enumerate(source.ir.graph) if node.op_type in ERRORS]
    queue: list[int] = []
    made: set[tuple[str, str]] = set()
    for _ in range(20 * count):
        if len(made) == count:
            return
        queue = queue or [int(i) for i in rng.permutation(places)]
        plant = _plant(source, queue.pop(), right, rng)
        if plant is not None and (plant.value, plant.kind) not in made:
            made.add((plant.value, plant.kind))
            yield plant


def _plant(source: OnnxModel, place: int, right: dict[str, Any], rng: np.random.Generator) -> Plant | None:
    model = ir.from_proto(ir.to_proto(source.ir))
    node = model.graph[place]
    if node.op_type == "MaxPool":
        kept = {name: node.attributes[name] for name in ("kernel_shape", "strides", "pads") if name in node.attributes}
    operator, kinds = node.op_type, ERRORS[node.op_type]
    kind = str(rng.choice(sorted(kinds)))
    if not kinds[kind](node, rng):
        return None
    if operator == "MaxPool":
        for name, attribute in kept.items():
            if name not in node.attributes:
                node.attributes.add(attribute)
    value = node.outputs[0].name or ""
    planted = OnnxModel(model, name=source.name)
    given = {v.name: right[v.name] for v in node.inputs if v is not None and v.name in right}
    wrong = run_subgraph(planted, given, [value])[value]
    if wrong.shape != right[value].shape:
        return None
    difference = wrong.astype(np.float64) - right[value]
    effect = float(np.sqrt(np.mean(difference**2) / max(np.mean(right[value].astype(np.float64) ** 2), 1e-30)))
    return Plant(kind, node.name or value, operator, value, effect, planted) if effect > VISIBLE else None


# the judge


def found_at(verification: Verification, value: str) -> str:
    """ "layer": the first divergence is the planted layer's own value; "fused": the next value after it; else "wrong"."""
    first = verification.first_divergence
    if first is None:
        return "nothing"
    if first.reference == value:
        return "layer"
    paired = {row.reference for row in verification.rows}
    suspects = verification.suspects
    inside = suspects is not None and any(value in node.outputs for node in suspects.nodes)
    return "fused" if inside and value not in paired else "wrong"


def run_once(reference: Any, candidate: Any) -> None:
    """Both models opened once, with all their inner values brought out, on every draw that verify feeds.

    That is what verify is measured against: its verdict rests on all of these draws.
    """
    pairs = feeds_of(reference, candidate).pairs
    for at, model in enumerate((reference, candidate)):
        with session(model) as running:
            taps = value_index(model, running.tappable).inner_values
            for pair in pairs:
                running.run(pair[at], taps)


def timed(work: Callable[[], Any]) -> tuple[tuple[float, float], Any]:
    """Seconds on the clock, seconds of processor time (which other programs on the machine disturb less), and the result."""
    started = time.perf_counter(), time.process_time()
    result = work()
    return (time.perf_counter() - started[0], time.process_time() - started[1]), result


def try_model(name: str, places: int, kept: Sequence[dict[str, Any]] = ()) -> Iterator[dict[str, Any]]:
    """One model, its errors in ML Program fp16 and NeuralNetwork in turn; what is ``kept`` is not tried again."""
    subject = healthy(name)
    for index, plant in enumerate(plants(subject.model, places, seed=SEED)):
        entry = {
            "model": name,
            "format": FORMATS[index % len(FORMATS)][0],
            "error": plant.kind,
            "operator": plant.operator,
            "planted": plant.value,
            "effect": round(plant.effect, 4),
        }
        if index < len(kept) and all(kept[index].get(key) == entry[key] for key in ("format", "error", "planted")):
            yield dict(kept[index])
            continue
        entry |= judged(subject, plant, *FORMATS[index % len(FORMATS)])
        # a graph's nodes and values hold each other, and Python waits for many objects, not for many bytes
        gc.collect()
        times = " ".join(f"{entry['verify'][i] / entry['once'][i]:5.2f}" for i in (0, 1)) if "once" in entry else ""
        print(
            f"{name:12} {entry['format']:14} {plant.kind:22} {plant.operator:20} {plant.value:16} {entry['found']:7} "
            f"{entry['named']!s:16} {times}",
            flush=True,
        )
        yield entry


def judged(subject: Healthy, plant: Plant, to: Any, precision: Any) -> dict[str, Any]:
    """What ``verify`` says of one planted error, and how long it takes; a failure on the way is a result as well."""
    reference = subject.reference
    try:
        candidate = cp.convert(plant.model, to, precision=precision)
        once, _ = timed(lambda: run_once(reference, candidate))
        taken, verification = timed(lambda: cp.verify(reference, candidate))
    except Exception as error:  # a judge keeps what broke, whatever it was, and goes on
        return {"found": "broke", "named": None, "faults": [], "why": first_line(error)}
    first = verification.first_divergence
    return {
        "found": found_at(verification, subject.names.get(plant.value, plant.value)),
        "named": None if first is None else first.reference,
        "faults": [row.reference for row in verification.faults],
        "samples": verification.samples,
        "once": [round(t, 3) for t in once],
        "verify": [round(t, 3) for t in taken],
    }


def summary(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How many were found, and the time of verify as a multiple of running both on its draws: by the clock, by processor time.

    Times that were taken of one draw alone, in older results, do not count.
    """
    timed = [e for e in entries if "samples" in e]
    counted: dict[str, Any] = {"timed": len(timed)}
    for i, name in enumerate(("clock", "processor") if timed else ()):
        ratios = [e["verify"][i] / e["once"][i] for e in timed]
        counted[name] = {"median": round(statistics.median(ratios), 2), "within_twice": sum(r <= 2 for r in ratios)}
    return {
        "of": len(entries),
        "found": sum(e["found"] in ("layer", "fused") for e in entries),
        "with_no_other_fault": sum(len(e["faults"]) == 1 for e in entries),
        **counted,
    }


def record(file: Path, entries: Sequence[dict[str, Any]], made: dict[str, str], places: int) -> dict[str, Any]:
    """Writes the results of all models, and returns them with their summary."""
    models = [name for name in MODELS if any(e["model"] == name for e in entries)]
    entries = [e for name in models for e in entries if e["model"] == name]
    counts = ("of", "found", "with_no_other_fault")
    by_model = {name: summary([e for e in entries if e["model"] == name]) for name in models}
    whole = {
        **made,
        "seed": SEED,
        "places": places,
        **summary(entries),
        "models": {name: {key: counted[key] for key in counts} for name, counted in by_model.items()},
        "errors": entries,
    }
    write_record(file, whole)
    return whole


def resumed(file: Path) -> dict[str, list[dict[str, Any]]]:
    """What the record holds of each model; nothing where it was made with another seed."""
    stored = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    errors = stored["errors"] if stored.get("seed") == SEED else []
    return {name: [e for e in errors if e["model"] == name] for name in MODELS}


def main(arguments: Sequence[str]) -> int:
    """Tries the named models (default all), prints a table and writes the results as they come; 1 for any error not found."""
    parser = argparse.ArgumentParser(prog="python -m conformance.planted_errors", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"models, of {', '.join(MODELS)} (default: all)")
    parser.add_argument("--places", type=int, default=50, help="errors a model (default 50)")
    parser.add_argument("--again", action="store_true", help="start anew, whatever the record holds of these models")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the record")
    given = parser.parse_args(arguments)
    if unknown := set(given.names) - set(MODELS):
        parser.error(f"no such model: {', '.join(sorted(unknown))}")
    names = given.names or list(MODELS)
    made = origin("conformance.planted_errors")
    known = resumed(given.results)
    whole: dict[str, Any] = {}
    for name in names:
        kept, tried = known[name], []
        for entry in try_model(name, given.places, () if given.again else kept):
            tried.append({"commit": made["commit"], **entry})
            known[name] = [*tried, *kept[len(tried) :]]
            whole = record(given.results, [e for entries in known.values() for e in entries], made, given.places)
        known[name] = tried
        whole = record(given.results, [e for entries in known.values() for e in entries], made, given.places)
    print({key: value for key, value in whole.items() if key != "errors"})
    return 0 if whole["found"] == whole["of"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
