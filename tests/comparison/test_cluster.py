"""The same slices on a Ray cluster: what needs one runs in a process of its own; what is refused before there is one."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from coreproof.comparison import cluster
from coreproof.comparison.compare import compare
from coreproof.errors import LineupError, RunError, UnsupportedOperatorsError
from tests.build import FEEDING, classifier
from tests.conftest import REPOSITORY

DRIVEN = Path(__file__).with_name("driving_ray.py")
PYTEST_SAYS = re.compile(r"\d+ (passed|failed|error)")
"""How pytest ends when its tests were run. A status of 1 says nothing: Ray ends the process with that too."""


@pytest.fixture(scope="module", autouse=True)
def ray() -> Any:
    """Imported when it is needed, which takes seconds: other workers collect these tests as well."""
    pytest.importorskip("ray.data", reason="Ray Data is not installed")
    return pytest.importorskip("ray", reason="Ray is not installed")


def models(folder: Path) -> dict[str, object]:
    return {name: classifier(seed).save(folder / f"{name}.onnx") for name, seed in (("a", 0), ("b", 1))}


@pytest.mark.thorough
def test_on_a_cluster_of_its_own() -> None:
    """Both in a process of its own, since Ray ends the process that drives it, without a word, when one of its daemons dies: on a
    busy machine it did that once in many hundred runs. That is no verdict on us, so it may try once more."""
    pytest.importorskip("psutil", reason="psutil is not installed")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(DRIVEN)]
    for _ in range(2):
        ran = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=480)
        if PYTEST_SAYS.search(ran.stdout):
            break
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 passed" in ran.stdout


@pytest.mark.thorough
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


@pytest.mark.sweep(2)
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
