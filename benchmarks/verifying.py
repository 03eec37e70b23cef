"""What verify costs beside running both models once with all inner values: python -m benchmarks.verifying NAME FOLDER.

Prints a line of JSON. The two models are the ONNX file and its float32 ML Program. Running both is: read the files, open both
once with every inner value as an output, run what verify feeds, take all of it as arrays; a memory that holds everything is
given to verify as well. What is divided was fed alike: verify of one sample by running both on that sample, verify as it draws
by running both on all that it drew. Each pair is done in turn, on models read anew, with the garbage of the one collected before
the other starts; the best of each counts. Processor seconds are kept beside those of the clock: other programs disturb them less.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import MARK, measured, peak_mebibytes

CHAINS = (6, 48, 500, 5000)
NETWORKS = ("resnet50", "swin_t", "transformer-48", *(f"chain-{length}" for length in CHAINS))
TURNS = (3, 15)
ENOUGH = 3.0
"""So many turns at least and at most; in between, until so many seconds are spent."""
MEMORY = 1 << 32


def chain(length: int, path: Path) -> Path:
    """An ONNX file of so many layers one after the other: products, sums and Tanh over 32 numbers."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.normal(size=(32, 32)).astype(np.float32) / 5, "w"),
        numpy_helper.from_array(rng.normal(size=32).astype(np.float32) / 5, "b"),
    ]
    names = ["x", *(f"v{i}" for i in range(length - 1)), "y"]
    kinds = (("MatMul", ("w",)), ("Add", ("b",)), ("Tanh", ()))
    nodes = [
        helper.make_node(kinds[i % 3][0], [names[i], *kinds[i % 3][1]], [names[i + 1]], name=f"n{i}")
        for i in range(length)
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 32]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def file_of(name: str, folder: Path) -> Path:
    """The ONNX file of a network or chain; made where it is not there."""
    if name.startswith("chain-"):
        path = folder / f"{name}.onnx"
        return path if path.is_file() else chain(int(name.removeprefix("chain-")), path)
    from benchmarks.models import onnx_file

    return onnx_file(name, folder)


def run_both(reference: Path, candidate: Path, pairs: Any) -> int:
    """Both models, each opened once, with every inner value on every sample; how many values that were."""
    import coreproof as cp

    count = 0
    for at, path in enumerate((reference, candidate)):
        with cp.session(path) as running:
            for pair in pairs:
                count += len(running.run(pair[at], taps=sorted(running.tappable)))
    return count


def peak_of(work: Callable[[], Any]) -> float:
    """MiB that the process held at most while it did this, what it held before included."""
    forget = Path("/proc/self/clear_refs")
    if forget.exists():
        forget.write_text("5")  # Linux: the highest mark starts anew
    work()
    return peak_mebibytes()


def measure(name: str, folder: Path) -> dict[str, Any]:
    """Seconds of both and of verify, on one sample and on all that it draws, and of a conversion with and without its check."""
    import coreproof as cp
    from coreproof.feeding.inputs import feeds_of
    from coreproof.model.load import load

    reference = file_of(name, folder)
    with tempfile.TemporaryDirectory() as scratch:
        candidate = Path(scratch) / "candidate.mlpackage"
        cp.convert(reference, "mlprogram", precision="fp32", check=False).save(candidate)
        with cp.session(load(reference)) as left, cp.session(load(candidate)) as right:
            pairs = feeds_of(load(reference), load(candidate), sessions=(left, right)).pairs
        feeds = ([pairs[0][0]], [pairs[0][1]])
        peak = peak_of(lambda: cp.verify(load(reference), load(candidate)))
        run_both(reference, candidate, pairs[:1])  # what is imported late is paid for
        found = cp.verify(load(reference), load(candidate), feeds=feeds, memory=MEMORY)
        times: dict[str, list[float]] = {}

        def clock(what: str, work: Callable[[], Any]) -> Any:
            gc.collect()
            started = time.perf_counter(), time.process_time()
            result = work()
            times.setdefault(f"{what}_cpu", []).append(time.process_time() - started[1])
            times.setdefault(what, []).append(time.perf_counter() - started[0])
            return result

        def in_turn(**works: Callable[[], Any]) -> None:
            for turn in range(TURNS[1]):
                for what, work in works.items():
                    clock(what, work)
                if turn + 1 >= TURNS[0] and sum(sum(times[what]) for what in works) > ENOUGH:
                    return

        in_turn(
            both=lambda: run_both(reference, candidate, pairs[:1]),
            verify=lambda: cp.verify(load(reference), load(candidate), feeds=feeds, memory=MEMORY),
        )
        in_turn(
            both_drawn=lambda: run_both(reference, candidate, pairs),
            drawn=lambda: cp.verify(load(reference), load(candidate), memory=MEMORY),
        )
        in_turn(
            convert=lambda: cp.convert(reference, "mlprogram", check=False),
            checked=lambda: cp.convert(reference, "mlprogram"),
        )
    return {
        "values": len(found.rows),
        "draws": len(pairs),
        "peak": peak,
        "agrees": found.agrees,
        **{what: min(seconds) for what, seconds in times.items()},
    }


