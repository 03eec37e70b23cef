"""The worker tells apart what ends well, what is refused, what raises, and what takes its process down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
pytestmark = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="the worker watches its children through /proc"
)

# Verbs that end in every way there is, in a worker of their own with bounds of a moment and of a little memory.
PROGRAM = """
import json, os, signal, sys, time
from pathlib import Path
from conformance.fuzz import kinds, worker
from conformance.fuzz.files import Case, write
from conformance.fuzz.verbs import Verb
from coreproof.errors import EditError

def refuses(scene):
    raise EditError("no", where="here")

def raises(scene):
    from coreproof.model.coreml.weight_file import WeightFile
    WeightFile(None)

def eats(scene):
    held = []
    while True:
        held.append(b"x" * (8 << 20))

def spins(scene):
    while True:
        pass

def reads_for_ever(scene):
    os.mkfifo(scene.out / "pipe")
    (scene.out / "pipe").read_bytes()

verbs = (
    Verb("fine", lambda scene: scene.path.read_bytes()), Verb("refuses", refuses), Verb("raises", raises),
    Verb("dies", lambda scene: os.kill(os.getpid(), signal.SIGSEGV)), Verb("eats", eats), Verb("spins", spins),
    Verb("waits", reads_for_ever), Verb("leaves", lambda scene: os._exit(7)), Verb("recurs", lambda scene: (f := lambda: f())()),
    Verb("escapes", lambda scene: Path("note").write_text("x")), Verb("last", lambda scene: None),
)
case = Case("only", {"a.bin": bytes(100)}, "a.bin")
kinds.KINDS["test"] = kinds.Kind("test", lambda: [case], verbs, 1)
worker.BYTES = worker._PAGE * int(Path("/proc/self/statm").read_text().split()[1]) + (150 << 20)
folder = Path(sys.argv[1])
write(case.files, folder / "seeds" / "test" / "only")
(folder / "seeds" / "index.json").write_text(json.dumps({"test": [["only", "a.bin", 1]]}))
made = worker.Worker(folder)
# Each bound that is to be broken is small, and the others so wide that a busy machine does not come near them.
def answers(*wanted, seconds=60, idle=60):
    worker.SECONDS, worker.IDLE = seconds, idle
    return made.carry_out(1, [{"kind": "test", "number": number, "verbs": verbs} for number, verbs in wanted])

print(json.dumps([
    *answers((0, ["fine", "last"]), (1, [verb.name for verb in verbs if verb.name not in ("eats", "spins", "waits")]),
             (2, ["fine"]), (3, ["eats"])),
    *answers((4, ["spins"]), seconds=0.2), *answers((5, ["waits"]), (6, ["eats", "waits", "last"]), idle=0.2)]))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("worker")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(folder)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.thorough
def test_every_mutant_is_answered_in_its_turn(answers: list[dict[str, Any]]) -> None:
    assert [answer["number"] for answer in answers] == [0, 1, 2, 3, 4, 5, 6]
    assert [[o["verb"] for o in answer["outcomes"]] for answer in (answers[0], answers[2])] == [
        ["fine", "last"],
        ["fine"],
    ]


@pytest.mark.parametrize(
    ("verb", "end", "error"),
    [
        ("fine", "fine", ""),
        ("refuses", "refused", "EditError"),
        ("raises", "failed", "AttributeError"),
        ("dies", "died", "SIGSEGV"),
        ("leaves", "died", "exit code 7"),
        ("recurs", "failed", "RecursionError"),
        ("escapes", "escaped", "wrote outside"),
        ("last", "fine", ""),
    ],
)
def test_how_a_verb_ends(answers: list[dict[str, Any]], verb: str, end: str, error: str) -> None:
    outcome = next(o for o in answers[1]["outcomes"] if o["verb"] == verb)
    assert (outcome["end"], outcome["error"]) == (end, error)


def test_a_failure_is_known_by_its_innermost_place_in_coreproof(answers: list[dict[str, Any]]) -> None:
    outcome = next(o for o in answers[1]["outcomes"] if o["verb"] == "raises")
    assert outcome["place"].startswith("model/coreml/weight_file.py:")
    assert "'NoneType' object has no attribute" in outcome["trace"]


@pytest.mark.parametrize(
    ("number", "verb", "end"), [(3, "eats", "memory"), (4, "spins", "timeout"), (5, "waits", "timeout")]
)
def test_a_verb_without_bounds_is_ended(answers: list[dict[str, Any]], number: int, verb: str, end: str) -> None:
    (outcome,) = answers[number]["outcomes"]
    assert (outcome["verb"], outcome["end"]) == (verb, end)


def test_a_mutant_that_breaks_two_bounds_is_left_alone(answers: list[dict[str, Any]]) -> None:
    assert [o["end"] for o in answers[6]["outcomes"]] == ["memory", "timeout"]
