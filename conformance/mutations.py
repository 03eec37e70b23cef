"""Faults planted in healthy models: does the doctor, given the source, find and repair them, and leave the healthy alone?

    python -m conformance.mutations --count 100 --seed 0 [--only KIND...] [--formats FORMAT...] [--again]

writes conformance/results/mutations.json after each fault, and goes on where the record of the same question ends. Faults are
planted in the files' protobufs by code that shares nothing with ``coreproof.editing``. A fault counts when the model does not
run with it, or its answers move by more than one percent; others are drawn again. Found: a finding names the layer, or the
value behind it. Repaired: PyTorch's own output is met by the repaired model as closely as by the healthy one. False repair:
said to be repaired, and it is not so.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import coreproof as cp
from conformance.mutation_bodies import open_plantable
from conformance.mutation_kinds import KINDS, Planted
from conformance.mutation_networks import LABELS, MEAN, STD, Network, networks
from conformance.narrow import compressed, quantised
from conformance.origin import origin, write_record
from conformance.trial import first_line
from coreproof.conversion.onnx_to_coreml.features import ImageInput
from coreproof.model.feeding import Feeding, Source
from coreproof.runtime.images import to_tensor

RESULTS = Path(__file__).parent / "results" / "mutations.json"
VISIBLE = 0.01
"""Answers count as changed from this share of their rms on."""
FORMATS = (
    *("mlprogram-fp16", "mlprogram-fp32", "neuralnetwork", "onnx", "quantised"),
    *("coremltools-fp16", "coremltools-fp32", "compressed-fp16"),
)
"""The last is coremltools' own conversion with weights of 8 bits; "quantised" is ONNX in int8, which is its own source."""

NARROW = ("quantised", "compressed-fp16")
"""Styles that are made of plain networks only: neither quantisation nor compression has to do with pictures and labels."""


class Case:
    """A healthy network in one format, as a file, with what PyTorch answers to two inputs."""

    def __init__(self, network: Network, style: str, folder: Path, *, torch: bool = False) -> None:
        self.network, self.style = network, style
        self.feeding = _feeding(network)
        pair = (network.module, (network.example,))
        self.torch = cp.load(Source(*pair, feeding=self.feeding) if network.picture else pair)
        self.source = _cached_source(self.torch, network, folder)
        if style == "quantised":
            self.source = quantised(self.source)
        self.given = self.torch if torch else self.source
        self.folder = folder / f"{network.name}-{style}"
        self.folder.mkdir()
        self.file = self._convert()
        self.inputs = list(_inputs(network))
        self.error = self.distance(cp.load(self.file))

    def _convert(self) -> Path:
        if self.style.startswith("coremltools"):
            return with_coremltools(self.network, self.style.endswith("fp16"), self.folder / "healthy.mlpackage")
        if self.style.startswith("compressed"):
            return _compressed(self.network, self.folder / "healthy.mlpackage")
        to, _, precision = self.style.replace("quantised", "onnx").partition("-")
        suffix = {"mlprogram": "mlpackage", "neuralnetwork": "mlmodel", "onnx": "onnx"}[to]
        wanted: dict[str, Any] = {"precision": precision or "fp32"}
        if to != "onnx" and self.network.labels:
            wanted["labels"] = list(LABELS)
        if to != "onnx" and self.network.picture:
            # a NeuralNetwork scales all channels alike; a std a channel would be layers of its own
            picture = ImageInput(mean=MEAN, std=STD, scale=1 / 255)
            wanted["images"] = {self.torch.signature.inputs[0].name: picture}
        model = self.source if to == "onnx" else cp.convert(self.source, to, **wanted)  # type: ignore[arg-type]
        return model.save(self.folder / f"healthy.{suffix}")

    def distance(self, model: Any) -> float:
        """How far the model's answers are from PyTorch's, as a share of their rms; infinite where it does not run."""
        try:
            with cp.session(model) as running:
                return max(_apart(right, self._answer(running, fed)) for fed, right in self.inputs)
        except cp.CoreproofError:
            return math.inf

    def _answer(self, running: Any, fed: Any) -> Any:
        made = running.run({running.signature.inputs[0].name: fed})
        labels = next((v for v in made.values() if isinstance(v, dict)), None)
        if labels is not None:
            # a label's score is wrong where the label is
            return np.array([labels.get(label, 0.0) for label in LABELS])
        return next(v for v in made.values() if isinstance(v, np.ndarray) and v.dtype.kind == "f")


