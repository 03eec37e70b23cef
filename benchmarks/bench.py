"""`make bench`: conversion time, peak memory and latency of coreproof and its peers, measured in one run.

    python -m benchmarks.bench --peers PYTHON [--coreai PYTHON] [--repeats 3] [--rounds 60] [--models resnet50,...] [--out FILE]
        [--only verify|coreai]

`--only verify` measures what verify and conversion's own check cost, `--only coreai` conversion to Core AI; either leaves the
other tables of the file as they are. `--coreai` names a Python with `coreproof[coreai,torch]`, coreai-torch and coreai-onnx.
Prints tables with ratios and writes benchmarks/RESULTS.md. Each conversion is measured in a process of its own; the tools take
turns, and the best of the repeats counts (anything else on the machine only ever adds).
A peer that fails is shown with its reason.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import coreai
from benchmarks.measure import TOOLS, measured
from benchmarks.models import DEPTHS, onnx_file
from benchmarks.verifying import CHECK_HEAD, VERIFY_HEAD, check_rows, in_fresh_process, verdict, verify_rows
from benchmarks.verifying import NETWORKS as VERIFIED

FOLDER = Path("build/bench")
NETWORKS = ("resnet50", "efficientnet-lite0", "transformer-48")
AIM = 0.4
AIM_LATENCY = 1.05
OURS = "coreproof"
WIDTH = 110


@dataclass(frozen=True)
class Measured:
    """The best of a few runs of one tool on one model, or why there is none."""

    seconds: float = float("nan")
    peak: float = float("nan")
    start: float = float("nan")
    error: str | None = None


def run_once(python: str, tool: str, model: str) -> dict[str, Any]:
    """One measurement in a fresh process."""
    command = [python, "-W", "ignore", "-m", "benchmarks.measure", tool, model, str(FOLDER)]
    return measured(command)


def best(runs: Sequence[dict[str, Any]]) -> Measured:
    good = [run for run in runs if "error" not in run]
    if not good:
        return Measured(error=runs[0]["error"] if runs else "not measured")
    return Measured(*(min(run[key] for run in good) for key in ("seconds", "peak", "start")))


def measure_all(pairs: Sequence[tuple[str, str]], peers: str, repeats: int) -> dict[tuple[str, str], Measured]:
    """Every (tool, model) pair ``repeats`` times, the tools taking turns; a failure is not tried again."""
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {pair: [] for pair in pairs}
    turns = [pair for _ in range(repeats) for pair in pairs]
    for pair in track(turns, description="converting", console=Console(stderr=True)):
        if any("error" in run for run in runs[pair]):
            continue
        tool, model = pair
        runs[pair].append(run_once(sys.executable if tool in (OURS, "coremltools") else peers, tool, model))
    return {pair: best(done) for pair, done in runs.items()}


def conversion_rows(results: dict[tuple[str, str], Measured], networks: Sequence[str]) -> list[list[str]]:
    rows = []
    for model in networks:
        mine = results[OURS, model]
        for tool in TOOLS:
            found = results[tool, model]
            if found.error:
                rows.append([model, tool, f"failed: {found.error}", "", "", ""])
                continue
            ratio = "" if mine.error else f"{found.seconds / mine.seconds:.1f}"
            rows.append([model, tool, f"{found.seconds:.2f}", ratio, f"{found.peak:.0f}", f"{found.start:.1f}"])
    return rows


def verdicts(results: dict[tuple[str, str], Measured], networks: Sequence[str]) -> list[str]:
    """One line a model: what share of the fastest peer's time ours takes, held against the aim."""
    lines = []
    for model in networks:
        mine = results[OURS, model]
        peers = {tool: r.seconds for (tool, m), r in results.items() if m == model and tool != OURS and not r.error}
        if mine.error or not peers:
            continue
        fastest = min(peers, key=lambda tool: peers[tool])
        share = mine.seconds / peers[fastest]
        met = "met" if share <= AIM else "NOT met"
        lines.append(f"{model}: {share:.2f} of the time of the fastest peer, {fastest} (aim: at most {AIM}; {met})")
    return lines


def growth_rows(results: dict[tuple[str, str], Measured]) -> list[list[str]]:
    rows = []
    for depth in DEPTHS:
        found = results[OURS, f"transformer-{depth}"]
        if found.error:
            rows.append([str(depth), f"failed: {found.error}", "", ""])
        else:
            each = found.seconds / depth * 1000
            rows.append([str(depth), f"{found.seconds:.2f}", f"{each:.1f}", f"{found.peak:.0f}"])
    return rows


