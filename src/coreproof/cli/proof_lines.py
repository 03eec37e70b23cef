"""What prove and migrate say on the terminal: a line a step, and at the end the verdict and where everything lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from coreproof.cli.options import Reporting
from coreproof.cli.reporting import requirement, tell_ci
from coreproof.cli.say import say_json
from coreproof.model.weakness import failing

if TYPE_CHECKING:
    from rich.text import Text

    from coreproof.proof.document import Proof, ProofStep


def step_line(step: ProofStep) -> Text:
    """One line on the terminal: what was done, whether it holds, in how many seconds."""
    from coreproof.cli.terminal import Line

    mark = {True: ("✓", "green"), False: ("✗", "red"), None: ("–", "yellow")}[step.ok]
    # what agrees and proves nothing is no tick
    if step.ok is not False and failing(step.weaknesses):
        mark = ("?", "yellow")
    return Line.assemble(mark, " ", (step.name, "bold"), f" {step.text} ", (f"({step.seconds:.1f} s)", "dim"))


def end_with(
    proof: Proof,
    reporting: Reporting,
    notes: Sequence[str],
    places: Mapping[str, Path],
    *,
    as_json: bool,
    allow_weak: bool,
    replace: bool,
) -> NoReturn:
    """Tells CI what it asked for, then says the verdict, ``notes`` and ``places``; exit 0 where the proof holds, else 1."""
    from coreproof.cli.matrix import agreement_table
    from coreproof.cli.terminal import Line, console, print_whole
    from coreproof.proof.checks import of_proof, survives

    enough = tell_ci(reporting, of_proof(proof), replace=replace, allow_weak=allow_weak)
    holds = survives(proof, requirement(reporting)) and enough
    fine = holds and (allow_weak or not failing(proof.weaknesses))
    if as_json:
        say_json(proof.to_json())
        raise typer.Exit(0 if fine else 1)
    shown = console()
    if proof.comparison is not None:
        shown.print(agreement_table(proof.comparison, shown.width))
    colour = "red" if not proof.agrees else "green" if proof.proves else "yellow"
    shown.print(Line(proof.text, style=f"bold {colour}"))
    lines = [*notes, *(f"{what:<7}{place}" for what, place in places.items())]
    print_whole(shown, [Line(line) for line in lines])
    raise typer.Exit(0 if fine else 1)
