"""on_this_machine: one worker's tasks, shared by threads that each keep one engine busy."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, Queue
from threading import Event, Lock, Thread

from coreproof.comparison.worker import Done, Task, Worker

_LOOKS = 0.05
"""Seconds between two looks whether all threads have ended."""


def processors() -> int:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def on_this_machine(
    worker: Worker, tasks: Iterable[Task], workers: int, seen: Callable[[int], None]
) -> Generator[Done, None, None]:
    """Carries out tasks in ``workers`` threads, in the order in which they get done; ``seen`` hears of photos sooner.

    Engines compute outside Python's lock, so threads are enough and the weights are in memory once. What a worker raises
    is raised here, when the others have stopped.
    """
    shared, stop = _Shared(tasks), Event()
    # bounded: where storing is slow, the workers wait
    finished: Queue[Done | BaseException | None] = Queue(maxsize=2 * workers)

    def work() -> None:
        try:
            for done in worker.run(shared, stop.is_set, seen):
                finished.put(done)
            finished.put(None)
        except BaseException as error:
            finished.put(error)

    threads = [Thread(target=work, name=f"worker {n}", daemon=True) for n in range(workers)]
    for thread in threads:
        thread.start()
    left, failure = len(threads), None
    try:
        while left:
            done = finished.get()
            if isinstance(done, Done):
                yield done
                continue
            left -= 1
            if done is not None:
                failure = failure or done
                shared.close()
    finally:
        shared.close()
        stop.set()
        # The threads are asked, not counted: an interrupt may come between two lines.
        while any(thread.is_alive() for thread in threads):
            with suppress(Empty):
                finished.get(timeout=_LOOKS)
    if failure is not None:
        raise failure


class _Shared:
    """Tasks that several threads take from, each one once."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._tasks = iter(tasks)
        self._lock = Lock()
        self._closed = False

    def __iter__(self) -> Iterator[Task]:
        return self

    def __next__(self) -> Task:
        with self._lock:
            if self._closed:
                raise StopIteration
            return next(self._tasks)

    def close(self) -> None:
        """No thread gets another task."""
        with self._lock:
            self._closed = True


def decoders(workers: int) -> ThreadPoolExecutor:
    """Threads that decode for so many workers."""
    return ThreadPoolExecutor(max(2, workers), thread_name_prefix="decode")
