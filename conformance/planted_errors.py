"""Errors planted at random places of converted models: does verify name the layer, and how long does that take?

    python -m conformance.planted_errors [NAME...] [--places N]

writes conformance/results/planted_errors.json, model by model (a named model replaces its own
results). Each error is planted in one node before conversion, so that the
converted file is wrong in one layer; it counts only where it changes what that layer makes of the right inputs by more than one
percent. Judged: the first divergence is that layer's value or, where the converter fused the layer, the next value that
both have and whose suspects hold the layer; the time, against running both models, opened once
with all inner values brought out, on every draw that verify feeds.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

import coreproof as cp
from conformance.origin import origin
from conformance.transformers import TRANSFORMERS
from coreproof.model.atomic import replacing
from coreproof.model.onnx import OnnxModel
from coreproof.run.open import session
from coreproof.run.part import part
from coreproof.verify.align import made_values, side
from coreproof.verify.inputs import feeds_of, random_feeds
from coreproof.verify.verify import Verification

RESULTS = Path(__file__).parent / "results" / "planted_errors.json"
VISIBLE = 0.01
"""An error counts when it changes its layer's output by this share of its scale."""

SEED = 2026

FORMATS = (("mlprogram", "fp16"), ("neuralnetwork", "fp32"))


@dataclass(frozen=True)
class Plant:
    """One error: what was done to which node, the value that it makes, and how much that changed."""

    kind: str
    node: str
    operator: str
    value: str
    effect: float
    model: OnnxModel


# the models


def resnet50() -> OnnxModel:
    return cp.convert(cp.load("torchvision:resnet50?weights=random"), "onnx")


def transformer() -> OnnxModel:
    """An encoder like BERT's: 6 layers, 8 heads, 256 features, 128 tokens."""
    import torch
    from torch import nn

    class Encoder(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(1000, 256)
            self.places = nn.Parameter(0.1 * torch.randn(128, 256))
            layer = nn.TransformerEncoderLayer(256, 8, 1024, activation="gelu", batch_first=True)
            self.layers = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)
            self.head = nn.Linear(256, 10)

        def forward(self, tokens: Any) -> Any:
            return self.head(self.layers(self.words(tokens) + self.places).mean(1))

    torch.manual_seed(0)
    return cp.convert(cp.load((Encoder().eval(), (torch.randint(0, 1000, (1, 128)),))), "onnx")


