"""The tiny world of the comparisons, and a proof as prove hands it over."""

from __future__ import annotations

from typing import Any

from tests.comparison.conftest import photos

__all__ = ["photos"]


def row(k: int, agrees: bool = True, **changes: Any) -> dict[str, Any]:
    """One compared value, as a verification's JSON has it."""
    return {
        "reference": f"features_{k}",
        "candidate": f"features.{k}.conv",
        "operator": "Conv" if k % 2 else "Relu",
        "source": f"features.{k}",
        "shape": [1, 64, 56, 56],
        "dtype": "float16" if k % 3 == 0 else "float32",
        "agrees": agrees,
        "tolerance": {"relative": 2e-4, "absolute": 0.0, "typical": 1e-5, "why": "float32, 27 terms"},
        "max_error": 1.4e-5 * (k + 1) if agrees else 0.7,
        "mean_error": 1e-6,
        "max_relative_error": 2e-6 * (k + 1) if agrees else 0.31,
        "cosine": 0.9999999,
        "psnr": 132.4,
        "required_relative": 2e-6 * (k + 1) if agrees else 0.31,
        "problem": "" if agrees else "the typical error is 31% of scale",
        **changes,
    }


def proof(agrees: bool = True, rows: int = 40) -> dict[str, Any]:
    """A proof with one step of each kind."""
    steps: list[dict[str, Any]] = [
        {"name": "Obtain", "kind": "obtain", "to": "torchm", "ok": None, "seconds": 1.25, "notes": ["seeded weights"],
         "text": "resnet18 as torchm: input: float32[1x3x224x224]"},
        {"name": "Sanity", "kind": "check", "to": "torchm", "ok": True, "seconds": 0.4, "engines": ["PyTorch"],
         "text": "outputs are finite, repeatable, and not constant"},
        {"name": "Convert to ONNX", "kind": "convert", "to": "t2o", "ok": None, "seconds": 9.6,
         "text": "t2o: 69 layers, 46.8 MB"},
        {"name": "Verify t2o against torchm", "kind": "verify", "from": "torchm", "to": "t2o", "ok": True,
         "seconds": 75.0, "engines": ["PyTorch", "ONNX Runtime"], "text": f"{rows} of {rows} values agree",
         "inputs": "2 photos", "rows": [row(k) for k in range(rows)], "first_divergence": None},
        {"name": "Verify t2c16 against t2o", "kind": "verify", "from": "t2o", "to": "t2c16", "ok": agrees,
         "seconds": 3.0, "engines": ["ONNX Runtime", "coreproof's runtime (ONNX Runtime)"], "unpaired": 3,
         "text": f"{rows} of {rows} values agree" if agrees else f"1 of {rows} values diverge",
         "rows": [row(k, agrees or k != 7) for k in range(rows)],
         "first_divergence": None if agrees else row(7, False)},
    ]  # fmt: skip
    text = "resnet18 is still the same model." if agrees else "resnet18 does not survive: t2c16 disagrees."
    return {
        "title": "resnet18",
        "verdict": {"agrees": agrees, "text": text},
        "steps": steps,
        "versions": {"python": "3.11.2", "coreproof": "0.1.0"},
        "command": "coreproof prove torchvision:resnet18 --photos photos --out build/resnet18",
    }
