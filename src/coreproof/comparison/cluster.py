"""on_cluster: the same slices, carried out by a Ray cluster; what a lost worker was at is done again by another."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from types import ModuleType

from coreproof.comparison.lineup import Lineup
from coreproof.comparison.predictor import Calibration, Predictor
from coreproof.comparison.source import PhotoSource
from coreproof.comparison.variants import ModelFactory, made_by
from coreproof.comparison.worker import Done, Task, Worker
from coreproof.comparison.workers import decoders, processors
from coreproof.errors import CoreproofError, LineupError, RunError
from coreproof.model.optional import import_optional

_WINDOW = 1024
"""Slices that the cluster knows of at a time: what waits takes no memory."""
_ANSWERS = 10.0
"""Seconds in which a cluster takes a connection."""
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_DEDUP_LOGS": "0"}


def on_cluster(
    address: str,
    lineup: Lineup,
    source: PhotoSource,
    calibrations: Mapping[str, Calibration],
    keys: Mapping[str, str],
    tasks: Iterable[Task],
    workers: int | None,
    seen: Callable[[int], None],
) -> Generator[Done, None, None]:
    """Carries out tasks with ``workers`` Ray actors (None: one a processor), in the order in which they get done.

    ``address``: of a running cluster ("auto" finds it), or "local" for one on this machine. Photos and model files must be
    reachable from every machine under the same path or address; the store is written here alone. ``keys`` are those of the
    models here: no worker answers with another file, engine or coreproof. ``seen`` hears how many photos each slice had.
    Raises MissingDependencyError, LineupError for models that cannot be sent, RunError where there is no cluster, and what a
    worker raises.
    """
    ray = import_optional("ray", "Ray", "ray")
    _require_portable(ray, lineup, source)
    with _connected(ray, address, workers):
        actors = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        made = {"lineup": lineup, "source": source, "calibrations": dict(calibrations), "keys": dict(keys)}
        waiting = iter(tasks)
        while window := list(islice(waiting, _WINDOW)):
            answered = ray.data.from_items([{"task": task} for task in window]).map_batches(
                ClusterWorker,
                fn_constructor_kwargs={**made, "made_by": made_by()},
                batch_size=1,
                # one engine a processor, as on one machine
                num_cpus=1,
                compute=ray.data.ActorPoolStrategy(size=min(actors, len(window))),
            )
            for row in answered.iter_rows():
                done = row["done"]
                if isinstance(done, CoreproofError):
                    raise done
                seen(sum(photo.live for photo in done.task.slice.photos))
                yield done


class ClusterWorker:
    """A worker as Ray keeps it: its models are made once, when it first hears of one."""

    def __init__(
        self,
        lineup: Lineup,
        source: PhotoSource,
        calibrations: Mapping[str, Calibration],
        keys: Mapping[str, str],
        made_by: Mapping[str, object],
    ) -> None:
        self.keys = keys
        self.made_by = made_by
        self.factory = ModelFactory(lineup)
        self.calibrations = calibrations
        self.worker = Worker({}, source, decoders(1))

    def __call__(self, batch: Mapping[str, Iterable[Task]]) -> dict[str, list[Done | CoreproofError]]:
        """What each task came to; an error of ours is an answer too: of what is raised here, Ray keeps the text alone."""
        try:
            return {"done": list(self._done(list(batch["task"])))}
        except CoreproofError as error:
            return {"done": [error]}

    def _done(self, tasks: list[Task]) -> Iterator[Done]:
        if made_by() != self.made_by:
            raise RunError("a worker has another coreproof or engine", expected=self.made_by, found=made_by())
        for name in {name for task in tasks for name in task.models} - set(self.worker.predictors):
            if self.factory.comes_from_files(name) and self.factory.key(name) != self.keys[name]:
                raise RunError(
                    "a worker has another file of a model", where=name, fix="give every machine the same model files"
                )
            entry = self.factory.lineup.entry(name)
            predictor = Predictor(entry, self.factory.model(name), self.factory.feeding(name))
            predictor.calibration = self.calibrations[name]
            self.worker.predictors = {**self.worker.predictors, name: predictor}
        return self.worker.run(tasks)


@contextmanager
def _connected(ray: ModuleType, address: str, workers: int | None) -> Iterator[None]:
    """The cluster at an address; one that was started for this is ended with it."""
    if ray.is_initialized():
        yield
        return
    _require_answer(address)
    # whoever set these has a reason
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    here: dict[str, object] = {"num_cpus": workers or processors(), "include_dashboard": False}
    there = here if address == "local" else {"address": address}
    try:
        with _native_messages_off():
            ray.init(**there, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _no_cluster(address, str(error).splitlines()[0]) from None
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Refuses an address that takes no connection: Ray itself would wait for one for many minutes."""
    place = re.fullmatch(r"(?:ray://)?\[?([^/\[\]]+?)\]?:(\d+)", address)
    if place is None:
        return
    try:
        socket.create_connection((place[1], int(place[2])), _ANSWERS).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, str(error)) from None


def _no_cluster(address: str, found: str) -> RunError:
    return RunError(
        "there is no Ray cluster at this address",
        where=address,
        found=found,
        fix='start one with `ray start --head`, or say "local"',
    )


@contextmanager
def _native_messages_off() -> Iterator[None]:
    """What Ray's own native code writes to standard error, past Python's, would tear the progress display."""
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _require_portable(ray: ModuleType, lineup: Lineup, source: PhotoSource) -> None:
    try:
        ray.cloudpickle.dumps((lineup, source))
    except Exception as error:  # whatever an object's own __reduce__ raises
        raise LineupError(
            "the models of this line-up cannot be sent to other machines",
            found=f"{type(error).__name__}: {error}".splitlines()[0],
            fix="give them as files that every machine reaches",
        ) from None
