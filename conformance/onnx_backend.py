"""The ONNX backend tests as a judge: models converted to Core ML, run by coreproof's runtime, held against stored outputs.

    python -m conformance.onnx_backend [--to mlprogram|neuralnetwork|coreai] [--precision fp32|fp16] [--only PART] [--every N]

writes conformance/results/onnx-<to>-<precision>.json, and docs/operators-onnx.md from the ML Program results; a part of the
tests (--only, --every) writes nothing. ``--to coreai`` goes on to Core AI, where Apple's own interpreter runs the program: in an
environment with `coreproof[coreai]`.

``--list FILE`` (or COREPROOF_ONNX_TESTS) names a table of what an ML Program can express at all: a row a test, with its kind,
its name, ``expressible`` (yes: as shipped; frozen: once the inputs of ``frozen_inputs`` are constants; no) and the reason. With
it those inputs alone are frozen, and the tests that Core ML can express are counted by themselves.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import os
import sys
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

from conformance.allowed import run_source
from conformance.coreai_interpreter import Interpreter
from conformance.origin import origin
from coreproof.conversion.mil_to_coreai.convert import translated
from coreproof.conversion.onnx_to_coreml.convert import onnx_to_coreml
from coreproof.conversion.operators import ONNX, meaning
from coreproof.errors import ConversionError, InputError, UnsupportedOperatorsError
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.onnx.model import OnnxModel
from coreproof.runtime.open import session

HERE = Path(__file__).parent
KNOWN_FAILURES = HERE / "onnx_known_failures.json"
KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
RECORDS = {
    "ML Program": "mlprogram-fp32",
    "ML Program fp16": "mlprogram-fp16",
    "NeuralNetwork": "neuralnetwork-fp32",
    "Core AI, Apple's interpreter": "coreai-fp32",
}
"""Columns of the table and the recorded run that each is made from."""
FP16_TOLERANCE = 1e-2
"""Relative and absolute tolerance of float16 runs, that of the strict form of Apple's suite."""


@dataclass(frozen=True)
class Outcome:
    """How one test ended.

    ``status``: "passed" as shipped; "frozen": passed with its parameter inputs (those that the list names, without a list all
    but the first) made constants, as Core ML needs them known; "refused": coreproof says that it cannot convert this; "failed":
    wrong numbers or an error; "by chance": what it draws are other numbers than the stored ones; "lost by rounding": in float16,
    what rounding the inputs alone already spoils, with the value. ``expressible`` is what the list says of the test.
    """

    name: str
    operators: tuple[str, ...]
    status: str
    reason: str = ""
    expressible: str = ""

    @property
    def came_out(self) -> bool:
        """Whether the stored outputs came out, as the list asks for it: what Core ML takes as shipped has to pass as shipped."""
        return self.status == "passed" or (self.status == "frozen" and self.expressible != "yes")


@dataclass(frozen=True)
class Listed:
    """What the list says of a test: whether Core ML can express it, and which of its inputs have to be constants for that."""

    kind: str
    expressible: str
    frozen_inputs: tuple[str, ...]


def listed(path: Path) -> dict[str, Listed]:
    """The list, by the names of the tests."""
    with path.open(newline="") as file:
        return {
            row["name"]: Listed(row["kind"], row["expressible"], tuple(n for n in row["frozen_inputs"].split(";") if n))
            for row in csv.DictReader(file)
        }


def cases(kinds: tuple[str, ...] = KINDS) -> Iterator[Any]:
    """Every test that the installed onnx package ships with a stored model."""
    for kind in kinds:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield from sorted(load_model_tests(kind=kind), key=lambda case: case.name)


