"""``coreproof view``: the model's graph in Netron, whole, at a layer, or around one."""

from __future__ import annotations

import logging
import re
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from coreproof.cli.say import say
from coreproof.errors import InputError, MissingDependencyError, UnreadableModelError
from coreproof.model.scratch import TemporaryFolder


def command(
    model: Annotated[Path, typer.Argument(help="A model file that Netron can read.", show_default=False)],
    layer: Annotated[
        str | None, typer.Option(help="Go to this layer, or to the one that makes this value.", show_default=False)
    ] = None,
    around: Annotated[
        int | None, typer.Option(min=1, help="Show only so many layers before and behind it.", show_default=False)
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the local server; 0 takes a free one.")] = 8080,
    browse: Annotated[bool, typer.Option(help="Open the browser.")] = True,
) -> None:
    """Open a model in Netron, on this machine; stop with Ctrl-C."""
    try:
        import netron
    except ImportError:
        raise MissingDependencyError("Netron is not installed", fix="pip install 'coreproof[view]'") from None
    if not model.exists():
        raise UnreadableModelError("there is no such model", where=str(model))
    if around is not None and layer is None:
        raise InputError("around which layer?", fix="say --layer NAME as well")
    names = [] if layer is None else _names(model, layer)
    with TemporaryFolder() as scratch:
        shown = model if around is None else _cut(model, names[0], around, Path(scratch))
        if shown.is_dir():
            from coreproof.model.coreml import package_spec

            shown = package_spec(shown)  # Netron's server reads a file; it finds the weights beside it
        logging.getLogger().addHandler(logging.NullHandler())  # or Netron logs an address that is not the one to open
        host, behind = netron.start(str(shown), ("localhost", 0), browse=False)
        try:
            from coreproof.cli.netron_at import serve_at

            address = serve_at(f"http://{host}:{behind}", names, host, port)
        except OSError as error:
            netron.stop()
            raise InputError(
                f"port {port}: {error.strerror}", fix="say another one, or let one be chosen: --port 0"
            ) from None
        if browse:
            webbrowser.open(address)
        what = model.name if layer is None else f"{layer} of {model.name}"
        say(f"Netron shows {what} at {address}; stop with Ctrl-C")
        netron.wait()


def _names(model: Path, layer: str) -> list[str]:
    """What Netron may call a layer: its name and those of its values."""
    from coreproof.model.load import load

    node = load(model).graph.find(layer, str(model))[0]
    return [node.name, *node.outputs]


def _cut(path: Path, layer: str, steps: int, folder: Path) -> Path:
    """The layer and its surroundings as a file."""
    from coreproof.model.load import load
    from coreproof.surgery.neighbourhood import around

    part = around(load(path), layer, steps)
    suffix = {"neuralnetwork": ".mlmodel", "mlprogram": ".mlpackage"}.get(part.format, ".onnx")
    plain = re.sub(r"[^\w.-]+", "_", f"{path.stem} at {layer}")  # it becomes part of an address
    return part.save(folder / f"{plain[:120]}{suffix}")
