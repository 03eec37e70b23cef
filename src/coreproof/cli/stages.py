"""``coreproof split``, ``join`` and ``upgrade``: whole models taken apart, put together and carried on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coreproof.cli.options import CoreMLArgument, Replace, Written, place_of
from coreproof.cli.say import say_model
from coreproof.errors import InputError
from coreproof.model.arguments import PRECISIONS, one_of

if TYPE_CHECKING:
    from coreproof.model.coreml.model import CoreMLModel


def split(
    model: CoreMLArgument,
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="OUT", help="The folder that the stages are written to.", show_default=False),
    ] = None,
    written: Written = None,
    overwrite: Replace = False,
) -> None:
    """Take a pipeline apart: each stage becomes a model of its own, byte for byte as it was inside."""
    from coreproof.editing.verbs.pipelines import split as take_apart
    from coreproof.model.files.atomic import replacing_together
    from coreproof.model.files.paths import file_name
    from coreproof.model.formats.classic import is_pipeline
    from coreproof.model.load import load

    folder = place_of(folder, written, "coreproof split MODEL OUT")
    named: dict[str, CoreMLModel] = {}
    for stage in take_apart(load(model)):
        suffix = ".mlpackage" if stage.is_program or is_pipeline(stage.spec) else ".mlmodel"
        named[file_name(stage.name, [Path(other).stem for other in named]) + suffix] = stage
    # all places before the first is written
    for name, stage in named.items():
        stage.check_place(folder / name, replace=overwrite)
    with replacing_together(folder, named) as together:
        for name, stage in named.items():
            stage.write(together / name, folder / name)
    for name, stage in named.items():
        say_model(stage, folder / name)


def join(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL MODEL ... OUT",
            help="The stages in order, or FUNCTION=MODEL for each function of a package; OUT comes last, unless --out names it.",
        ),
    ],
    written: Written = None,
    overwrite: Replace = False,
) -> None:
    """Make one pipeline of Core ML models: a stage reads what earlier ones make under the names of its inputs.

    With FUNCTION=MODEL, ML Programs become the functions of one package, the first its default one: weights that they share
    are stored once.
    """
    from coreproof.editing.verbs.functions import join_functions
    from coreproof.editing.verbs.pipelines import join as put_together
    from coreproof.model.files.outputs import PACKAGE, check_output, model_kind
    from coreproof.model.load import load

    *models, out = files if written is None else [*files, str(written)]
    if len(models) < 2:
        raise InputError("say what to join and where to write", expected="coreproof join MODEL MODEL ... OUT")
    functions = [
        (name, source) for name, sign, source in (m.partition("=") for m in models) if sign and name.isidentifier()
    ]
    if len(functions) == len(models):
        check_output(out, PACKAGE, replace=overwrite, inputs=[source for _, source in functions])
        package = join_functions({name: load(source) for name, source in functions}, name=Path(out).stem)
        say_model(package, package.save(out, replace=overwrite))
        return
    check_output(out, model_kind(out), replace=overwrite, inputs=models)
    joined = put_together([load(m) for m in models], name=Path(out).stem)
    say_model(joined, joined.save(out, replace=overwrite))


def upgrade(
    model: CoreMLArgument,
    out: Annotated[
        Path | None, typer.Argument(metavar="OUT", help="The .mlpackage to write.", show_default=False)
    ] = None,
    written: Written = None,
    precision: Annotated[str, typer.Option(help="Arithmetic of the ML Program: fp16 or fp32.")] = "fp16",
    target: Annotated[str | None, typer.Option(help="Deployment target: iOS15 ... iOS18, macOS12 ...")] = None,
    overwrite: Replace = False,
) -> None:
    """Turn a NeuralNetwork into an ML Program with the same features, labels and preprocessing."""
    from coreproof.editing.verbs.upgrading import upgrade as modernise
    from coreproof.model.files.outputs import PACKAGE, check_output
    from coreproof.model.load import load

    out = place_of(out, written, "coreproof upgrade MODEL OUT.mlpackage")
    check_output(out, PACKAGE, replace=overwrite, inputs=(model,))
    made = modernise(load(model), precision=one_of(precision, PRECISIONS, "--precision"), target=target)
    say_model(made, made.save(out, replace=overwrite))
