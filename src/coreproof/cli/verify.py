"""``coreproof verify``: two models value by value, and the first one that diverges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from coreproof.cli.options import Trust
from coreproof.errors import InputError


def command(
    reference: Annotated[str, typer.Argument(help="The model that is right.", show_default=False)],
    candidate: Annotated[str, typer.Argument(help="The model that should equal it.", show_default=False)],
    inputs: Annotated[
        Path | None, typer.Option(help="A .npz with one array an input (default: seeded random).")
    ] = None,
    rows: Annotated[int | None, typer.Option(help="Show at most so many values.", min=1)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    trust: Trust = False,
) -> None:
    """Compare two models value by value; exit 0 when they agree, 1 when they do not."""
    from rich.console import Console

    from coreproof.cli.tables import verification_table
    from coreproof.model.load import load
    from coreproof.verify.verify import verify

    result = verify(load(reference, trust=trust), load(candidate, trust=trust), inputs=_read(inputs))
    if as_json:
        typer.echo(json.dumps(result.to_json(), indent=2, default=str))
    else:
        console = Console()
        console.print(verification_table(result, limit=rows))
        console.print(result.summary())
    raise typer.Exit(0 if result.agrees else 1)


def _read(path: Path | None) -> dict[str, object] | None:
    if path is None:
        return None
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError) as error:
        raise InputError(
            "the inputs cannot be read", where=str(path), expected="a .npz file", found=str(error)
        ) from None
