"""``coreproof migrate``: a Core ML model carried over to Core AI, each step proved."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from coreproof.cli.options import (
    AS_CARRIED,
    NOT_REPORTED,
    AllowWeak,
    Arrays,
    CoreMLArgument,
    FeedingOptions,
    Replace,
    Reporting,
    Truth,
    with_groups,
)
from coreproof.cli.proof_lines import end_with, step_line
from coreproof.cli.reporting import check_report_places
from coreproof.model.arguments import PRECISIONS, one_of


@with_groups()
def command(
    model: CoreMLArgument,
    file: Annotated[Path, typer.Argument(metavar="NEW", help="The .aimodel to write.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for index.html and proof.json (default: NEW-proof beside it).", show_default=False),
    ] = None,
    photos: Annotated[
        Path | None, typer.Option(help="A folder of pictures over which both are compared.", show_default=False)
    ] = None,
    truth: Truth = None,
    inputs: Arrays = None,
    samples: Annotated[int, typer.Option(help="Photos that each engine is verified on, value by value.", min=1)] = 8,
    limit: Annotated[
        int | None, typer.Option(help="At most so many photos, spread over the folder.", min=1, show_default=False)
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="Arithmetic of what is no ML Program: fp16 or fp32 (default).", show_default=False),
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option("--shape", help="Shape of an input of what is no ML Program, again for others: x=1x3x128x128."),
    ] = None,
    feeding: FeedingOptions = AS_CARRIED,
    allow_weak: AllowWeak = False,
    overwrite: Replace = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print proof.json instead of lines.")] = False,
    reporting: Reporting = NOT_REPORTED,
) -> None:
    """Carry a Core ML model over to Core AI, and prove on coreproof's runtime and by Apple's interpreter that it is the same.

    Says what a Core AI program has no place for (pictures, labels, ranges of lengths), and what an app does instead.

    Exit 0 when both engines agree with the source, 1 when one does not, or when an output (NaN, zero, constant, rounding may
    change half of it) or one class on every photo proves nothing; the model is written all the same. Exit 2 when it cannot be
    carried over: the reason is said, and nothing is written.
    """
    from coreproof.cli.progress import progress
    from coreproof.cli.terminal import console
    from coreproof.conversion.shapes import read_shapes
    from coreproof.model.load import load
    from coreproof.proof.migration import STAYS, migrate
    from coreproof.report.repeat import repeatable

    check_report_places(reporting, replace=overwrite)
    shown = console()
    loaded = load(model)
    with progress() as report:
        proof = migrate(
            loaded,
            file,
            out,
            photos=photos,
            truth=truth,
            inputs=inputs,
            samples=samples,
            feeding=feeding.resolve(loaded),
            limit=limit,
            precision=None if precision is None else one_of(precision, PRECISIONS, "--precision"),
            shapes=read_shapes(shape or ()),
            progress=report,
            announce=None if as_json else lambda step: shown.print(step_line(step), soft_wrap=True),
            command=repeatable(["coreproof", *sys.argv[1:]]),
            replace=overwrite,
        )
    notes = [f"stays  {note}" for step in proof.steps if step.name == STAYS for note in step.notes]
    places = {"page": proof.page, "proof": proof.folder / "proof.json", "model": file}
    end_with(proof, reporting, notes, places, as_json=as_json, allow_weak=allow_weak, replace=overwrite)
