"""Verbs killed with SIGKILL at random moments while they replace an old output: the old one is whole, or the new one.

    python -m conformance.write_kill --kills 80 --seed 0

Starts the real command line as a child, over seeded models that it makes itself. Of each verb two undisturbed runs, over two
sources, say what the old and the new output are; then runs that would replace the old by the new are killed, at moments spread
over the whole run. Each time the outputs, hidden files left out, must be all old or all new, byte for byte (times that are
recorded left out); what a kill between two of several outputs leaves to the next run may be put right by it first, and is
counted. After an undisturbed run no hidden leftover may be there, neither in the output folder nor in the temporary one.
Writes conformance/results/write_kill.json.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from conformance.origin import write_record
from coreproof.model.files.atomic import replacing

RESULTS = Path(__file__).parent / "results" / "write_kill.json"
_LATE = 0.6
"""How much of the kills falls into the last two fifths of a run, where outputs are written and put in place."""

LINEUP = """
[feed]
size = [16, 16]
scale = 0.01
[models.first]
source = "net.onnx"
[models.second]
from = "first"
convert = "neuralnetwork"
"""


@dataclass(frozen=True)
class Verb:
    """What is typed (SOURCE stands for the folder of models), where it writes, and what of its outputs holds a time."""

    name: str
    command: str
    outputs: tuple[str, ...]
    exit_codes: tuple[int, ...] = (0,)


VERBS = (
    Verb("convert", "convert SOURCE/net.onnx out.mlpackage", ("out.mlpackage",)),
    Verb("convert to a file", "convert SOURCE/net.onnx out.mlmodel", ("out.mlmodel",)),
    Verb("edit", "edit SOURCE/data/net.onnx out.onnx --do|rename c d", ("out.onnx", "weights.bin")),
    Verb("edit a package", "edit SOURCE/net.mlpackage out.mlpackage --do|rename c d", ("out.mlpackage",)),
    Verb(
        "doctor --fix",
        "doctor SOURCE/broken.mlmodel --against SOURCE/net.onnx --fix out.mlmodel",
        ("out.mlmodel", "out.edits.toml"),
        (1,),
    ),
    Verb("split", "split SOURCE/both.mlpackage out", ("out",)),
    Verb("join", "join SOURCE/one.mlpackage SOURCE/two.mlpackage out.mlpackage", ("out.mlpackage",)),
    Verb("upgrade", "upgrade SOURCE/net.mlmodel out.mlpackage", ("out.mlpackage",)),
    Verb("record", "verify SOURCE/net.onnx --save out.npz", ("out.npz",)),
    Verb("app --replace", "app SOURCE/picture.mlpackage --photos SOURCE/photos --out out --replace", ("out",)),
    Verb(
        "compare",
        "compare SOURCE/lineup.toml --photos SOURCE/photos --out out --workers 1 --store store",
        ("out/index.html", "out/comparison.json"),
    ),
    Verb("prove", "prove SOURCE/net.onnx --photos SOURCE/photos --out out --size 16 --scale 0.01", ("out",), (0, 1)),
)


# what the verbs read


def make_sources(folder: Path, seed: int) -> None:
    """Seeded models in every form, a broken one, a pipeline, photos."""
    import coreproof as cp
    from coreproof.conversion.onnx_to_coreml.convert import ImageInput

    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    net = folder / "net.onnx"
    _network(net, rng)
    (folder / "data").mkdir()
    onnx.save_model(
        onnx.load(net),
        folder / "data" / "net.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    plain = cp.convert(net, "neuralnetwork")
    plain.save(folder / "net.mlmodel")
    cp.convert(net, "mlprogram").save(folder / "net.mlpackage")
    cp.convert(net, "mlprogram", images={"x": ImageInput(scale=0.01)}).save(folder / "picture.mlpackage")
    flat = next(n for n in plain.graph.nodes if "targetShape" in n.attributes)
    bake = cp.Edit("set", {"layer": flat.name, "attribute": "targetShape", "value": [4, -1]})
    cp.edit(plain, [bake], check=False).model.save(folder / "broken.mlmodel")
    for name, reads, makes in (("one", "x", "m"), ("two", "m", "y")):
        _convolution(folder / f"{name}.onnx", rng, name, reads, makes)
        cp.convert(folder / f"{name}.onnx", "mlprogram").save(folder / f"{name}.mlpackage")
    stages = [cp.load(folder / "one.mlpackage"), cp.load(folder / "two.mlpackage")]
    cp.join(stages, name="both").save(folder / "both.mlpackage")
    (folder / "lineup.toml").write_text(LINEUP)
    (folder / "photos").mkdir()
    for number in range(6):
        pixels = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{number}.png")


def _network(path: Path, rng: np.random.Generator) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("Conv", ["r", "w2"], ["c2"], name="conv2", pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c2"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "g", "h"], ["y"], name="gemm"),
    ]
    weights = {"w": (64, 3, 3, 3), "b": (64,), "w2": (512, 64, 3, 3), "g": (512, 1000), "h": (1000,)}
    _save(path, "net", nodes, ("x", [1, 3, 16, 16]), ("y", [1, 1000]), _drawn(rng, weights))


def _convolution(path: Path, rng: np.random.Generator, name: str, reads: str, makes: str) -> None:
    node = helper.make_node("Conv", [reads, "w"], [makes], name=name, pads=[1, 1, 1, 1])
    shape = [1, 64, 16, 16]
    _save(path, name, [node], (reads, shape), (makes, shape), _drawn(rng, {"w": (64, 64, 3, 3)}))


def _drawn(rng: np.random.Generator, shapes: dict[str, tuple[int, ...]]) -> list[Any]:
    return [numpy_helper.from_array((0.1 * rng.normal(size=s)).astype(np.float32), n) for n, s in shapes.items()]


def _save(path: Path, name: str, nodes: list[Any], fed: Any, made: Any, weights: list[Any]) -> None:
    features = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, s)] for n, s in (fed, made)]
    graph = helper.make_graph(nodes, name, *features, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)


# one verb


@dataclass
class Trial:
    """A folder in which one verb writes, again and again."""

    verb: Verb
    folder: Path
    sources: tuple[Path, Path]
    temporary: Path
    wrong: list[str] = field(default_factory=list)
    finished_by_the_next_run: int = 0

    def start(self, source: Path) -> subprocess.Popen[bytes]:
        """The command line as a person types it. It reads SOURCE by the same name whichever it is, so that outputs are equal."""
        link = self.folder / "source"
        link.unlink(missing_ok=True)
        link.symlink_to(source)
        head, _, edit = self.verb.command.replace("SOURCE", "source").partition("|")
        command = [sys.executable, "-m", "coreproof.cli.main", *head.split(), *([edit] if edit else [])]
        log = (self.folder.parent / f"{self.folder.name}.log").open("wb")
        with log:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, "TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1"},
            )

    def finish(self, source: Path) -> float:
        """Runs to the end; returns the seconds. Raises RuntimeError where the run fails."""
        started = time.monotonic()
        code = self.start(source).wait()
        if code not in self.verb.exit_codes:
            said = (self.folder.parent / f"{self.folder.name}.log").read_text(errors="replace")
            raise RuntimeError(f"{self.verb.name}: exit code {code}:\n{said[-3000:]}")
        return time.monotonic() - started

    def killed(self, source: Path, after: float) -> bool:
        """Starts and kills, children too, after so many seconds; False for a run that ended before."""
        child = self.start(source)
        try:
            child.wait(after)
            return False
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            return True

    def content(self) -> dict[str, str]:
        """A digest of every file of the outputs by its name; hidden ones, and stores, which grow, are left out."""
        found: dict[str, str] = {}
        for output in self.verb.outputs:
            top = self.folder / output
            for path in sorted(top.rglob("*")) if top.is_dir() else [top] if top.exists() else []:
                name = path.relative_to(self.folder).as_posix()
                if (
                    path.is_file()
                    and not any(part.startswith(".") for part in name.split("/"))
                    and "store/" not in name
                ):
                    found[name] = hashlib.blake2b(_without_times(path), digest_size=12).hexdigest()
        return found

    def leftovers(self) -> list[str]:
        """Hidden files in the output folders, and what stands in the temporary folder."""
        hidden = [p for p in self.folder.rglob(".*") if p.name != ".writing"]
        scratch = list(self.folder.rglob(".writing/*"))
        return [p.name for p in (*hidden, *scratch, *self.temporary.glob("coreproof-*"))]

    def expect(self, holds: bool, otherwise: str) -> None:
        """Notes what does not hold."""
        if not holds:
            self.wrong.append(f"{self.verb.name}: {otherwise}")
            print(f"  WRONG: {otherwise}", flush=True)


def _without_times(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix in (".json", ".html"):
        content = re.sub(rb'"?(seconds|milliseconds)"?: ?[0-9.e+-]+|[0-9.]+ (s|ms|min)\b', b"", content)
        content = re.sub(rb'"milliseconds": ?null|&thinsp;|[0-9.]+&nbsp;(s|ms)', b"", content)
    return content


def kill_often(trial: Trial, kills: int, rng: random.Random) -> list[dict[str, Any]]:
    """Kills runs that would replace the old output by the new, each beginning with the old one."""
    before, after = trial.sources
    trial.finish(before)
    old = trial.content()
    trial.finish(after)
    new = trial.content()
    trial.expect(bool(old) and old != new, "the old and the new output are the same")
    seconds = trial.finish(before)
    trial.expect(trial.content() == old, "the same source gave another output")
    trial.expect(not trial.leftovers(), f"an undisturbed run left {trial.leftovers()}")
    records: list[dict[str, Any]] = []
    while len(records) < kills:
        number = len(records)
        share = 0.6 + 0.4 * rng.random() if rng.random() < _LATE else rng.random()
        if not trial.killed(after, share * seconds):  # quicker than the last one was
            seconds = trial.finish(before)
            continue
        now = trial.content()
        state = "old" if now == old else "new" if now == new else "mixed"
        left = len(trial.leftovers())
        if state == "mixed":  # killed between two of several outputs: the next run into the folder comes first
            shutil.copytree(trial.folder, trial.folder.with_name("mixed"), symlinks=True)
            with replacing(_beside(trial)) as fresh:
                fresh.write_text("the next run")
            _beside(trial).unlink()
            now = trial.content()
            trial.finished_by_the_next_run += now in (old, new)
            trial.expect(now in (old, new), f"killed after {share:.0%} of a run, the output is neither old nor new")
            shutil.rmtree(trial.folder.with_name("mixed"))
        seconds = trial.finish(before)
        trial.expect(trial.content() == old, f"kill {number}: the next run gave another output")
        trial.expect(not trial.leftovers(), f"kill {number}: {trial.leftovers()} are left after the next run")
        records.append({"share_of_the_run": round(share, 2), "output": state, "leftovers_then": left})
        print(f"{trial.verb.name} {number + 1}/{kills}: {records[-1]}", flush=True)
    return records


def _beside(trial: Trial) -> Path:
    """A file in the folder in which the verb stages what it writes."""
    first = trial.folder / trial.verb.outputs[0]
    staged_inside = trial.verb.name in ("prove", "split", "compare")
    return (trial.folder / "out" if staged_inside else first.parent) / "another.txt"


def main() -> None:
    """Kills every verb; exit code 1 if anything is neither old nor new, or left over."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=80, help="in all, spread over the verbs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="the verbs whose name begins so")
    given = parser.parse_args()
    rng = random.Random(given.seed)
    verbs = [verb for verb in VERBS if given.only is None or verb.name.startswith(given.only)]
    told: dict[str, Any] = {}
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="write-kill-") as name:
        folder = Path(name)
        sources = (folder / "before", folder / "after")
        for number, source in enumerate(sources):
            make_sources(source, given.seed + number)
        for index, verb in enumerate(verbs):
            share = given.kills // len(verbs) + (index < given.kills % len(verbs))
            trial = Trial(verb, folder / f"trial{index}", sources, folder / f"temporary{index}")
            trial.folder.mkdir()
            trial.temporary.mkdir()
            records = kill_often(trial, share, rng)
            wrong += trial.wrong
            told[verb.name] = {
                "command": verb.command.replace("|", " "),
                "kills": len(records),
                "outputs": dict(Counter(record["output"] for record in records)),
                "left_something_hidden": sum(record["leftovers_then"] > 0 for record in records),
                "finished_by_the_next_run": trial.finished_by_the_next_run,
                "moments": records,
            }
    result = {
        "command": f"python -m conformance.write_kill --kills {given.kills} --seed {given.seed}",
        "commit": _commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "kills": sum(entry["kills"] for entry in told.values()),
        "wrong": wrong,
        "verbs": told,
    }
    if given.only is None:
        write_record(RESULTS, result)
    print(f"{result['kills']} kills, {len(wrong)} wrong")
    sys.exit(1 if wrong else 0)


def _commit() -> str:
    told = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return told.stdout.strip()


if __name__ == "__main__":
    main()