VERIFY_HEAD = [
    *("model", "values", "both once, s", "verify, s", "ratio", "by processor time", "ms a value"),
    *("draws", "both on all draws, s", "verify as it draws, s", "ratio", "its peak, MiB"),
]
CHECK_HEAD = ["model", "conversion, s", "with its check, s", "ratio"]
AIM, AIM_MEDIAN = 2.5, 1.5


def in_fresh_process(name: str, folder: Path) -> dict[str, Any]:
    """One model, measured in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.verifying", name, str(folder)]
    return measured(command)


def verify_rows(results: dict[str, dict[str, Any]]) -> list[list[str]]:
    rows = []
    for name, found in results.items():
        if "error" in found:
            rows.append([name, f"failed: {found['error']}", *[""] * (len(VERIFY_HEAD) - 2)])
            continue
        both, verify, values = found["both"], found["verify"], found["values"]
        each = verify / values * 1000
        processor, drawn = found["verify_cpu"] / found["both_cpu"], found["drawn"] / found["both_drawn"]
        figures = [f"{both:.3f}", f"{verify:.3f}", f"{verify / both:.2f}", f"{processor:.2f}", f"{each:.2f}"]
        figures += [str(found["draws"]), f"{found['both_drawn']:.3f}", f"{found['drawn']:.3f}", f"{drawn:.2f}"]
        rows.append([name, f"{values:,}", *figures, f"{found['peak']:.0f}"])
    return rows


def check_rows(results: dict[str, dict[str, Any]]) -> list[list[str]]:
    good = {name: found for name, found in results.items() if "error" not in found}
    return [
        [name, f"{f['convert']:.3f}", f"{f['checked']:.3f}", f"{f['checked'] / f['convert']:.1f}"]
        for name, f in good.items()
    ]


def verdict(results: dict[str, dict[str, Any]]) -> str:
    """The ratios against the aim, by the clock and by processor time, in a line."""
    if any("error" in found for found in results.values()):
        return "NOT met: a row failed"

    def told(verify: str, both: str) -> str:
        ratios = [found[verify] / found[both] for found in results.values()]
        median, worst = statistics.median(ratios), max(ratios)
        met = "met" if median <= AIM_MEDIAN and worst <= AIM else "NOT met"
        return f"median {median:.2f}, worst {worst:.2f} ({met})"

    return (
        f"verify: {told('verify', 'both')}; by processor time {told('verify_cpu', 'both_cpu')}; as it draws "
        f"{told('drawn', 'both_drawn')}, beside both on one draw alone {told('drawn', 'both')} "
        f"(aim: median at most {AIM_MEDIAN}, each at most {AIM})"
    )


def main() -> None:
    name, folder = sys.argv[1:]
    try:
        result = measure(name, Path(folder))
    except Exception as error:  # the row says what failed
        first = str(error).strip().splitlines() or [""]
        result = {"error": f"{type(error).__name__}: {first[0]}"[:300]}
    print(MARK + json.dumps(result))


if __name__ == "__main__":
    main()