def judge(case: Any, to: str = "mlprogram", precision: str = "fp32", row: Listed | None = None) -> Outcome:
    """Converts, runs and compares one test; ``row`` is what the list says of it."""
    model, samples = _read(case)
    operators = tuple(sorted({n.op_type for n in model.graph.node}))
    expressible = "" if row is None else row.expressible
    error = _attempt(case, model, samples, to, precision)
    if error is None:
        return Outcome(case.name, operators, "passed", expressible=expressible)
    if isinstance(error, ConversionError | UnsupportedOperatorsError):
        constants = [i.name for i in model.graph.input][1:] if row is None else row.frozen_inputs
        frozen = [_freeze(model, sample, constants) for sample in samples] if constants else []
        found = [_attempt(case, m, [s], to, precision) for m, s in frozen]
        if frozen and not any(found):
            return Outcome(case.name, operators, "frozen", expressible=expressible)
        # what the list says to freeze is not what keeps the test from passing
        error = error if row is None else next((e for e in found if e is not None), error)
    # a number that no Core ML input holds is refused where it is fed
    status = "refused" if isinstance(error, ConversionError | UnsupportedOperatorsError | InputError) else "failed"
    if isinstance(error, AssertionError) and "Mismatched" in str(error) and any(map(_draws, operators)):
        status = "by chance"
    reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if status == "failed" and precision == "fp16":
        kept = () if row is None else row.frozen_inputs
        lost = next((said for sample in samples if (said := _lost_by_rounding(model, sample, kept))), None)
        if lost is not None:
            status, reason = "lost by rounding", lost
    return Outcome(case.name, operators, status, reason[:400], expressible)


def _draws(operator: str) -> bool:
    return operator == "Dropout" or meaning(operator).get("random", False)


Sample = tuple[dict[str, Any], list[Any]]


def _read(case: Any) -> tuple[onnx.ModelProto, list[Sample]]:
    if case.model_dir is None:
        return case.model, [
            (_named(case.model, [_as_array(v) for v in i]), [_as_array(v) for v in o]) for i, o in case.data_sets
        ]
    folder = Path(case.model_dir)
    model = onnx.load(folder / "model.onnx")
    samples = []
    for data in sorted(folder.glob("test_data_set_*")):
        inputs = [_tensor(p) for p in sorted(data.glob("input_*.pb"), key=_number)]
        outputs = [_tensor(p) for p in sorted(data.glob("output_*.pb"), key=_number)]
        samples.append((_named(model, inputs), outputs))
    return model, samples


def _named(model: onnx.ModelProto, inputs: list[Any]) -> dict[str, Any]:
    constants = {i.name for i in model.graph.initializer}
    names = [i.name for i in model.graph.input if i.name not in constants]
    return dict(zip(names, inputs, strict=False))


def _as_array(value: Any) -> Any:
    """A stored value as an array; None for sequences and optionals, which Core ML has not."""
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.ndarray | np.generic) else None


def _number(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])


def _tensor(path: Path) -> Any:
    tensor = onnx.TensorProto()
    try:
        tensor.ParseFromString(path.read_bytes())
        return numpy_helper.to_array(tensor)
    except Exception:  # sequences and optionals are stored under the same name; Core ML has neither
        return None


def _freeze(model: onnx.ModelProto, sample: Sample, constants: Collection[str]) -> tuple[onnx.ModelProto, Sample]:
    """These inputs become initializers with the sample's values."""
    inputs, outputs = sample
    frozen = onnx.ModelProto()
    frozen.CopyFrom(model)
    kept = [i for i in model.graph.input if i.name not in constants]
    del frozen.graph.input[:]
    frozen.graph.input.extend(kept)
    for name, value in inputs.items():
        if name in constants and value is not None:
            frozen.graph.initializer.append(numpy_helper.from_array(value, name))
    return frozen, ({k: v for k, v in inputs.items() if k not in constants}, outputs)


def _attempt(case: Any, model: onnx.ModelProto, samples: list[Sample], to: str, precision: str) -> Exception | None:
    """None when every sample comes out as stored, else what went wrong."""
    try:
        if any(v is None for inputs, outputs in samples for v in (*inputs.values(), *outputs)):
            return ConversionError("Core ML has no sequences or optional values", where=case.name)
        if any(v.size == 0 for inputs, _ in samples for v in inputs.values()):
            return ConversionError("Core ML has no arrays without elements", where=case.name)
        wrapped = OnnxModel(ir.from_proto(model), name=case.name)
        shapes = {n: list(v.shape) for n, v in samples[0][0].items()} if samples else {}
        converted = onnx_to_coreml(
            wrapped,
            "mlprogram" if to == "coreai" else to,  # type: ignore[arg-type]
            precision=precision,  # type: ignore[arg-type]
            target=None if to == "neuralnetwork" else "iOS18",
            shapes=shapes,
        )
        features = [f.name for f in converted.signature.inputs]
        # a single number is fed as an array of one, the least a Core ML input can be
        fed = [dict(zip(features, map(np.atleast_1d, inputs.values()), strict=True)) for inputs, _ in samples]
        made = _interpreter().run(translated(converted), fed) if to == "coreai" else _run(converted, fed)
        names = [f.name for f in converted.signature.outputs]
        for results, (_, outputs) in zip(made, samples, strict=True):
            for name, expected in zip(names, outputs, strict=True):
                _compare(case, results[name], expected, precision)
    except Exception as error:  # whatever happens is the outcome of the test
        return error
    return None


