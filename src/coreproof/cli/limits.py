"""Options that every verb has: how much memory a file may ask for, how large a picture may be, whether tracebacks are shown."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import Parameter, signature
from typing import Annotated, Any

import typer

from coreproof.cli import fault
from coreproof.cli.options import Command, show_as

_PANEL = "Limits and faults"
_MEMORY, _PIXELS = "COREPROOF_MEMORY_BUDGET", "COREPROOF_MAX_PIXELS"

MemoryBudget = Annotated[
    str | None,
    typer.Option(
        "--memory-budget",
        metavar="SIZE",
        help="Memory that a file may ask for beyond what its own bytes hold: 500MB, 8GB (default: 2GB).",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
MaxPixels = Annotated[
    str | None,
    typer.Option(
        "--max-pixels",
        metavar="COUNT",
        help="Pixels that a picture may have: 100000000, 100M (default: 64M).",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
Debug = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=_PANEL, show_default=False)
]
_OFFERED = [
    Parameter("memory_budget", Parameter.KEYWORD_ONLY, default=None, annotation=MemoryBudget),
    Parameter("max_pixels", Parameter.KEYWORD_ONLY, default=None, annotation=MaxPixels),
    Parameter("debug", Parameter.KEYWORD_ONLY, default=False, annotation=Debug),
]


def set_limits(memory_budget: str | None, max_pixels: str | None, debug: bool) -> None:
    """Sets what was said for this process and its children. Raises InputError for what is no size."""
    if memory_budget is not None:
        from coreproof.model.budget import set_memory_budget

        set_memory_budget(memory_budget)
    if max_pixels is not None:
        from coreproof.model.budget import set_max_pixels

        set_max_pixels(max_pixels)
    if debug:
        os.environ[fault.DEBUG] = "1"


def with_limits(command: Command) -> Command:
    """Gives a command the options, wherever they stand on its line."""

    @wraps(command)
    def limited(**given: Any) -> None:
        set_limits(**{option.name: given.pop(option.name) for option in _OFFERED})
        command(**given)

    # eval_str: annotations are texts in these files, and Typer wants what they name
    own = signature(command, eval_str=True).parameters.values()
    shown = [*(p.replace(kind=Parameter.KEYWORD_ONLY) for p in own), *_OFFERED]
    show_as(limited, shown)
    return limited


@contextmanager
def kept() -> Iterator[None]:
    """What a command line says holds for that command line: the environment is put back afterwards."""
    # in the environment, because workers are processes of their own
    before = {name: os.environ.get(name) for name in (_MEMORY, _PIXELS, fault.DEBUG)}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
