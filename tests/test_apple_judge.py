"""What conformance.apple takes for a failure that no runtime could avoid."""

from __future__ import annotations

import pytest
from conformance.apple import Outcome, known_failures

ADDRESS = (
    "iOS18/test_compression.py::TestConstexprLutToSparse::test_builder_to_backend_stress[compute_unit=ComputeUnit.CPU_ONLY-"
    "backend=BackendConfig(backend='mlprogram', precision='{}', opset_version=<AvailableTarget.iOS18: 9>)-nbits=4-"
    "block_sizes=(4, 8, 16, 8)-vector_size=1-sparse_ratio=0.01-lut_dtype={}]"
)
MESSAGE = (
    "Not equal to tolerance rtol=1e-05, atol=0.0001 Mismatched elements: 9 / 12 (75%) "
    "Max absolute difference among violations: {}"
)


@pytest.mark.parametrize(
    ("precision", "table", "difference", "known"),
    [
        ("fp32", "fp16", "0.00048828", True),
        ("fp32", "fp16", "0.00097656", False),  # more than one rounding to float16
        ("fp32", "fp16", "13.", False),
        ("fp32", "fp32", "0.00048828", False),  # nothing is made in float16 here
        ("fp16", "fp16", "0.00048828", False),
    ],
)
def test_a_failure_is_known_for_its_parameters_and_its_size(
    precision: str, table: str, difference: str, known: bool
) -> None:
    test, message = ADDRESS.format(precision, table), MESSAGE.format(difference)
    outcome = Outcome(test, "mlProgram", precision, ("constexpr_lut_to_sparse",), "failed", message)
    assert any(k.explains(outcome) for k in known_failures()) is known