def _run(converted: CoreMLModel, fed: list[dict[str, Any]]) -> list[Any]:
    with session(converted) as running:
        return [running.run(sample) for sample in fed]


@cache
def _interpreter() -> Interpreter:
    return Interpreter()


def _compare(case: Any, actual: Any, expected: Any, precision: str) -> None:
    actual = np.asarray(actual)
    if actual.shape != expected.shape and not (expected.ndim == 0 and actual.size == 1):
        raise AssertionError(f"shape {actual.shape} instead of {expected.shape}")
    if expected.dtype.kind in "biu":
        np.testing.assert_array_equal(actual.astype(np.int64).reshape(expected.shape), expected.astype(np.int64))
        return
    rtol, atol = (case.rtol, case.atol) if precision == "fp32" else (FP16_TOLERANCE, FP16_TOLERANCE)
    np.testing.assert_allclose(
        actual.astype(np.float64).reshape(expected.shape), expected.astype(np.float64), rtol=rtol, atol=atol
    )


def _lost_by_rounding(model: onnx.ModelProto, sample: Sample, kept: Collection[str]) -> str | None:
    """What even an exact engine cannot save in float16: inputs rounded to it, computed in float32, and the answer rounded once.

    Parameters, which are ``kept``, are constants of the program and not rounded. None where the stored outputs come out so.
    """
    inputs, outputs = sample
    rounded = {n: _in_half(v) if n not in kept else v for n, v in inputs.items()}
    try:
        found = list(run_source(model, rounded).values())
    except Exception:  # no engine runs it: nothing excuses the test
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        for got, want in zip(found, outputs, strict=True):
            near, exact = np.asarray(_in_half(np.asarray(got)), np.float64), np.asarray(want, np.float64)
            if near.shape != exact.shape:
                return f"rounded inputs give the shape {list(near.shape)}, and {list(exact.shape)} is stored"
            allowed = FP16_TOLERANCE * (1 + np.abs(exact)) if want.dtype.kind == "f" else np.zeros(exact.shape)
            off = np.flatnonzero(
                ~((near == exact) | (np.abs(near - exact) <= allowed) | np.isnan(near) & np.isnan(exact))
            )
            if off.size:
                at = int(off[0])
                return f"rounded inputs give {near.flat[at]:g} at element {at}, and {exact.flat[at]:g} is stored"
    return None


def _in_half(value: Any) -> Any:
    with np.errstate(over="ignore"):
        return value.astype(np.float16).astype(value.dtype) if value.dtype.kind == "f" else value


def expressible_counts(outcomes: Collection[Outcome], rows: Mapping[str, Listed]) -> dict[str, dict[str, int]]:
    """Of each kind of tests, how those ended that Core ML can express: as shipped, frozen, and by what they did not pass."""
    found: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        if outcome.expressible in ("yes", "frozen"):
            counts = found.setdefault(rows[outcome.name].kind, Counter())
            lost = outcome.status == "frozen" and not outcome.came_out
            counts["frozen where it passes as shipped" if lost else outcome.status] += 1
    return {kind: dict(counts) for kind, counts in found.items()}


def known_failures() -> dict[str, str]:
    """Tests that end as "failed" and why; the list may only get shorter."""
    return json.loads(KNOWN_FAILURES.read_text()) if KNOWN_FAILURES.exists() else {}