def _feeding(network: Network) -> Feeding | None:
    if not network.picture:
        return None
    return Feeding(size=tuple(network.example.shape[-2:]), resize="squash", scale=1 / 255, mean=MEAN, std=STD)


_SOURCES: dict[str, Any] = {}


def _cached_source(model: Any, network: Network, folder: Path) -> Any:
    """The network as ONNX, exported once; it keeps how it is fed."""
    if network.name not in _SOURCES:
        _SOURCES[network.name] = cp.load(cp.convert(model, "onnx").save(folder / f"{network.name}.onnx"))
    return _SOURCES[network.name]


def _inputs(network: Network) -> Iterable[tuple[Any, Any]]:
    """(what the converted model is fed, what PyTorch answers)."""
    import torch
    from PIL import Image

    rng = np.random.default_rng(7)
    for _ in range(2):
        if network.picture:
            height, width = network.example.shape[-2:]
            coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
            picture = coarse.resize((width, height), Image.Resampling.BILINEAR)
            feeding = _feeding(network)
            assert feeding is not None
            fed, tensor = picture, to_tensor(picture, feeding)
        else:
            fed = tensor = rng.standard_normal(tuple(network.example.shape)).astype(np.float32)
        with torch.no_grad():
            yield fed, network.module(torch.from_numpy(tensor)).numpy()


def with_coremltools(network: Network, half: bool, target: Path) -> Path:
    """coremltools' own conversion of a network, as a file."""
    import coremltools as ct
    import torch

    feature: Any = ct.TensorType(name="input", shape=network.example.shape)
    if network.picture:
        # one scale for three channels is all that an ImageType has: the std stays inside, as users write it
        feature = ct.ImageType(name="input", shape=network.example.shape, scale=1 / 255)
    module = torch.nn.Sequential(_Normalize(), network.module).eval() if network.picture else network.module
    made = ct.convert(
        torch.jit.trace(module, network.example, check_trace=False),
        inputs=[feature],
        classifier_config=ct.ClassifierConfig(list(LABELS)) if network.labels else None,
        minimum_deployment_target=ct.target.iOS16,
        compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
        skip_model_load=True,
    )
    made.save(str(target))
    return target


def _compressed(network: Network, target: Path) -> Path:
    compressed(network.module, network.example, "linear").save(str(target))
    return target


def _Normalize() -> Any:
    import torch

    class Normalize(torch.nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, x: Any) -> Any:
            return (x - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)

    return Normalize()


def _apart(right: Any, value: Any) -> float:
    if right.size != value.size:
        return math.inf
    a, b = right.astype(np.float64).reshape(-1), np.asarray(value, np.float64).reshape(-1)
    error = float(np.sqrt(np.mean((a - b) ** 2)) / (np.sqrt(np.mean(a**2)) or 1.0))
    return error if math.isfinite(error) else math.inf


def plant(case: Case, name: str, rng: np.random.Generator, folder: Path) -> tuple[Planted, Path, float] | None:
    """One fault in a copy of the case's file; None where it has no place for it or nothing is seen of it."""
    body = open_plantable(case.file)
    planted = KINDS[name](body, rng)
    if planted is None:
        return None
    file = body.save(folder)
    error = case.distance(cp.load(file))
    return (planted, file, error) if error > VISIBLE + 2 * case.error else None


def examine(case: Case, planted: Planted, file: Path) -> dict[str, Any]:
    """What the doctor makes of a planted fault."""
    started = time.monotonic()
    labels = list(LABELS) if case.network.labels else None
    found = cp.diagnose(file, case.given, labels=labels, feeding=case.feeding)
    seconds = time.monotonic() - started
    named = {f.layer for f in found}
    near = _near(cp.load(file), planted.layers)
    error = math.inf if found.repaired is None else case.distance(found.repaired)
    good = error <= 2 * case.error + 1e-3
    said = any(f.repaired for f in found)
    return {
        "found": bool(found.findings) and (not planted.layers or bool(named & near) or _of_picture(found, case)),
        "repaired": good and said,
        "false_repair": said and not good,
        "error_after": error if math.isfinite(error) else None,
        "seconds": round(seconds, 1),
        "findings": [f"{f.rule} {f.layer}: {f.evidence} => {f.repair} ({f.repaired}) {f.proof or ''}" for f in found],
    }


