"""`compare` killed with SIGKILL at random moments and resumed: the store must be that of an undisturbed run, byte for byte.

    python -m conformance.compare_kill --kills 20 --seed 0 [--data FOLDER --photos FOLDER]

Starts the real command line as a child. The moments are spread over the whole undisturbed run: listing, opening models,
predicting, statistics, page. With FOLDERs: examples/squeezenet.toml over those photos; without: two seeded, untrained
SqueezeNets and what is converted from them, over drawn pictures. Writes conformance/results/compare_kill.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conformance.origin import write_record

RESULTS = Path(__file__).parent / "results" / "compare_kill.json"
EXAMPLE = Path(__file__).parent.parent / "examples" / "squeezenet.toml"
DRAWN = 160
_DIFFERS = ("timings", ".writing")
_TOLERANCE = 1e-5
"""How far a probability may be from one that was computed in another batch."""

LINEUP = """
title = "seeded"
[feed]
size = [224, 224]
resize = "crop"
resize_to = 256
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
scale = 0.00392156862745098
[models.torchm]
source = "torchvision:squeezenet1_1?weights=random&seed=0"
[models.t2o]
from = "torchm"
convert = "onnx"
[models.t2c]
from = "t2o"
convert = "mlprogram"
precision = "fp32"
[models.t2c16]
from = "t2o"
convert = "mlprogram"
precision = "fp16"
[models.other]
source = "torchvision:squeezenet1_1?weights=random&seed=1"
[models.other2o]
from = "other"
convert = "onnx"
"""


@dataclass
class Trial:
    """One store and its page on their way to the end, and what went wrong on it."""

    lineup: Path
    data: Path
    photos: Path
    folder: Path
    wrong: list[str] = field(default_factory=list)

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def out(self) -> Path:
        return self.folder / "page"

    def start(self) -> subprocess.Popen[bytes]:
        """The command line as a person types it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "coreproof.cli.main", "compare", str(self.lineup), "--data", str(self.data)]
        command += ["--photos", str(self.photos), "--store", str(self.store), "--out", str(self.out), "--workers", "2"]
        with (self.folder / "log.txt").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def finish(self) -> float:
        """Runs to the end; returns the seconds. Raises RuntimeError where the run fails."""
        started = time.monotonic()
        if code := self.start().wait():
            raise RuntimeError(f"exit code {code}:\n{(self.folder / 'log.txt').read_text(errors='replace')[-3000:]}")
        return time.monotonic() - started

    def killed(self, after: float) -> bool:
        """Starts and kills after so many seconds; False for a run that ended before."""
        child = self.start()
        try:
            if code := child.wait(after):
                raise RuntimeError(
                    f"exit code {code}:\n{(self.folder / 'log.txt').read_text(errors='replace')[-3000:]}"
                )
            return False
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
            return True

    def files(self) -> dict[str, Path]:
        """The store's files by name, those left out that may differ from run to run."""
        found = (path for path in sorted(self.store.rglob("*")) if path.is_file())
        named = {path.relative_to(self.store).as_posix(): path for path in found}
        return {name: path for name, path in named.items() if name.split("/")[0] not in _DIFFERS}

    def stamps(self) -> dict[str, tuple[int, int]]:
        """What changes when a file is written again."""
        return {name: (path.stat().st_mtime_ns, path.stat().st_ino) for name, path in self.files().items()}

    def expect(self, holds: bool, otherwise: str) -> None:
        """Notes what does not hold."""
        if not holds:
            self.wrong.append(otherwise)
            print(f"  WRONG: {otherwise}", flush=True)

    def expect_untouched(self, before: dict[str, tuple[int, int]]) -> None:
        """What was there has neither gone nor been written again."""
        now = self.stamps()
        for name, stamp in before.items():
            self.expect(now.get(name) == stamp, f"{name} was {'written again' if name in now else 'lost'}")

    def expect_part_of(self, whole: Trial) -> None:
        """Every file that is there is, byte for byte, one of the undisturbed run's; so is the page's comparison."""
        for name, path in self.files().items():
            other = whole.store / name
            self.expect(other.is_file() and other.read_bytes() == path.read_bytes(), f"{name} differs")
        page = self.out / "index.html"
        self.expect(not page.is_file() or page.read_bytes().rstrip().endswith(b"</html>"), "index.html is half written")
        if (self.out / "comparison.json").is_file():
            try:
                self.expect(comparison(self.out) == comparison(whole.out), "comparison.json differs")
            except ValueError:
                self.expect(False, "comparison.json is half written")

    def expect_same(self, whole: Trial) -> None:
        """The finished store is that of the undisturbed run."""
        self.expect_part_of(whole)
        self.expect(self.files().keys() == whole.files().keys(), "the store has other files")
        self.expect((self.out / "index.html").is_file() and (self.out / "comparison.json").is_file(), "no page")
        scratch = self.store / ".writing"
        self.expect(not scratch.is_dir() or not any(scratch.iterdir()), "half-written files are left in .writing")

    def phase(self, models: int) -> str:
        """The furthest that this run or the ones before it came, as store and page show."""
        groups = Counter(name.split("/")[0] for name in self.files())
        shards = sum(count for name, count in groups.items() if name not in ("slices", "models", "agreement"))
        if (self.out / "comparison.json").is_file():
            return "page"
        if groups["agreement"]:
            return "statistics or page"
        if shards:
            return "predicting"
        if groups["models"]:
            return "settled models" if groups["models"] < models else "first slices"
        return "opening models" if any((self.store / ".writing").glob("*/plan.parquet")) else "starting or listing"


