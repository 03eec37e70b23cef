"""``coreproof view``: the model's graph in Netron, whole or around one layer."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from coreproof.errors import MissingDependencyError, UnreadableModelError


def command(
    model: Annotated[Path, typer.Argument(help="A model file that Netron can read.", show_default=False)],
    layer: Annotated[
        str | None, typer.Option(help="Open the model at this layer, with what surrounds it.", show_default=False)
    ] = None,
    around: Annotated[int, typer.Option(min=1, help="How many layers before and behind it.")] = 3,
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
    with TemporaryDirectory(prefix="coreproof-") as scratch:
        shown = model if layer is None else _cut(model, layer, around, Path(scratch))
        if shown.is_dir():
            from coreproof.model.coreml import package_spec

            shown = package_spec(shown)  # Netron's server reads a file; it finds the weights beside it
        host, chosen = netron.start(str(shown), ("localhost", port), browse=browse)
        what = model.name if layer is None else f"{layer} of {model.name} and {around} layers on either side"
        typer.echo(f"Netron shows {what} at http://{host}:{chosen}; stop with Ctrl-C")
        netron.wait()


def _cut(path: Path, layer: str, steps: int, folder: Path) -> Path:
    """The layer and its surroundings as a file; Netron's address cannot name a layer of the whole."""
    from coreproof.model.load import load
    from coreproof.surgery.neighbourhood import around

    part = around(load(path), layer, steps)
    suffix = {"neuralnetwork": ".mlmodel", "mlprogram": ".mlpackage"}.get(part.format, ".onnx")
    return part.save(folder / f"{path.stem} at {layer.replace('/', '_')[-60:]}{suffix}")
