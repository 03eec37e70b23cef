"""The verification table: aligned at 100 columns, first divergence marked."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from coreproof.cli.proof_lines import step_line
from coreproof.cli.tables import verification_table
from coreproof.proof.chain import ProofStep
from coreproof.verification.verification import Verification
from coreproof.verification.verify import verify
from tests.build import residual_net


def printed(found: Verification, limit: int | None = None) -> list[str]:
    written = io.StringIO()
    Console(file=written, width=100, color_system=None).print(verification_table(found, limit))
    return [line.rstrip() for line in written.getvalue().splitlines()]


def test_the_first_divergence_is_marked_and_explained() -> None:
    lines = printed(verify(residual_net(), residual_net(fault="swapped channel")))
    assert max(map(len, lines)) <= 100
    marked = [line for line in lines if line.startswith("▶ ")]
    assert marked[0].split()[1:4] == ["conv2", "Conv", "1x16x12x12"]
    assert marked[1].startswith("▶ first divergence: conv2: ")
    assert marked[1].endswith("elements are out of tolerance")
    assert len(marked) == 2
    columns = {line.index("1x16") for line in lines if "1x16" in line}
    assert len(columns) == 1, "the columns are aligned"


def test_a_narrow_terminal_keeps_what_decides() -> None:
    found = verify(residual_net(), residual_net(fault="swapped channel"))
    written = io.StringIO()
    Console(file=written, width=80, color_system=None).print(verification_table(found, width=80))
    lines = [line.rstrip() for line in written.getvalue().splitlines()]
    assert max(map(len, lines)) <= 80
    assert lines[1].split()[-3:] == ["found", "allowed", "used"]
    table = lines[2 : 2 + len(found.rows)]
    for line, row in zip(table, found.rows, strict=True):
        error, allowed, used = line.split()[-3:]
        assert row.candidate[:8] in line
        assert "…" not in f"{error}{allowed}{used}"
        if allowed != "equal" and 0 < row.judgement.used < 10:
            # the pair that is shown is the one that decides
            assert abs(float(error) / float(allowed) - row.judgement.used) <= 0.1 * row.judgement.used + 0.01


def test_a_limit_keeps_what_matters() -> None:
    agreeing = printed(verify(residual_net(), residual_net()), limit=3)
    assert agreeing[-1] == "15 of 18 rows left out"
    assert [line.split()[1] for line in agreeing[-4:-1]] == ["sum3", "mean", "y"]
    diverging = printed(verify(residual_net(), residual_net(fault="no bias")), limit=3)
    assert any(line.startswith("▶ conv2") for line in diverging)


def test_agreement_that_proves_little_is_no_tick() -> None:
    found = verify(residual_net(), residual_net())
    row = found.rows[-1]
    assert row.content
    vague = replace(
        row,
        judgement=replace(row.judgement, tolerance=replace(row.tolerance, typical=0.7)),
        content=replace(row.content, loose=row.content.samples),
    )
    lines = printed(replace(found, rows=(*found.rows[:-1], vague)))
    assert [line[0] for line in lines[2:20]] == ["✓"] * 17 + ["?"]
    assert lines[20].startswith("? agrees, but")


def test_square_brackets_of_a_step_are_letters() -> None:
    said = step_line(ProofStep("Obtain", "convert", "net [v2]: x: float32[batchx784]", None, 0.1))
    assert "net [v2]: x: float32[batchx784]" in said.plain
