"""``coreproof doctor``: what is wrong with a model, why, and the repair that was proved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coreproof.cli.functions import each_function, function_pairs, tell_each
from coreproof.cli.options import (
    AS_CARRIED,
    AS_IT_RUNS,
    NOT_REPORTED,
    AllowWeak,
    Arrays,
    FeedingOptions,
    Freezing,
    ModelArgument,
    Replace,
    Reporting,
    Trust,
    Truth,
    named,
    read_labels,
    script_beside,
    with_groups,
)
from coreproof.cli.reporting import check_report_places, requirement, tell_ci
from coreproof.cli.say import say_document
from coreproof.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coreproof.doctor.diagnose import Diagnosis
    from coreproof.model.base import Model


@with_groups()
def command(
    model: ModelArgument,
    against: Annotated[
        str | None, typer.Option(help="The model that it should equal: its source.", show_default=False)
    ] = None,
    photos: Annotated[
        Path | None, typer.Option(help="Pictures to try it on; labels.csv beside them (file, class) judges accuracy.")
    ] = None,
    truth: Truth = None,
    inputs: Arrays = None,
    labels: Annotated[Path | None, typer.Option(help="The right class labels, one a line.")] = None,
    fix: Annotated[Path | None, typer.Option(help="Write the repaired model here, and what was changed.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    allow_weak: AllowWeak = False,
    overwrite: Replace = False,
    freezing: Freezing = AS_IT_RUNS,
    trust: Trust = False,
    feeding: FeedingOptions = AS_CARRIED,
    reporting: Reporting = NOT_REPORTED,
) -> None:
    """Find known faults in a model, repair them on a copy and prove the repair.

    Exit 0: healthy, with or without advice. 1: findings, or an output proves nothing (NaN, zero, constant), with a source or
    without. 2: the model cannot be read, or nothing was found and coreproof cannot run it. Nothing is written for a healthy
    model.
    """
    from coreproof.cli.progress import progress
    from coreproof.doctor.diagnose import diagnose
    from coreproof.doctor.source.accuracy import find_photos
    from coreproof.model.files.outputs import SCRIPT, check_output, model_kind
    from coreproof.model.load import load
    from coreproof.report.checks import of_diagnosis, together

    if fix is not None:
        check_output(fix, model_kind(fix), replace=overwrite, inputs=(model, against, photos, inputs, labels))
        check_output(script_beside(fix), SCRIPT, replace=overwrite)
    check_report_places(reporting, replace=overwrite)
    if requirement(reporting).asked and against is None:
        raise InputError(
            "--require is about values that agree with the source", fix="name the source: --against SOURCE"
        )
    source = None if against is None else load(against, trust=trust)
    examined = load(model, trust=trust)
    pictures, classes = find_photos(photos, truth)
    functions = function_pairs(source, examined) if source is not None else each_function(examined)
    if functions and fix is not None:
        raise InputError(
            "--fix repairs one function at a time",
            found=f"functions {', '.join(functions)}",
            fix=f"name it: {model}#FUNCTION",
        )

    def examine(sound: Model | None, ill: Model) -> Diagnosis:
        with progress() as report:
            return diagnose(
                ill,
                sound,
                labels=read_labels(labels),
                photos=pictures,
                classes=classes,
                inputs=inputs,
                feeding=feeding.resolve(sound, ill),
                **vars(freezing),
                progress=lambda what: report(what, 0, 0),
            )

    if functions:
        found = {
            name: examine(*(each if isinstance(each, tuple) else (None, each))) for name, each in functions.items()
        }
        checks = together(named(model), {name: of_diagnosis(each, name) for name, each in found.items()})
        code = _told_of_each(found, as_json=as_json, allow_weak=allow_weak)
        raise typer.Exit(code if tell_ci(reporting, checks, replace=overwrite, allow_weak=allow_weak) else code or 1)
    diagnosis = examine(source, examined)
    document = diagnosis.to_json()
    if fix is not None and diagnosis.repaired is not None:
        _write(diagnosis, model, fix, overwrite)
        document["written"] = str(fix)
    if as_json:
        say_document("diagnosis", document)
    else:
        from coreproof.cli.diagnosis_lines import print_diagnosis

        print_diagnosis(diagnosis, fix)
    code = _code(diagnosis, allow_weak=allow_weak)
    enough = tell_ci(reporting, of_diagnosis(diagnosis, named(model)), replace=overwrite, allow_weak=allow_weak)
    raise typer.Exit(code if enough else code or 1)


def _code(diagnosis: Diagnosis, *, allow_weak: bool) -> int:
    # nothing was found, and its outputs prove too little to call it healthy
    if diagnosis.healthy is None and diagnosis.weak:
        return 0 if allow_weak else 1
    return {True: 0, False: 1, None: 2}[diagnosis.healthy]


def _told_of_each(found: Mapping[str, Diagnosis], *, as_json: bool, allow_weak: bool) -> int:
    """Prints the diagnoses of all functions; the code of the worst."""
    from coreproof.cli.diagnosis_lines import print_diagnosis

    tell_each(found, lambda diagnosis: print_diagnosis(diagnosis, None), as_json=as_json)
    # a finding says more than that another function could not be run
    codes = {_code(diagnosis, allow_weak=allow_weak) for diagnosis in found.values()}
    return next(code for code in (1, 2, 0) if code in codes)


def _write(diagnosis: Diagnosis, model: str, out: Path, overwrite: bool) -> None:
    """The repaired model, and beside it the script of edits that repaired it."""
    from coreproof.editing.script import write_script
    from coreproof.model.files.atomic import replacing_together
    from coreproof.model.files.outputs import ARRAYS, SCRIPT, check_output

    assert diagnosis.repaired is not None
    script, repaired = script_beside(out), [finding for finding in diagnosis if finding.repaired]
    lines = [f"what `coreproof doctor {named(model)}` changed; replay: coreproof edit {named(model)} {script.name} OUT"]
    for finding in repaired:
        place = f" at {finding.layer}" if finding.layer else ""
        lines += [f"{finding.rule}{place}: {finding.evidence}", f"  {finding.repair}", f"  {finding.proof}"]
    diagnosis.repaired.check_place(out, replace=overwrite)
    check_output(script, SCRIPT, replace=overwrite)
    check_output(script.with_suffix(".npz"), ARRAYS, replace=overwrite)
    with replacing_together(out.parent, (out.name,)) as stage:  # or a killed run would leave the edits of another model
        diagnosis.repaired.write(stage / out.name, out)
        write_script([step for finding in repaired for step in finding.edits], stage / script.name, "\n".join(lines))