def latency_rows(model: str, rounds: int, threads: int) -> list[list[str]]:
    from benchmarks.latency import REFERENCE, latencies, median_ratio

    seconds = latencies(onnx_file(model, FOLDER), rounds, threads)
    rows = []
    for label, times in seconds.items():
        ratio = median_ratio(times, seconds[REFERENCE])
        rows.append([label, f"{statistics.median(times) * 1000:.1f}", f"{ratio:.3f}"])
    return rows


CONVERSION_HEAD = ["model", "tool", "conversion, s", "times ours", "peak memory, MiB", "start-up, s"]
GROWTH_HEAD = ["layers", "conversion, s", "ms a layer", "peak memory, MiB"]
LATENCY_HEAD = ["ResNet50, batch 1", "median, ms", "ratio to the source"]


def machine() -> str:
    """What the figures depend on, without naming the machine."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("coremltools", "torch", "onnx", "onnxruntime", "numpy"))
    peers = ", ".join(
        line.strip().replace("==", " ")
        for line in (Path(__file__).parent / "requirements.txt").read_text().splitlines()
        if line.startswith(("onnx2coreml", "onnxsim"))
    )
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}; {packages}; {peers}."


def rich_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(*head, title=title, title_justify="left")
    for before, row in zip([None, *rows], rows, strict=False):
        if before and before[0] != row[0] and len(head) == len(CONVERSION_HEAD):
            table.add_section()
        table.add_row(*row)
    return table


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


_VERIFY = "## What verify costs"


def verify_sections(names: Sequence[str], console: Console) -> str:
    """The tables of verify and of the check, printed and as Markdown."""
    results = {name: in_fresh_process(name, FOLDER) for name in track(names, "verifying", console=Console(stderr=True))}
    costs, checks = verify_rows(results), check_rows(results)
    console.print(rich_table("What verify costs", VERIFY_HEAD, costs))
    console.print(rich_table("Conversion with and without its own check", CHECK_HEAD, checks))
    console.print(verdict(results))
    about = (
        "An ONNX file against its float32 ML Program, one sample. Running both once: both read, opened with every inner "
        "value as an output, run, all of it taken as arrays; verify does that too, and pairs, judges and bounds all values. "
        "In turn, the best of each. As it draws: on the inputs that verify draws by itself, so many draws of different "
        "magnitude, beside both models opened once and run on all of these draws; its peak memory is what the process held "
        "then, with at most 256 MiB of inner values at a time on each side. "
        "The check of a conversion runs what was made (a float16 ML Program) beside its source."
    )
    return "\n".join(
        [
            _VERIFY, "", f"{os.cpu_count()} cores, {platform.machine()}. {about}", "", markdown(VERIFY_HEAD, costs), "",
            f"- {verdict(results)}", "", "## Conversion with and without its own check", "", markdown(CHECK_HEAD, checks), "",
        ]
    )  # fmt: skip


_COREAI = "## Conversion to a float32 Core AI model"


def coreai_sections(python: str, networks: Sequence[str], options: argparse.Namespace, console: Console) -> str:
    """The tables of Core AI, printed and as Markdown."""
    for name in ("tiny", *networks):
        onnx_file(name, FOLDER)
    threads = os.cpu_count() or 1
    results = coreai.conversions(python, networks, FOLDER, options.repeats)
    rows, verdict_lines = coreai.conversion_rows(results, networks), coreai.verdicts(results, networks)
    latency = coreai.latency_rows(python, "resnet50", FOLDER, options.rounds, threads) if "resnet50" in networks else []
    console.print(rich_table(_COREAI.removeprefix("## "), coreai.HEAD, rows))
    console.print(rich_table("What it lowers to", coreai.LATENCY_HEAD, latency))
    for line in verdict_lines:
        console.print(line)
    about = (
        f"{os.cpu_count()} cores, {platform.machine()}. From the ONNX file (coreai-torch: from the exported program) to the "
        f"saved .aimodel, best of {options.repeats} fresh processes, the tools taking turns. coreproof has Apple's package write "
        f"in a child process, whose start is part of the time. Latency: {options.rounds} rounds, interleaved, {threads} threads."
    )
    return "\n".join(
        [
            _COREAI, "", about, "", markdown(coreai.HEAD, rows), "", *(f"- {line}" for line in verdict_lines), "",
            markdown(coreai.LATENCY_HEAD, latency), "", f"(aim: at most {coreai.AIM_LATENCY})", "",
        ]
    )  # fmt: skip


def rewrite(file: Path, verifying: str | None = None, of_coreai: str | None = None) -> None:
    """Puts the tables of Core AI and of verify at the end of the file, in the place of older ones; None leaves those."""
    text = file.read_text(encoding="utf-8") if file.is_file() else "# Speed, measured\n"
    before, found, old_verify = text.partition(_VERIFY)
    before, has_coreai, old_coreai = before.partition(_COREAI)
    kept = [before, of_coreai or has_coreai + old_coreai, verifying or found + old_verify]
    file.write_text("\n\n".join(part.strip() for part in kept if part.strip()) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=sys.executable, help="the Python that has onnx2coreml and onnxsim")
    parser.add_argument("--repeats", type=int, default=3, help="processes a tool and model; the best counts")
    parser.add_argument("--rounds", type=int, default=60, help="interleaved runs of each engine")
    parser.add_argument("--models", default=",".join(NETWORKS), help="which of the networks")
    parser.add_argument("--verified", default=",".join(VERIFIED), help="which models verify is measured on")
    parser.add_argument(
        "--coreai", help="the Python that has Apple's Core AI packages and coreai-onnx; without it those are left"
    )
    parser.add_argument("--only", choices=["verify", "coreai"], help="this part alone")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "RESULTS.md")
    options = parser.parse_args()
    networks = options.models.split(",")
    deep = [f"transformer-{depth}" for depth in DEPTHS] if "transformer-48" in networks else []
    threads = os.cpu_count() or 1
    console = Console()
    if console.width < WIDTH:
        console = Console(width=WIDTH)

    if options.only == "coreai" and options.coreai is None:
        parser.error("--only coreai wants --coreai PYTHON")
    of_coreai = None
    if options.coreai is not None and options.only != "verify":
        of_coreai = coreai_sections(options.coreai, networks, options, console)
    if options.only == "coreai":
        rewrite(options.out, of_coreai=of_coreai)
        return 0
    verifying = verify_sections(options.verified.split(","), console)
    if options.only == "verify":
        rewrite(options.out, verifying)
        return 0
    for name in track(["tiny", *networks, *deep], description="exporting", console=Console(stderr=True)):
        onnx_file(name, FOLDER)
    latency = latency_rows("resnet50", options.rounds, threads) if "resnet50" in networks else []
    pairs = [(tool, model) for model in networks for tool in TOOLS]
    pairs += [(OURS, model) for model in deep if model not in networks]
    results = measure_all(pairs, options.peers, options.repeats)

    sections = [("Conversion to a float16 ML Program", CONVERSION_HEAD, conversion_rows(results, networks))]
    if deep:
        sections.append(("coreproof by depth (transformer encoder, d=128)", GROWTH_HEAD, growth_rows(results)))
    if latency:
        sections.append((f"Latency, {threads} threads (aim: at most {AIM_LATENCY})", LATENCY_HEAD, latency))
    for title, head, rows in sections:
        console.print(rich_table(title, head, rows))
    for line in verdicts(results, networks):
        console.print(line)
    console.print(machine())
    written = [
        "# Speed, measured",
        "",
        f"By `make bench`, all in one run: {machine()}",
        f"Conversion: from the file (coremltools: from the PyTorch module, tracing included) to the saved package, best of "
        f"{options.repeats} fresh processes, the tools taking turns. Start-up is importing the tool and converting a one-layer "
        "model, and is not part of the conversion time. Peak memory is the whole process, imports included. "
        f"Latency: {options.rounds} rounds, engines interleaved; the ratio is the median of each round's ratio. "
        "Only ratios of one run mean anything.",
    ]
    for title, head, rows in sections:
        written += ["", f"## {title}", "", markdown(head, rows)]
        if head is CONVERSION_HEAD:
            written += ["", *(f"- {line}" for line in verdicts(results, networks))]
    if of_coreai is None and options.out.is_file():
        # what was not measured now stays as it is
        _, found, old = options.out.read_text(encoding="utf-8").partition(_VERIFY)[0].partition(_COREAI)
        of_coreai = found + old
    options.out.write_text("\n".join(written) + "\n", encoding="utf-8")
    rewrite(options.out, verifying, of_coreai)
    console.print(
        f"written: {options.out.relative_to(Path.cwd()) if options.out.is_relative_to(Path.cwd()) else options.out}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
