"""What test_cluster.py runs in a process of its own: the same store from Ray, also when a worker is killed; errors arrive."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from coreproof.comparison import cluster
from coreproof.comparison.compare import compare
from coreproof.errors import RunError
from tests.build import FEEDING
from tests.comparison.test_cluster import models
from tests.comparison.test_compare import files

psutil = pytest.importorskip("psutil", reason="psutil is not installed")
ray = pytest.importorskip("ray", reason="Ray is not installed")


def workers() -> list[psutil.Process]:
    """The processes in which Ray runs our workers."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if any("MapWorker" in word for word in child.cmdline())]


def test_two_workers_of_which_one_is_killed_leave_the_same_store(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from coreproof.comparison import plan
    from coreproof.comparison.lineup import lineup_of

    monkeypatch.setattr(plan, "SLICES", ((1000, 1),))
    lineup = lineup_of(models(tmp_path), FEEDING)
    killed: list[int] = []

    def kill_one() -> None:
        while not killed:
            for process in workers()[:1]:
                os.kill(process.pid, signal.SIGKILL)
                killed.append(process.pid)
            time.sleep(0.1)  # each look reads of all processes of the machine, which a worker outlives by its imports

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    heard: list[tuple[str, int, int]] = []
    comparison = compare(
        lineup, photos, tmp_path / "cluster", cluster="local", workers=2, progress=lambda *said: heard.append(said)
    )
    killer.join(10)
    assert killed
    assert comparison.count == 12
    assert max(done for what, done, _ in heard if what == "photos") == 13
    compare(lineup, photos, tmp_path / "here", workers=1)
    assert files(tmp_path / "cluster") == files(tmp_path / "here")
    assert not ray.is_initialized()


def test_what_a_worker_raises_arrives_as_it_was(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from coreproof.comparison.lineup import lineup_of

    other = {"engines": {"onnxruntime": "0.0.0"}}
    monkeypatch.setattr(cluster, "made_by", lambda: other)  # workers are processes of their own and have the real one
    with pytest.raises(RunError, match="a worker has another coreproof or engine") as raised:
        compare(lineup_of(models(tmp_path), FEEDING), photos, tmp_path / "store", cluster="local", workers=1)
    assert raised.value.expected == other
    assert not ray.is_initialized()
