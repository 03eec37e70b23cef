"""How many threads an engine may take where the caller leaves it to the engine."""

from __future__ import annotations

import os


def threads_asked_for() -> int | None:
    """What OMP_NUM_THREADS says, or None: PyTorch listens to it by itself, ONNX Runtime and OpenVINO do not."""
    said = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(said) if said.isascii() and said.isdigit() and int(said) > 0 else None
