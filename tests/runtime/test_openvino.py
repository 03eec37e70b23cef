"""The OpenVINO engine beside a stand-in for its library, which computes by ONNX Runtime: what it is asked and what it answers."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from coreproof.errors import InputError, MissingDependencyError, RunError
from coreproof.model.onnx.model import OnnxModel
from coreproof.runtime.open import session
from tests.build import conv_relu_onnx

X = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)


class Core:
    """``openvino.Core``, as far as the engine uses it; says what it was asked for."""

    compiled: list[tuple[str, dict[str, object]]]

    def __init__(self) -> None:
        Core.compiled = []

    def read_model(self, content: bytes) -> bytes:
        return content

    def compile_model(self, content: bytes, device: str, options: dict[str, object]) -> Any:
        self.compiled.append((device, dict(options)))
        running = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        return lambda arrays: dict(enumerate(running.run(None, dict(arrays))))


class Refusing(Core):
    def compile_model(self, content: bytes, device: str, options: dict[str, object]) -> Any:
        raise RuntimeError("no kernel for Conv\nand much that is only for its authors")


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    stand_in = SimpleNamespace(Core=Core)
    monkeypatch.setitem(sys.modules, "openvino", stand_in)
    return stand_in


def net() -> OnnxModel:
    return OnnxModel(conv_relu_onnx(), name="net")


@pytest.mark.usefixtures("library")
def test_outputs_and_inner_values_come_back_by_their_names() -> None:
    with session(net()) as running:
        expected = running.run({"x": X}, taps=["c"])
    with session(net(), "openvino") as running:
        assert {"c", "y"} <= running.tappable
        found = running.run({"x": X}, taps=["c", "y"])
    assert found.keys() == expected.keys() == {"c", "y"}
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("library")
def test_it_is_compiled_once_for_each_choice_of_values_in_float32_with_the_threads_asked_for() -> None:
    with session(net(), "openvino", threads=3) as running:
        for taps in ((), ("c",), ("c",), ()):
            running.run({"x": X}, taps=taps)
    assert Core.compiled == [("CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 3})] * 2


@pytest.mark.usefixtures("library")
def test_what_is_fed_is_checked_before_the_library_sees_it() -> None:
    with session(net(), "openvino") as running, pytest.raises(InputError, match="x"):
        running.run({"x": X[:, :2]})


def test_what_the_library_refuses_is_said_in_one_line(library: SimpleNamespace) -> None:
    library.Core = Refusing
    with pytest.raises(RunError, match="OpenVINO refuses the model") as raised:
        session(net(), "openvino")
    assert raised.value.where == "net"
    assert raised.value.found == "no kernel for Conv"


def test_where_the_library_is_absent_the_line_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependencyError, match="OpenVINO is not installed") as raised:
        session(net(), "openvino")
    assert raised.value.fix == "pip install 'coreproof[openvino]'"
