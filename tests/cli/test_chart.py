"""The chart of errors on the terminal: bars where errors are, the mark below the first divergence."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from coreproof.cli.chart import error_chart
from coreproof.verification.verification import Verification
from coreproof.verification.verify import verify
from tests.build import residual_net


@pytest.fixture(scope="module")
def faulty() -> Verification:
    return verify(residual_net(), residual_net(fault="swapped channel"))


def lines_of(found: Verification, width: int = 100, height: int = 6) -> list[str]:
    written = io.StringIO()
    Console(file=written, width=width, color_system=None).print(error_chart(found, width, height))
    return written.getvalue().splitlines()


def test_bars_begin_where_the_errors_begin(faulty: Verification) -> None:
    *bars, floor, pointer = lines_of(faulty)
    assert len(bars) == 6
    place = pointer.index("▲")
    assert bars[1][place] == "█"
    assert all(line[place - 2].strip("┄ ") == "" for line in bars), "nothing before it"
    assert pointer.endswith("▲ first divergence: conv2 (Conv)")
    assert floor.strip().startswith("└─")
    assert "┄" in "".join(bars), "what is allowed"


@pytest.mark.parametrize("width", [20, 30, 60, 200])
@pytest.mark.parametrize("copies", [1, 30])
def test_it_fits_any_width_and_any_network(faulty: Verification, width: int, copies: int) -> None:
    found = replace(faulty, rows=faulty.rows * copies)
    lines = lines_of(found, width)
    assert all(len(line) <= width for line in lines)
    assert any("▲" in line for line in lines)
    assert any("conv2" in line for line in lines)


def test_no_error_at_all_shows_no_bar() -> None:
    lines = lines_of(verify(residual_net(), residual_net()))
    assert not set("".join(lines)) & set("▁▂▃▄▅▆▇█▲")


def test_an_error_that_is_no_number_fills_its_column(faulty: Verification) -> None:
    row = faulty.rows[-1]
    lost = replace(row, judgement=replace(row.judgement, rms_relative_error=float("nan")))
    lines = lines_of(replace(faulty, rows=(*faulty.rows[:-1], lost)))
    assert all(line.endswith("███") for line in lines[:6])


def test_many_values_share_a_column_and_the_worst_of_them_shows(faulty: Verification) -> None:
    rows = [row for row in faulty.rows if row.agrees] * 40
    found = replace(faulty, rows=(*rows, *[r for r in faulty.rows if not r.agrees][:1], *rows))
    first, *rest = lines_of(found, 60)[:6]
    assert sum(line.count("█") + line.count("▆") for line in (first, *rest)) >= 5
