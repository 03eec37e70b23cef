"""One command line for each verb, as its ``--help`` shows it."""

from __future__ import annotations

from collections.abc import Mapping

EXAMPLES: Mapping[str, str] = {
    "init": "coreproof init my_model.py --size 224",
    "prove": "coreproof prove my_model.py:model --photos photos --out proof",
    "check": "coreproof check model.onnx --target iOS16",
    "convert": "coreproof convert model.onnx model.mlpackage --precision fp16",
    "show": "coreproof show model.mlpackage",
    "predict": "coreproof predict model.mlpackage photo.jpg",
    "verify": "coreproof verify model.onnx model.mlpackage --require 0.99",
    "doctor": "coreproof doctor broken.mlmodel --against model.onnx --fix repaired.mlmodel",
    "edit": "coreproof edit model.mlpackage edits.toml edited.mlpackage",
    "split": "coreproof split pipeline.mlmodel stages",
    "join": "coreproof join first.mlmodel second.mlmodel pipeline.mlmodel",
    "upgrade": "coreproof upgrade old.mlmodel new.mlpackage --target iOS17",
    "diff": "coreproof diff before.mlpackage after.mlpackage",
    "shrink": "coreproof shrink model.mlpackage --against model.onnx",
    "compare": "coreproof compare lineup.toml --photos photos --out comparison",
    "check-proof": "coreproof check-proof proof my_model.py:model --photos photos",
    "compare-proofs": "coreproof compare-proofs proof-1.0 proof-1.1",
    "app": "coreproof app model.mlpackage --photos photos --out PhotoApp",
    "mcp": "coreproof mcp path/to/project",
    "view": "coreproof view model.onnx --layer conv1",
}
