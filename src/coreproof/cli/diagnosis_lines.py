"""What the doctor found, in lines for the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from coreproof.cli.options import script_beside
from coreproof.cli.terminal import Line, console, print_whole

if TYPE_CHECKING:
    from coreproof.doctor.diagnose import Diagnosis
    from coreproof.doctor.finding import Finding


def print_diagnosis(diagnosis: Diagnosis, out: Path | None) -> None:
    """Prints the findings, what was tried, and what the repairs came to; ``out`` is where the repaired model was written."""
    shown = console()
    if not diagnosis.faults:
        word, style = ("healthy", "bold green") if diagnosis.healthy else ("not known", "bold yellow")
        only = "" if diagnosis.not_run is None else "nothing found, but the model was only "
        print_whole(shown, [Line(word, style=style) + Line(f": {only}{diagnosis.before}")])
        if diagnosis.weak and diagnosis.verification is None:
            _print_under(shown, Line("        feed it what it is made for: --photos FOLDER or --inputs FILE.npz"), 8)
    for number, finding in enumerate(diagnosis, start=1):
        head, *rest = _finding_lines(number, finding)
        print_whole(shown, [head])
        for line in rest:
            _print_under(shown, line, 11)
    if diagnosis.faults:
        _print_under(shown, Line("before  ", style="dim") + Line(diagnosis.before), 8)
    if diagnosis.inputs:
        _print_under(shown, Line("inputs  ", style="dim") + Line(diagnosis.inputs), 8)
    print_whole(shown, [Line(f"        {name}: {taken}") for name, taken in diagnosis.taken.items()])
    if diagnosis.faults and diagnosis.repaired is None:
        shown.print("nothing could be repaired; see above for what is needed")
    elif diagnosis.repaired is not None:
        _print_under(shown, Line("after   ", style="dim") + Line(diagnosis.after), 8)
        called = "repaired model" if diagnosis.faults else "model in the form that is known to be good"
        written = f"{out}: the {called}; {script_beside(out).name}: the edits" if out is not None else None
        shown.print(Line(written or "the repairs were tried on a copy; --fix OUT writes it"))


def _print_under(shown: Console, line: Text, indent: int) -> None:
    """A line; on a terminal wrapped under its first word, elsewhere whole, for grep and copying."""
    if not shown.is_terminal:
        print_whole(shown, [line])
        return
    # the label stays in front, and only what follows it is wrapped
    for number, part in enumerate(line[indent:].wrap(shown, max(20, shown.width - indent))):
        part.rstrip()
        shown.print((Line(" " * indent) if number else line[:indent]) + part)


def _finding_lines(number: int, finding: Finding) -> list[Text]:
    mark, style = ("✓ ", "green") if finding.repaired else ("! ", "yellow") if finding.advice else ("✗ ", "red")
    head = Line(f"{number}. ", style="bold") + Line(mark, style=style) + Line(finding.rule, style="bold")
    if finding.layer:
        head += Line(f"  {finding.layer}", style="cyan")
    lines = [head, Line(f"   found   {finding.evidence}"), Line(f"   cause   {finding.cause}", style="dim")]
    lines.append(Line(f"   repair  {finding.repair}"))
    return [*lines, Line(f"   proof   {finding.proof}", style="green")] if finding.proof else lines
