"""OMP_NUM_THREADS counts for every engine that is not told otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest

import coreproof as cp
from coreproof.model.onnx.model import OnnxModel
from coreproof.runtime.threads import threads_asked_for
from tests.build import conv_relu_onnx


@pytest.mark.parametrize(
    ("said", "meant"),
    [("3", 3), (" 2 ", 2), ("4,2", 4), ("", None), ("0", None), ("-1", None), ("many", None), ("²", None)],
)
def test_what_the_environment_says_is_a_number_or_nothing(
    said: str, meant: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert threads_asked_for() == meant
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert threads_asked_for() is None


@pytest.mark.parametrize(
    ("environment", "argument", "expected"), [("3", None, 3), ("3", 2, 2), (None, 2, 2), (None, None, 0)]
)
def test_a_session_takes_as_many_threads_as_it_is_told(
    environment: str | None, argument: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime's own word for "as many as there are cores" is 0."""
    taken: list[int] = []
    opened = onnxruntime.InferenceSession

    def noting(message: bytes, options: Any, *more: Any, **named: Any) -> Any:
        taken.append(options.intra_op_num_threads)
        return opened(message, options, *more, **named)

    monkeypatch.setattr(onnxruntime, "InferenceSession", noting)
    if environment is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", environment)
    with cp.session(OnnxModel(conv_relu_onnx(), name="net"), threads=argument) as running:
        running.run({"x": np.zeros((1, 3, 8, 8), np.float32)})
    assert set(taken) == {expected}
