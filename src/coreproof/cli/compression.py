"""What ``coreproof convert --compress`` prints: a line for each weight, then what it cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from coreproof.cli.tables import plain_table
from coreproof.cli.terminal import Line, console, lines
from coreproof.errors import InputError

if TYPE_CHECKING:
    from coreproof.model.coreml.compression_report import CompressionReport

_ROWS = 24


def print_compression(report: CompressionReport) -> None:
    """The table of weights, those that lost most where there are many, in the model's order; then the outputs.

    The summary is among the model's notes, which are printed with it.
    """
    worst = sorted(report.weights, key=lambda weight: -weight.error)[:_ROWS]
    shown = [weight for weight in report.weights if any(weight is other for other in worst)]
    left_out = len(report.weights) - len(shown)
    notes = ["= stays as it was"] if any(weight.kept for weight in shown) else []
    notes += [f"{left_out} of {len(report.weights)} weights left out: those that lost least"] if left_out else []
    words = {"weight": (8, 40), "operator": (6, 16), "was": (4, 8), "is": (4, 8)}
    table = plain_table(f"{report.model}, {report.scheme}", notes, words, (("bytes", 8), ("before", 8), ("error", 6)))
    for weight in shown:
        table.add_row(
            Line("=" if weight.kept else ""),
            Line(weight.name),
            Line(weight.operator),
            Line(weight.stored_before),
            Line(weight.stored),
            f"{weight.bytes:,}",
            f"{weight.bytes_before:,}",
            "0" if weight.error == 0 else f"{weight.error:.1e}",
        )
    shown_on = console()
    shown_on.print(table)
    shown_on.print(lines(f"output {o.name}: {o.error:.2g} (uncompressed {o.error_before:.2g})" for o in report.outputs))


def write_proof(report: CompressionReport, path: Path, *, replace: bool) -> None:
    """Writes the whole report as JSON. Raises OutputExistsError where something else stands there."""
    from coreproof.model.files.atomic import replacing
    from coreproof.model.files.outputs import COMPRESSION

    with replacing(path, COMPRESSION, replace=replace) as fresh:
        fresh.write_text(json.dumps(report.to_json(), indent=2), encoding="utf-8")


def check_compression(
    compress: str | None,
    keep_size: str | None,
    at_most_loss: float | None,
    given: Path | None,
    proof: Path | None,
    *,
    auto: bool,
    replace: bool,
) -> None:
    """Nothing else may stand where the proof will; what is said of compression goes with it (or with --keep-fp32 ``auto``)."""
    said = {"--keep-size": keep_size, "--at-most-loss": at_most_loss, "--proof": proof}
    lone = [name for name, value in said.items() if value is not None]
    if given is not None and not auto:
        lone.append("--inputs and --photos")
    if compress is None and lone:
        raise InputError(f"{', '.join(lone)} go with --compress", found="no --compress", fix="--compress palettize:4")
    if proof is not None:
        from coreproof.model.files.outputs import COMPRESSION, check_output

        check_output(proof, COMPRESSION, replace=replace)


def names_in(text: str | None) -> tuple[str, ...]:
    """Names with commas between."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())
