"""A module that reads Python values out of its tensors: what convert carries over is verified, else both refuse alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.errors import ConversionError

torch = pytest.importorskip("torch", reason="needs the torch extra")
from tests.verification.reading import CHECKED, READ, REFUSED, Reads, Repeated, rounded  # noqa: E402 - it needs PyTorch


def fed(seed: int) -> Any:
    return torch.randn(2, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.sweep(1)
@pytest.mark.parametrize("case", READ)
def test_it_is_converted_truly_and_verified(case: str, tmp_path: Path) -> None:
    module = Reads(READ[case]).eval()
    _holds(module, tmp_path)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("case", CHECKED)
def test_what_only_checks_or_reports_stops_neither(case: str, tmp_path: Path) -> None:
    then, line = CHECKED[case]
    notes = _holds(Reads(then).eval(), tmp_path)
    assert any(line in note for note in notes if note.startswith("only checks or reports, and is left out: "))


def _holds(module: Any, tmp_path: Path) -> tuple[str, ...]:
    made = cp.convert((module, (fed(1),)), "mlprogram", precision="fp32")
    assert not [note for note in made.notes if "frozen" in note]
    running = cp.session(made)
    for seed in range(2, 7):  # other inputs than the example, by PyTorch eager
        with torch.no_grad():
            expected = module(fed(seed)).numpy()
        [got] = running.run({"x": fed(seed).numpy()}).values()
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    made.save(tmp_path / "net.mlpackage")
    found = cp.verify((module, (fed(1),)), tmp_path / "net.mlpackage")
    assert found, found.summary()
    return made.notes


@pytest.mark.sweep(1)
@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_frozen_is_refused_by_both_in_the_same_words_and_verified_where_it_is_wanted(
    case: str, tmp_path: Path
) -> None:
    then, line = REFUSED[case]
    source = (Reads(then).eval(), (fed(1),))
    with pytest.raises(ConversionError) as by_convert:
        cp.convert(source, "mlprogram", precision="fp32")
    cp.convert(source, "mlprogram", precision="fp32", freeze_branches=True).save(tmp_path / "net.mlpackage")
    if case == "gone on":  # a program there is, and the module itself tells that it is another
        assert not cp.verify(source, tmp_path / "net.mlpackage")
    else:
        with pytest.raises(ConversionError) as by_verify:
            cp.verify(source, tmp_path / "net.mlpackage")
        assert str(by_verify.value) == str(by_convert.value)
    assert "reading.py:" in str(by_convert.value)
    assert line in str(by_convert.value)
    found = cp.verify(source, tmp_path / "net.mlpackage", freeze_branches=True)
    assert found, found.summary()
    assert "frozen branches" in found.inputs


@pytest.mark.thorough
def test_a_number_that_python_rounds_is_refused_by_convert_and_where_it_is_frozen_found_by_verify(
    tmp_path: Path,
) -> None:
    """The exported program follows it, and ONNX does not."""
    source = (Reads(rounded).eval(), (fed(1),))
    with pytest.raises(ConversionError, match=r"reading\.py:\d+, in rounded: return y / round"):
        cp.convert(source, "mlprogram", precision="fp32")
    cp.convert(source, "mlprogram", precision="fp32", freeze_branches=True).save(tmp_path / "net.mlpackage")
    assert not cp.verify(source, tmp_path / "net.mlpackage")
    assert cp.verify(source, tmp_path / "net.mlpackage", freeze_branches=True)


def test_an_input_whose_value_is_frozen_stays_an_input(tmp_path: Path) -> None:
    source = (Repeated().eval(), (fed(1), torch.tensor(3)))
    cp.convert(source, "mlprogram", precision="fp32", freeze_branches=True).save(tmp_path / "net.mlpackage")
    assert cp.verify(source, tmp_path / "net.mlpackage", freeze_branches=True)
