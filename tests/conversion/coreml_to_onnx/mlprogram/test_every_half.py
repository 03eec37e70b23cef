"""Functions of single elements on every float16 number there is: against NumPy's float64, rounded.

What is correctly rounded is bit for bit that; what is a series in float32 is within one float16 step of it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreproof.runtime.open import session
from tests.build import program
from tests.conversion.coreml_to_onnx.mlprogram.family import Trial
from tests.conversion.coreml_to_onnx.mlprogram.test_families import tried_by

Array = np.ndarray
EVERY = np.arange(2**16, dtype=np.uint16).view(np.float16)
NEXT_TO_ONE = 2.0**-23
"""What curves are off by that the engine makes of float32 numbers next to 1, where those are so far apart."""
BESIDE_ONE = {"sigmoid": lambda x: np.ones_like(x), "silu": np.abs, "gelu": np.abs}
"""Their tails are what is left of 1 less a number next to it: they are off by a share of 1, or of x, and not of themselves."""
OF_ZERO = {"inverse", "rsqrt"}
"""Poles: of which sign their infinity is, no sign of zero decides where an epsilon is added."""


def trials() -> dict[str, Trial]:
    """The float16 trials of functions of one operand, by operator."""
    families = (tried_by(name).trials for name in ("elementwise_unary", "activation"))
    return {t.operator: t for each in families for t in each if t.half and forms(t) and t.operator != "softmax"}


def forms(trial: Trial) -> list[dict[str, Any]]:
    """The parameters with which it is tried, beside its operand, each set once."""
    rest = [{k: v for k, v in row.arguments.items() if k != "x"} for row in trial.rows if row.fed == ("x",)]
    plain = {repr(form): form for form in rest if all(np.ndim(v) == 0 for v in form.values())}
    return [form for form in plain.values() if form.get("dtype", "fp16").startswith("fp")]


TRIALS = trials()


def expected_of(trial: Trial, form: Mapping[str, Any]) -> Array:
    """What its definition gives in float64, with the epsilon that a float16 program holds."""
    default = inspect.signature(trial.definition).parameters.get("epsilon")
    stored = {} if default is None else {"epsilon": float(np.float16(form.get("epsilon", default.default)))}
    with np.errstate(all="ignore"):
        exact: Array = trial.definition(x=EVERY.astype(np.float64), **{**form, **stored})
    return exact


def places(halves: Array) -> Array:
    """Numbers by their order: neighbours are one apart, and both zeros are 0."""
    bits = halves.view(np.int16).astype(np.int32)
    return np.where(bits < 0, -(bits & 0x7FFF), bits)


@pytest.mark.sweep(10)
@pytest.mark.parametrize("operator", TRIALS)
def test_every_float16_number_follows_numpy(operator: str, tmp_path: Path) -> None:
    trial = TRIALS[operator]
    tried = forms(trial)

    def build(mb: Any, x: Any) -> Any:
        return tuple(getattr(mb, operator)(x=x, **form) for form in tried)

    model = program(tmp_path, build, [(EVERY.shape, "float16")], target=trial.target, half=True)
    with session(model) as running:
        answer = running.run({"a": EVERY})
        found = [answer[f.name] for f in running.signature.outputs]
    for form, result in zip(tried, found, strict=True):
        assert result.dtype == (np.float32 if form.get("dtype") == "fp32" else np.float16)
        exact = expected_of(trial, form)
        with np.errstate(all="ignore"):
            rounded = exact.astype(np.float16)
            half = result.astype(np.float16)
            undefined = np.isnan(half) & np.isnan(rounded)
            apart = np.abs(places(half) - places(rounded))
            close = apart <= (1 if trial.within else 0)
            if operator in BESIDE_ONE:
                off = np.abs(half.astype(np.float64) - exact)
                close |= off <= NEXT_TO_ONE * BESIDE_ONE[operator](EVERY.astype(np.float64)) + np.spacing(rounded) / 2
            if operator in OF_ZERO:
                close |= (EVERY == 0) & np.isinf(half) & np.isinf(rounded)
        right = undefined | (close & ~np.isnan(half) & ~np.isnan(rounded))
        assert right.all(), (form, EVERY[~right][:4], half[~right][:4], rounded[~right][:4])


def test_most_functions_of_one_operand_are_tried() -> None:
    assert len(TRIALS) > 30, sorted(TRIALS)
    assert {"exp", "tanh", "sqrt", "inverse", "rsqrt", "log", "cast", "gelu", "relu", "softplus"} <= set(TRIALS)
