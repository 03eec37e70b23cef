"""``coreproof doctor``: what is wrong with a model, why, and the repair that was proved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coreproof.cli.options import (
    AS_CARRIED,
    AllowWeak,
    FeedingOptions,
    ModelArgument,
    Replace,
    Trust,
    named,
    read_labels,
    with_feeding,
)
from coreproof.cli.say import say_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from coreproof.doctor.diagnose import Diagnosis
    from coreproof.doctor.finding import Finding


@with_feeding()
def command(
    model: ModelArgument,
    against: Annotated[
        str | None, typer.Option(help="The model that it should equal: its source.", show_default=False)
    ] = None,
    photos: Annotated[
        Path | None, typer.Option(help="Pictures to try it on; labels.csv beside them (file, class) judges accuracy.")
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(help="In place of photos: a .npz with an array for every input; several samples: name/0, name/1."),
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="The right class labels, one a line.")] = None,
    fix: Annotated[Path | None, typer.Option(help="Write the repaired model here, and what was changed.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    allow_weak: AllowWeak = False,
    overwrite: Replace = False,
    trust: Trust = False,
    feeding: FeedingOptions = AS_CARRIED,
) -> None:
    """Find known faults in a model, repair them on a copy and prove the repair.

    Exit 0: healthy, with or without advice. 1: findings, or an output proves nothing by agreeing with the source (NaN, zero,
    constant). 2: the model cannot be read, or nothing was found and coreproof cannot run it. Nothing is written for a healthy
    model.
    """
    from coreproof.cli.progress import progress
    from coreproof.doctor.diagnose import diagnose
    from coreproof.doctor.source.accuracy import find_photos
    from coreproof.model.files.outputs import SCRIPT, check_output, model_kind
    from coreproof.model.load import load

    if fix is not None:
        check_output(fix, model_kind(fix), replace=overwrite, inputs=(model, against, photos, inputs, labels))
        check_output(_script(fix), SCRIPT, replace=overwrite)
    source = None if against is None else load(against, trust=trust)
    examined = load(model, trust=trust)
    pictures, classes = find_photos(photos)
    with progress() as report:
        diagnosis = diagnose(
            examined,
            source,
            labels=read_labels(labels),
            photos=pictures,
            classes=classes,
            inputs=inputs,
            feeding=feeding.resolve(source, examined),
            progress=lambda what: report(what, 0, 0),
        )
    document: dict[str, Any] = diagnosis.to_json()
    if fix is not None and diagnosis.repaired is not None:
        _write(diagnosis, model, fix, overwrite)
        document["written"] = str(fix)
    if as_json:
        say_json(document)
    else:
        _print(diagnosis, fix)
    if diagnosis.healthy is None and diagnosis.weak:
        raise typer.Exit(0 if allow_weak else 1)
    raise typer.Exit({True: 0, False: 1, None: 2}[diagnosis.healthy])


def _write(diagnosis: Diagnosis, model: str, out: Path, overwrite: bool) -> None:
    """The repaired model, and beside it the script of edits that repaired it."""
    from coreproof.editing.script import write_script
    from coreproof.model.files.atomic import replacing_together
    from coreproof.model.files.outputs import ARRAYS, SCRIPT, check_output

    assert diagnosis.repaired is not None
    repaired = [finding for finding in diagnosis if finding.repaired]
    lines = [
        f"what `coreproof doctor {named(model)}` changed; replay: coreproof edit {named(model)} {_script(out).name} OUT"
    ]
    for finding in repaired:
        place = f" at {finding.layer}" if finding.layer else ""
        lines += [f"{finding.rule}{place}: {finding.evidence}", f"  {finding.repair}", f"  {finding.proof}"]
    repaired_model, edits = diagnosis.repaired, [step for finding in repaired for step in finding.edits]
    repaired_model.check_place(out, replace=overwrite)
    check_output(_script(out), SCRIPT, replace=overwrite)
    check_output(_script(out).with_suffix(".npz"), ARRAYS, replace=overwrite)
    with replacing_together(out.parent, (out.name,)) as stage:  # or a killed run would leave the edits of another model
        repaired_model.write(stage / out.name, out)
        write_script(edits, stage / _script(out).name, "\n".join(lines))


def _script(out: Path) -> Path:
    return out.with_name(out.stem + ".edits.toml")


def _print(diagnosis: Diagnosis, out: Path | None) -> None:
    from coreproof.cli import terminal
    from coreproof.cli.terminal import Line

    console = terminal.console()
    if not diagnosis.faults:
        word, said = ("healthy" if diagnosis.healthy else "not known"), diagnosis.before
        if diagnosis.not_run is not None:
            said = f"nothing found, but the model was only {said}"
        console.print(
            Line(word, style=f"bold {'green' if diagnosis.healthy else 'yellow'}") + Line(f": {said}"), soft_wrap=True
        )
        _print_findings(console, diagnosis)
        _print_inputs(console, diagnosis)
        return
    _print_findings(console, diagnosis)
    _say(console, Line("before  ", style="dim") + Line(diagnosis.before), 8)
    _print_inputs(console, diagnosis)
    if diagnosis.repaired is None:
        console.print("nothing could be repaired; see above for what is needed")
        return
    _say(console, Line("after   ", style="dim") + Line(diagnosis.after), 8)
    if out is None:
        console.print("the repairs were tried on a copy; --fix OUT writes it")
    else:
        console.print(Line(f"{out}: the repaired model; {_script(out).name}: the edits"))


def _print_findings(console: Console, diagnosis: Diagnosis) -> None:
    for number, finding in enumerate(diagnosis, start=1):
        head, *lines = _lines(number, finding)
        console.print(head, soft_wrap=True)
        for line in lines:
            _say(console, line, 11)


def _print_inputs(console: Console, diagnosis: Diagnosis) -> None:
    """What the model was tried on, and for what each drawn input was taken."""
    from coreproof.cli.terminal import Line

    if diagnosis.inputs:
        _say(console, Line("inputs  ", style="dim") + Line(diagnosis.inputs), 8)
    for name, taken in diagnosis.taken.items():
        console.print(Line(f"        {name}: {taken}"), soft_wrap=True)


def _say(console: Console, line: Text, indent: int) -> None:
    """A line; on a terminal wrapped under its first word, elsewhere whole, for grep and copying."""
    from coreproof.cli.terminal import Line

    if not console.is_terminal:
        console.print(line, soft_wrap=True)
        return
    for number, part in enumerate(line[indent:].wrap(console, max(20, console.width - indent))):
        part.rstrip()
        console.print((Line(" " * indent) if number else line[:indent]) + part)


def _lines(number: int, finding: Finding) -> list[Any]:
    from coreproof.cli.terminal import Line

    mark, style = ("✓ ", "green") if finding.repaired else ("! ", "yellow") if finding.advice else ("✗ ", "red")
    head = Line(f"{number}. ", style="bold") + Line(mark, style=style) + Line(finding.rule, style="bold")
    if finding.layer:
        head += Line(f"  {finding.layer}", style="cyan")
    lines = [head, Line(f"   found   {finding.evidence}"), Line(f"   cause   {finding.cause}", style="dim")]
    lines.append(Line(f"   repair  {finding.repair}"))
    if finding.proof:
        lines.append(Line(f"   proof   {finding.proof}", style="green"))
    return lines
