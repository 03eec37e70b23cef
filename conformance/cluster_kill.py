"""A Ray cluster of two workers, one of which is killed in the middle: the store has to be the one of an undisturbed run.

    python -m conformance.cluster_kill --data FOLDER [--trials 5] [--seed 0] [--out FILE]

FOLDER holds what examples/squeezenet.toml names, and photos/. Each trial compares six models over all photos on a local cluster
and kills the process of one worker with SIGKILL at a random moment while slices are being done; stores are compared byte for
byte (how long things took apart). Writes conformance/results/cluster_kill.json.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from conformance.origin import write_record

ROOT = Path(__file__).resolve().parent.parent
SIX = ("torchm", "t2o", "t2c", "onnxm", "o2c", "cml")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "conformance" / "results" / "cluster_kill.json")
    options = parser.parse_args()
    from coreproof.comparison.compare import compare
    from coreproof.comparison.lineup import load_lineup

    console, rng = Console(), random.Random(options.seed)
    whole = load_lineup(ROOT / "examples" / "squeezenet.toml", data=options.data)
    lineup = replace(whole, entries=tuple(e for e in whole.entries if e.name in SIX), attributions=())
    photos = options.data / "photos"
    trials: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="coreproof-cluster-") as scratch:
        undisturbed = Path(scratch) / "undisturbed"
        found = compare(lineup, photos, undisturbed)
        expected = files(undisturbed)
        for number in range(options.trials):
            store = Path(scratch) / str(number)
            killer = Killer(share=rng.uniform(0.05, 0.8))
            started = time.monotonic()
            compare(lineup, photos, store, cluster="local", workers=2, progress=killer.hear)
            trial = {
                "killed_after_photos": killer.after,
                "seconds": round(time.monotonic() - started, 1),
                "same": files(store) == expected,
            }
            trials.append(trial)
            console.print(f"trial {number + 1}: {trial}")
    good = sum(trial["same"] and trial["killed_after_photos"] is not None for trial in trials)
    result = {
        "command": f"python -m conformance.cluster_kill --data FOLDER --trials {options.trials} --seed {options.seed}",
        "photos": found.count,
        "models": list(SIX),
        "files_compared": len(expected),
        "same_store": good,
        "trials": trials,
    }
    write_record(options.out, result)
    console.print(f"{good} of {len(trials)} stores are those of an undisturbed run")
    sys.exit(0 if good == len(trials) else 1)


class Killer:
    """Kills one worker when a share of the photos is done."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.after: int | None = None

    def hear(self, what: str, done: int, total: int) -> None:
        if what == "photos" and self.after is None and done >= self.share * total and done < total:
            workers = [p for p in psutil.Process().children(recursive=True) if "MapWorker" in " ".join(p.cmdline())]
            if workers:
                self.after = done
                # a moment later, so that it is in the middle of a slice
                threading.Timer(random.uniform(0.05, 0.5), os.kill, (workers[0].pid, signal.SIGKILL)).start()


def files(store: Path) -> dict[str, bytes]:
    """Everything that a store keeps, but for how long it took."""
    paths = (path for path in store.rglob("*") if path.is_file())
    whole = {path.relative_to(store).as_posix(): path.read_bytes() for path in paths}
    return {name: content for name, content in whole.items() if not name.startswith(("timings/", ".writing/"))}


if __name__ == "__main__":
    main()
