"""``coreproof view``: the model's graph in Netron, whole, at a layer, or around one."""

from __future__ import annotations

import re
import sys
import time
import webbrowser
from collections.abc import Iterable
from contextlib import suppress
from http.server import ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from coreproof.cli.options import Trust
from coreproof.cli.say import say
from coreproof.errors import CoreproofError, InputError, MissingDependencyError
from coreproof.model.files.outputs import AIMODEL, model_kind
from coreproof.model.files.paths import inside, regular_file, stored_name
from coreproof.model.files.scratch import TemporaryFolder
from coreproof.model.load import located
from coreproof.report.local_server import address


def command(
    model: Annotated[
        str,
        typer.Argument(
            help="A model file that Netron can read, or https://HOST/FILE#sha256=DIGEST.", show_default=False
        ),
    ],
    layer: Annotated[
        str | None, typer.Option(help="Go to this layer, or to the one that makes this value.", show_default=False)
    ] = None,
    around: Annotated[
        int | None, typer.Option(min=1, help="Show only so many layers before and behind it.", show_default=False)
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the local server; 0 takes a free one.")] = 8080,
    browse: Annotated[bool, typer.Option(help="Open the browser.")] = True,
    trust: Trust = False,
) -> None:
    """Open a model in Netron, on this machine; stop with Ctrl-C."""
    package = find_spec("netron")
    if package is None or not package.submodule_search_locations:
        raise MissingDependencyError("Netron is not installed", fix="pip install 'coreproof[view]'")
    given = located(model)
    if not given.is_dir():
        regular_file(given, what="the model")
    if around is not None and layer is None:
        raise InputError("around which layer?", fix="say --layer NAME as well")
    from coreproof.cli.netron_at import pages, serve

    names = [] if layer is None else _names(given, layer, trust=trust)
    with TemporaryFolder() as scratch:
        whole = readable(given, Path(scratch))
        shown = whole if around is None else _cut(whole, names[0], around, Path(scratch), trust=trust)
        file, data = model_files(shown)
        try:
            server = serve(pages(Path(package.submodule_search_locations[0]), file, data, names), port)
        except OSError as error:
            raise port_taken(port, error) from None
        what = given.name if layer is None else f"{layer} of {given.name}"
        until_stopped(server, f"Netron shows {what}", browse=browse)


def port_taken(port: int, error: OSError) -> InputError:
    """What a person is told where the server cannot be opened."""
    return InputError(f"port {port}: {error.strerror}", fix="say another one, or let one be chosen: --port 0")


def until_stopped(server: ThreadingHTTPServer, what: str, *, browse: bool) -> None:
    """Says where ``what`` is to be seen, opens the browser where that is wanted, and ends the server on Ctrl-C."""
    with server:
        if browse:
            webbrowser.open(address(server))
        say(f"{what} at {address(server)} (stop with Ctrl-C)")
        sys.stdout.flush()
        wait()
        server.shutdown()


def wait() -> None:
    """Until Ctrl-C, which is how the user says that he has seen enough."""
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(0.5)


def readable(model: Path, folder: Path) -> Path:
    """The model in a format that Netron reads: a Core AI one as the ONNX graph that it lowers to, written to ``folder``."""
    if model_kind(model) is not AIMODEL:
        return model
    from coreproof.conversion.convert import convert

    return convert(model, "onnx").save(folder / f"{model.stem}.onnx")


def model_files(model: Path) -> tuple[Path, dict[str, Path]]:
    """The file that Netron reads, and the data files that belong to it, by the names it asks for; nothing else of the folder."""
    if model.is_dir():
        from coreproof.model.coreml.package import package_spec

        spec = package_spec(model)
        weights = spec.parent / "weights"
        names = [f"weights/{file.name}" for file in weights.iterdir()] if weights.is_dir() else []
        return spec, _inside(spec, model, names)
    if model.suffix != ".onnx":
        return model, {}
    from coreproof.model.onnx.external_data import data_files

    return model, _inside(model, model.parent, data_files(model))


def _inside(model: Path, folder: Path, names: Iterable[str]) -> dict[str, Path]:
    """Those of the files that lie in the folder, by name; what leads out of it is not served."""
    found: dict[str, Path] = {}
    for name in names:
        with suppress(CoreproofError):
            path = inside(model.parent, name, what="a data file", where=model)
            # ``inside`` guards the file's own folder; of a package the whole of it is the model's
            if path.is_relative_to(folder.resolve()):
                found[stored_name(name, what="a data file", where=model)] = regular_file(path)
    return found


def _names(model: Path, layer: str, *, trust: bool) -> list[str]:
    """What Netron may call a layer: its name and those of its values."""
    from coreproof.model.load import load

    node = load(model, trust=trust).graph.find(layer, str(model))[0]
    return [node.name, *node.outputs]


def _cut(path: Path, layer: str, steps: int, folder: Path, *, trust: bool) -> Path:
    """The layer and its surroundings as a file."""
    from coreproof.model.load import load
    from coreproof.reduction.neighbourhood import around

    part = around(load(path, trust=trust), layer, steps)
    plain = re.sub(r"[^\w.-]+", "_", f"{path.stem} at {layer}")  # it becomes part of an address
    return part.save(folder / f"{plain[:120]}{part.suffix}")
