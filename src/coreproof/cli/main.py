"""The command line: the verbs of the package, one file a verb."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer

from coreproof.cli import app as app_
from coreproof.cli import compare, convert, diff, doctor, edit, predict, prove, show, shrink, stages, verify, view
from coreproof.errors import CoreproofError

INTERRUPTED = 130
app = typer.Typer(
    name="coreproof",
    help="Carry a model from PyTorch or ONNX to Core ML, on any operating system, and prove that it is still the same.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.command("prove")(prove.command)
app.command("convert")(convert.command)
app.command("show")(show.command)
app.command("predict")(predict.command)
app.command("verify")(verify.command)
app.command("doctor")(doctor.command)
app.command("edit")(edit.command)
app.command("split")(stages.split)
app.command("join")(stages.join)
app.command("upgrade")(stages.upgrade)
app.command("diff")(diff.command)
app.command("shrink")(shrink.command)
app.command("compare")(compare.command)
app.command("app")(app_.command)
app.command("view")(view.command)


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Print the version and stop.", is_eager=True),
) -> None:
    if version:
        from coreproof import __version__

        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Runs the command line. Exit codes: 0 fine, 1 a disagreement or finding, 2 bad input, 130 interrupted."""
    try:
        app()
    except CoreproofError as error:
        _refuse(error)
    except (KeyboardInterrupt, SystemExit) as ended:  # Typer makes the second of the first
        if isinstance(ended, SystemExit) and ended.code != INTERRUPTED:
            raise
        sys.stderr.write("interrupted; what was finished is kept\n")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:  # a full disk, a folder of somebody else: nobody but the user can act on it
        where = None if error.filename is None else str(error.filename)
        _refuse(CoreproofError("a file cannot be read or written", where=where, found=error.strerror or str(error)))


def _refuse(error: CoreproofError) -> NoReturn:
    """Says what is wrong, and that it was the input."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    first, *rest = str(error).splitlines()
    console.print(Text("error: ", style="bold red") + Text(first))
    for line in rest:
        console.print(Text(line), soft_wrap=True)
    sys.exit(2)


if __name__ == "__main__":
    main()
