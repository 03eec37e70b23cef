"""``coreproof check``: whether a model converts, before it is converted."""

from __future__ import annotations

from typing import Annotated

import typer

from coreproof.cli.options import AS_IT_RUNS, Freezing, ModelArgument, Trust, with_groups
from coreproof.cli.say import say, say_json
from coreproof.conversion.shapes import read_shapes
from coreproof.model.arguments import PRECISIONS, one_of


@with_groups()
def command(
    model: ModelArgument,
    to: Annotated[
        str | None,
        typer.Option(help="mlprogram, neuralnetwork or onnx (default: mlprogram; onnx of a Core ML model)."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="Deployment target: iOS15 ... iOS18, macOS12 ... (default: iOS17; iOS14 of a NeuralNetwork)."
        ),
    ] = None,
    precision: Annotated[str | None, typer.Option(help="Arithmetic of an ML Program: fp16 or fp32.")] = None,
    batch: Annotated[str | None, typer.Option(help="Batch sizes: 4, 1-16 or 1,4,16.")] = None,
    shape: Annotated[
        list[str] | None, typer.Option("--shape", help="Shapes of an input, again for others, as for convert.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
    freezing: Freezing = AS_IT_RUNS,
    trust: Trust = False,
) -> None:
    """Say whether a model converts: what fails, where, what would help, which target would do; exit 1 where it does not.

    The conversion is tried in memory, so that all that stands in the way is told at once, and nothing is written.
    """
    from coreproof.conversion.check import check
    from coreproof.conversion.convert import TARGETS
    from coreproof.model.load import load

    found = check(
        load(model, trust=trust),
        None if to is None else one_of(to, TARGETS, "--to"),
        target=target,
        precision=None if precision is None else one_of(precision, PRECISIONS, "--precision"),
        shapes=read_shapes(shape or ()) or None,
        batch=batch,
        **vars(freezing),
    )
    if as_json:
        say_json(found.to_json())
    else:
        say(*found.text.split("\n"))
    raise typer.Exit(0 if found else 1)
