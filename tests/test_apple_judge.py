"""What conformance.apple takes for a failure that no runtime could avoid."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conformance import apple
from conformance.apple import Outcome, known_failures
from conformance.apple_parts import Part

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


def test_a_part_that_ran_to_its_end_is_not_run_again_and_one_that_was_cut_off_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def run(suite: Path, python: str, part: Part, folder: Path, sets: int, only: str | None) -> bool:
        ran.append(part.name)
        folder.mkdir(exist_ok=True)
        events = [
            {"ev": "predict", "test": f"{part.name}::test", "kind": "mlProgram", "ops": ["add"], "outcome": "ok"},
            {"ev": "test", "test": f"{part.name}::test", "outcome": "passed"},
        ]
        part.record(folder).write_text("".join(json.dumps(event) + "\n" for event in events))
        return part.name != "test_b"

    monkeypatch.setattr(apple, "run_part", run)
    monkeypatch.setattr(apple, "whole_suite", lambda: [Part("test/a", 0, 2), Part("test/a", 1, 2), Part("test/b")])
    monkeypatch.setattr(apple, "WHOLE_RESULTS", tmp_path / "whole.json")
    typed = ["--suite", str(tmp_path), "--sets", "0", "--records", str(tmp_path / "records")]

    assert apple.main(typed) == 0
    assert ran == ["test_a.0of2", "test_a.1of2", "test_b"]
    assert not (tmp_path / "whole.json").exists()
    monkeypatch.setattr(apple, "run_part", lambda *given: bool(run(*given)) or True)
    assert apple.main(typed) == 0
    assert ran[3:] == ["test_b"]
    recorded = json.loads((tmp_path / "whole.json").read_text())
    assert recorded["directories"] == {"test/a": {"passed": 2}, "test/b": {"passed": 1}}


def test_what_passes_whatever_is_predicted_is_not_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "vacuous_ids.txt").write_text("a::empty\n")
    part = Part("test/a")
    (tmp_path / "test_a.jsonl").write_text(
        "".join(
            json.dumps(event) + "\n"
            for test in ("a::empty", "a::full")
            for event in (
                {"ev": "predict", "test": test, "kind": "mlProgram", "ops": ["add"], "outcome": "ok"},
                {"ev": "test", "test": test, "outcome": "passed"},
            )
        )
    )
    assert part.record(tmp_path).is_file()
    apple.main(["--suite", str(tmp_path), "--read-only", "--records", str(tmp_path), "test/a"])
    assert "1 of 1 tests that reach a prediction passed" in capsys.readouterr().out
