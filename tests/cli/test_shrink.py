"""shrink as a user types it: a command that succeeds while the fault is there."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from coreproof.model.load import load
from tests.cli.conftest import Ran
from tests.difference.test_diff import chain

Run = Callable[..., Ran]


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return chain("crcrcr t crcrcr").save(tmp_path / "net.onnx")


def python(program: str) -> str:
    """A shell command that runs a Python program on the candidate's bytes."""
    reading = "import sys; data = open(sys.argv[1], 'rb').read()"
    return f"{shlex.quote(sys.executable)} -c {shlex.quote(f'{reading}; {program}')}"


HOLDS_TANH = "grep -q Tanh {}"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command writes beside nothing in particular lands in the test's own folder."""
    monkeypatch.chdir(tmp_path)


def test_what_is_left_is_written_and_shown(coreproof: Run, net: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.onnx"
    ran = coreproof("shrink", net, "--while", HOLDS_TANH, "--out", small)
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0].startswith(f"{small}: 1 of 13 layers, after ")
    assert lines[1] == "  layer6  Tanh  v5 -> v6"
    assert lines[-1] == f"see it again: grep -q Tanh {small}"
    assert [n.operator for n in load(small).graph.nodes] == ["Tanh"]
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_the_path_comes_last_or_from_the_environment(coreproof: Run, net: Path, tmp_path: Path) -> None:
    for command in (python("sys.exit(b'Tanh' not in data)"), 'grep -q Tanh "$COREPROOF_MODEL" #'):
        ran = coreproof("shrink", net, "--while", command, "--out", tmp_path / "small.onnx", "--json")
        assert ran.code == 0, ran.err
        assert json.loads(ran.out)["layers"] == 1


def test_a_command_that_fails_on_the_whole_model_is_explained(coreproof: Run, net: Path, tmp_path: Path) -> None:
    ran = coreproof("shrink", net, "--while", "echo nothing like it; false", "--out", tmp_path / "small.onnx")
    assert ran.code == 2
    assert "does not see the fault in the whole model" in ran.err
    assert "exit code 1, having said: nothing like it" in ran.err
    assert "negated" in ran.err


def test_a_command_that_hangs_counts_as_failed(coreproof: Run, net: Path, tmp_path: Path) -> None:
    ran = coreproof("shrink", net, "--while", "sleep 60 #", "--timeout", 0.2, "--out", tmp_path / "small.onnx")
    assert ran.code == 2
    assert "none within 0.2 s" in ran.err


def test_nothing_can_be_left_out(coreproof: Run, tmp_path: Path) -> None:
    net = chain("t").save(tmp_path / "net.onnx")
    ran = coreproof("shrink", net, "--while", HOLDS_TANH, "--out", tmp_path / "small.onnx")
    assert ran.code == 1


def test_an_interrupted_search_keeps_its_best_and_goes_on(coreproof: Run, tmp_path: Path) -> None:
    """The command is interrupted at its fifth call, as Ctrl-C does it; the second search knows what the first had found."""
    net = chain("cr" * 30 + "t" + "cr" * 30).save(tmp_path / "net.onnx")
    small, count = tmp_path / "small.onnx", tmp_path / "count"
    command = f"echo x >> {count}; test $(wc -l < {count}) != 5 || kill -INT $PPID; {HOLDS_TANH}"
    stopped = coreproof("shrink", net, "--while", command, "--out", small)
    assert stopped.code == 130
    assert stopped.err.strip().endswith("interrupted; what was finished is kept")
    halfway = len(load(small).graph.nodes)
    assert 1 < halfway < 121
    ran = coreproof("shrink", net, "--while", command, "--out", small, "--json")
    assert ran.code == 0
    document = json.loads(ran.out)
    assert document["layers"] == 1
    calls = len(count.read_text().splitlines())
    count.unlink()
    count.write_text("x\n" * 10)
    again = coreproof("shrink", net, "--while", command, "--out", tmp_path / "other.onnx", "--json")
    assert json.loads(again.out)["layers"] == 1
    # the whole model and the candidate at which it was interrupted are asked about twice, nothing else is
    assert calls == len(count.read_text().splitlines()) - 10 + 2


def test_against_the_source_with_the_values_to_see_it(coreproof: Run, shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "legacy" / "upbilinear_torch101_oc040"
    small = tmp_path / "small.mlmodel"
    ran = coreproof("shrink", folder / "broken.mlmodel", "--against", folder / "model.onnx", "--out", small)
    assert ran.code == 0
    assert "1 of 4 layers" in ran.out
    with np.load(tmp_path / "small.npz") as stored:
        assert set(stored.files) == {"6", "expected 8"}


def test_a_model_that_does_not_run_needs_no_command(coreproof: Run, shared_data: Path, tmp_path: Path) -> None:
    broken = shared_data / "legacy" / "padconst_torch110_oc13_ios13" / "broken.mlmodel"
    ran = coreproof("shrink", broken, "--out", tmp_path / "small.mlmodel")
    assert ran.code == 0
    assert "fault: layer '6': expected 3 channels, found 5 channels in [1, 5, 16, 18]" in ran.out


def test_a_healthy_model_needs_one(coreproof: Run, net: Path) -> None:
    ran = coreproof("shrink", net)
    assert ran.code == 2
    assert "--while COMMAND" in ran.err


def test_two_ways_to_see_a_fault_are_one_too_many(coreproof: Run, net: Path) -> None:
    assert coreproof("shrink", net, "--while", "true", "--against", net).code == 2
