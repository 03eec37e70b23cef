"""compare: any number of models over any number of photos."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import TypedDict

import numpy as np

from coreproof.comparison.classes import ClassOrder, match_classes
from coreproof.comparison.comparison import Comparison, ModelInfo
from coreproof.comparison.device import DeviceRun, SeenByDevices, read_device
from coreproof.comparison.lineup import Lineup, as_lineup, explaining, with_devices
from coreproof.comparison.part import Agreement, Part
from coreproof.comparison.plan import Plan, Slice, is_back, make_plan
from coreproof.comparison.predictor import Calibration, Predictor
from coreproof.comparison.source import FolderPhotos, PhotoSource, RemotePhotos, photo_source
from coreproof.comparison.store import Shard, Store, TemporaryStore
from coreproof.comparison.table import Table
from coreproof.comparison.tally import Tally
from coreproof.comparison.variants import ModelFactory
from coreproof.comparison.worker import GONE, Done, Task, Worker
from coreproof.comparison.workers import decoders, on_this_machine, processors
from coreproof.errors import LineupError, PhotoError, StoreError
from coreproof.feeding.photos import Photos, Truth, truth_lines
from coreproof.model.arguments import whole
from coreproof.model.base import Model
from coreproof.model.progress import Progress, silent
from coreproof.model.public import public

_SHOWN = 100
"""Photos that a model is shown that answers NaN or zeros, before it is taken as it is."""


@public
def compare(
    lineup: Lineup | str | Path | Mapping[str, object],
    photos: Photos | PhotoSource | str | Path,
    store: str | Path | None = None,
    *,
    labels: str | Path | None = None,
    devices: Sequence[str | Path] = (),
    workers: int | None = None,
    cluster: str | None = None,
    trust: bool = False,
    progress: Progress | None = None,
) -> Comparison:
    """Lets every model of a line-up see every photo and compares what they say.

    ``lineup`` is a Lineup, a TOML file, or models by name. ``photos`` is a folder, or an address that fsspec knows
    (``s3://bucket/folder``). ``store`` is a folder that keeps the predictions, so that an interrupted run goes on where it
    was, and models and photos that are added later are all that is computed; None keeps them only as long as the result.
    ``labels`` is a csv that tells what the photos show (default: the line-up's, else the labels.csv beside them). ``devices``
    are device.json files of apps that coreproof made: each processor of each device is one more model, and only photos that
    they all saw are compared. ``workers`` is how many engines work at once, each on one thread; None is one a processor.
    ``cluster`` lets Ray do it: "local", or the address of a cluster. ``trust`` lets a line-up file name Python code, pickles
    and files outside its folder, and models by name be pickles; workers of a cluster are told. ``progress`` hears (what,
    done, total).

    Raises LineupError, UnsafeModelError, PhotoError, StoreError, and what loading, converting and running the models raises.

    Example:
        >>> labels = [f"class {k}" for k in range(256)]
        >>> saved = cp.convert("net.onnx", "mlprogram", images={"x": cp.ImageInput()}, labels=labels).save("named.mlpackage")
        >>> found = cp.compare({"one": "named.mlpackage", "other": "named.mlpackage"}, "photos")
        >>> found.pair("one", "other").share
        1.0

    """
    if workers is not None:
        workers = whole(workers, "workers", least=1)
    lineup = as_lineup(lineup, trust=trust)
    source = photo_source(photos)
    truth = _truth(photos, source, labels if labels is not None else lineup.labels)
    runs = [run for path in devices for run in read_device(path)]
    # only photos that every device saw: others could not be compared with it
    if runs:
        lineup, source = with_devices(lineup, runs), SeenByDevices(source, runs)
    kept = TemporaryStore() if store is None else Store(store)
    run = _Job(lineup, source, truth, kept, workers or processors(), progress)
    try:
        run.predict(cluster, workers)
        return run.comparison()
    except BaseException:
        run.plan.close()
        raise


class _Truth:
    """What the photos show, as a table of labels or as it is known already; ``names`` are the classes by index."""

    def __init__(self, lines: Callable[[], Iterable[tuple[str, Truth]]]) -> None:
        self._lines = lines
        self.names: dict[int, str] = {}

    def __iter__(self) -> Iterator[tuple[str, Truth]]:
        for photo, truth in self._lines():
            if truth.name and truth.index >= 0:
                self.names[truth.index] = truth.name
            yield photo, truth


def _truth(photos: object, source: PhotoSource, labels: str | Path | None) -> _Truth:
    if labels is None and isinstance(photos, Photos):
        return _Truth(photos.truth.items)
    if labels is None and isinstance(source, FolderPhotos) and (source.folder / "labels.csv").is_file():
        labels = source.folder / "labels.csv"
    if labels is None and isinstance(source, RemotePhotos) and (content := source.labels()) is not None:
        return _Truth(lambda: truth_lines(f"{source.where}/labels.csv", content))
    return _Truth(tuple) if labels is None else _Truth(lambda: truth_lines(labels))


class FileFacts(TypedDict, total=False):
    """What a model's file tells of itself."""

    file: str
    bytes: int
    written: str


class _Job:
    """One comparison: first every slice through the models that have not seen it, then statistics, slice by slice."""

    def __init__(
        self, lineup: Lineup, source: PhotoSource, truth: _Truth, store: Store, workers: int, progress: Progress | None
    ) -> None:
        self.lineup = lineup
        self.source = source
        self.store = store
        self.truth = truth
        self.workers = workers
        self.progress = progress or silent
        self.factory = ModelFactory(lineup)
        self.keys = {name: self.factory.key(name) for name in lineup.names}
        self.calibrations = {name: about for name in lineup.names if (about := self._kept(name)) is not None}
        # the plan is made once: photos that come later wait for the next run
        self.plan: Plan = make_plan(source, store, truth)

    # predictions

    def predict(self, cluster: str | None, workers: int | None) -> None:
        """Lets every model see the slices that it has not seen: here, or on a cluster with so many workers."""
        unseen, photos = self._unseen()
        new = [name for name in self._models if name not in self.calibrations]
        # a cluster's workers make their own; here the models only have to be calibrated for them
        waiting = new if cluster is not None else [name for name in self._models if name in unseen or name in new]
        if waiting:
            with ExitStack() as stack:
                predictors = {name: stack.enter_context(self._predictor(name, waiting)) for name in waiting}
                pool = stack.enter_context(decoders(self.workers))
                worker = Worker(predictors, self.source, pool)
                self._calibrate(worker)
                if cluster is None:
                    seen = self._counter(self.plan.photos - photos)
                    self._keep(on_this_machine(worker, self._tasks(), self.workers, seen))
        if cluster is not None and photos:
            from coreproof.comparison.cluster import on_cluster

            models = self.lineup, self.source, self.calibrations, self.keys
            seen = self._counter(self.plan.photos - photos)
            self._keep(on_cluster(cluster, *models, self._tasks(), workers, seen))
        for name in set(self.lineup.names) - set(self._models):
            self._answer_for_device(name)

    @property
    def _models(self) -> tuple[str, ...]:
        return tuple(name for name in self.lineup.names if self.lineup.entry(name).device is None)

    def _kept(self, name: str) -> Calibration | None:
        document = self.store.read_model(self.keys[name])
        return None if document is None else Calibration.from_json(document)

    def _predictor(self, name: str, waiting: Sequence[str]) -> Predictor:
        predictor = Predictor(self.lineup.entry(name), self.factory.model(name), self.factory.feeding(name))
        predictor.calibration = self.calibrations.get(name)
        self.factory.forget(name, tuple(waiting[waiting.index(name) + 1 :]))
        return predictor

    def _tasks(self) -> Iterator[Task]:
        for piece in self.plan.slices():
            models = tuple(n for n in self._models if not (piece.known and self._has_seen(n, piece)))
            if models:
                yield Task(piece, models)

    def _has_seen(self, name: str, piece: Slice) -> bool:
        """Whether a model has seen a slice: also those of its photos that were away then and are back."""
        unread = self.store.unread(self.keys[name], piece.key)
        return unread is not None and not any(is_back(self.source, piece.photos[row]) for row in unread)

    def _unseen(self) -> tuple[set[str], int]:
        """The models that have not seen everything, and on how many photos something is left to do."""
        models: set[str] = set()
        photos = 0
        for task in self._tasks():
            models |= set(task.models)
            photos += sum(photo.live for photo in task.slice.photos)
        return models, photos

    def _counter(self, done: int) -> Callable[[int], None]:
        lock, total = Lock(), self.plan.photos
        self.progress("photos", done, total)

        def seen(photos: int) -> None:
            nonlocal done
            with lock:
                done += photos
                self.progress("photos", done, total)

        return seen

    def _calibrate(self, worker: Worker) -> None:
        """Shows the first photo that can be read to the models that never saw one, and further ones to those that fail it."""
        new = {name: predictor for name, predictor in worker.predictors.items() if predictor.calibration is None}
        if not new:
            return
        unreadable: list[str] = []
        shown = 0
        for photo in (photo for piece in self.plan.slices() for photo in piece.photos if photo.live):
            decoded = worker.decode(photo, new)
            if decoded.skipped is not None:
                unreadable = [*unreadable, f"{photo.member.photo}: {decoded.skipped}"][:5]
                continue
            for name, predictor in tuple(new.items()):
                self.calibrations[name] = predictor.calibrate(decoded.tensors[predictor.preparation])
                if not predictor.doubtful:
                    self.store.write_model(self.keys[name], self.calibrations[name].to_json())
                    del new[name]
            shown += 1
            # a model that answers NaN to a hundred photos answers NaN
            if not new or shown == _SHOWN:
                return
        if not shown:
            raise self._none_readable(unreadable)

    def _keep(self, finished: Iterator[Done]) -> None:
        """Stores slices as they get done. Slices that are at work when something fails are lost, others are not."""
        seconds: dict[str, float] = {}
        seen: dict[str, int] = {}
        try:
            for done in finished:
                if not done.task.slice.known:
                    self.store.write_slice(done.task.slice.key, done.members)
                for name, shard in done.shards.items():
                    self.store.write_shard(self.keys[name], done.task.slice.key, shard)
                    seconds[name] = seconds.get(name, 0.0) + done.seconds.get(name, 0.0)
                    seen[name] = seen.get(name, 0) + done.seen
        finally:
            # closed here, so that its workers end now, and not when somebody collects it
            if isinstance(finished, Generator):
                finished.close()
            with suppress(StoreError):  # no reason to hide another error, as of a disk that is full
                for name, took in seconds.items():
                    self.store.write_timing(self.keys[name], took, seen[name])

    def _answer_for_device(self, name: str) -> None:
        run = self.lineup.entry(name).device
        assert run is not None
        for piece in self.plan.slices():
            if not self.store.has_shard(self.keys[name], piece.key):
                self.store.write_shard(self.keys[name], piece.key, _answered(run, piece))
        self.calibrations[name] = _device_calibration(run)

    # statistics

    def comparison(self) -> Comparison:
        """The statistics of all slices."""
        orders, class_names = self._classes()
        agreement = Agreement(orders, self.keys)
        helpers = explaining(self.lineup.attributions)
        main = [name for name in self.lineup.names if name not in helpers]
        models, classes = self.lineup.names, agreement.classes
        tally = Tally(models, main, classes + len(models))
        for part in self._parts(agreement):
            tally.add(part)
            self.progress("statistics", tally.photos + tally.skipped_count, self.plan.photos)
        if not tally.photos:
            raise self._none_readable([f"{photo}: {why}" for photo, why in list(tally.skipped.items())[:5]])
        return Comparison(
            title=self.lineup.title,
            models=tuple(self._described(name, orders[name]) for name in models),
            source=self.source,
            class_names={**class_names, **{classes + i: "no answer" for i in range(len(models))}},
            tally=tally,
            table=Table(self.store, self.plan, agreement),
            attributions=self.lineup.attributions,
            unlike={name: words for name in main if (words := orders[name].unlike) is not None},
            store=None if isinstance(self.store, TemporaryStore) else self.store.folder,
        )

    def _parts(self, agreement: Agreement) -> Iterator[Part]:
        """The parts in order, made side by side."""
        slices = self.plan.slices()
        waiting: deque[Future[Part]] = deque()
        # reading and NumPy release the interpreter's lock, so that threads do for this
        with ThreadPoolExecutor(self.workers, thread_name_prefix="statistics") as pool:
            try:
                while True:
                    # a few ahead of whoever adds them up; all of them would fill the memory
                    while len(waiting) <= 2 * self.workers and (piece := next(slices, None)) is not None:
                        waiting.append(pool.submit(agreement.part, self.store, piece))
                    if not waiting:
                        return
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _classes(self) -> tuple[dict[str, ClassOrder], dict[int, str]]:
        """Where each model's classes stand in the common order, and the classes' names.

        What is known by index comes first (labels.csv, labels given in the line-up); each matched model adds its names
        to what is known, and a model that cannot be matched yet is tried again when the others have spoken.
        """
        names = dict(self.truth.names)
        orders: dict[str, ClassOrder] = {}
        # models whose labels are given say most: they are matched first
        waiting = sorted(self.lineup.names, key=lambda name: self.lineup.entry(name).labels is None)
        while waiting:
            refused: list[str] = []
            for name in waiting:
                labels_first = not orders
                labels = self.lineup.entry(name).labels or self.calibrations[name].labels or None
                try:
                    orders[name] = match_classes(name, labels, self.calibrations[name].classes, names)
                except LineupError:
                    # nobody in this round could be matched: another one would be the same
                    if len(refused) + 1 == len(waiting):
                        raise
                    refused.append(name)
                    continue
                for label, position in zip(labels or (), orders[name].positions.tolist(), strict=False):
                    known = names.get(position, "")
                    # where labels.csv speaks of other classes, a model's answers are called as the model calls them
                    both = (label, known) if orders[name].unlike and labels_first else (known, label)
                    names[position] = ", ".join(filter(None, both))
            waiting = refused
        # in the line-up's order, on which keys of stored parts rest
        ordered = {name: orders[name] for name in self.lineup.names}
        return ordered, {i: text.split(",")[0].strip() for i, text in names.items()}

    def _described(self, name: str, order: ClassOrder) -> ModelInfo:
        entry, about = self.lineup.entry(name), self.calibrations[name]
        made = "" if entry.base is None else f"made from {entry.base}"
        device, seconds = entry.device, self.store.seconds_per_photo(self.keys[name])
        return ModelInfo(
            name=name,
            called=entry.called or about.called,
            description=about.model,
            format=about.format,
            feeding=about.feeding,
            engine=about.engine,
            classes=order.text + self._beyond(order),
            softmax=about.softmax,
            milliseconds=device.milliseconds if device is not None else None if seconds is None else 1000 * seconds,
            note=entry.note or made,
            notes=about.notes,
            untrained=about.untrained,
            fed=about.fed,
            digest=self.factory.digest(name),
            **self._stored(name),
        )

    def _beyond(self, order: ClassOrder) -> str:
        """What is said where the photos' table of classes is of another network."""
        count = len(order.positions)
        beyond = sum(index >= count for index in self.truth.names)
        return f"; {beyond:,} classes that the photos show are none of its {count:,}" if beyond else ""

    def _stored(self, name: str) -> FileFacts:
        """Name, size and day of the file that a model was loaded from, where there is one."""
        source = self.lineup.entry(name).source
        path = source.path if isinstance(source, Model) else source
        if not isinstance(path, str | Path) or not (place := (self.lineup.folder or Path()) / path).exists():
            return {}
        whole = sum(file.stat().st_size for file in (place.rglob("*") if place.is_dir() else [place]) if file.is_file())
        # no path of this machine: a page is shown to others
        day = datetime.fromtimestamp(place.stat().st_mtime, UTC).date().isoformat()
        return {"file": place.name, "bytes": whole, "written": day}

    def _none_readable(self, found: Sequence[str]) -> PhotoError:
        return PhotoError("none of the photos can be read", where=self.source.where, found="; ".join(found))


def _answered(run: DeviceRun, piece: Slice) -> Shard:
    """A slice of photos as a device answered it."""
    photos = tuple(photo.member.photo for photo in piece.photos)
    nothing = np.zeros_like(next(iter(run.answers.values())))
    return Shard(
        photos,
        tuple(None if photo in run.answers else GONE for photo in photos),
        np.stack([run.answers.get(photo, nothing) for photo in photos]),
    )


def _device_calibration(run: DeviceRun) -> Calibration:
    return Calibration(
        model=run.model,
        format="Core ML",
        feeding="as its app feeds it",
        engine=run.engine,
        labels=run.labels,
        notes=(f"fingerprint of the model: {run.fingerprint}",),
        classes=next(iter(run.answers.values())).size,
        softmax=False,
        batch=1,
    )
