"""``coreproof verify``: two models value by value, and the first one that diverges."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coreproof.cli.functions import function_pairs, tell_each
from coreproof.cli.options import (
    ANY_MODEL,
    AS_CARRIED,
    AS_IT_RUNS,
    NOT_REPORTED,
    AllowWeak,
    FeedingOptions,
    Freezing,
    Fresh,
    Replace,
    Reporting,
    States,
    Trust,
    with_groups,
)
from coreproof.cli.reporting import check_report_places, requirement, tell_ci
from coreproof.cli.say import say, say_document, say_json
from coreproof.errors import ConversionError, CoreproofError, InputError, RunError
from coreproof.model.arguments import ENGINES, one_of
from coreproof.model.weakness import failing

if TYPE_CHECKING:
    from rich.console import Console

    from coreproof.feeding.drawn import Feeds
    from coreproof.model.base import Model
    from coreproof.model.feeding import Feeding
    from coreproof.model.recording import Recording
    from coreproof.runtime.session import Engine
    from coreproof.verification.verification import Verification

_FED = "What both are fed (default: random values within what the models declare)"
_SAVED = "Saved runs"
_SHOWN = "What is shown and written"


@with_groups()
def command(
    reference: Annotated[
        str | None, typer.Argument(help=f"The model that is right, or a saved run (.npz) of it. {ANY_MODEL}")
    ] = None,
    candidate: Annotated[
        str | None, typer.Argument(help="The model that should equal it, of any of these kinds.")
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(
            help="A .npz with an array for every input (several samples: name/0, name/1), or a folder of .npz, .npy, .wav "
            "and token ids (.json, .txt).",
            rich_help_panel=_FED,
        ),
    ] = None,
    photos: Annotated[
        Path | None, typer.Option(help="A folder of photos, fed to each model as it declares.", rich_help_panel=_FED)
    ] = None,
    limit: Annotated[int, typer.Option(help="Feed at most so many photos.", min=1, rich_help_panel=_FED)] = 4,
    seed: Annotated[int | None, typer.Option(help="Of the random values.", min=0, rich_help_panel=_FED)] = None,
    feeding: FeedingOptions = AS_CARRIED,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="Allow single elements this share of a value's scale (default: what rounding explains).", min=0
        ),
    ] = None,
    reference_engine: Annotated[str, typer.Option(help=f"Who runs the reference: {', '.join(ENGINES)}.")] = "auto",
    candidate_engine: Annotated[str, typer.Option(help="Who runs the candidate; coreml only on a Mac.")] = "auto",
    half: Annotated[
        bool, typer.Option("--half", help="One model: predict what float16 does to it, operator by operator.")
    ] = False,
    save: Annotated[
        Path | None,
        typer.Option(
            help="Save the reference's run (.npz), to be compared later or elsewhere.", rich_help_panel=_SAVED
        ),
    ] = None,
    outputs_only: Annotated[
        bool, typer.Option("--outputs-only", help="Save the outputs, no inner values.", rich_help_panel=_SAVED)
    ] = False,
    load_run: Annotated[
        str | None, typer.Option("--load", help="A saved run, as the reference.", rich_help_panel=_SAVED)
    ] = None,
    rows: Annotated[int, typer.Option(help="Show at most so many values; 0: all.", min=0, rich_help_panel=_SHOWN)] = 24,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the errors along the network (.png, .svg, .pdf).", rich_help_panel=_SHOWN)
    ] = None,
    node_data: Annotated[
        Path | None, typer.Option(help="Write the errors (.json) for Model Explorer's graph.", rich_help_panel=_SHOWN)
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON instead of a table.", rich_help_panel=_SHOWN)
    ] = False,
    allow_weak: AllowWeak = False,
    overwrite: Replace = False,
    state: States = None,
    fresh: Fresh = False,
    freezing: Freezing = AS_IT_RUNS,
    trust: Trust = False,
    reporting: Reporting = NOT_REPORTED,
) -> None:
    """Compare two models value by value and name the first that diverges.

    Exit code 0: they agree (with --half: float16 is safe), 1: they do not, or an output proves nothing by agreeing (NaN on both
    sides, all zero, constant, rounding may change half of it), 2: they cannot be compared. With --require, single values may
    diverge, as long as that share of all agrees.
    """
    from coreproof.cli.half import print_forecast
    from coreproof.cli.terminal import console
    from coreproof.feeding.drawn import SEED
    from coreproof.feeding.user_inputs import given_feeds
    from coreproof.model.recording import Recording
    from coreproof.model.remembered import read_pairs
    from coreproof.report import plots
    from coreproof.verification.node_data import write_node_data

    first, second = _sides(reference, candidate, load_run, save, reporting, half=half)
    if tolerance is not None and not math.isfinite(tolerance):
        raise InputError(
            "--tolerance takes a number", expected="a finite share of a value's scale", found=str(tolerance)
        )
    engines = (
        one_of(reference_engine, ENGINES, "--reference-engine"),
        one_of(candidate_engine, ENGINES, "--candidate-engine"),
    )
    states = read_pairs(state) if state else None
    _check_outputs(save, plot, node_data, reporting, overwrite, (inputs, photos))
    reference_model, candidate_model = _load(first, second, trust=trust, freezing=freezing)
    pairs = function_pairs(reference_model, candidate_model) if second is not None else {}
    if pairs:
        _require_alone(pairs, save=save, plot=plot, node_data=node_data)

        def held(one: Model, other: Model) -> Verification:
            resolved = feeding.resolve(one, other), feeding.resolve(other, one)
            own = given_feeds(one, other, inputs, photos, limit, resolved, states)
            return _verify(
                one, other, own, SEED if seed is None else seed, tolerance, engines, fresh=fresh, states=states
            )

        found = {name: held(*each) for name, each in pairs.items()}
        _show_each(found, rows or None, as_json=as_json)
        # functions of a package are verified each for itself; all have been shown
        raise typer.Exit(_code(found, reporting, allow_weak=allow_weak, replace=overwrite))
    feedings = feeding.resolve(reference_model, candidate_model), feeding.resolve(candidate_model, reference_model)
    fed = given_feeds(reference_model, candidate_model, inputs, photos, limit, feedings, states)
    # what float16 does is predicted from the reference's own values: nothing is run against it
    if half:
        raise typer.Exit(print_forecast(reference_model, fed, rows, as_json=as_json))
    if fed is None and feeding.numbers:  # of a picture that is drawn, either side gets what was said of it
        _carry(reference_model, feedings[0])
        _carry(candidate_model, feedings[1])
    number = SEED if seed is None else seed
    if save is not None:
        reference_model, fed = _recorded(
            reference_model,
            candidate_model,
            save,
            fed,
            number,
            engines[0],
            outputs_only=outputs_only,
            replace=overwrite,
        )
    # --save alone: there is nothing to hold it against yet
    if second is None:
        assert isinstance(reference_model, Recording)
        _print_saved(reference_model, as_json)
        return
    result = _verify(reference_model, candidate_model, fed, number, tolerance, engines, fresh=fresh, states=states)
    written = []
    if plot is not None:
        written.append(plots.save_plot(result, plot, replace=overwrite))
    if node_data is not None:
        written.append(
            write_node_data(result, node_data, (reference_model.graph, candidate_model.graph), replace=overwrite)
        )
    if as_json:
        say_document("verification", result.to_json())
    else:
        _print(console(), result, rows or None, [*written, *([save] if save is not None else [])])
        _say_unsaid_grids(reference_model, candidate_model)
    raise typer.Exit(_code({"": result}, reporting, allow_weak=allow_weak, replace=overwrite))


def _code(found: Mapping[str, Verification], reporting: Reporting, *, allow_weak: bool, replace: bool) -> int:
    """The code of the worst, after CI was told: of each function, or of the two models by themselves."""
    from coreproof.report.checks import of_verification, together

    parts = {name: of_verification(each) for name, each in found.items()}
    checks = parts[""] if "" in parts else together(", ".join(parts), parts)
    enough, required = tell_ci(reporting, checks, replace=replace, allow_weak=allow_weak), requirement(reporting).asked
    # what a requirement lets pass is judged by it alone
    fine = all((each.agrees or required) and (allow_weak or not failing(each.weaknesses)) for each in found.values())
    return 0 if fine and enough else 1


def _check_outputs(
    save: Path | None,
    plot: Path | None,
    node_data: Path | None,
    reporting: Reporting,
    overwrite: bool,
    inputs: tuple[Path | None, ...],
) -> None:
    """Refuses what could not be written before the work, not after it."""
    from coreproof.model.files.outputs import NODE_DATA, PLOT, RUN, check_output
    from coreproof.report import plots

    if plot is not None:
        plots.require()
        plots.check_suffix(plot)
    for target, kind in ((save, RUN), (plot, PLOT), (node_data, NODE_DATA)):
        if target is not None:
            check_output(target, kind, replace=overwrite, inputs=inputs)
    check_report_places(reporting, replace=overwrite)


def _load(first: str, second: str | None, *, trust: bool, freezing: Freezing) -> tuple[Model, Model]:
    """Both models, the first one twice where it stands alone, with what is to be kept of a PyTorch module."""
    from coreproof.conversion.torch_to_onnx.frozen import freeze_either
    from coreproof.model.load import load

    reference_model = load(first, trust=trust)
    candidate_model = reference_model if second is None else load(second, trust=trust)
    freeze_either(reference_model, candidate_model, **vars(freezing))
    return reference_model, candidate_model


def _drawn(reference: Model, candidate: Model, seed: int) -> Feeds:
    """What both are fed where nothing is given: drawn here, because what is saved is what the candidate is fed too."""
    from coreproof.feeding.inputs import feeds_of

    return replace(feeds_of(reference, candidate, seed=seed), taken={}, large=())


def _recorded(
    model: Model,
    other: Model,
    place: Path,
    fed: Feeds | None,
    seed: int,
    engine: Engine,
    *,
    outputs_only: bool,
    replace: bool,
) -> tuple[Recording, Feeds | None]:
    """``--save``: the reference's run, which stands for the reference from then on; and what the candidate is fed.

    The run of a model that remembers says itself what was fed and remembered: None.
    """
    from coreproof.cli.progress import progress
    from coreproof.model.opened import opened
    from coreproof.verification.recording import record

    remembers = bool(opened(model).remembers)
    fed = fed if fed is not None or remembers else _drawn(model, other, seed)
    with progress() as report:
        saved = record(
            model,
            place,
            None if fed is None else fed.reference,
            seed=seed,
            engine=engine,
            outputs_only=outputs_only,
            progress=report,
            replace=replace,
        )
    return saved, None if remembers else fed


def _verify(
    reference: Model,
    candidate: Model,
    fed: Feeds | None,
    seed: int,
    tolerance: float | None,
    engines: tuple[Engine, Engine],
    *,
    fresh: bool,
    states: dict[str, str] | None = None,
) -> Verification:
    """The two held against each other; the result says which file is which."""
    from coreproof.cli.progress import progress
    from coreproof.verification.tolerance import Tolerance
    from coreproof.verification.verify import verify

    with progress() as report:
        try:
            result = verify(
                reference,
                candidate,
                feeds=fed,
                seed=seed,
                tolerance=None if tolerance is None else Tolerance(relative=tolerance),
                reference_engine=engines[0],
                candidate_engine=engines[1],
                progress=report,
                fresh=fresh,
                states=states,
            )
        except (ConversionError, RunError) as error:
            raise _with_advice(error, reference, candidate) from None
    # two files of one name: their suffixes tell which is which
    if result.reference == result.candidate:
        result = replace(result, reference=_file_name(reference), candidate=_file_name(candidate))
    return result


def _show_each(found: Mapping[str, Verification], rows: int | None, *, as_json: bool) -> None:
    """Prints what was found of each function."""
    from coreproof.cli.terminal import console

    tell_each(found, lambda result: _print(console(), result, rows, []), as_json=as_json)


def _require_alone(functions: Mapping[str, object], **asked: Path | None) -> None:
    """Raises InputError for what is written of one comparison, where several functions are compared."""
    if options := [f"--{name.replace('_', '-')}" for name, path in asked.items() if path is not None]:
        raise InputError(
            f"{', '.join(options)}: of one function at a time",
            found=f"functions {', '.join(functions)}",
            fix="name one of each side: MODEL.mlpackage#FUNCTION",
        )


def _sides(
    reference: str | None,
    candidate: str | None,
    load_run: str | None,
    save: Path | None,
    reporting: Reporting,
    *,
    half: bool,
) -> tuple[str, str | None]:
    """What stands on either side; the candidate may be missing where a run is saved, and is with ``--half``."""
    if half and (candidate is not None or load_run is not None or save is not None):
        raise InputError("--half looks at one model", expected="coreproof verify MODEL --half")
    named = [name for name in (load_run, reference, candidate) if name is not None]
    if len(named) < 2 and reporting != NOT_REPORTED:
        raise InputError("--require, --junit and --markdown are about two models that are compared")
    if len(named) > 2:
        raise InputError("a saved run is the reference: give one model beside it", found=", ".join(named))
    if len(named) == 2:
        return named[0], named[1]
    if len(named) == 1 and (half or (save is not None and load_run is None)):
        return named[0], None
    raise InputError(
        "there are not two sides to compare",
        found=", ".join(named) or "nothing",
        expected="coreproof verify REFERENCE CANDIDATE",
        fix="give two models, a saved run and a model, or one model and --save run.npz",
    )


def _with_advice(error: CoreproofError, *models: Model) -> CoreproofError:
    """The error of a Core ML model that does not run, with the verb that may know why, where nothing else is advised."""
    # one Core ML model and its source: what the doctor can hold against each other
    broken = [m for m in models if m.is_coreml_graph]
    source = next((m for m in models if m.is_source), None)
    if error.fix is not None or len(broken) != 1 or source is None or broken[0].path is None or source.path is None:
        return error
    advice = f"coreproof doctor {shlex.quote(str(broken[0].path))} --against {shlex.quote(str(source.path))}"
    return type(error)(error.problem, where=error.where, expected=error.expected, found=error.found, fix=advice)


def _say_unsaid_grids(*models: Model) -> None:
    """Whoever verifies against a file that leaves a grid open has to know which one was taken."""
    from coreproof.cli.terminal import Line, console
    from coreproof.doctor.source.source_grid import unsaid_grids

    for model in models:
        layers = [node.name for node in unsaid_grids(model)]
        if layers:
            told = f"{', '.join(layers[:3])}{', ...' if len(layers) > 3 else ''} of {_file_name(model)}"
            words = (
                f"note: {told}: the file does not say the grid of a linear Upsample. ONNX Runtime took index / scale; "
                "PyTorch meant half-pixel centres. `coreproof doctor --against` takes what PyTorch meant"
            )
            console().print(Line(words, style="yellow"))


def _carry(model: Model, feeding: Feeding | None) -> None:
    """Lets a model carry the feeding that was given for it, if it takes numbers."""
    if all(feature.image is None for feature in model.signature.inputs):
        model.feeding = feeding


def _file_name(model: Model) -> str:
    return model.path.name if model.path is not None else model.name


def _print_saved(saved: Recording, as_json: bool) -> None:
    values = len(saved.names)
    if as_json:
        about = {"saved": str(saved.path), "model": saved.name, "engine": saved.engine, "values": values}
        say_json({**about, "samples": len(saved.samples), "inputs": saved.inputs})
        return
    assert saved.path is not None
    size = saved.path.stat().st_size / 1e6
    say(f"saved {values} values of {saved.name}, run on {saved.engine}: {saved.path} ({size:.1f} MB)")
    say(f"inputs: {saved.inputs}", f"compare with it: coreproof verify {saved.path} MODEL")


def _print(console: Console, result: Verification, rows: int | None, written: list[Path]) -> None:
    """The table, the chart, and last, where a reader looks first, the verdict."""
    from coreproof.cli.chart import error_chart
    from coreproof.cli.tables import verification_table
    from coreproof.cli.terminal import Line, lines

    console.print(verification_table(result, limit=rows, width=console.width))
    console.print()
    console.print(error_chart(result, console.width))
    console.print()
    verdict, *rest = result.summary().split("\n")
    style = "bold red" if not result.agrees else "bold green" if result.proves else "bold yellow"
    console.print(Line(verdict, style=style))
    console.print(lines([*rest, *(f"written: {path}" for path in written)]))
