"""How the command line ends: faults, interrupts, closed pipes, full disks, and terminals with few letters."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from coreproof.cli import fault
from coreproof.cli.main import VERBS
from coreproof.model.load import load
from coreproof.model.onnx.model import OnnxModel
from coreproof.validation import known_shapes
from tests.build import conv_relu_onnx
from tests.cli.conftest import Ran
from tests.forked import FORKS, Commands

Run = Callable[..., Ran]
HERE = Path(__file__).resolve().parents[2]


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return OnnxModel(conv_relu_onnx(), name="net").save(tmp_path / "net.onnx")


def started(*arguments: object, **settings: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(HERE / "src"), **settings.pop("environment", {})}
    return subprocess.Popen(
        [sys.executable, "-m", "coreproof", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **settings,
    )


def broken(*arguments: Any, **settings: Any) -> Any:
    raise KeyError("a name that\x1b[2J nobody has" * 20)


def test_a_fault_is_one_screen_and_a_file(
    coreproof: Run, net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_shapes, "with_shapes", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ran = coreproof("show", net, "--head", 3)
    assert ran.code == 3
    lines = ran.err.splitlines()
    assert len(lines) <= 24
    assert all(len(line) <= 80 or str(tmp_path) in line for line in lines)
    assert "Traceback" not in ran.err
    assert "\x1b" not in ran.err
    place = re.search(r"place +coreproof/cli/show\.py:\d+, in command", ran.err)
    assert place is not None
    for said in (
        "fault of coreproof",
        "version",
        "verb       show",
        "net.onnx",
        "KeyError",
        "report it",
        "SECURITY.md",
    ):
        assert said in ran.err
    kept = re.search(r"traceback +(\S+)", ran.err)
    assert kept is not None
    written = Path(kept[1]).read_text(encoding="utf-8")
    assert "Traceback" in written
    assert "in broken" in written


@pytest.mark.parametrize("place", ["before", "after", "environment"])
def test_debug_shows_the_traceback(coreproof: Run, net: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setattr(known_shapes, "with_shapes", broken)
    if place == "environment":
        monkeypatch.setenv(fault.DEBUG, "1")
    arguments = {"before": ["--debug", "show", net], "after": ["show", net, "--debug"]}.get(place, ["show", net])
    ran = coreproof(*arguments)
    assert ran.code == 3
    assert "Traceback (most recent call last)" in ran.err
    assert "\x1b" not in ran.err
    assert (fault.DEBUG in os.environ) == (place == "environment")


def test_debug_shows_where_bad_input_was_found(coreproof: Run, tmp_path: Path) -> None:
    ran = coreproof("show", tmp_path / "none.onnx", "--debug")
    assert ran.code == 2
    assert "Traceback" in ran.err
    assert "Traceback" not in coreproof("show", tmp_path / "none.onnx").err


def test_an_error_that_has_no_number_of_the_system_is_a_fault(
    coreproof: Run, net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raising(*arguments: Any) -> Any:
        raise OSError("decoder error -2")

    monkeypatch.setattr(known_shapes, "with_shapes", raising)
    assert coreproof("show", net).code == 3


@pytest.mark.sweep(2)
@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize("wait", [0.05, 0.15, 0.3, 0.5, 0.8])
def test_ctrl_c_ends_with_130_from_the_first_moment(net: Path, wait: float) -> None:
    """At whatever moment: while Python starts (which is not ours, and dies of the signal), while we import, while we work."""
    lineup = started("verify", net, net, start_new_session=True)
    time.sleep(wait)
    lineup.send_signal(signal.SIGINT)
    _out, err = lineup.communicate(timeout=60)
    if lineup.returncode == 0:
        pytest.skip("it was done before")
    if "coreproof" not in err:  # our code was not reached: Python's own start was interrupted
        assert lineup.returncode in (130, -signal.SIGINT, 1)
    if lineup.returncode == 130:
        assert "Traceback" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_ctrl_c_while_the_verbs_are_imported_leaves_no_traceback(tmp_path: Path) -> None:
    """An import that takes long, in the middle of coreproof's own."""
    (tmp_path / "typer.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    path = f"{tmp_path}{os.pathsep}{HERE / 'src'}"
    process = started("show", "a.onnx", environment={"PYTHONPATH": path}, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    _out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "interrupted; what was finished is kept\n"


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_what_a_library_makes_of_an_interrupt_is_still_one(tmp_path: Path) -> None:
    program = """
import os, signal, sys, time
from coreproof.cli import interrupt, show
interrupt.at_start()
def swallowing(*a, **k):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    except KeyboardInterrupt:
        raise ImportError("numpy.core failed to import")
import coreproof.model.load
coreproof.model.load.load = swallowing
from coreproof.cli.main import main
sys.argv = ["coreproof", "show", "a.onnx"]
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(HERE / "src")},
    )
    assert done.returncode == 130
    assert done.stderr == "interrupted; what was finished is kept\n"


def diverging(folder: Path, layers: int = 400) -> tuple[Path, Path]:
    """Two models that disagree, with more to say than a pipe holds."""
    made = []
    for scale in (1.0, 3.0):
        names = ["x", *(f"a_value_with_a_rather_long_name_{n}" for n in range(layers - 1)), "y"]
        nodes = [onnx.helper.make_node("Mul", [a, "w"], [b]) for a, b in itertools.pairwise(names)]
        nodes[-1] = onnx.helper.make_node("Mul", [names[-2], "v"], ["y"])
        weights = [
            onnx.numpy_helper.from_array(np.ones(4, np.float32), "w"),
            onnx.numpy_helper.from_array(np.full(4, scale, np.float32), "v"),
        ]
        ends = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 4]) for n in ("x", "y")]
        graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
        path = folder / f"net{scale:g}.onnx"
        onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), path)
        made.append(path)
    return made[0], made[1]


@pytest.mark.sweep(1)
@pytest.mark.skipif(sys.platform == "win32", reason="a pipe's end is POSIX's here")
@pytest.mark.parametrize("buffered", ["", "1"])
@pytest.mark.parametrize(
    ("verb", "code"),
    [(("show",), 0), (("show", "--json"), 0), (("verify", "--rows", 0), 1)],
    ids=["show", "show as JSON", "verify"],
)
def test_a_reader_who_goes_away_leaves_the_verb_its_own_code(
    tmp_path: Path, verb: tuple[object, ...], code: int, buffered: str
) -> None:
    name, *options = verb
    left, right = diverging(tmp_path)
    models = (left, right) if name == "verify" else (left,)
    process = started(name, *models, *options, environment={"PYTHONUNBUFFERED": buffered})
    assert process.stdout is not None
    assert process.stdout.read(1)
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        said = process.stderr.read()
    assert process.wait(timeout=60) == code, said
    assert said == ""


def on_two(left: Path, right: Path) -> list[tuple[tuple[object, ...], int]]:
    """Verbs with their exit codes: one of each."""
    return [
        (("show", left), 0),
        (("verify", left, right), 1),
        (("show", left.parent / "absent.onnx"), 2),
        (("convert", left, left.parent / "made.mlmodel"), 0),
    ]


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform == "win32", reason="the shell that closes streams is POSIX's here")
@pytest.mark.parametrize(("closed", "which"), [(">&-", 0), ("2>&-", 1), ("<&-", 2), ("<&- >&- 2>&-", 3)])
def test_a_stream_that_was_closed_before_the_start_leaves_the_verb_its_own_code(
    tmp_path: Path, closed: str, which: int
) -> None:
    arguments, code = on_two(*diverging(tmp_path, layers=4))[which]
    done = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", sys.executable, "-m", "coreproof", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(HERE / "src")},
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    if arguments[0] == "convert":
        assert load(tmp_path / "made.mlmodel").graph.nodes, "nothing that was printed went into the file"


@pytest.mark.thorough
@pytest.mark.skipif(not FORKS, reason="without a fork a shell closes the streams, in the test above")
@pytest.mark.parametrize("closed", [(1,), (2,), (0,), (0, 1, 2)])
def test_every_verb_leaves_its_own_code_without_a_stream(
    tmp_path: Path, closed: tuple[int, ...], forked: Commands
) -> None:
    for arguments, code in on_two(*diverging(tmp_path, layers=4)):
        ended = forked.run(*arguments, folder=tmp_path, seconds=120, closed=closed)
        assert ended.code == code, (arguments, ended.err)
        assert b"Traceback" not in ended.err
    assert load(tmp_path / "made.mlmodel").graph.nodes, "nothing that was printed went into the file"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device here")
def test_a_full_disk_is_said_and_no_success(net: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(HERE / "src")}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "coreproof", "show", str(net)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            timeout=60,
        )
    assert done.returncode == 2
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.sweep(1)
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_what_an_encoding_does_not_have_is_plain_letters(tmp_path: Path, encoding: str, forked: Commands) -> None:
    left, right = diverging(tmp_path, layers=4)
    for arguments, code in (
        (("verify", left, right), 1),
        (("verify", left, left), 0),
        (("verify", left, "--half"), 0),
        (("doctor", left, "--against", right), 1),
        (("diff", left, right), 1),
        (("show", left), 0),
        (("--help",), 0),
        (("verify", "--help"), 0),
        (("show", tmp_path / "✓.onnx"), 2),
        (("show", left, "--no-such-✓"), 2),
    ):
        ended = forked.run(*arguments, folder=tmp_path, seconds=120, encoding=encoding, COLUMNS="120")
        out, err = ended.out.decode(encoding), ended.err.decode(encoding)
        assert ended.code == code, (arguments, out, err)
        assert "Traceback" not in err
        assert "codec" not in out + err
        if arguments[:3] == ("verify", left, right):
            assert ("▶" if encoding == "utf-8" else ">") in out


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_explains_itself_whatever_its_help_holds(verb: str, coreproof: Run) -> None:
    # "[/FILE]" in a help text was taken for the end of a style
    ran = coreproof(verb, "--help")
    assert ran.code == 0, ran.err
    assert "Usage" in ran.out