def operator_table() -> str:
    """docs/operators-onnx.md: every lowered operator, from the registry, with how its tests ended, from the results."""
    columns = {name: found for name, key in RECORDS.items() if (found := _by_operator(key))}
    lines = [
        "# ONNX operators that are converted to Core ML",
        "",
        "Made by `python -m conformance.onnx_backend` from the registry and the recorded runs of the ONNX backend tests.",
        "A cell counts the tests that use the operator: passed as shipped / passed once the parameter inputs were made",
        "constants (frozen), as Core ML needs them / refused, naming the node and what Core ML cannot express / failed.",
        "",
    ]
    for name, key in RECORDS.items():
        document = _recorded(key)
        if document is not None:
            counts = ", ".join(f"{n} {status}" for status, n in sorted(document["counts"].items()))
            lines.append(f"- {name}: {sum(document['counts'].values())} tests: {counts} (`{document['command']}`)")
            for kind, ended in document.get("expressible", {}).items():
                told = ", ".join(f"{n} {status}" for status, n in sorted(ended.items()))
                lines.append(f"  - of {sum(ended.values())} {kind} tests that Core ML can express: {told}")
    lines += [
        "",
        "| operator | form changes at opset | " + " | ".join(columns) + " |",
        "| --- | --- |" + " --- |" * len(columns),
    ]
    for operator in ONNX:
        cells = [_ended(found.get(operator.rpartition(":")[2])) for found in columns.values()]
        lines.append(f"| {operator} | {', '.join(map(str, ONNX.versions(operator)))} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _recorded(key: str) -> Any:
    path = HERE / "results" / f"onnx-{key}.json"
    return json.loads(path.read_text()) if path.exists() else None


def _by_operator(key: str) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for test in (_recorded(key) or {"tests": []})["tests"]:
        for operator in test["operators"]:
            found.setdefault(operator, Counter())[test["status"]] += 1
    return found


def _ended(counts: Counter[str] | None) -> str:
    return (
        "no test" if counts is None else " / ".join(str(counts[s]) for s in ("passed", "frozen", "refused", "failed"))
    )


def main() -> int:
    """Runs all tests; exit 1 when one fails that is not known to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", default="mlprogram", choices=("mlprogram", "neuralnetwork", "coreai"))
    parser.add_argument("--precision", default="fp32", choices=("fp32", "fp16"))
    parser.add_argument("--only", default="", help="only tests whose name holds this")
    parser.add_argument("--every", type=int, default=1, help="each N-th test")
    parser.add_argument("--show", action="store_true", help="print every test that does not pass")
    parser.add_argument(
        "--list", type=Path, default=os.environ.get("COREPROOF_ONNX_TESTS"), help="table of what Core ML can express"
    )
    options = parser.parse_args()
    rows = {} if options.list is None else listed(Path(options.list))
    outcomes = []
    for case in [case for case in cases() if options.only in case.name][:: options.every]:
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcome = judge(case, options.to, options.precision, rows.get(case.name))
        outcomes.append(outcome)
        if options.show and not outcome.came_out:
            print(f"{outcome.status:8} {outcome.name} [{outcome.expressible}]: {outcome.reason}", flush=True)
    counts = Counter(o.status for o in outcomes)
    print(f"{len(outcomes)} tests: " + ", ".join(f"{n} {status}" for status, n in sorted(counts.items())))
    for kind, ended in expressible_counts(outcomes, rows).items():
        told = ", ".join(f"{n} {status}" for status, n in sorted(ended.items()))
        print(f"of {sum(ended.values())} {kind} tests that Core ML can express: {told}")
    known = known_failures() if options.to == "mlprogram" and options.precision == "fp32" else None
    unexpected = [o for o in outcomes if o.status == "failed" and known is not None and o.name not in known]
    if not options.only and options.every == 1:
        results = HERE / "results" / f"onnx-{options.to}-{options.precision}.json"
        results.parent.mkdir(exist_ok=True)
        document = {
            **origin("conformance.onnx_backend"),
            "onnx": onnx.__version__,
            "counts": dict(counts),
            **({"expressible": expressible_counts(outcomes, rows)} if rows else {}),
            "tests": [asdict(o) for o in outcomes],
        }
        results.write_text(json.dumps(document, indent=0))
        (HERE.parent / "docs" / "operators-onnx.md").write_text(operator_table())
    for outcome in unexpected:
        print(f"not known to fail: {outcome.name}: {outcome.reason}")
    return 1 if unexpected else 0


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
