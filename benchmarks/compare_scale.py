"""`compare` over a million photos whose predictions are drawn, not computed: store, statistics and page, time and memory.

    python -m benchmarks.compare_scale [--photos 10000,100000,1000000] [--models 6] [--folder FOLDER] [--keep]
        [--pictures FOLDER]

Needs about 24 kB of disk a photo for six models of 1,000 classes. Each step is a process of its own: filling the store with
drawn predictions, the statistics and the page (`compare` finds everything predicted and stored), and the same again, as after
a change of the page. Writes benchmarks/SCALE.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from coreproof.comparison.source import Listed, PhotoSource
from coreproof.errors import PhotoError

ROOT = Path(__file__).resolve().parent.parent
CLASSES = 1000
STEPS = ("fill", "compare", "again")


class DrawnPhotos(PhotoSource):
    """So many photos in so many folders that nobody ever took."""

    def __init__(self, count: int, pictures: Path | None = None) -> None:
        self.count = count
        self.pictures = [] if pictures is None else sorted(pictures.glob("*.jpg"))
        self.where = f"{count:,} drawn photos"

    def listed(self) -> Iterator[Listed]:
        for k in range(self.count):
            yield Listed(name(k), 100_000 + k % 1000, "1")

    def read(self, photo: str) -> bytes:
        if not self.pictures:
            raise PhotoError("nobody took this photo", where=photo)
        return self.pictures[number(photo) % len(self.pictures)].read_bytes()


def name(k: int) -> str:
    return f"folder {k // 1000:04}/IMG_{k:07}.jpg"


def number(photo: str) -> int:
    return int(photo[-11:-4])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", default="10000,100000,1000000")
    parser.add_argument("--models", type=int, default=6)
    parser.add_argument("--folder", type=Path, help="where the stores go (default: a temporary one)")
    parser.add_argument("--pictures", type=Path, help="a folder of JPEGs for the page's thumbnails")
    parser.add_argument("--keep", action="store_true", help="leave the stores and pages where they are")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "SCALE.md")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        count = int(options.photos)
        print(json.dumps(fill(options, count) if options.step == "fill" else statistics(options, count)))
        return
    folder = options.folder or Path(tempfile.mkdtemp(prefix="coreproof-scale-"))
    rows = []
    try:
        for count in map(int, options.photos.split(",")):
            place = folder / str(count)
            rows.append({"photos": count, **{step: child(step, options, place, count) for step in STEPS}})
            rows[-1]["disk"] = sum(p.stat().st_size for p in place.rglob("*") if p.is_file()) / 2**30
            Console().print(rows[-1])
            if not options.keep:
                shutil.rmtree(place)
    finally:
        if not options.keep and options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    options.out.write_text(report(options, rows), encoding="utf-8")
    Console().print(options.out.read_text(encoding="utf-8"), markup=False)


def child(step: str, options: argparse.Namespace, place: Path, count: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.compare_scale", "--step", step, "--photos", str(count)]
    command += ["--models", str(options.models), "--folder", str(place)]
    if options.pictures is not None:
        command += ["--pictures", str(options.pictures.resolve())]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(done.stderr)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def lineup(options: argparse.Namespace) -> Any:
    """Small models that stand for the ones whose predictions are drawn; none of them is ever run."""
    import onnx
    from onnx import TensorProto, helper

    from coreproof.comparison.lineup import Lineup, LineupEntry
    from coreproof.model.feeding import Feeding
    from coreproof.model.load import load

    entries = []
    for number in range(options.models):
        path = options.folder / "models" / f"model{number}.onnx"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            weights = np.random.default_rng(number).normal(size=(3, CLASSES)).astype(np.float32)
            x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
            y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, CLASSES])
            nodes = [
                helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3], keepdims=0),
                helper.make_node("MatMul", ["m", "w"], ["y"]),
            ]
            graph = helper.make_graph(nodes, "g", [x], [y], [onnx.numpy_helper.from_array(weights, "w")])
            onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
        entries.append(LineupEntry(f"model{number}", load(path), feeding=Feeding(size=(8, 8))))
    return Lineup(tuple(entries), title="A simulation")


def fill(options: argparse.Namespace, count: int) -> dict[str, Any]:
    """Draws what every model says about every photo, as the workers would store it."""
    from coreproof.comparison.plan import Slice, make_plan
    from coreproof.comparison.predictor import Calibration
    from coreproof.comparison.store import Shard, Store
    from coreproof.comparison.variants import ModelFactory

    models = lineup(options)
    factory, store = ModelFactory(models), Store(options.folder / "store")
    keys = {model: factory.key(model) for model in models.names}
    started = time.perf_counter()
    for model, key in keys.items():
        about = Calibration(model, "onnx", "drawn", "nobody", (), (), CLASSES, True, 1)
        store.write_model(key, about.to_json())
    with (options.folder / "labels.csv").open("w") as labels:
        labels.write("file,class_index\n")
        labels.writelines(f"{name(k)},{k % CLASSES}\n" for k in range(count))
    plan = make_plan(DrawnPhotos(count), store)
    planned = time.perf_counter() - started

    def draw(piece: Slice) -> None:
        rng = np.random.default_rng(int(piece.key[:8], 16))
        photos = tuple(p.member.photo for p in piece.photos)
        store.write_slice(piece.key, [replace(p.member, content=f"{hash(p.member.photo):x}") for p in piece.photos])
        common = rng.standard_normal((len(photos), CLASSES), np.float32) * 2
        common[np.arange(len(photos)), [number(photo) % CLASSES for photo in photos]] += 6
        for key in keys.values():
            scores = np.exp(common + rng.standard_normal(common.shape, np.float32))
            shard = Shard(photos, (None,) * len(photos), scores / scores.sum(axis=1, keepdims=True))
            store.write_shard(key, piece.key, shard)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        slices = plan.slices()
        while piece := [s for s in (next(slices, None) for _ in range(32)) if s is not None]:
            list(pool.map(draw, piece))
    return {"seconds": time.perf_counter() - started, "planning": planned, "peak": peak()}


def statistics(options: argparse.Namespace, count: int) -> dict[str, Any]:
    """What `compare` does when everything is predicted: the plan, the statistics, the page."""
    from coreproof.comparison.compare import compare
    from coreproof.report.page import page

    started = time.perf_counter()
    found = compare(
        lineup(options),
        DrawnPhotos(count, options.pictures),
        options.folder / "store",
        labels=options.folder / "labels.csv",
    )
    compared = time.perf_counter() - started
    written = page(found, options.folder / "page")
    assert found.count == count
    return {
        "seconds": time.perf_counter() - started,
        "compare": compared,
        "peak": peak(),
        "page": written.stat().st_size,
        "json": (written.parent / "comparison.json").stat().st_size,
        "agreement": found.agreement()["model0"]["model1"],
    }


def peak() -> float:
    """The most memory that this process ever had, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 2**20)


def report(options: argparse.Namespace, rows: list[dict[str, Any]]) -> str:
    lines = [
        "# compare over a million photos, simulated",
        "",
        f"By `python -m benchmarks.compare_scale --photos {options.photos} --models {options.models}`: {os.cpu_count()} "
        f"cores, {platform.machine()}, Python {platform.python_version()}. Predictions ({CLASSES:,} classes) are drawn, not "
        "computed; the rest is what `compare` does. Each step is a process of its own; memory is the most it ever had, "
        "imports included.",
        "",
        "| photos | store, GiB | planning and filling, s | MiB | statistics and page, s | MiB | again, s | MiB "
        "| page, MB | json, MB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        fill, first, again = row["fill"], row["compare"], row["again"]
        lines.append(
            f"| {row['photos']:,} | {row['disk']:.1f} | {fill['seconds']:.0f} | {fill['peak']:.0f} | {first['seconds']:.0f} "
            f"| {first['peak']:.0f} | {again['seconds']:.0f} | {again['peak']:.0f} | {first['page'] / 1e6:.2f} "
            f"| {first['json'] / 1e6:.2f} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
