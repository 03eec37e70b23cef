"""``coreproof diff``: what distinguishes two versions of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coreproof.cli.options import Replace, Trust, named
from coreproof.cli.progress import progress
from coreproof.cli.say import say_json


def command(
    before: Annotated[str, typer.Argument(help="The one version.", show_default=False)],
    after: Annotated[str, typer.Argument(help="The other version.", show_default=False)],
    everything: Annotated[bool, typer.Option("--all", help="List every layer and weight; group nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
    edits: Annotated[
        Path | None, typer.Option(help="Write the edits that make the one the other: a script for `coreproof edit`.")
    ] = None,
    overwrite: Replace = False,
    trust: Trust = False,
) -> None:
    """Show what distinguishes two versions of a model; exit 0 when nothing does, 1 when something does.

    Layers added, removed, changed, renamed and rewired; weights, and in words what happened to them; features,
    preprocessing, labels, metadata. Layers are recognised by what they compute, so that a model whose layers were
    numbered anew is not a different model. Between formats: features, labels, and which weights are in both.
    """
    from coreproof.difference.diff import diff
    from coreproof.editing.script import write_script
    from coreproof.model.files.outputs import SCRIPT, check_output
    from coreproof.model.load import load

    if edits is not None:
        check_output(edits, SCRIPT, replace=overwrite, inputs=(before, after))
    with progress() as report:
        result = diff(load(before, trust=trust), load(after, trust=trust), report)
    found = None if edits is None else result.edits()
    document = result.to_json()
    if edits is not None and found is not None:
        lines = [
            f"makes {named(before)} what {named(after)} is; replay: coreproof edit {named(before)} {edits.name} OUT"
        ]
        lines += [f"no edit says it: {unsaid}" for unsaid in found.unsaid]
        if found.edits:
            write_script(found.edits, edits, "\n".join(lines), replace=overwrite)
        document |= {"edits": [str(step) for step in found.edits], "unsaid": list(found.unsaid)}
    if as_json:
        say_json(document)
    else:
        from coreproof.cli.difference_lines import edits_lines, show
        from coreproof.cli.terminal import console, print_whole

        show(result, console(), everything=everything)
        if found is not None:
            print_whole(console(), edits_lines(found, edits))
    raise typer.Exit(0 if result.same else 1)
