"""``coreproof advise``: Core ML, Core AI or both, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from coreproof.cli.options import ModelArgument, Trust
from coreproof.cli.say import say, say_document
from coreproof.conversion.shapes import read_shapes


def command(
    model: ModelArgument,
    min_ios: Annotated[int, typer.Option(help="The oldest iOS that the app runs on.", min=11)] = 17,
    shape: Annotated[
        list[str] | None, typer.Option("--shape", help="Shapes of an input, again for others, as for convert.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
    trust: Trust = False,
) -> None:
    """Say whether a model is to ship with Core ML, with Core AI or with both, and why: systems, operations, states, kinds.

    Both conversions are tried in memory, and nothing is written. Exit 1 where neither framework takes the model.
    """
    from coreproof.handover.advice import advise
    from coreproof.model.load import load

    found = advise(load(model, trust=trust), min_ios, shapes=read_shapes(shape or ()) or None)
    if as_json:
        say_document("advice", found.to_json())
    else:
        say(found.text)
        for fact in found.facts:
            where = "" if fact.where is None else f" ({fact.where})"
            name = {"coreml": "Core ML", "coreai": "Core AI"}[fact.framework]
            say(f"  {'+' if fact.speaks_for else '-'} {name}  {fact.text}{where}")
            if fact.to_do is not None:
                say(f"      what to do: {fact.to_do}")
    raise typer.Exit(0 if found else 1)
