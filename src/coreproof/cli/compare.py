"""``coreproof compare``: many models over many photos, and why they disagree."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from coreproof.cli.options import NOT_REPORTED, Arrays, Replace, Reporting, Trust, with_groups
from coreproof.cli.reporting import check_report_places, tell_ci
from coreproof.cli.say import say, say_json
from coreproof.errors import InputError, LineupError, StoreError

if TYPE_CHECKING:
    from coreproof.comparison.comparison import Comparison
    from coreproof.comparison.over_inputs import InputComparison


_SERVED = "Every photo in a browser"


@with_groups()
def command(
    lineup: Annotated[Path, typer.Argument(help="LINEUP.toml: the models and how each is fed.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for index.html and comparison.json.")],
    photos: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Pictures: a folder, or s3://, gs:// ...; a labels.csv in a folder gives the truth.",
            show_default=False,
        ),
    ] = None,
    inputs: Arrays = None,
    data: Annotated[
        Path | None, typer.Option(help="What the line-up's paths are relative to (default: its folder).")
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="Folder that keeps predictions, to resume (default: OUT/store).")
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            "--truth",
            "--labels",
            help="What the photos show: a csv with file, class index, synset, name (default: labels.csv beside them).",
        ),
    ] = None,
    devices: Annotated[
        list[Path] | None, typer.Option("--import", help="A device.json that the app exported: one more model each.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Engines at work at once (default: one a processor).", show_default=False)
    ] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help='Let a Ray cluster do it: its address, or "local".')
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print comparison.json instead of a table.")] = False,
    overwrite: Replace = False,
    trust: Trust = False,
    serve: Annotated[
        bool,
        typer.Option(
            "--serve",
            help="Then open every photo in a page of this machine; stop with Ctrl-C.",
            rich_help_panel=_SERVED,
        ),
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of --serve; 0 takes a free one.", rich_help_panel=_SERVED)
    ] = 8081,
    browse: Annotated[bool, typer.Option(help="Open the browser with --serve.", rich_help_panel=_SERVED)] = True,
    reporting: Reporting = NOT_REPORTED,
) -> None:
    """Compare models over photos (agreement matrix, statistics) or other inputs (output by output): one page to read.

    Exit 0 whatever the models see; with --require, 1 where two of them agree on less.
    """
    from coreproof.cli.matrix import agreement_table
    from coreproof.cli.progress import progress
    from coreproof.cli.terminal import Line, console
    from coreproof.comparison.compare import compare
    from coreproof.comparison.lineup import load_lineup
    from coreproof.model.files.outputs import refuse_photos_folder
    from coreproof.model.files.paths import meant
    from coreproof.model.numbers import json_ready
    from coreproof.report.checks import of_comparison, of_input_comparison
    from coreproof.report.page import check_places, page

    # a missing file is told before anything is loaded
    if not lineup.is_file():
        fix = meant(lineup, lambda beside: beside.suffix == ".toml")
        raise LineupError("there is no such line-up", where=str(lineup), fix=fix)
    if (photos is None) == (inputs is None):
        raise InputError("models are compared over photos, or over other inputs", fix="give --photos or --inputs")
    if serve and photos is None:
        raise InputError(
            "--serve shows photos", fix="give --photos, or leave --serve out: the page has all of other inputs"
        )
    refuse_photos_folder(out, photos)
    check_places(out, replace=overwrite)  # before the work, not after it
    check_report_places(reporting, replace=overwrite)
    if photos is None:
        assert inputs is not None
        found = _over_inputs(lineup, inputs, out, data, trust=trust, overwrite=overwrite, as_json=as_json)
        raise typer.Exit(0 if tell_ci(reporting, of_input_comparison(found), replace=overwrite) else 1)
    with progress() as report:
        comparison = compare(
            load_lineup(lineup, data=data, trust=trust),
            photos,
            store=store or out / "store",
            labels=truth,
            devices=devices or (),
            workers=workers,
            cluster=ray,
            trust=trust,
            progress=report,
        )
    told = _told(lineup)
    try:
        written = page(comparison, out, replace=overwrite, **told)
    except OSError as error:
        raise StoreError(
            "the page cannot be written",
            where=str(out),
            found=error.strerror,
            fix="run again: the predictions are kept",
        ) from None
    if as_json:
        say_json(json_ready(comparison.to_json(), nan=None))
    else:
        shown = console()
        shown.print(agreement_table(comparison, shown.width))
        shown.print(Line(f"page: {written}"), soft_wrap=True)
    passed = tell_ci(reporting, of_comparison(comparison), replace=overwrite)
    if serve:
        _served(comparison, port, browse=browse)
    raise typer.Exit(0 if passed else 1)


def _served(comparison: Comparison, port: int, *, browse: bool) -> None:
    """Shows every photo in the browser until Ctrl-C."""
    from coreproof.cli.view import port_taken, until_stopped
    from coreproof.report.serving import serve_comparison

    try:
        server = serve_comparison(comparison, port)
    except OSError as error:
        raise port_taken(port, error) from None
    until_stopped(server, f"every one of {comparison.count:,} photos", browse=browse)


class _Told(TypedDict):
    """How a page can be made again."""

    command: str
    lineup: str


def _told(lineup: Path) -> _Told:
    from coreproof.report.repeat import repeatable, repeatable_lines

    text = lineup.read_text(encoding="utf-8", errors="replace")
    return {"command": repeatable(["coreproof", *sys.argv[1:]]), "lineup": repeatable_lines(text)}


def _over_inputs(
    lineup: Path, inputs: Path, out: Path, data: Path | None, *, trust: bool, overwrite: bool, as_json: bool
) -> InputComparison:
    """Compares output by output, and says of each how far the models agree."""
    from coreproof.cli.progress import progress
    from coreproof.comparison.lineup import load_lineup
    from coreproof.comparison.over_inputs import compare_inputs
    from coreproof.model.weakness import qualified
    from coreproof.report.page import page

    with progress() as report:
        found = compare_inputs(load_lineup(lineup, data=data, trust=trust), inputs, trust=trust, progress=report)
    written = page(found, out, replace=overwrite, **_told(lineup))
    if as_json:
        say_json(found.to_json())
        return found
    for pair in found.pairs:
        same = "" if pair.places is None else f"same class at {pair.same:,} of {pair.places:,}; "
        both = f"{found.spoken(pair.a)} and {found.spoken(pair.b)}"
        say(f"{pair.output}  {both}: {same}furthest apart {pair.furthest:.2g} ({pair.sample})")
    say(f"{qualified(found.text, found.weaknesses)}.")
    say(f"page: {written}")
    return found
