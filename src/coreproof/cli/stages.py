"""``coreproof split``, ``join`` and ``upgrade``: surgery on whole models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coreproof.cli.options import ModelArgument
from coreproof.cli.say import say
from coreproof.errors import InputError
from coreproof.model.arguments import PRECISIONS, one_of

if TYPE_CHECKING:
    from coreproof.model.base import Model


def split(
    model: ModelArgument,
    folder: Annotated[Path, typer.Argument(help="The folder that the stages are written to.", show_default=False)],
) -> None:
    """Take a pipeline apart: each stage becomes a model of its own, byte for byte as it was inside."""
    from coreproof.model.load import load
    from coreproof.surgery.verbs.pipelines import split as take_apart

    for stage in take_apart(load(model)):
        suffix = ".mlpackage" if stage.format in ("mlprogram", "pipeline") else ".mlmodel"
        _print(stage, stage.save(folder / f"{stage.name.replace('/', '_')}{suffix}"))


def join(
    files: Annotated[
        list[str], typer.Argument(metavar="MODEL MODEL ... OUT", help="The stages in order; OUT comes last.")
    ],
) -> None:
    """Make one pipeline of Core ML models: a stage reads what earlier ones make under the names of its inputs."""
    from coreproof.model.load import load
    from coreproof.surgery.verbs.pipelines import join as put_together

    *models, out = files
    if len(models) < 2:
        raise InputError("say what to join and where to write", expected="coreproof join MODEL MODEL ... OUT")
    joined = put_together([load(m) for m in models], name=Path(out).stem)
    _print(joined, joined.save(out))


def upgrade(
    model: ModelArgument,
    out: Annotated[Path, typer.Argument(help="OUT.mlpackage.", show_default=False)],
    precision: Annotated[str, typer.Option(help="Arithmetic of the ML Program: fp16 or fp32.")] = "fp16",
    target: Annotated[str | None, typer.Option(help="Deployment target: iOS15 ... iOS18, macOS12 ...")] = None,
) -> None:
    """Turn a NeuralNetwork into an ML Program with the same features, labels and preprocessing."""
    from coreproof.model.load import load
    from coreproof.surgery.verbs.upgrading import upgrade as modernise

    made = modernise(load(model), precision=one_of(precision, PRECISIONS, "--precision"), target=target)
    _print(made, made.save(out))


def _print(model: Model, path: Path) -> None:
    say(f"{path}: {model.format}, {len(model.graph.nodes)} layers")
    for feature in model.signature.inputs:
        say(f"  input   {feature}")
    for feature in model.signature.outputs:
        say(f"  output  {feature}")
    for note in model.notes:
        say(f"  note    {note}")
