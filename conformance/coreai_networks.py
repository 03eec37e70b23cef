"""Small networks along the whole way: PyTorch = ONNX = ML Program = Core AI, value by value, on our engine and on Apple's.

In an environment that has `coreproof[coreai]` and torchvision::

    PYTHONPATH=src:. python -m conformance.coreai_networks [NAME ...] [--record FILE] [--table FILE]

The rows of the networks that are run replace their earlier ones in conformance/results/coreai_networks.json.
Each network is made from a seed and converted straight from PyTorch to Core AI, in float32 and in half width; the ML Program
between is made by itself as well. The rows are those that `verify` pairs by name. A network that is compressed is the ML Program
with its weights in fewer bits.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.decoders import decoder

import coreproof as cp
from conformance.origin import origin, write_record
from conformance.transformers import LENGTH, TRANSFORMERS, WIDTH
from coreproof.model.base import Model
from coreproof.runtime.session import Engine

RESULTS = Path(__file__).parent / "results" / "coreai_networks.json"
Made = tuple[Any, tuple[Any, ...]]


def _sequence(kind: str) -> Callable[[], Made]:
    def make() -> Made:
        import torch
        from torch import nn

        class Recurrent(nn.Module):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.steps = getattr(nn, kind)(WIDTH, 24, num_layers=2, batch_first=True, bidirectional=kind == "LSTM")
                self.head = nn.Linear(48 if kind == "LSTM" else 24, 5)

            def forward(self, x: Any) -> Any:
                return self.head(self.steps(x)[0])

        return Recurrent(), (torch.randn(1, LENGTH, WIDTH),)

    return make


def _transformer(name: str) -> Callable[[], Made]:
    def make() -> Made:
        import torch

        build, shape = TRANSFORMERS[name]
        return build(), (torch.randn(1, *shape),)

    return make


def _convolutional() -> Made:
    import torch
    from torch import nn

    layers = (
        *(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, groups=2), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)),
    )
    return nn.Sequential(*layers), (torch.randn(1, 3, 24, 24),)


def _torchvision(name: str) -> Callable[[], Made]:
    def make() -> Made:
        import torch

        from coreproof.model.torch.model import import_torchvision

        size = 224 if name.startswith(("vit", "swin", "maxvit")) else 96
        return import_torchvision().models.get_model(name, weights=None), (torch.randn(1, 3, size, size),)

    return make


NETWORKS: dict[str, tuple[Callable[[], Made], str | None]] = {
    **{name: (_transformer(name), None) for name in TRANSFORMERS},
    "lstm": (_sequence("LSTM"), None),
    "gru": (_sequence("GRU"), None),
    "stateful decoder": (lambda: decoder(), None),
    "quantised": (_convolutional, "linear:8"),
    "palettised": (_convolutional, "palettize:4"),
    **{name: (_torchvision(name), None) for name in ("resnet18", "mobilenet_v3_small", "squeezenet1_1")},
}
"""name -> what makes the module with its example inputs, and how the weights of its ML Program are compressed."""


def judge(name: str, folder: Path) -> Iterator[dict[str, object]]:
    """What each step of a network's way came to."""
    import torch

    make, compress = NETWORKS[name]
    torch.manual_seed(0)
    module, example = make()
    source = cp.Source(module.eval(), example)
    onnx = None if name == "stateful decoder" else _tried(lambda: cp.convert(source, "onnx").save(folder / "n.onnx"))
    if onnx is not None:
        yield _row(name, "ONNX", "PyTorch", onnx, source, folder / "n.onnx")
    for precision in ("fp32", "fp16"):
        package, straight = folder / f"{precision}.mlpackage", folder / f"{precision}.aimodel"
        made = _tried(
            lambda at=package, half=precision: cp.convert(
                source, "mlprogram", precision=half, target="iOS18", compress=compress
            ).save(at)
        )
        before = folder / "n.onnx" if onnx == "" else source
        yield _row(name, f"ML Program {precision}", "ONNX" if onnx == "" else "PyTorch", made, before, package)
        if compress is None:
            told = _tried(lambda at=straight, half=precision: cp.convert(source, "coreai", precision=half).save(at))
            reference, said = before, "ONNX" if onnx == "" else "PyTorch"
        else:
            told = _tried(lambda at=straight, of=package: cp.convert(of, "coreai").save(at))
            reference, said = package, f"ML Program {precision}"
        yield _row(name, f"Core AI {precision}", said, told, reference, straight)
        yield _row(name, f"Core AI {precision}, Apple's interpreter", said, told, reference, straight, "coreai")
        if compress is None and not made:
            other = folder / f"{precision}-migrated.aimodel"
            told = _tried(lambda at=other, of=package: cp.convert(of, "coreai").save(at))
            yield _row(name, f"Core AI {precision} of the program", f"ML Program {precision}", told, package, other)


def _tried(make: Callable[[], object]) -> str:
    """Why it cannot be made; nothing where it can."""
    try:
        make()
    except cp.CoreproofError as error:
        return str(error).splitlines()[0]
    return ""


def _row(
    name: str, what: str, against: str, failed: str | None, reference: object, candidate: Path, engine: Engine = "auto"
) -> dict[str, object]:
    row: dict[str, object] = {"network": name, "what": what, "against": against}
    if failed:
        return {**row, "agrees": False, "text": f"refused: {failed}"}
    started = time.monotonic()
    try:
        found = cp.verify(_loaded(reference), candidate, candidate_engine=engine)
    except cp.CoreproofError as error:
        return {**row, "agrees": False, "text": f"not run: {error}"}
    seconds = round(time.monotonic() - started, 1)
    return {
        **row,
        "agrees": found.agrees,
        "values": len(found.rows),
        "text": found.summary().splitlines()[0],
        "seconds": seconds,
    }


def _loaded(reference: object) -> Model:
    return cp.load(reference)


def table(rows: list[dict[str, object]]) -> str:
    """The rows as a page has them."""
    lines = ["| network | form | against | values |", "| --- | --- | --- | --- |"]
    lines += [f"| {r['network']} | {r['what']} | {r['against']} | {r['text']} |" for r in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs the networks that are named, or all of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--record", type=Path, default=RESULTS)
    parser.add_argument("--table", type=Path)
    asked = parser.parse_args()
    made = origin("conformance.coreai_networks")
    kept = json.loads(asked.record.read_text(encoding="utf-8"))["rows"] if asked.record.is_file() else []
    rows: list[dict[str, object]] = [row for row in kept if asked.names and row["network"] not in asked.names]
    for name in asked.names or NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            for row in judge(name, Path(folder)):
                rows.append({**row, "commit": made["commit"]})
                print("✓" if row["agrees"] else "✗", row["network"], "|", row["what"], "|", row["text"], flush=True)
        write_record(asked.record, {**made, "agree": sum(bool(row["agrees"]) for row in rows), "rows": rows})
    if asked.table is not None:
        asked.table.write_text(table(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
