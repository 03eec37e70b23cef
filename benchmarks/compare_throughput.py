"""How much of `compare`'s time the engines work, over many photos; and whether its memory grows with them.

    python -m benchmarks.compare_throughput --data FOLDER [--count 1000] [--workers N] [--models a,b,...]

FOLDER holds what examples/squeezenet.toml names, and photos/, which are copied until there are ``--count``. Two figures: the
engines' own seconds in the run over wall time times workers; and, stricter, the time that the engines alone need for the same
predictions from tensors that lie ready, over the run's. Every run is a process of its own. Writes benchmarks/COMPARE.md.
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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

ROOT = Path(__file__).resolve().parent.parent
SIX = "torchm,t2o,t2c,onnxm,o2c,cml"
AIM = 0.95
MEMORY = "250,4000"
READY = 64
"""Photos whose tensors lie ready for the engines alone."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--models", default=SIX)
    parser.add_argument("--memory", default=MEMORY, help="more numbers of photos, for the memory alone")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "COMPARE.md")
    parser.add_argument("--one", choices=("run", "alone"), help=argparse.SUPPRESS)
    parser.add_argument("--photos", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    from coreproof.comparison.workers import processors

    options.workers = options.workers or processors()
    if options.one:
        print(json.dumps(run(options) if options.one == "run" else alone(options)))
        return
    with tempfile.TemporaryDirectory(prefix="coreproof-bench-") as scratch:
        photos = copies(options.data / "photos", Path(scratch) / "photos", options.count)
        whole = child("run", options, photos)
        engines = child("alone", options, photos)
        memory = {options.count: whole["peak"]}
        for count in track([int(n) for n in options.memory.split(",") if n], "memory", transient=True):
            memory[count] = child("run", options, copies(options.data / "photos", Path(scratch) / str(count), count))[
                "peak"
            ]
    text = report(options, whole, engines, dict(sorted(memory.items())))
    options.out.write_text(text, encoding="utf-8")
    Console().print(text, markup=False)


def copies(source: Path, target: Path, count: int) -> Path:
    """So many photos: those of a folder, copied under other names as often as it takes."""
    files = sorted(p for p in source.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    target.mkdir()
    for k in range(count):
        file = files[k % len(files)]
        shutil.copyfile(file, target / f"{k:06}{file.suffix}")
    return target


def child(what: str, options: argparse.Namespace, photos: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.compare_throughput", "--one", what, "--data", str(options.data)]
    command += ["--photos", str(photos), "--workers", str(options.workers), "--models", options.models]
    done = subprocess.run([*command, "--count", str(options.count)], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(done.stderr)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def lineup(options: argparse.Namespace) -> Any:
    from coreproof.comparison.lineup import load_lineup

    whole = load_lineup(ROOT / "examples" / "squeezenet.toml", data=options.data)
    wanted = options.models.split(",")
    return replace(whole, entries=tuple(e for e in whole.entries if e.name in wanted), attributions=())


def run(options: argparse.Namespace) -> dict[str, Any]:
    """The whole comparison, into a store of its own."""
    from coreproof.comparison.compare import compare

    heard: dict[str, list[float]] = {}

    def progress(what: str, done: int, total: int) -> None:
        heard.setdefault(what, []).append(time.perf_counter())

    with tempfile.TemporaryDirectory(prefix="coreproof-bench-") as store:
        started = time.perf_counter()
        found = compare(lineup(options), options.photos, store, workers=options.workers, progress=progress)
        wall = time.perf_counter() - started
        timings = [json.loads(path.read_text()) for path in Path(store, "timings").rglob("*.json")]
    return {
        "photos": found.count,
        "wall": wall,
        "predicting": heard["photos"][-1] - heard["photos"][0],
        "statistics": heard["statistics"][-1] - heard["photos"][-1],
        "engines": sum(timing["seconds"] for timing in timings),
        "milliseconds": {model.name: model.milliseconds for model in found.models},
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 2**20,
    }


def alone(options: argparse.Namespace) -> dict[str, Any]:
    """The engines alone, as many at once as there are workers, over as many photos."""
    from coreproof.comparison.predictor import Predictor
    from coreproof.comparison.variants import ModelFactory
    from coreproof.feeding.pictures import open_picture

    models = lineup(options)
    factory = ModelFactory(models)
    pictures = [open_picture(file) for file in sorted(options.photos.iterdir())[:READY]]
    predictors = [Predictor(entry, factory.model(entry.name), factory.feeding(entry.name)) for entry in models.entries]
    ready = [[predictor.prepare(picture) for picture in pictures] for predictor in predictors]
    for predictor, tensors in zip(predictors, ready, strict=True):
        predictor.calibrate(tensors[0])
    count = len(list(options.photos.iterdir()))

    def work(share: int) -> None:
        for start in range(0, share, 8):
            for predictor, tensors in zip(predictors, ready, strict=True):
                predictor.probabilities([tensors[k % READY] for k in range(start, min(start + 8, share))])

    shares = [count // options.workers + (k < count % options.workers) for k in range(options.workers)]
    with ThreadPoolExecutor(options.workers) as pool:
        started = time.perf_counter()
        list(pool.map(work, shares))
        return {"predicting": time.perf_counter() - started}


def report(
    options: argparse.Namespace, whole: dict[str, Any], engines: dict[str, Any], memory: dict[int, float]
) -> str:
    share = whole["engines"] / (whole["predicting"] * options.workers)
    strict = engines["predicting"] / whole["predicting"]
    more = "" if options.memory == MEMORY else f" --memory {options.memory}"
    versions = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "torch", "numpy", "pillow"))
    lines = [
        "# compare, measured",
        "",
        f"By `python -m benchmarks.compare_throughput --data FOLDER --count {options.count}{more}`: {os.cpu_count()} cores, "
        f"{platform.machine()}, Python {platform.python_version()}; {versions}.",
        "",
        f"Models {options.models} of examples/squeezenet.toml over {whole['photos']:,} photos, {options.workers} workers.",
        "",
        "| what | |",
        "| --- | --- |",
        f"| predicting, wall | {whole['predicting']:.1f} s ({whole['photos'] / whole['predicting']:.1f} photos a second) |",
        f"| engines at work: their seconds over wall time times workers | {share:.3f} (aim: at least {AIM}; "
        f"{'met' if share >= AIM else 'missed'}) |",
        f"| the engines alone on tensors that lie ready | {engines['predicting']:.1f} s |",
        f"| the same over the run's time, decoding on the same cores included | {strict:.3f} |",
        f"| statistics | {whole['statistics']:.1f} s |",
        f"| whole, models made and opened | {whole['wall']:.1f} s |",
        "",
        "A photo, in the run: " + ", ".join(f"{k} {v:.1f} ms" for k, v in whole["milliseconds"].items()) + ".",
        "",
        "| photos | peak memory, MiB |",
        "| --- | --- |",
        *(f"| {count:,} | {peak:.0f} |" for count, peak in memory.items()),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
