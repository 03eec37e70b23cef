"""``coreproof view``: the model's graph in Netron."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coreproof.errors import MissingDependencyError, UnreadableModelError


def command(
    model: Annotated[Path, typer.Argument(help="A model file that Netron can read.", show_default=False)],
    port: Annotated[int, typer.Option(help="Port of the local server.")] = 8080,
    browse: Annotated[bool, typer.Option(help="Open the browser.")] = True,
) -> None:
    """Open a model in Netron, on this machine; stop with Ctrl-C."""
    try:
        import netron
    except ImportError:
        raise MissingDependencyError("Netron is not installed", fix="pip install 'coreproof[view]'") from None
    if not model.exists():
        raise UnreadableModelError("there is no such model", where=str(model))
    shown = model
    if model.is_dir():
        from coreproof.model.coreml import package_spec

        shown = package_spec(model)  # Netron's server reads a file; it finds the weights beside it
    host, chosen = netron.start(str(shown), ("localhost", port), browse=browse)
    typer.echo(f"Netron shows {model.name} at http://{host}:{chosen}; stop with Ctrl-C")
    netron.wait()
