"""``coreproof check-proof`` and ``compare-proofs``: what was proved, held against today or against another proof."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coreproof.cli.options import Arrays, Replace, Trust
from coreproof.cli.say import say, say_document

ProofFile = Annotated[Path, typer.Argument(help="proof.json, or the folder that holds it.", show_default=False)]


def check(
    proof: ProofFile,
    source: Annotated[
        str | None,
        typer.Argument(help="The model that was proved: its steps are carried out again.", show_default=False),
    ] = None,
    photos: Annotated[Path | None, typer.Option(help="The photos that it was proved on.", show_default=False)] = None,
    inputs: Arrays = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    trust: Trust = False,
) -> None:
    """Say whether a proof still holds: digests of models, source and inputs, and its steps carried out again.

    Exit 0: it holds. 1: it does not. 2: the files are as they were, but the steps were not carried out again, or it is no proof.
    """
    from coreproof.cli.progress import progress
    from coreproof.model.load import load
    from coreproof.proof.check import check_proof

    loaded = None if source is None else load(source, trust=trust)
    with progress() as report:
        found = check_proof(proof, loaded, photos=photos, inputs=inputs, progress=report)
    if as_json:
        say_document("proof check", found.to_json())
    else:
        say(f"{found.text}.")
        say(*(f"  {_MARKS[line.holds]} {line.what}: {line.text}" for line in found.lines))
    raise typer.Exit({True: 0, False: 1, None: 2}[found.holds])


_MARKS = {True: "✓", False: "✗", None: "–"}


def compare(
    before: ProofFile,
    after: ProofFile,
    out: Annotated[
        Path | None, typer.Option("--out", help="A folder for the page (index.html) of both.", show_default=False)
    ] = None,
    overwrite: Replace = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Hold two proofs against each other: verdicts, steps, agreement over photos; exit 1 where something became worse."""
    from coreproof.proof.difference import compare_proofs
    from coreproof.proof.difference_page import difference_page

    found = compare_proofs(before, after)
    page = None if out is None else difference_page(found, out, replace=overwrite)
    if as_json:
        say_document("proof difference", found.to_json())
    else:
        say(f"{found.text}.")
        for change in found.changes:
            mark = {True: "✗", False: "✓", None: "–"}[change.worse]
            say(f"  {mark} {change.what}", f"      before  {change.before}", f"      after   {change.after}")
        if page is not None:
            say(f"page   {page}")
    raise typer.Exit(0 if found else 1)
