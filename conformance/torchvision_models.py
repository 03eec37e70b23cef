"""Torchvision's classifiers and segmenters with seeded weights, carried to Core ML and verified step by step.

    python -m conformance.torchvision_models [NAME...]

writes conformance/results/torchvision.json and docs/models.md.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import coreproof as cp
from conformance.origin import write_record
from coreproof.model.files.atomic import replacing

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "conformance" / "results" / "torchvision.json"
MODELS = (
    *("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "squeezenet1_1", "efficientnet_b0", "densenet121"),
    *("shufflenet_v2_x1_0", "regnet_y_400mf", "convnext_tiny", "vit_b_16", "swin_t", "googlenet", "inception_v3"),
    *("mnasnet0_5", "alexnet", "maxvit_t", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"),
)
STEPS = (
    ("ML Program fp32", "mlprogram", "fp32"),
    ("ML Program fp16", "mlprogram", "fp16"),
    ("NeuralNetwork", "neuralnetwork", "fp32"),
)


def verify_model(name: str) -> list[dict[str, Any]]:
    """Every step of one model: what was compared, whether it agrees, where it first does not."""
    source = cp.load(f"torchvision:{name}?weights=random")
    exported = cp.convert(source, "onnx")
    steps = [_step("ONNX", source, lambda: exported)]
    for label, to, precision in STEPS:
        steps.append(
            _step(label, exported, lambda to=to, precision=precision: cp.convert(exported, to, precision=precision))
        )
    return steps


def _step(label: str, reference: Any, make: Any) -> dict[str, Any]:
    started = time.monotonic()
    try:
        candidate = make()
        converted = time.monotonic()
        result = cp.verify(reference, candidate)
    except cp.CoreproofError as error:
        return {"step": label, "agrees": None, "problem": str(error)}
    first = result.first_divergence
    return {
        "step": label,
        "agrees": result.agrees,
        "values": len(result.rows),
        "weak": len(result.weak),
        "dismissed": len(result.dismissed),
        "unpaired": result.unpaired,
        "output_error": max(row.judgement.max_relative_error for row in result.outputs),
        "first_divergence": None
        if first is None
        else f"{first.candidate} ({first.operator}): {first.judgement.problem}",
        "convert_seconds": round(converted - started, 2),
        "verify_seconds": round(time.monotonic() - converted, 2),
    }


def write_table(results: dict[str, Any]) -> None:
    """docs/models.md from the recorded results."""
    lines = [
        "# Models that were carried to Core ML and verified",
        "",
        "Torchvision's networks with seeded random weights, verified value by value: ONNX against PyTorch, each Core ML form",
        "(run by coreproof's runtime) against the ONNX model. A cell says how many values agree, and by how much of its scale",
        "the output differs at most. Made by `python -m conformance.torchvision_models`.",
        "",
        "| model | " + " | ".join(s["step"] for s in next(iter(results.values()))) + " |",
        "| --- |" + " --- |" * len(next(iter(results.values()))),
    ]
    for name, steps in results.items():
        lines.append(f"| {name} | " + " | ".join(_cell(step) for step in steps) + " |")
    with replacing(ROOT / "docs" / "models.md") as fresh:
        fresh.write_text("\n".join(lines) + "\n")


def _cell(step: dict[str, Any]) -> str:
    if step["agrees"] is None:
        return "not possible: " + step["problem"].splitlines()[0]
    if not step["agrees"]:
        return f"**differs** at {step['first_divergence']}"
    weak = f", {step['weak']} weak" if step["weak"] else ""
    return f"{step['values']} agree{weak}; {step['output_error']:.1e}"


def main() -> int:
    """Runs the named models (default: all); exit 1 when a step disagrees."""
    names = sys.argv[1:] or MODELS
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in names:
        results[name] = verify_model(name)
        print(name, *(f"{s['step']}: {_cell(s)}" for s in results[name]), sep="\n  ", flush=True)
        ordered = {n: results[n] for n in MODELS if n in results}
        write_record(RESULTS, ordered)
        write_table(ordered)
    return 1 if any(step["agrees"] is False for name in names for step in results[name]) else 0


if __name__ == "__main__":
    sys.exit(main())
