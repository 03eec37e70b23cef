"""on_cluster: the same slices, carried out by a Ray cluster; what a lost machine was at is done again by another."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any

from coreproof.compare.lineup import Lineup
from coreproof.compare.predictor import Predictor, Settled
from coreproof.compare.source import PhotoSource
from coreproof.compare.variants import Workshop
from coreproof.compare.worker import Done, Task, Worker
from coreproof.compare.workers import decoders
from coreproof.errors import MissingDependencyError


def on_cluster(
    address: str,
    lineup: Lineup,
    source: PhotoSource,
    settled: Mapping[str, Settled],
    tasks: Iterable[Task],
    workers: int,
    seen: Callable[[int], None],
) -> Generator[Done, None, None]:
    """Carries out tasks with ``workers`` actors, in the order in which they get done.

    ``address``: of a running cluster ("auto" finds it), or "local" for one on this machine. Photos and model files must be
    reachable from every machine under the same path or address; the store is written here alone.
    Raises MissingDependencyError, and what a worker raises.
    """
    try:
        import ray
    except ImportError:
        raise MissingDependencyError("Ray is not installed", fix="pip install 'coreproof[ray]'") from None
    if not ray.is_initialized():
        ray.init(address=None if address == "local" else address, log_to_driver=False)
    items = ray.data.from_items([{"task": task} for task in tasks])
    answered = items.map_batches(
        Answering,
        fn_constructor_kwargs={"lineup": lineup, "source": source, "settled": dict(settled)},
        batch_size=1,
        concurrency=workers,
        num_cpus=1,
    )
    for row in answered.iter_rows():
        done: Done = row["done"]
        seen(sum(photo.live for photo in done.task.slice.photos))
        yield done


class Answering:
    """A worker as Ray keeps it: its models are made once, when it first hears of one."""

    def __init__(self, lineup: Lineup, source: PhotoSource, settled: Mapping[str, Settled]) -> None:
        self.workshop = Workshop(lineup)
        self.settled = settled
        self.pool = decoders(1)
        self.worker = Worker({}, source, self.pool)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Done]]:
        tasks: list[Task] = list(batch["task"])
        for name in {name for task in tasks for name in task.models} - set(self.worker.predictors):
            lineup = self.workshop.lineup
            predictor = Predictor(lineup.entry(name), self.workshop.model(name), lineup.feeding(name))
            predictor.settled = self.settled[name]
            self.worker.predictors = {**self.worker.predictors, name: predictor}
        return {"done": list(self.worker.run(tasks))}