def comparison(out: Path) -> Any:
    """A page's comparison.json without what was measured."""
    document = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    for model in document["details"].values():
        model.pop("milliseconds")
    return document


def kill_often(trial: Trial, whole: Trial, kills: int, seconds: float, rng: random.Random) -> list[dict[str, Any]]:
    """Kills runs at moments spread over ``seconds``, each one resuming the last; begins anew where one came to its end."""
    models = len(list((whole.store / "models").iterdir()))
    moments = [(k + rng.random()) / kills * seconds for k in range(kills)]
    rng.shuffle(moments)
    records: list[dict[str, Any]] = []
    stores, first, before = 1, True, trial.stamps()
    while moments:
        if trial.killed(moments[0]):
            trial.expect_untouched(before)
            trial.expect_part_of(whole)
            before = trial.stamps()
            records.append(
                {
                    "after_seconds": round(moments.pop(0), 2),
                    "store": stores,
                    "resumed": not first,
                    "store_held": trial.phase(models),
                    "files": len(before),
                }
            )
            print(f"kill {len(records)}: {records[-1]}", flush=True)
            first = False
            continue
        if first:  # quicker than the undisturbed run was
            moments[0] *= 0.9
        trial.expect_untouched(before)
        trial.expect_same(whole)
        shutil.rmtree(trial.folder)
        stores, first, before = stores + 1, True, {}
    trial.finish()
    trial.expect_untouched(before)
    trial.expect_same(whole)
    return records


def change_midway(trial: Trial, slices: int, seconds: float) -> dict[str, Any]:
    """Kills a run, then adds, edits, deletes and touches photos, resumes, and at last copies the whole folder."""
    photos = trial.photos
    share = 0.6
    while not (trial.killed(share * seconds) and 0 < len(trial_slices(trial)) < slices):
        share *= 0.9 if trial_slices(trial) else 1.1
        shutil.rmtree(trial.folder)
    names = [path.name for path in sorted(photos.iterdir())]
    held = {photo for members in trial_slices(trial).values() for photo in members}
    done = sorted(held)
    edited, deleted, touched = done[1], done[2], done[3]
    added = f"{names[len(names) // 2]}.added.jpg"
    shutil.copy(photos / names[0], photos / added)
    with (photos / added).open("ab") as stream:
        stream.write(b"added")
    with (photos / edited).open("ab") as stream:
        stream.write(b"edited")
    (photos / deleted).unlink()
    os.utime(photos / touched)
    before = {name: stamp for name, stamp in trial.stamps().items() if not name.startswith("slices/")}
    known = set(trial_slices(trial))
    trial.finish()
    trial.expect_untouched(before)
    fresh = {key: members for key, members in trial_slices(trial).items() if key not in known}
    again = Counter(photo for members in fresh.values() for photo in members)
    wanted = (set(names) - held) | {added, edited}
    trial.expect(set(again) == wanted, f"predicted were {sorted(again)}, not {sorted(wanted)}")
    trial.expect(max(again.values()) == 1, "a photo was predicted twice")
    whole = Trial(trial.lineup, trial.data, photos, trial.folder.with_name("changed-undisturbed"))
    whole.finish()
    expect_like(trial, whole)

    moved = photos.with_name("copied")
    shutil.copytree(photos, moved, copy_function=shutil.copyfile)
    before = {name: stamp for name, stamp in trial.stamps().items() if not name.startswith("slices/")}
    count, trial.photos = len(trial.files()), moved
    copied = trial.finish()
    trial.expect_untouched(before)
    trial.expect(len(trial.files()) == count, "the copied folder made new files in the store")
    before = trial.stamps()
    trial.finish()
    trial.expect_untouched(before)
    expect_like(trial, whole)
    return {
        "killed_with_slices": len(known),
        "photos_held_then": len(held),
        "added_edited_deleted_touched": [added, edited, deleted, touched],
        "photos_predicted_by_the_resumed_run": len(again),
        "new_slices": len(fresh),
        "new_shards_after_the_folder_was_copied": 0 if not trial.wrong else None,
        "seconds_over_the_copied_folder": round(copied, 1),
    }


