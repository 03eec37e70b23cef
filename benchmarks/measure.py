"""One measurement in a process of its own: python -m benchmarks.measure TOOL MODEL FOLDER prints a line of JSON.

Runs in coreproof's environment and in the peers': only the tool that is measured is imported. The clock runs from the source
(an ONNX file; for coremltools the PyTorch module, for coreai-torch its exported program) to the saved model. A tiny model is
converted first, off the clock.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MARK = "MEASURED "
LIMIT_SECONDS = 600
Convert = Callable[[str, Path, Path], Any]  # model name, folder of ONNX files, what to write


def measured(command: list[str]) -> dict[str, Any]:
    """What a process that measures has printed behind ``MARK``; "error" says why there is nothing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {LIMIT_SECONDS} s"}
    for line in reversed(done.stdout.splitlines()):
        if line.startswith(MARK):
            result: dict[str, Any] = json.loads(line.removeprefix(MARK))
            return result
    return {"error": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:300]}


def ours(name: str, folder: Path, out: Path) -> None:
    import coreproof as cp

    cp.convert(folder / f"{name}.onnx", "mlprogram", precision="fp16", check=False).save(out)


def onnx2coreml(name: str, folder: Path, out: Path) -> None:
    import onnx2coreml as peer

    peer.convert(folder / f"{name}.onnx", format="mlpackage", compute_precision="fp16").save(str(out))


def onnxsim(name: str, folder: Path, out: Path) -> None:
    import onnx
    import onnxsim as peer

    peer.export_coreml(onnx.load(folder / f"{name}.onnx"), str(out))


def coremltools(name: str, folder: Path, out: Path) -> None:
    """Its own PyTorch route: trace, convert to a float16 ML Program, save."""
    import coremltools as ct
    import torch

    module, inputs = _torch_model(name)
    traced = torch.jit.trace(module, inputs, check_trace=False)
    ct.convert(
        traced,
        inputs=[ct.TensorType(name="x", shape=tuple(inputs[0].shape))],
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.iOS17,
        skip_model_load=True,
    ).save(str(out))


_TORCH_MODELS: dict[str, Any] = {}


def _torch_model(name: str) -> Any:
    from benchmarks.models import MODELS

    if name not in _TORCH_MODELS:
        _TORCH_MODELS[name] = MODELS[name]()
    return _TORCH_MODELS[name]


def ours_to_coreai(name: str, folder: Path, out: Path) -> None:
    import coreproof as cp

    cp.convert(folder / f"{name}.onnx", "coreai", precision="fp32", check=False).save(out)


def coreai_onnx(name: str, folder: Path, out: Path) -> None:
    import coreai_onnx as peer

    peer.convert(str(folder / f"{name}.onnx")).save_asset(out)


def coreai_torch(name: str, folder: Path, out: Path) -> None:
    """Apple's own: the exported program in simpler operations, converted, saved."""
    import coreai_torch as peer

    program = _exported(name).run_decompositions(peer.get_decomp_table())
    peer.TorchConverter().add_exported_program(program, input_names=["x"], output_names=["y"]).to_coreai().save_asset(
        out
    )


_EXPORTED: dict[str, Any] = {}


def _exported(name: str) -> Any:
    import torch

    if name not in _EXPORTED:
        _EXPORTED[name] = torch.export.export(*_torch_model(name))
    return _EXPORTED[name]


TOOLS: dict[str, Convert] = {
    "coreproof": ours,
    "coremltools": coremltools,
    "onnx2coreml": onnx2coreml,
    "onnxsim": onnxsim,
}


CORE_AI: dict[str, Convert] = {
    "coreproof": ours_to_coreai,
    "coreai-onnx": coreai_onnx,
    "coreai-torch": coreai_torch,
}
"""Those that make a Core AI model, in an environment that has Apple's packages."""


def peak_mebibytes() -> float:
    """The most memory that this process has held.

    Linux keeps it per address space; getrusage would also count the parent's, inherited through fork.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def measure(tool: str, name: str, folder: Path, *, coreai: bool = False) -> dict[str, Any]:
    """Seconds to start (imports and a tiny conversion), seconds to convert, and the peak before and after."""
    convert, suffix = (CORE_AI[tool], ".aimodel") if coreai else (TOOLS[tool], ".mlpackage")
    if tool == "coremltools":
        _torch_model(name)
    if tool == "coreai-torch":
        _exported(name)
    with tempfile.TemporaryDirectory() as scratch:
        started = time.perf_counter()
        convert("tiny", folder, Path(scratch) / f"tiny{suffix}")
        ready = time.perf_counter()
        before = peak_mebibytes()
        begun = time.perf_counter()
        out = Path(scratch) / f"out{suffix}"
        convert(name, folder, out)
        seconds = time.perf_counter() - begun
        size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    return {
        "start": ready - started,
        "seconds": seconds,
        "peak": peak_mebibytes(),
        "peak_at_start": before,
        "size": size / 2**20,
    }


def main() -> None:
    tool, name, folder, *said = sys.argv[1:]
    try:
        result = measure(tool, name, Path(folder), coreai="--coreai" in said)
    except Exception as error:  # whatever a peer raises is its result
        first = str(error).strip().splitlines() or [""]
        result = {"error": f"{type(error).__name__}: {first[0]}"[:300]}
    print(MARK + json.dumps(result))


if __name__ == "__main__":
    main()