def _of_picture(found: Any, case: Case) -> bool:
    """Whether the doctor speaks of a picture's preprocessing: then it names the feature, not the layers that carry it out."""
    return case.network.picture and any(f.rule == "preprocessing" for f in found)


def _near(model: Any, layers: Iterable[str]) -> set[str]:
    """The layers, what they make, who reads that, and what only turns stored weights into the layers' own."""
    names = set(layers)
    fed = {feature.name for feature in model.signature.inputs}
    read = {name for node in model.graph.nodes if node.name in layers for name in node.inputs}
    names.update(
        n.name
        for n in model.graph.nodes
        if read.intersection(n.outputs) and "DequantizeLinear" in n.operator and not fed.intersection(n.inputs)
    )
    for node in model.graph.nodes:
        if node.name in layers or names.intersection(node.outputs):
            names.update((node.name, *node.outputs))
            names.update(reader.name for reader in model.graph.nodes if set(node.outputs) & set(reader.inputs))
    return names


def main() -> None:
    """Draws faults until the count is met, puts each before the doctor; results are kept after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=list(KINDS))
    parser.add_argument("--formats", nargs="*", default=list(FORMATS))
    parser.add_argument("--networks", nargs="*", default=[])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--again", action="store_true", help="start anew, whatever the record holds")
    parser.add_argument("--torch", action="store_true", help="give the doctor the PyTorch model, not its ONNX export")
    parser.add_argument("--healthy", action="store_true", help="put the models before the doctor as they are")
    parser.add_argument("--keep", type=Path, help="a folder for the files of faults that were missed")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if given.healthy:
            healthy(given, Path(scratch))
        else:
            run(given, Path(scratch))


def run(given: argparse.Namespace, scratch: Path) -> None:
    """The trial: every kind in turn, each in a format and a network drawn for it; goes on where the record ends."""
    chosen = [n for n in networks(given.seed) if not given.networks or n.name in given.networks]
    asked = {key: getattr(given, key) for key in ("seed", "only", "formats", "networks", "torch")}
    cases: dict[tuple[str, str], Case] = {}
    records: list[dict[str, Any]] = [] if given.again else _resumed(given.results, asked)
    made = origin("conformance.mutations")
    turn = 1 + records[-1]["turn"] if records else 0
    unseen = sum(record["drawn_again"] for record in records)
    while len(records) < given.count and turn < 40 * given.count:
        name = given.only[turn % len(given.only)]
        rng = np.random.default_rng((given.seed, turn))
        turn += 1
        for _ in range(8):
            network, style = chosen[rng.integers(len(chosen))], str(rng.choice(given.formats))
            if style in NARROW and (network.picture or network.labels):
                continue
            if (network.name, style) not in cases:
                cases[network.name, style] = Case(network, style, scratch, torch=given.torch)
            case = cases[network.name, style]
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                drawn = plant(case, name, rng, Path(folder))
                unseen += drawn is None
                if drawn is None:
                    continue
                planted, file, error = drawn
                record = {"turn": turn - 1, "kind": name, "network": network.name, "format": style}
                record |= {"layers": list(planted.layers), "words": planted.words}
                record |= {"error": error if math.isfinite(error) else None, **_examined(case, planted, file)}
                record["drawn_again"] = unseen - sum(r["drawn_again"] for r in records)
                record["commit"] = made["commit"]
                if given.keep is not None and not (record["found"] and record["repaired"]):
                    _keep(given.keep, len(records), record, case, file)
            records.append(record)
            _say(len(records), record)
            _write(given.results, {**made, **asked}, records)
            break
    _table(records)


def _resumed(target: Path, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """The faults of a record that was asked for the same; others start anew."""
    stored = json.loads(target.read_text(encoding="utf-8")) if target.is_file() else {}
    return list(stored["faults"]) if all(stored.get(key) == value for key, value in asked.items()) else []


def _examined(case: Case, planted: Planted, file: Path) -> dict[str, Any]:
    """What the doctor makes of the fault; a doctor that breaks has found nothing."""
    try:
        return examine(case, planted, file)
    except Exception as error:  # a judge keeps what broke, whatever it was, and goes on
        broke = {"found": False, "repaired": False, "false_repair": False, "error_after": None, "seconds": 0.0}
        return {**broke, "findings": [], "why": first_line(error)}


def _keep(folder: Path, number: int, record: dict[str, Any], case: Case, file: Path) -> None:
    import shutil

    target = folder / f"{number:03d}-{record['kind'].replace(' ', '-')}-{case.network.name}-{case.style}"
    target.mkdir(parents=True, exist_ok=True)
    (shutil.copytree if file.is_dir() else shutil.copy)(file, target / file.name)
    case.source.save(target / "source.onnx")
    (target / "record.json").write_text(json.dumps(record, indent=1))


def _say(number: int, record: dict[str, Any]) -> None:
    mark = ("·" if record["found"] else "?") + ("·" if record["repaired"] else "✗")
    mark += "FALSE" if record["false_repair"] else ""
    first = record["findings"][0][:160] if record["findings"] and mark != "··" else ""
    where = f"{record['network']} {record['format']} {','.join(record['layers'])}"
    print(
        f"{number:3d} {mark} {record['kind']}: {where}: {record['words']}  {record['seconds']} s  {first}", flush=True
    )


def healthy(given: argparse.Namespace, scratch: Path) -> None:
    """Every network in every format, as it is: there should be no finding."""
    count = found = 0
    for network in networks(given.seed):
        for style in given.formats:
            if given.networks and network.name not in given.networks:
                continue
            if style in NARROW and (network.picture or network.labels):
                continue
            case = Case(network, style, scratch, torch=given.torch)
            labels = list(LABELS) if network.labels else None
            diagnosis = cp.diagnose(case.file, case.given, labels=labels, feeding=case.feeding)
            count, found = count + 1, found + bool(diagnosis.findings)
            words = "; ".join(f"{f.rule} {f.layer}: {f.evidence}" for f in diagnosis)
            print(f"{'✗' if words else '·'} {network.name} {style} (error {case.error:.1e}) {words}", flush=True)
            if words and given.keep is not None:
                record = {"kind": "healthy", "network": network.name, "layers": (), "words": ""}
                _keep(given.keep, count, record, case, case.file)
    print(f"{count} healthy models, {found} with findings")


def _write(target: Path, made: dict[str, Any], records: list[dict[str, Any]]) -> None:
    counts = ("planted", "found", "repaired", "false_repairs", "drawn_again")
    by_style = {style: _counted([r for r in records if r["format"] == style]) for style in FORMATS}
    whole = {
        **made,
        "summary": dict(zip(counts, _counted(records), strict=True)),
        "formats": {
            style: dict(zip(counts[:4], counted, strict=False)) for style, counted in by_style.items() if counted[0]
        },
        "faults": records,
    }
    write_record(target, whole)


def _counted(records: Sequence[dict[str, Any]]) -> tuple[int, ...]:
    return (
        len(records),
        *(sum(r[key] for r in records) for key in ("found", "repaired", "false_repair", "drawn_again")),
    )


def _table(records: list[dict[str, Any]]) -> None:
    for key in ("kind", "network", "format"):
        for name in dict.fromkeys(r[key] for r in records):
            planted, found, repaired, *_ = _counted([r for r in records if r[key] == name])
            print(f"{name:22s} {planted:3d} planted {found:3d} found {repaired:3d} repaired")
    seconds = sorted(r["seconds"] for r in records)
    planted, found, repaired, wrong, unseen = _counted(records)
    print(
        f"{planted} planted, {found} found, {repaired} repaired, {wrong} false repairs; {unseen} draws without a place or an "
        f"effect were drawn again; median {seconds[len(seconds) // 2]} s, most {seconds[-1]} s"
    )


if __name__ == "__main__":
    main()
