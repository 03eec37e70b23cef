"""on_this_machine: what is finished is handed over whatever happens to the others, and every thread ends."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import pytest

from coreproof.comparison.plan import Slice
from coreproof.comparison.worker import Done, Task
from coreproof.comparison.workers import on_this_machine
from coreproof.errors import RunError


class Sleeper:
    """Takes a moment a task; fails on one, if told."""

    def __init__(self, failing: tuple[int, ...] = (), seconds: float = 0.01) -> None:
        self.failing = failing
        self.seconds = seconds
        self.begun: list[int] = []

    def run(self, tasks: Iterable[Task], stopped: Callable[[], bool], seen: Callable[[int], None]) -> Iterator[Done]:
        for task in tasks:
            number = int(task.slice.key)
            self.begun.append(number)
            for _ in range(5):
                time.sleep(self.seconds / 5)
                if stopped():
                    return
            if number in self.failing:
                raise RunError(f"task {number} failed")
            seen(1)
            yield Done(task, (), {}, {}, 1)


def tasks(count: int) -> Iterator[Task]:
    return (Task(Slice(str(n), False, ()), ()) for n in range(count))


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("worker ")]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    deadline = time.monotonic() + 120  # patience with a busy machine, not a bound
    while workers() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert workers() == []


def on(
    worker: Sleeper, count: int, threads: int = 3, seen: Callable[[int], None] = lambda photos: None
) -> Iterator[Done]:
    return on_this_machine(worker, tasks(count), threads, seen)  # type: ignore[arg-type]


def test_each_task_is_done_once() -> None:
    counted: list[int] = []
    done = [int(d.task.slice.key) for d in on(Sleeper(seconds=0.001), 50, seen=counted.append)]
    assert (sorted(done), sum(counted)) == (list(range(50)), 50)


def test_what_others_finished_is_kept_and_the_error_is_raised_once() -> None:
    worker, done = Sleeper(failing=(4,)), []

    def keep() -> None:
        for d in on(worker, 1000):
            done.append(int(d.task.slice.key))

    with pytest.raises(RunError, match="task 4 failed"):
        keep()
    assert sorted([*done, 4]) == sorted(worker.begun)
    assert len(worker.begun) < 20


def test_several_errors_are_one() -> None:
    worker = Sleeper(failing=(3, 4, 5))
    with pytest.raises(RunError, match="failed"):
        list(on(worker, 1000))


def test_closing_early_ends_all() -> None:
    worker = Sleeper(seconds=0.05)
    finished = on(worker, 1000)
    next(finished)
    finished.close()  # type: ignore[attr-defined]
    assert len(worker.begun) < 20


def test_an_interrupt_in_the_main_thread_ends_all() -> None:
    worker, done = Sleeper(), []

    def interrupted() -> None:
        for d in on(worker, 1000):
            done.append(d)
            if len(done) == 5:
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(done) == 5
    assert len(worker.begun) < 30


def test_a_reader_that_is_slow_does_not_pile_up_work() -> None:
    worker = Sleeper(seconds=0)
    finished = on(worker, 1000)
    next(finished)
    time.sleep(0.2)
    assert len(worker.begun) <= 1 + 3 * 2 + 3 + 1
    finished.close()  # type: ignore[attr-defined]


def test_an_error_of_the_list_of_tasks_is_raised() -> None:
    def broken() -> Iterator[Task]:
        yield from tasks(3)
        raise OSError("the plan vanished")

    with pytest.raises(OSError, match="the plan vanished"):
        list(on_this_machine(Sleeper(), broken(), 3, lambda photos: None))  # type: ignore[arg-type]


def test_no_tasks() -> None:
    assert list(on(Sleeper(), 0)) == []