def trial_slices(trial: Trial) -> dict[str, list[str]]:
    """The photos of each slice of a store."""
    import pyarrow.parquet as pq

    return {
        path.stem: pq.ParquetFile(path).read(columns=["photo"]).column("photo").to_pylist()
        for path in sorted(trial.store.glob("slices/*.parquet"))
    }


def expect_like(trial: Trial, whole: Trial) -> None:
    """The same counts and classes as a run of its own over the same photos; probabilities may move by the batch."""
    mine, other = comparison(trial.out), comparison(whole.out)
    trial.expect(mine["photos"] == other["photos"], f"{mine['photos']} photos, not {other['photos']}")
    trial.expect(mine["agreement"] == other["agreement"], "other agreement than an undisturbed run")
    trial.expect(mine["skipped"] == other["skipped"], "other photos are skipped")
    for name, photos in other["predictions"].items():
        for photo, answers in photos.items():
            own = mine["predictions"][name].get(photo)
            same = own is not None and own[0][0] == answers[0][0] and abs(own[0][1] - answers[0][1]) <= _TOLERANCE
            trial.expect(same, f"{name} on {photo}: {own} instead of {answers}")


def make_photos(folder: Path, photos: Path | None) -> None:
    """Copies of the photos, else drawn ones; and one that is no picture."""
    from PIL import Image

    folder.mkdir(parents=True)
    if photos is not None:
        for path in sorted(p for p in photos.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg")):
            shutil.copyfile(path, folder / path.name)
    else:
        rng = random.Random(7)
        for k in range(DRAWN):
            coarse = Image.frombytes("RGB", (6, 5), bytes(rng.randrange(256) for _ in range(90)))
            coarse.resize((320, 260), Image.Resampling.BICUBIC).save(folder / f"drawn{k:04}.jpg")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")


def main() -> None:
    """Runs the undisturbed comparison, the killed ones and the one over changing photos; exit code 1 if anything differs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="what examples/squeezenet.toml needs")
    parser.add_argument("--photos", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="compare-kill-") as name:
        folder = Path(name)
        make_photos(folder / "photos", given.photos)
        lineup = EXAMPLE
        if given.data is None:
            lineup = folder / "seeded.toml"
            lineup.write_text(LINEUP)
        data = given.data if given.data is not None else folder
        whole = Trial(lineup, data, folder / "photos", folder / "undisturbed")
        seconds = whole.finish()
        count = len(list((folder / "photos").iterdir()))
        print(f"undisturbed: {seconds:.1f} s, {len(whole.files())} files, {count} photos", flush=True)
        trial = Trial(lineup, data, folder / "photos", folder / "killed")
        records = kill_often(trial, whole, given.kills, seconds, random.Random(given.seed))
        changing = Trial(lineup, data, folder / "photos", folder / "changing")
        changes = change_midway(changing, len(trial_slices(whole)), seconds)
        models = list(comparison(whole.out)["models"])
    wrong = [*trial.wrong, *changing.wrong]
    result = {
        "command": f"python -m conformance.compare_kill --kills {given.kills} --seed {given.seed}"
        + (" --data FOLDER --photos FOLDER" if given.data is not None else ""),
        "models": models,
        "photos": count,
        "undisturbed_seconds": round(seconds, 1),
        "kills": len(records),
        "resumed": sum(record["resumed"] for record in records),
        "store_held": dict(Counter(record["store_held"] for record in records)),
        "changing_photos": changes,
        "wrong": wrong,
        "moments": records,
    }
    write_record(RESULTS, result)
    print(f"{len(records)} kills, {len(wrong)} wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
