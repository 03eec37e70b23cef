"""``coreproof prove``: the whole chain of one model, from its source to Core ML, each step proved."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from coreproof.cli.options import (
    AS_CARRIED,
    AS_IT_RUNS,
    NAMED,
    NOT_REPORTED,
    NOTHING_TOLD,
    AllowWeak,
    Arrays,
    FeedingOptions,
    Freezing,
    Fresh,
    Replace,
    Reporting,
    Telling,
    Trust,
    Truth,
    named,
    read_labels,
    with_groups,
)
from coreproof.cli.proof_lines import end_with, step_line
from coreproof.cli.reporting import check_report_places
from coreproof.model.arguments import PRECISIONS, one_of


@with_groups()
def command(
    source: Annotated[
        str,
        typer.Argument(
            help="A PyTorch module (FILE.py:FUNCTION, module.path:callable), a .onnx or .pt2 file, or "
            f"{NAMED}. No Core ML model: verify, compare.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for index.html, proof.json and the converted models.")],
    photos: Annotated[
        Path | None, typer.Option(help="A folder of pictures; a labels.csv in it gives the truth.", show_default=False)
    ] = None,
    truth: Truth = None,
    inputs: Arrays = None,
    samples: Annotated[int, typer.Option(help="Photos that each step is verified on, value by value.", min=1)] = 8,
    target: Annotated[str, typer.Option(help="Deployment target of the ML Programs.")] = "iOS17",
    precision: Annotated[
        str | None, typer.Option(help="Make an ML Program of fp16 or fp32 alone (default: both).", show_default=False)
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(help="Batch sizes of the models: 4, a range 1-16, or a list 1,4,16.", show_default=False),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="At most so many photos, spread over the folder.", min=1, show_default=False)
    ] = None,
    witness: Annotated[bool, typer.Option(help="Also convert by coremltools' own PyTorch route.")] = True,
    labels: Annotated[Path | None, typer.Option(help="Class labels, one a line.")] = None,
    feeding: FeedingOptions = AS_CARRIED,
    telling: Telling = NOTHING_TOLD,
    allow_weak: AllowWeak = False,
    overwrite: Replace = False,
    fresh: Fresh = False,
    freezing: Freezing = AS_IT_RUNS,
    trust: Trust = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print proof.json instead of a table.")] = False,
    reporting: Reporting = NOT_REPORTED,
) -> None:
    """Convert a model to Core ML and prove every step: verified tensor by tensor, compared over photos, on one page.

    Without photos and arrays, the steps are verified on inputs that are drawn, and no predictions are compared.

    Exit 0 when every step agrees, 1 when one does not, or when an output (NaN, zero, constant, rounding may change half of it) or
    one class on every photo or array proves nothing. With --require, single values may diverge, as long as that share of them
    agrees, and of the photos of each two models.
    """
    from coreproof.cli.progress import progress
    from coreproof.cli.terminal import console
    from coreproof.model.load import load
    from coreproof.proof.chain import UNNAMED, prove
    from coreproof.proof.steps import LEFT_OUT
    from coreproof.report.repeat import repeatable

    check_report_places(reporting, replace=overwrite)
    told = telling.read()
    shown = console()
    with progress() as report:
        # importing PyTorch and reading weights may take seconds
        report(f"reading {named(source)}", 0, 0)
        loaded = load(source, trust=trust)
        report(f"reading {named(source)}", 1, 1)
        proof = prove(
            loaded,
            photos,
            out,
            truth=truth,
            inputs=inputs,
            samples=samples,
            feeding=feeding.resolve(loaded),
            labels=read_labels(labels),
            target=target,
            precision=None if precision is None else one_of(precision, PRECISIONS, "--precision"),
            batch=batch,
            limit=limit,
            metadata=told.metadata,
            describe=told.features,
            defaults=told.defaults,
            witness=witness,
            progress=report,
            announce=None if as_json else lambda step: shown.print(step_line(step), soft_wrap=True),
            command=repeatable(["coreproof", *sys.argv[1:]]),
            replace=overwrite,
            fresh=fresh,
            **vars(freezing),
        )
    notes = [f"note   {note}" for note in proof.steps[0].notes if note == UNNAMED or note.startswith(LEFT_OUT)]
    places = {"page": proof.page, "proof": proof.folder / "proof.json", "models": proof.folder / "models"}
    end_with(proof, reporting, notes, places, as_json=as_json, allow_weak=allow_weak, replace=overwrite)
