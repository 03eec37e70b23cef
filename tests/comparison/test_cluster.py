"""The same slices on a Ray cluster: the same store, also when a worker is killed; errors arrive as they were raised."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from coreproof.comparison import cluster
from coreproof.comparison.compare import compare
from coreproof.errors import LineupError, RunError, UnsupportedOperatorsError
from tests.build import FEEDING, classifier
from tests.comparison.test_compare import files

psutil = pytest.importorskip("psutil", reason="psutil is not installed")


@pytest.fixture(scope="module", autouse=True)
def ray() -> Any:
    """Imported when it is needed, which takes seconds: other workers collect these tests as well."""
    pytest.importorskip("ray.data", reason="Ray Data is not installed")
    return pytest.importorskip("ray", reason="Ray is not installed")


def models(folder: Path) -> dict[str, object]:
    return {name: classifier(seed).save(folder / f"{name}.onnx") for name, seed in (("a", 0), ("b", 1))}


def workers() -> list[psutil.Process]:
    """The processes in which Ray runs our workers."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if any("MapWorker" in word for word in child.cmdline())]


def test_two_workers_of_which_one_is_killed_leave_the_same_store(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray: Any
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
            time.sleep(0.02)

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


def test_what_a_worker_raises_arrives_as_it_was(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray: Any
) -> None:
    from coreproof.comparison.lineup import lineup_of

    other = {"engines": {"onnxruntime": "0.0.0"}}
    monkeypatch.setattr(cluster, "made_by", lambda: other)  # workers are processes of their own and have the real one
    with pytest.raises(RunError, match="a worker has another coreproof or engine") as raised:
        compare(lineup_of(models(tmp_path), FEEDING), photos, tmp_path / "store", cluster="local", workers=1)
    assert raised.value.expected == other
    assert not ray.is_initialized()


def test_a_worker_with_another_model_file_is_refused(photos: Path, tmp_path: Path) -> None:
    from coreproof.comparison.lineup import lineup_of
    from coreproof.comparison.plan import Slice
    from coreproof.comparison.source import FolderPhotos
    from coreproof.comparison.worker import Task

    lineup = lineup_of({"a": str(models(tmp_path)["a"])}, FEEDING)
    worker = cluster.ClusterWorker(lineup, FolderPhotos(photos), {}, {"a": "another"}, cluster.made_by())
    answer = worker({"task": [Task(Slice("s", False, ()), ("a",))]})["done"][0]
    assert isinstance(answer, RunError)
    assert "another file of a model" in str(answer)


def test_models_that_cannot_travel_are_named(photos: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from coreproof.model.feeding import Source

    class Net(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(192, 6)
            self.lock = threading.Lock()

        def forward(self, x: object) -> object:
            return self.head(torch.flatten(x, 1))

    source = Source(Net().eval(), (torch.zeros(1, 3, 8, 8),), FEEDING)
    with pytest.raises(LineupError, match="cannot be sent to other machines"):
        compare({"a": source}, photos, cluster="local", workers=1)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere.invalid:6379", "[::1]:1"])
def test_no_cluster_is_said_and_not_waited_for(
    address: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray: Any
) -> None:
    from coreproof.comparison.lineup import lineup_of

    def waits(**options: object) -> None:
        pytest.fail("Ray was asked, and waits for many minutes")

    monkeypatch.setattr(ray, "init", waits)
    with pytest.raises(RunError, match="no Ray cluster at this address"):
        compare(lineup_of(models(tmp_path), FEEDING), photos, cluster=address, workers=1)


def test_no_cluster_is_found_where_none_runs(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import services

    from coreproof.comparison.lineup import lineup_of

    # Ray looks at all processes of the machine, and other tests, or other people, may have started one
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(services, "_cached_find_gcs_addresses", lru_cache(lambda: set()))
    monkeypatch.setattr(services, "find_bootstrap_address", lambda folder: None)
    with pytest.raises(RunError, match="no Ray cluster at this address"):
        compare(lineup_of(models(tmp_path), FEEDING), photos, cluster="auto", workers=1)


def test_errors_travel_whole() -> None:
    for error in (
        RunError("failed", where="net", expected="a", found=3, fix="mend it"),
        UnsupportedOperatorsError("net", [("Foo", "node1"), ("Bar", "node2")], "ONNX"),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)
