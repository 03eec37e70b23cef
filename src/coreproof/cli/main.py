"""The command line: the verbs of the package, one file a verb, and how each of them ends."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from coreproof.cli import fault, interrupt, limits, mcp, streams
from coreproof.cli.examples import EXAMPLES, call_kinds, flowing
from coreproof.cli.say import say
from coreproof.cli.verbs import VERBS
from coreproof.errors import CoreproofError
from coreproof.visible import visible

BAD_INPUT = 2


class Verb(TyperCommand):
    """A verb whose help has room for what it says in 80 columns."""

    def get_params(self, *given: Any) -> list[Any]:
        """Its options, ``--help`` among them."""
        found = super().get_params(*given)
        call_kinds(found)
        return found


class Verbs(TyperGroup):
    """The verbs as Typer runs them. What it says of a wrong command line quotes it, and shells fill it with names of files."""

    def get_params(self, *given: Any) -> list[Any]:
        """The options that stand before a verb."""
        found = super().get_params(*given)
        call_kinds(found)
        return found

    def parse_args(self, *given: Any, **named: Any) -> list[str]:
        """Reads the words of a command; what an error quotes of them is escaped."""
        with _readable():
            return super().parse_args(*given, **named)

    def invoke(self, *given: Any, **named: Any) -> object:
        """Runs the verb; what a usage error quotes is escaped."""
        with _readable():
            return super().invoke(*given, **named)


@contextmanager
def _readable() -> Iterator[None]:
    """Escapes the message of a usage error; any other error stays as it is."""
    try:
        yield
    except Exception as error:
        message = getattr(error, "message", None)
        if hasattr(error, "format_message") and isinstance(message, str):
            vars(error)["message"] = visible(message, keep="\n\t")
        raise


app = typer.Typer(
    name="coreproof",
    cls=Verbs,
    help="Carry a model from PyTorch or ONNX to Core ML, on any operating system, and prove that it is still the same.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
for _name, _command in (*VERBS.items(), ("mcp", mcp.command)):
    app.command(_name, cls=Verb, help=flowing(_command.__doc__ or ""), epilog=f"Example: {EXAMPLES[_name]}")(
        limits.with_limits(_command)
    )


@app.callback(invoke_without_command=True)
def _coreproof(
    version: bool = typer.Option(False, "--version", help="Print the version and stop.", is_eager=True),
    memory_budget: limits.MemoryBudget = None,
    max_pixels: limits.MaxPixels = None,
    debug: limits.Debug = False,
) -> None:
    limits.set_limits(memory_budget, max_pixels, debug)
    if version:
        from coreproof.version import __version__

        say(__version__)
        raise typer.Exit


def main() -> None:
    """Runs the command line.

    Exit codes: 0 fine, 1 a disagreement or finding, 2 bad input, 3 a fault of coreproof itself, 130 interrupted. Whoever
    reads the output may go away (``| head``): the verb ends with its own code.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")  # what keeps a picture from being read is said in our words
    try:
        interrupt.while_running()
        streams.prepare()
        with limits.kept():
            code = _run()
        interrupt.at_end()
        _flushed()
    except KeyboardInterrupt:  # between two lines of these
        code = _interrupted()
    sys.exit(code)


@cache
def _commands() -> Callable[[], object]:
    """What Typer makes of all signatures; once a process, for callers that run many commands in theirs."""
    return get_command(app)


def _run() -> int:
    """Runs the verb and says how it ended; gives the exit code."""
    try:
        _commands()()
    except SystemExit as ended:  # Typer ends so, and makes 130 of an interrupt
        if ended.code == interrupt.CODE:
            return _interrupted()
        if isinstance(ended.code, str):
            say(ended.code, err=True)
            return 1
        return ended.code or 0
    except KeyboardInterrupt:
        return _interrupted()
    except BaseException as error:
        if interrupt.interrupted():  # what a library makes of an interrupt
            return _interrupted()
        return _failed(error)
    return 0


def _failed(error: BaseException) -> int:
    if fault.wanted() and isinstance(error, CoreproofError | OSError):
        _trace(error)
    if isinstance(error, CoreproofError):
        _refuse(error)
        return BAD_INPUT
    if isinstance(error, OSError) and error.errno is not None:
        # a full disk, a folder of somebody else: nobody but the user can act on it
        where = None if error.filename is None else str(error.filename)
        _refuse(CoreproofError("a file cannot be read or written", where=where, found=error.strerror or str(error)))
        return BAD_INPUT
    sys.stdout.flush()
    sys.stderr.write(fault.screen(error, sys.argv[1:]) + "\n")
    return fault.CODE


def _refuse(error: CoreproofError) -> None:
    """Says what is wrong, and that it was the input."""
    from rich.text import Text

    from coreproof.cli.terminal import Line, console

    shown = console(err=True)
    first, *rest = str(error).split("\n")
    shown.print(Text("error: ", style="bold red") + Line(first))
    for line in rest:
        shown.print(Line(line), soft_wrap=True)


def _trace(error: BaseException) -> None:
    import traceback

    say(*"".join(traceback.format_exception(error)).splitlines(), err=True)


def _interrupted() -> int:
    interrupt.at_end()
    say("interrupted; what was finished is kept", err=True)
    return interrupt.CODE


def _flushed() -> None:
    """Writes out what is still held back; a disk that is full is said, and is no success."""
    try:
        streams.finish()
    except OSError as error:
        _refuse(CoreproofError("the output cannot be written", found=error.strerror or str(error)))
        sys.exit(BAD_INPUT)


if __name__ == "__main__":
    main()
