"""coremltools' own PyTorch -> Core ML route, an independent witness: torch.jit.trace, then coremltools.convert.

It runs in a process of its own, so that whatever it imports, prints or breaks stays there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Literal

from coreproof.errors import ConversionError
from coreproof.model.coreml.model import CoreMLModel, load_coreml
from coreproof.model.coreml.noted_labels import note_labels, note_untrained
from coreproof.model.files.scratch import TemporaryFolder
from coreproof.model.torch.model import TorchModel, import_torch, name_outputs, quiet


def coremltools_route(
    model: TorchModel, package: Path, *, precision: Literal["fp16", "fp32"] = "fp16", target: str = "iOS17"
) -> CoreMLModel:
    """Converts ``model`` with coremltools and its default passes to an .mlpackage at ``package``, where nothing may be yet.

    Raises ConversionError with what coremltools said when its route fails on this model.
    """
    torch = import_torch()
    with TemporaryFolder() as scratch:
        traced_file = Path(scratch) / "traced.pt"
        try:
            with quiet(), torch.no_grad(), model.evaluation():
                torch.jit.save(torch.jit.trace(_tuples(model), model.example_inputs, check_trace=False), traced_file)
        except Exception as error:
            raise ConversionError(
                "torch.jit.trace, which coremltools' route begins with, fails on this model",
                where=model.name,
                found=str(error).splitlines()[0] if str(error) else type(error).__name__,
            ) from None
        request = {
            "traced": str(traced_file),
            "package": str(package),
            "inputs": {n: list(t.shape) for n, t in zip(model.input_names, model.example_inputs, strict=True)},
            "outputs": list(model.example_outputs),
            "precision": precision,
            "target": target,
            "labels": model.labels,
            "untrained": model.untrained,
        }
        command = [sys.executable, "-m", "coreproof.conversion.coremltools_route", json.dumps(request)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["nothing"]
        raise ConversionError("coremltools' own route fails on this model", where=model.name, found=said[-1][:300])
    converted = load_coreml(package)
    return CoreMLModel(
        converted.spec,
        name=f"{model.name}-coremltools",
        path=package,
        folder=converted.folder,
        notes=(f"converted by coremltools itself ({precision}), an independent witness",),
    )


def _tuples(model: TorchModel) -> object:
    """The module, wrapped so that it returns a tuple of tensors: tracing takes no dictionaries."""
    torch = import_torch()

    class Tupled(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.module = model.module

        def forward(self, *inputs: object) -> object:
            return tuple(name_outputs(self.module(*inputs)).values())

    return Tupled().eval()


def _convert(request: dict[str, object]) -> None:
    import coremltools as ct
    import numpy as np
    import torch

    inputs: dict[str, list[int]] = request["inputs"]  # type: ignore[assignment]
    outputs: list[str] = request["outputs"]  # type: ignore[assignment]
    converted = ct.convert(
        torch.jit.load(str(request["traced"])),
        inputs=[ct.TensorType(name=name, shape=shape, dtype=np.float32) for name, shape in inputs.items()],
        outputs=[ct.TensorType(name=name, dtype=np.float32) for name in outputs],
        compute_precision=ct.precision.FLOAT16 if request["precision"] == "fp16" else ct.precision.FLOAT32,
        minimum_deployment_target=getattr(ct.target, str(request["target"])),
        skip_model_load=True,
    )
    note_labels(converted.user_defined_metadata, request["labels"])  # type: ignore[arg-type]
    note_untrained(converted.user_defined_metadata, bool(request["untrained"]))
    converted.save(str(request["package"]))


if __name__ == "__main__":
    _convert(json.loads(sys.argv[1]))
