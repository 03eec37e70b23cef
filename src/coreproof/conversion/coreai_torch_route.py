"""Apple's own PyTorch -> Core AI route (coreai-torch), an independent witness: torch.export, then its TorchConverter.

It runs in a process of its own, so that whatever it imports, prints or breaks stays there.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from coreproof.errors import ConversionError
from coreproof.model.coreai.model import CoreAIModel, load_coreai
from coreproof.model.files.scratch import TemporaryFolder
from coreproof.model.torch.model import TorchModel, import_torch, quiet

_SECONDS = 900
"""For one conversion: a ResNet50 takes 1.2 of them."""


def is_installed() -> bool:
    """Whether Apple's coreai-torch is there."""
    return find_spec("coreai_torch") is not None and find_spec("coreai") is not None


def coreai_torch_route(model: TorchModel, path: Path) -> CoreAIModel:
    """Converts ``model`` with coreai-torch as it is, in the module's own dtypes, to an .aimodel at ``path``.

    Raises ConversionError with what coreai-torch said when its route fails on this model.
    """
    torch = import_torch()
    with TemporaryFolder() as scratch:
        program = Path(scratch) / "program.pt2"
        try:
            with quiet(), torch.no_grad(), model.evaluation():
                torch.export.save(torch.export.export(model.module, model.example_inputs), program)
        except Exception as error:
            raise ConversionError(
                "torch.export, which coreai-torch's route begins with, fails on this model",
                where=model.name,
                found=str(error).splitlines()[0] if str(error) else type(error).__name__,
            ) from None
        request = {
            "program": str(program),
            "path": str(path.resolve()),
            "inputs": list(model.input_names),
            "outputs": list(model.example_outputs),
        }
        command = [sys.executable, "-m", "coreproof.conversion.coreai_torch_route", json.dumps(request)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            raise ConversionError(
                f"coreai-torch's own route was not done within {_SECONDS} seconds", where=model.name
            ) from None
    if done.returncode != 0 or not path.is_dir():
        said = [line for line in done.stderr.splitlines() if line.strip()] or [
            f"it ended with status {done.returncode}"
        ]
        raise ConversionError("coreai-torch's own route fails on this model", where=model.name, found=said[-1][:300])
    made = load_coreai(path)
    made.notes = ("converted by Apple's coreai-torch itself, an independent witness",)
    return made


def _convert(request: dict[str, object]) -> None:
    import torch

    coreai_torch = importlib.import_module("coreai_torch")
    program = torch.export.load(str(request["program"])).run_decompositions(coreai_torch.get_decomp_table())
    converter = coreai_torch.TorchConverter().add_exported_program(
        program, input_names=request["inputs"], output_names=request["outputs"]
    )
    converter.to_coreai().save_asset(Path(str(request["path"])))


if __name__ == "__main__":
    _convert(json.loads(sys.argv[1]))
