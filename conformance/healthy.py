"""More than two hundred healthy models before the doctor: nothing may be found, and nothing changed.

    python -m conformance.healthy [--data FOLDER] [--only NAME...]     (what is run replaces its own earlier results)

Each of torchvision's networks and each of the small ones (``conformance.mutation_networks``, five transformers among them)
as ONNX, ML Program in float32 and float16 and NeuralNetwork, against its source and alone; the small ones in coremltools' own
conversion; some quantised to int8, and some compressed by coremltools, against their source (pruned ones against themselves: what
is left out is a difference); and every model of FOLDER (ONNX and Core ML files of other
publishers) alone and, where the runtime runs it, against itself. Writes conformance/results/healthy.json; "weak" is what the
doctor says of outputs that are one constant on all that it draws (a detector finds nothing in noise), which accuses nobody;
"known" is the advice, which accuses no model: what some of Apple's systems get wrong, a mask that looks black.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import coreproof as cp
from conformance.mutation_networks import networks
from conformance.mutations import with_coremltools
from conformance.narrow import all_compressed, quantised
from conformance.origin import origin, write_record
from conformance.torchvision_models import MODELS, STEPS
from coreproof.doctor.diagnose import Diagnosis

RESULTS = Path(__file__).parent / "results" / "healthy.json"
SEED = 0
"""Of the weights of the small networks, and of what quantisation is calibrated on."""
QUANTISED = ("cnn", "residual", "depthwise", "vision")
COMPRESSED = ("cnn", "mlp", "unet", "causal", "vision")


def cases(data: Path | None, only: list[str]) -> Iterator[tuple[str, Any, Any]]:
    """(name, model, source): the model is healthy, the source what it was made from."""
    yield from small_cases(only)
    for name in MODELS:
        if only and name not in only:
            continue
        yield from _in_each_format(name, cp.convert(cp.load(f"torchvision:{name}?weights=random"), "onnx"))
    if data is None:
        return
    files = [
        *sorted(data.glob("onnx/*.onnx")),
        *sorted(data.glob("coreml/*")),
        *sorted(data.glob("legacy/ok_*/model.*")),
    ]
    for file in files:
        if file.suffix in (".onnx", ".mlmodel", ".mlpackage") and (not only or file.stem in only or "shared" in only):
            yield str(file.relative_to(data)), cp.load(file), cp.load(file)


def small_cases(only: list[str]) -> Iterator[tuple[str, Any, Any]]:
    """The small networks in every form."""
    for network in networks(SEED):
        if only and network.name not in only and "small" not in only:
            continue
        exported = cp.convert(cp.load((network.module, (network.example,))), "onnx")
        yield from _in_each_format(f"{network.name} small", exported)
        for precision in ("fp16", "fp32"):
            with tempfile.TemporaryDirectory() as folder:
                file = with_coremltools(network, precision == "fp16", Path(folder) / "model.mlpackage")
                # its picture has another range than the source's numbers: alone it says all that it can
                yield (
                    f"{network.name} small coremltools {precision}",
                    cp.load(file),
                    None if network.picture else exported,
                )
        if network.name in QUANTISED:
            yield from _in_each_format(f"{network.name} small int8", quantised(exported))
        if network.name in COMPRESSED:
            for how, made in all_compressed(network.module, network.example):
                with tempfile.TemporaryDirectory() as folder:
                    made.save(f"{folder}/model.mlpackage")
                    model = cp.load(f"{folder}/model.mlpackage")
                    yield f"{network.name} small {how}", model, model if how.startswith("pruned") else exported


def _in_each_format(name: str, source: Any) -> Iterator[tuple[str, Any, Any]]:
    yield f"{name} ONNX", source, source
    for label, to, precision in STEPS:
        yield f"{name} {label}", cp.convert(source, to, precision=precision), source


def examine(name: str, model: Any, source: Any) -> dict[str, Any]:
    """What the doctor finds in a healthy model, alone and against its source."""
    started = time.monotonic()
    record: dict[str, Any] = {"model": name}
    try:
        alone = cp.diagnose(model)
        record["alone"] = _findings(alone)
        if known := _known(alone):
            record["known"] = known
        if alone.weak:
            record["weak"] = [weakness.text for weakness in alone.weaknesses]
        if source is not None and alone.before.startswith("runs"):
            against = cp.diagnose(model, source)
            record["against"] = _findings(against)
            record["before"] = against.before
    except cp.CoreproofError as error:
        record["refused"] = str(error).splitlines()[0]
    record["seconds"] = round(time.monotonic() - started, 1)
    return record


def _findings(diagnosis: Diagnosis) -> list[str]:
    return [f"{finding.rule} {finding.layer}: {finding.evidence}" for finding in diagnosis if not finding.advice]


def _known(diagnosis: Diagnosis) -> list[str]:
    """The advice: nothing is found against the model itself."""
    return [f"{finding.evidence}{' (proved)' if finding.repaired else ''}" for finding in diagnosis if finding.advice]


def main() -> None:
    """Runs all cases, one after the other; the results are kept after each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument(
        "--only",
        nargs="*",
        default=[],
        help='networks or files; "small" for all small networks, "shared" for all of FOLDER',
    )
    given = parser.parse_args()
    known: dict[str, dict[str, Any]] = {}
    if given.only and RESULTS.is_file():
        known = {record["model"]: record for record in json.loads(RESULTS.read_text(encoding="utf-8"))["models"]}
    made = origin("conformance.healthy", whole=True)
    for name, model, source in cases(given.data, given.only):
        record = known[name] = {**examine(name, model, source), "commit": made["commit"]}
        records = list(known.values())
        found = [*record.get("alone", ()), *record.get("against", ())]
        print(
            f"{'✗' if found else '·'} {name}  {record['seconds']} s  {record.get('refused', '')}{'; '.join(found)}",
            flush=True,
        )
        write_record(RESULTS, {**made, "seed": SEED, "models": records})
    records = list(known.values())
    touched = [r["model"] for r in records if r.get("alone") or r.get("against")]
    refused = [r["model"] for r in records if "refused" in r]
    weak = [r["model"] for r in records if "weak" in r]
    print(
        f"{len(records)} healthy models, {len(touched)} with findings: {', '.join(touched) or 'none'}; {len(refused)} not run; "
        f"{len(weak)} of which drawn input shows nothing: {', '.join(weak) or 'none'}"
    )


if __name__ == "__main__":
    main()
