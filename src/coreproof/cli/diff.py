"""``coreproof diff``: what distinguishes two versions of a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coreproof.cli.functions import function_pairs, tell_each
from coreproof.cli.options import ANY_MODEL, Replace, Trust, named
from coreproof.cli.progress import progress
from coreproof.cli.say import say_json

if TYPE_CHECKING:
    from coreproof.model.base import Model


def command(
    before: Annotated[str, typer.Argument(help=f"The one version. {ANY_MODEL}", show_default=False)],
    after: Annotated[str, typer.Argument(help="The other version, of any of these kinds.", show_default=False)],
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
    sides = load(before, trust=trust), load(after, trust=trust)
    pairs = function_pairs(*sides) if edits is None else {}
    if pairs:
        raise typer.Exit(_each(pairs, everything=everything, as_json=as_json))
    with progress() as report:
        result = diff(*sides, report)
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


def _each(pairs: Mapping[str, tuple[Model, Model]], *, everything: bool, as_json: bool) -> int:
    """The differences of each pair of functions; 0 where there are none."""
    from coreproof.cli.difference_lines import show
    from coreproof.cli.terminal import console
    from coreproof.difference.diff import diff

    with progress() as report:
        found = {name: diff(old, new, report) for name, (old, new) in pairs.items()}
    tell_each(found, lambda difference: show(difference, console(), everything=everything), as_json=as_json)
    return 0 if all(difference.same for difference in found.values()) else 1