def unet() -> OnnxModel:
    """Three levels down and up with batch normalisation, transposed convolutions and concatenations."""
    import torch
    from torch import nn

    def double(into: int, out: int) -> Any:
        parts = [nn.Conv2d(into, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
        return nn.Sequential(*parts, nn.Conv2d(out, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU())

    class UNet(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            widths = (24, 48, 96, 192)
            self.down = nn.ModuleList(double(a, b) for a, b in zip((3, *widths), widths, strict=False))
            self.lift = nn.ModuleList(
                nn.ConvTranspose2d(b, a, 2, 2) for a, b in zip(widths[-2::-1], widths[:0:-1], strict=True)
            )
            self.up = nn.ModuleList(double(2 * a, a) for a in widths[-2::-1])
            self.last = nn.Conv2d(widths[0], 4, 1)

        def forward(self, x: Any) -> Any:
            kept = []
            for level in self.down[:-1]:
                kept.append(level(x))
                x = nn.functional.max_pool2d(kept[-1], 2)
            x = self.down[-1](x)
            for lift, level in zip(self.lift, self.up, strict=True):
                x = level(torch.cat([kept.pop(), lift(x)], 1))
            return self.last(x).softmax(1)

    torch.manual_seed(0)
    model = UNet()
    with torch.no_grad():
        for _ in range(8):
            model(torch.randn(2, 3, 192, 192))
    return cp.convert(cp.load((model.eval(), (torch.randn(1, 3, 192, 192),))), "onnx")


def small(name: str) -> Callable[[], OnnxModel]:
    """One of ``conformance.transformers``, with statistics and weights from seed 0."""

    def make() -> OnnxModel:
        from conformance.mutation_networks import networks

        network = next(n for n in networks(0) if n.name == name)
        return cp.convert(cp.load((network.module, (network.example,))), "onnx")

    return make


def int8() -> OnnxModel:
    """A residual network in int8 (QDQ)."""
    from conformance.narrow import quantised

    return quantised(small("residual")())


MODELS: dict[str, Callable[[], OnnxModel]] = {
    "resnet50": resnet50,
    "transformer": transformer,
    "unet": unet,
    **{name: small(name) for name in TRANSFORMERS},
    "int8": int8,
}

# the errors: each changes a node of a copy, and says whether it could

Error = Callable[[ir.Node, np.random.Generator], bool]


def _weight(
    node: ir.Node, least: int = 2, place: int | None = None, dtype: ir.DataType = ir.DataType.FLOAT
) -> ir.Value | None:
    values = [node.inputs[place]] if place is not None and place < len(node.inputs) else list(node.inputs)
    for value in values:
        tensor = None if value is None else value.const_value
        if value is not None and tensor is not None and len(tensor.shape) >= least and tensor.dtype == dtype:
            return value
    return None


def _give(node: ir.Node, value: ir.Value, array: np.ndarray) -> None:
    """Gives this node alone another weight."""
    name = f"{value.name}_planted"
    fresh = ir.Value(name=name, const_value=ir.Tensor(array, name=name), type=value.type, shape=value.shape)
    node.graph.register_initializer(fresh)  # type: ignore[union-attr]
    node.replace_input_with(list(node.inputs).index(value), fresh)


def _changed(
    change: Callable[[np.ndarray, np.random.Generator], np.ndarray],
    least: int,
    place: int | None,
    dtype: ir.DataType = ir.DataType.FLOAT,
) -> Error:
    def error(node: ir.Node, rng: np.random.Generator) -> bool:
        value = _weight(node, least, place, dtype)
        if value is None or value.const_value is None:
            return False
        array = value.const_value.numpy()
        fresh = change(array, rng)
        if fresh.shape != array.shape or np.array_equal(fresh, array):
            return False
        _give(node, value, np.ascontiguousarray(fresh).reshape(array.shape))  # contiguous, and a scalar still
        return True

    return error


def _noise(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return array + (0.1 * array.std() * rng.standard_normal(array.shape)).astype(np.float32)


def _swap(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    order = np.arange(array.shape[0])
    pair = rng.choice(len(order), 2, replace=False) if len(order) > 1 else [0, 0]
    order[pair] = order[pair[::-1]]
    return array[order]


def _transpose(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return array.swapaxes(0, 1)


def _negate_one(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    fresh = array.copy()
    fresh[rng.integers(len(fresh))] *= -1
    return fresh


def _nothing(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.zeros_like(array)


def _attribute(name: str, change: Callable[[Any, np.random.Generator], Any], default: Any = None) -> Error:
    def error(node: ir.Node, rng: np.random.Generator) -> bool:
        old = node.attributes[name].value if name in node.attributes else default
        new = None if old is None else change(old, rng)
        if new is None or new == old:
            return False
        node.attributes.add(ir.convenience.convert_attribute(name, new))
        return True

    return error


def _operator(to: str, **attributes: Any) -> Error:
    def error(node: ir.Node, rng: np.random.Generator) -> bool:
        node.op_type = to
        for name in list(node.attributes):
            del node.attributes[name]
        for name, value in attributes.items():
            node.attributes.add(ir.convenience.convert_attribute(name, value))
        return True

    return error


def _shift_pads(pads: Any, rng: np.random.Generator) -> list[int]:
    half = len(pads) // 2
    return [0] * half + [a + b for a, b in zip(pads[:half], pads[half:], strict=True)]


def _same_lengths(node: ir.Node, rng: np.random.Generator) -> bool:
    """Another order of axes that gives the same shape."""
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if shape is None or "perm" not in node.attributes:
        return False
    order = list(node.attributes["perm"].as_ints())
    twins = [(i, j) for i in range(len(order)) for j in range(i) if shape[order[i]] == shape[order[j]] != 1]
    if not twins:
        return False
    i, j = twins[rng.integers(len(twins))]
    order[i], order[j] = order[j], order[i]
    node.attributes.add(ir.convenience.convert_attribute("perm", order))
    return True


def _other_order(node: ir.Node, rng: np.random.Generator) -> bool:
    """Inputs the other way round, where their shapes are alike."""
    a, b = node.inputs[:2]
    if a is None or b is None or a.shape is None or a.shape != b.shape or a is b:
        return False
    node.replace_input_with(0, b)
    node.replace_input_with(1, a)
    return True


def _other_place(node: ir.Node, rng: np.random.Generator) -> bool:
    """A Gather or Slice at a neighbouring index."""
    value = node.inputs[1]
    if value is None or value.const_value is None or value.const_value.size != 1:
        return False
    array = value.const_value.numpy()
    _give(node, value, (array + 1 if array.item() == 0 else array - 1).astype(array.dtype))
    return True


_WEIGHTS: dict[str, Error] = {
    "noisy weights": _changed(_noise, 2, None),
    "two channels swapped": _changed(_swap, 2, None),
    "weights transposed": _changed(_transpose, 2, None),
    "a channel negated": _changed(_negate_one, 2, None),
}
_BIAS: dict[str, Error] = {"bias dropped": _changed(_nothing, 1, 2)}
ERRORS: dict[str, dict[str, Error]] = {
    "Conv": {**_WEIGHTS, **_BIAS, "pads shifted": _attribute("pads", _shift_pads)},
    "ConvTranspose": {**_WEIGHTS, **_BIAS},
    "Gemm": {**_WEIGHTS, **_BIAS},
    "MatMul": _WEIGHTS,
    "BatchNormalization": {
        "epsilon": _attribute("epsilon", lambda old, rng: 0.1, 1e-5),
        "scale swapped": _changed(_swap, 1, 1),
        "bias dropped": _changed(_nothing, 1, 2),
        "mean dropped": _changed(_nothing, 1, 3),
    },
    "LayerNormalization": {
        "epsilon": _attribute("epsilon", lambda old, rng: 0.3, 1e-5),
        "scale changed": _changed(lambda array, rng: array * np.float32(0.9), 1, 1),
    },
    "Relu": {"left out": _operator("Identity"), "leaky": _operator("LeakyRelu", alpha=0.1)},
    "Gelu": {"made a ReLU": _operator("Relu"), "made a sigmoid": _operator("Sigmoid")},
    "MaxPool": {"pads shifted": _attribute("pads", _shift_pads), "made an average": _operator("AveragePool")},
    "Softmax": {"wrong axis": _attribute("axis", lambda old, rng: 1 if old in (-1, 3) else -1, -1)},
    "Add": {"made a difference": _operator("Sub"), "made a maximum": _operator("Max")},
    "Mul": {"made a sum": _operator("Add")},
    "Concat": {"other order": _other_order},
    "Transpose": {"wrong axes": _same_lengths},
    "Gather": {"neighbouring index": _other_place},
    "QuantizeLinear": {"another scale": _changed(lambda array, rng: array * np.float32(1.3), 0, 1)},
    "DequantizeLinear": {
        "another scale": _changed(lambda array, rng: array * np.float32(1.3), 0, 1),
        "two channels swapped": _changed(_swap, 2, 0, ir.DataType.INT8),
        "a channel negated": _changed(_negate_one, 2, 0, ir.DataType.INT8),
    },
    "ReduceMean": {"made a maximum": _operator("ReduceMax", keepdims=0)},
}


def plants(source: OnnxModel, count: int, seed: int) -> Iterator[Plant]:
    """``count`` visible errors at random nodes, each at another node while there are any left."""
    rng = np.random.default_rng(seed)
    fed = random_feeds(source, source)[0]
    with session(source) as running:
        right = running.run(fed, sorted(running.tappable))
    right.update(fed)
    places = [i for i, node in enumerate(source.ir.graph) if node.op_type in ERRORS]
    queue: list[int] = []
    made = 0
    for _ in range(20 * count):
        if made == count:
            return
        queue = queue or [int(i) for i in rng.permutation(places)]
        plant = _plant(source, queue.pop(), right, rng)
        if plant is not None:
            made += 1
            yield plant
    raise RuntimeError(f"only {made} of {count} visible errors could be planted in {source.name}")


def _plant(source: OnnxModel, place: int, right: dict[str, Any], rng: np.random.Generator) -> Plant | None:
    model = ir.from_proto(ir.to_proto(source.ir))
    node = model.graph[place]
    if node.op_type == "MaxPool":
        kept = {name: node.attributes[name] for name in ("kernel_shape", "strides", "pads") if name in node.attributes}
    operator, kinds = node.op_type, ERRORS[node.op_type]
    kind = str(rng.choice(sorted(kinds)))
    if not kinds[kind](node, rng):
        return None
    if operator == "MaxPool":
        for name, attribute in kept.items():
            if name not in node.attributes:
                node.attributes.add(attribute)
    value = node.outputs[0].name or ""
    planted = OnnxModel(model, name=source.name)
    given = {v.name: right[v.name] for v in node.inputs if v is not None and v.name in right}
    wrong = part(planted, given, [value])[value]
    if wrong.shape != right[value].shape:
        return None
    difference = wrong.astype(np.float64) - right[value]
    effect = float(np.sqrt(np.mean(difference**2) / max(np.mean(right[value].astype(np.float64) ** 2), 1e-30)))
    return Plant(kind, node.name or value, operator, value, effect, planted) if effect > VISIBLE else None


# the judge


def found_at(verification: Verification, plant: Plant) -> str:
    """ "layer": the first divergence is the planted layer's own value; "fused": the next value after it; else "wrong"."""
    first = verification.first_divergence
    if first is None:
        return "nothing"
    if first.reference == plant.value:
        return "layer"
    paired = {row.reference for row in verification.rows}
    suspects = verification.suspects
    inside = suspects is not None and any(plant.value in node.outputs for node in suspects.nodes)
    return "fused" if inside and plant.value not in paired else "wrong"


def run_once(reference: Any, candidate: Any) -> None:
    """Both models opened once, with all their inner values brought out, on every draw that verify feeds.

    That is what verify is measured against: its verdict rests on all of these draws.
    """
    pairs = feeds_of(reference, candidate).pairs
    for at, model in enumerate((reference, candidate)):
        with session(model) as running:
            taps = made_values(side(model, running.tappable))
            for pair in pairs:
                running.run(pair[at], taps)


def timed(work: Callable[[], Any]) -> tuple[tuple[float, float], Any]:
    """Seconds on the clock, seconds of processor time (which other programs on the machine disturb less), and the result."""
    started = time.perf_counter(), time.process_time()
    result = work()
    return (time.perf_counter() - started[0], time.process_time() - started[1]), result


def try_model(name: str, places: int) -> Iterator[dict[str, Any]]:
    """One model, its errors in ML Program fp16 and NeuralNetwork in turn."""
    source = MODELS[name]()
    for index, plant in enumerate(plants(source, places, seed=SEED)):
        to, precision = FORMATS[index % len(FORMATS)]
        candidate = cp.convert(plant.model, to, precision=precision)
        once, _ = timed(lambda candidate=candidate: run_once(source, candidate))
        taken, verification = timed(lambda candidate=candidate: cp.verify(source, candidate))
        first = verification.first_divergence
        entry = {
            "model": name,
            "format": to,
            "error": plant.kind,
            "operator": plant.operator,
            "planted": plant.value,
            "effect": round(plant.effect, 4),
            "found": found_at(verification, plant),
            "named": None if first is None else first.reference,
            "faults": [row.reference for row in verification.faults],
            "once": [round(t, 3) for t in once],
            "verify": [round(t, 3) for t in taken],
        }
        print(
            f"{name:12} {to:14} {plant.kind:22} {plant.operator:20} {plant.value:16} {entry['found']:7} "
            f"{entry['named']!s:16} {taken[0] / once[0]:5.2f} {taken[1] / once[1]:5.2f}",
            flush=True,
        )
        yield entry


def summary(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """How many were found, and the time of verify as a multiple of running both on its draws: by the clock, by processor time."""
    clock, processor = ([e["verify"][i] / e["once"][i] for e in entries] for i in (0, 1))
    return {
        "of": len(entries),
        "found": sum(e["found"] in ("layer", "fused") for e in entries),
        "with_no_other_fault": sum(len(e["faults"]) == 1 for e in entries),
        "clock": {"median": round(statistics.median(clock), 2), "within_twice": sum(r <= 2 for r in clock)},
        "processor": {"median": round(statistics.median(processor), 2), "within_twice": sum(r <= 2 for r in processor)},
    }


def record(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Puts the results of one model into the file and returns the summary of all."""
    kept = json.loads(RESULTS.read_text())["errors"] if RESULTS.exists() else []
    made = origin("conformance.planted_errors")
    entries = [e for e in kept if e["model"] != name] + [{**e, "commit": made["commit"]} for e in entries]
    whole = {
        **made,
        "seed": SEED,
        **summary(entries),
        "errors": entries,
    }
    with replacing(RESULTS) as fresh:
        fresh.write_text(json.dumps(whole, indent=1) + "\n")
    return whole


def main(arguments: list[str]) -> int:
    """Tries the named models (default all), prints a table and writes the results as they come."""
    places = int(arguments[arguments.index("--places") + 1]) if "--places" in arguments else 50
    whole: dict[str, Any] = {}
    for name in [a for a in arguments if a in MODELS] or list(MODELS):
        entries: list[dict[str, Any]] = []
        for entry in try_model(name, places):
            entries.append(entry)
            whole = record(entries, name)
    print({key: value for key, value in whole.items() if key != "errors"})
    return 0 if whole["found"] == whole["of"] and whole["clock"]["within_twice"] == whole["of"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
