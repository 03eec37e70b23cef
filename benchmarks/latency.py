"""Latency of a converted model on coreproof's runtime beside ONNX Runtime on the source file, turn by turn in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

import coreproof as cp

REFERENCE = "ONNX Runtime, source ONNX"


def latencies(path: Path, rounds: int, threads: int) -> dict[str, list[float]]:
    """Seconds of each of ``rounds`` runs: the source, then the ML Programs in fp32 and as stored, interleaved."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    source = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    entry = source.get_inputs()[0]
    picture = np.random.default_rng(0).standard_normal(entry.shape).astype(np.float32)
    program = cp.convert(path, "mlprogram", precision="fp32")
    half = cp.convert(path, "mlprogram", precision="fp16")
    feed = {entry.name: picture}
    sessions = {
        "converted fp32, run in fp32": cp.session(program, precision="fp32", threads=threads),
        "converted fp16, run in fp32": cp.session(half, precision="fp32", threads=threads),
        "converted fp16, run as stored": cp.session(half, precision="stored", threads=threads),
    }
    contenders: dict[str, Callable[[], Any]] = {REFERENCE: lambda: source.run(None, feed)}
    for label, session in sessions.items():
        contenders[label] = lambda session=session: session.run(feed)  # type: ignore[misc]
    return interleaved(contenders, rounds)


def interleaved(contenders: dict[str, Callable[[], Any]], rounds: int, warm: int = 5) -> dict[str, list[float]]:
    """Times each contender once a round, in an order that rotates, so that the machine's moods fall on all alike."""
    labels = list(contenders)
    seconds: dict[str, list[float]] = {label: [] for label in labels}
    for turn in range(rounds + warm):
        for label in labels[turn % len(labels) :] + labels[: turn % len(labels)]:
            begun = time.perf_counter()
            contenders[label]()
            if turn >= warm:
                seconds[label].append(time.perf_counter() - begun)
    return seconds


def median_ratio(seconds: list[float], reference: list[float]) -> float:
    """The median over rounds of this round's ratio: both sides of a ratio were measured at the same moment."""
    return statistics.median(a / b for a, b in zip(seconds, reference, strict=True))
