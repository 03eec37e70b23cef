"""What conformance.apple takes for a failure that no runtime could avoid."""

from __future__ import annotations

import ast
import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from conformance import apple
from conformance.apple import Outcome, known_failures
from conformance.apple_parts import SLICE, Part

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


def test_a_slice_runs_all_its_parts_and_each_in_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: dict[str, tuple[int | None, str | None]] = {}

    def run(
        suite: Path, python: str, part: Part, folder: Path, sets: int, only: str | None, workers: int | None = None
    ) -> bool:
        ran[part.directory] = (workers, only)
        folder.mkdir(exist_ok=True)
        outcome = "failed" if part.directory == SLICE[1] else "passed"
        events = [
            {"ev": "predict", "test": f"{part.name}::test", "kind": "mlProgram", "ops": ["add"], "outcome": "ok"},
            {"ev": "test", "test": f"{part.name}::test", "outcome": outcome, "msg": "off"},
        ]
        part.record(folder).write_text("".join(json.dumps(event) + "\n" for event in events))
        return True

    monkeypatch.setattr(apple, "run_part", run)
    assert apple.main(["--suite", str(tmp_path), "--slice", "--records", str(tmp_path / "records")]) == 1
    assert ran == dict.fromkeys(SLICE, (0, apple.SLICE_ONLY))
    assert f"{len(SLICE) - 1} of {len(SLICE)} tests that reach a prediction passed" in capsys.readouterr().out


def test_what_is_left_out_of_a_slice_as_the_same_is_in_it_under_its_other_name() -> None:
    """Each test_X_gpu calls its test_X_cpu, or does the same for another unit."""
    found = find_spec("coremltools")
    assert found is not None
    assert found.origin is not None
    file = Path(found.origin).parent.joinpath(*SLICE[2].split("/"))
    if not file.is_file():
        pytest.skip("this coremltools comes without its tests")
    functions = {f.name: f for f in ast.walk(ast.parse(file.read_text())) if isinstance(f, ast.FunctionDef)}
    twins = [name.removesuffix("_gpu") for name in functions if name.startswith("test_") and name.endswith("_gpu")]
    assert len(twins) > 50
    for name in twins:
        cpu, gpu = (_said(functions[f"{name}_{unit}"]) for unit in ("cpu", "gpu"))
        whole = "model_precision=_MLMODEL_FULL_PRECISION"  # what test_X_cpu takes where it is not told
        calls = (f"self.{name}_cpu(cpu_only=False)", f"self.{name}_cpu({whole}, cpu_only=False)")
        assert gpu in calls or gpu == cpu.replace("True", "False"), name


def _said(function: ast.FunctionDef) -> str:
    """The body, without what gives a test up or sows its random numbers."""
    lines = [ast.unparse(line) for line in function.body]
    return "\n".join(line for line in lines if "pytest.xfail" not in line and not line.startswith("np.random.seed("))
