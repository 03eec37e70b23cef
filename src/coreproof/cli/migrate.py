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
from coreproof.cli.reporting import check_report_places, requirement, tell_ci
from coreproof.cli.say import say_json
from coreproof.model.arguments import PRECISIONS, one_of
from coreproof.model.weakness import failing


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
    from coreproof.cli.matrix import agreement_table
    from coreproof.cli.progress import progress
    from coreproof.cli.prove import step_line
    from coreproof.cli.terminal import Line, console, print_whole
    from coreproof.conversion.shapes import read_shapes
    from coreproof.model.load import load
    from coreproof.proof.checks import of_proof, survives
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
    enough, required = (
        tell_ci(reporting, of_proof(proof), replace=overwrite, allow_weak=allow_weak),
        requirement(reporting),
    )
    fine = survives(proof, required) and enough and (allow_weak or not failing(proof.weaknesses))
    if as_json:
        say_json(proof.to_json())
        raise typer.Exit(0 if fine else 1)
    if proof.comparison is not None:
        shown.print(agreement_table(proof.comparison, shown.width))
    colour = "red" if not proof.agrees else "green" if proof.proves else "yellow"
    shown.print(Line(proof.text, style=f"bold {colour}"))
    gone = [Line(f"stays  {note}") for step in proof.steps if step.name == STAYS for note in step.notes]
    places = {"page": proof.page, "proof": proof.folder / "proof.json", "model": file}
    print_whole(shown, [*gone, *(Line(f"{what:<7}{place}") for what, place in places.items())])
    raise typer.Exit(0 if fine else 1)
