"""prove: the whole chain of one model: obtain, sanity-check, convert, verify, compare, report."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from coreproof.convert import convert
from coreproof.errors import CoreproofError, InputError
from coreproof.model.atomic import replacing
from coreproof.model.base import Model
from coreproof.model.feeding import Feeding
from coreproof.model.load import load
from coreproof.model.torch import TorchModel
from coreproof.run.images import fit, pixels, to_tensor
from coreproof.run.pictures import open_picture
from coreproof.run.session import session
from coreproof.verify.verify import Verification, verify

if TYPE_CHECKING:
    from coreproof.compare.comparison import Comparison

Kind = Literal["obtain", "check", "convert", "verify", "witness", "compare"]
VERIFIED_PHOTOS = 2
"""How many photos each step is verified on, tensor by tensor; all of them are compared by their predictions."""


@dataclass(frozen=True)
class Step:
    """One step of the chain and what it showed. ``ok`` None means that there was nothing to decide, or it was skipped."""

    name: str
    kind: Kind
    text: str
    ok: bool | None
    seconds: float
    reference: str = ""
    candidate: str = ""
    engines: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    verification: Verification | None = None

    def to_json(self) -> dict[str, Any]:
        """The step as the page and proof.json hold it."""
        document: dict[str, Any] = {
            "name": self.name,
            "kind": self.kind,
            "from": self.reference,
            "to": self.candidate,
            "ok": self.ok,
            "text": self.text,
            "seconds": round(self.seconds, 3),
            "engines": list(self.engines),
            "notes": list(self.notes),
            "rows": [],
            "first_divergence": None,
        }
        if self.verification is not None:
            document.update(self.verification.to_json())
        return document


@dataclass(frozen=True)
class Proof:
    """What was proved about one model. Truthy when every step agrees."""

    title: str
    steps: tuple[Step, ...]
    folder: Path
    comparison: Comparison | None
    command: str
    models: Mapping[str, Model] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        return all(step.ok is not False for step in self.steps)

    def __bool__(self) -> bool:
        return self.agrees

    @property
    def page(self) -> Path:
        return self.folder / "index.html"

    @property
    def text(self) -> str:
        """The verdict in one sentence."""
        verified = [s for s in self.steps if s.kind == "verify" and s.ok is not None]
        failed = [s for s in self.steps if s.ok is False]
        if failed:
            first = failed[0]
            where = ""
            if first.verification is not None and first.verification.first_divergence is not None:
                where = f", first at {first.verification.first_divergence.candidate!r}"
            return f"{self.title} does not survive: {first.name} disagrees{where}."
        found = [s.verification for s in verified if s.verification is not None]
        values = sum(len(v.rows) for v in found)
        weak = sum(len(v.weak) for v in found)
        text = (
            f"{self.title} is still the same model: {len(verified)} conversions agree "
            f"in all {values:,} values compared, each within what rounding explains."
        )
        return (
            text
            if not weak
            else f"{text} For {weak:,} of them that says little: rounding alone may change half of the value."
        )

    def to_json(self) -> dict[str, Any]:
        """What proof.json holds and the page shows."""
        return {
            "format": "coreproof proof",
            "version": 1,
            "title": self.title,
            "verdict": {"agrees": self.agrees, "text": self.text},
            "steps": [step.to_json() for step in self.steps],
            "versions": versions(),
            "command": self.command,
        }


def versions() -> dict[str, str]:
    """The versions that a reader needs to repeat a run."""
    found = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    for package in ("coreproof", "torch", "torchvision", "onnx", "onnxruntime", "coremltools", "numpy", "pillow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def prove(
    source: Any,
    photos: str | Path,
    out: str | Path,
    *,
    feeding: Feeding | None = None,
    labels: Sequence[str] | None = None,
    target: str = "iOS17",
    witness: bool = True,
    progress: Callable[[str, int, int], None] | None = None,
    announce: Callable[[Step], None] | None = None,
    command: str = "",
) -> Proof:
    """Carries a PyTorch or ONNX model to Core ML and proves every step.

    Each conversion is verified value by value against the step before it, on photos; then all models predict all
    photos and are compared. Writes index.html, proof.json, comparison.json and the converted models into ``out``.

    ``feeding`` says how photos are fed (default: what the model carries). ``announce`` hears of each finished step.
    Raises UnreadableModelError, PhotoError, InputError, ConversionError; a route that cannot express the model is a
    step that says so, not an error.
    """
    chain = _Chain(load(source), Path(photos), Path(out), feeding, labels, target, progress, announce)
    chain.obtain()
    chain.carry(witness=witness)
    comparison = chain.compare()
    proof = Proof(chain.source.name, tuple(chain.steps), chain.out, comparison, command, chain.models)
    _write(proof)
    return proof


def _write(proof: Proof) -> None:
    from coreproof.report.page import write_page

    with replacing(proof.folder / "proof.json") as fresh:
        fresh.write_text(json.dumps(proof.to_json(), indent=1, default=str))
    if proof.comparison is not None:
        proof.comparison.save_json(proof.folder)
    write_page(proof.folder, proof=proof.to_json(), comparison=proof.comparison)


class _Chain:
    """The models made so far, by the short names that the matrix uses, and the steps that made them."""

    def __init__(
        self,
        source: Model,
        photos: Path,
        out: Path,
        feeding: Feeding | None,
        labels: Sequence[str] | None,
        target: str,
        progress: Callable[[str, int, int], None] | None,
        announce: Callable[[Step], None] | None,
    ) -> None:
        from coreproof.run.photos import list_photos

        if source.format not in ("torch", "onnx"):
            raise InputError(
                "prove starts from a PyTorch or ONNX model",
                where=source.name,
                found=source.format,
                fix="compare a Core ML model with its source by: coreproof verify SOURCE MODEL",
            )
        self.source = source
        self.photos = list_photos(photos)
        self.out = out
        self.target = target
        self.labels = tuple(labels) if labels is not None else source.signature.labels
        self.progress = progress
        self.announce = announce
        self.steps: list[Step] = []
        self.models: dict[str, Model] = {}
        self.feedings: dict[str, Feeding] = {}
        if len(source.signature.inputs) != 1:
            raise InputError(
                "prove needs a model with one input, a picture",
                where=source.name,
                found="; ".join(str(f) for f in source.signature.inputs),
            )
        self.input = source.signature.inputs[0]
        self.feeding = feeding or getattr(source, "feeding", None)
        if self.feeding is None:
            raise InputError(
                "how photos are fed to this model is not known",
                where=source.name,
                expected="size, mean and std that it was trained with",
                found=f"a plain tensor input, {self.input}",
                fix="give them: --size 224 --resize-to 256 --scale 1/255 --mean ... --std ...",
            )
        self._check_size()

    def _check_size(self) -> None:
        shape, feeding = self.input.shape, self.feeding
        assert feeding is not None
        width, height = feeding.size
        if shape is not None and len(shape) == 4:
            wanted = shape[1:3] if feeding.layout == "NHWC" else shape[2:4]
            for have, want in zip((height, width), wanted, strict=True):
                if isinstance(want, int) and want != have:
                    raise InputError(
                        "the feeding's size is not the model's",
                        where=self.source.name,
                        expected=str(self.input),
                        found=f"pictures of {width}x{height}",
                        fix=f"--size {wanted[1]}x{wanted[0]}",
                    )

    # steps

    def add(self, step: Step) -> None:
        self.steps.append(step)
        if self.announce is not None:
            self.announce(step)

    def obtain(self) -> None:
        """The source itself: what it is, and that it computes finite, repeatable numbers."""
        started = time.monotonic()
        name = "torchm" if self.source.format == "torch" else "onnxm"
        self.models[name] = self.source
        assert self.feeding is not None
        self.feedings[name] = self.feeding
        features = ", ".join(str(f) for f in (*self.source.signature.inputs, *self.source.signature.outputs))
        self.add(
            Step(
                "Obtain",
                "obtain",
                f"{self.source.name} as {name}: {features}",
                None,
                time.monotonic() - started,
                candidate=name,
                notes=(*self.source.notes, f"fed {self.feeding}"),
            )
        )
        started = time.monotonic()
        problem = None
        with session(self.source) as running:
            fed = self.tensors()[0]
            first, second = running.run(fed), running.run(fed)
            engine = running.engine
        for output, value in first.items():
            array = np.asarray(value)
            if not np.isfinite(array).all():
                problem = f"output {output!r} holds NaN or infinity"
            elif not np.array_equal(array, np.asarray(second[output])):
                problem = f"output {output!r} differs between two runs on the same photo"
            elif array.size > 1 and float(np.ptp(array)) == 0:
                problem = f"output {output!r} is one constant"
        text = problem or "outputs are finite, repeatable, and not constant"
        self.add(
            Step(
                "Sanity", "check", text, problem is None, time.monotonic() - started, candidate=name, engines=(engine,)
            )
        )

    def carry(self, *, witness: bool) -> None:
        """Every conversion, each verified against the step before."""
        prefix = "t2"
        if isinstance(self.source, TorchModel):
            exported = self.convert_step("t2o", self.source, "onnx")
            if exported is None:
                return
            self.verify_step("t2o", "torchm")
            reference = "t2o"
        else:
            reference, prefix = "onnxm", "o2"
        for name, to, precision in (
            (f"{prefix}c", "mlprogram", "fp32"),
            (f"{prefix}c16", "mlprogram", "fp16"),
            (f"{prefix}nn", "neuralnetwork", "fp32"),
        ):
            if self.convert_step(name, self.models[reference], to, precision) is not None:
                self.verify_step(name, reference)
        if witness and isinstance(self.source, TorchModel):
            self.witness_step(self.source)

    def convert_step(self, name: str, source: Model, to: Any, precision: Any = None) -> Model | None:
        started = time.monotonic()
        label = {"onnx": "ONNX", "mlprogram": f"ML Program {precision}", "neuralnetwork": "NeuralNetwork"}[to]
        arguments: dict[str, Any] = {}
        if to != "onnx":
            arguments["images"] = {self.input.name: self._image()} if self._takes_image() else None
            arguments["target"] = self.target if to == "mlprogram" else None
            arguments["precision"] = precision
        try:
            model = convert(source, to, **arguments)
            suffix = {"onnx": ".onnx", "mlprogram": ".mlpackage", "neuralnetwork": ".mlmodel"}[to]
            path = model.save(self.out / "models" / f"{name}{suffix}")
            # what is verified and compared is the stored file, read back
            stored = load(path)
        except CoreproofError as error:
            if to == "onnx":
                raise
            self.add(
                Step(
                    f"Convert to {label}",
                    "convert",
                    f"not possible: {error.problem}",
                    None,
                    time.monotonic() - started,
                    candidate=name,
                    notes=tuple(str(error).splitlines()),
                )
            )
            return None
        stored.notes = model.notes
        stored.provenance = getattr(model, "provenance", {})  # type: ignore[attr-defined]
        self.models[name] = stored
        assert self.feeding is not None
        self.feedings[name] = self.feeding
        size = _size(path)
        self.add(
            Step(
                f"Convert to {label}",
                "convert",
                f"{name}: {len(stored.graph.nodes)} layers, {size}",
                None,
                time.monotonic() - started,
                candidate=name,
                notes=model.notes,
            )
        )
        return stored

    def verify_step(self, name: str, reference: str) -> None:
        started = time.monotonic()
        a, b = self.models[reference], self.models[name]
        result = verify(a, b, feeds=(self.feeds(a), self.feeds(b)), progress=self.progress)
        engines = tuple(result.engines)
        self.add(
            Step(
                f"Verify {name} against {reference}",
                "verify",
                result.summary().splitlines()[0],
                result.agrees,
                time.monotonic() - started,
                reference=reference,
                candidate=name,
                engines=engines,
                verification=result,
            )
        )

    def witness_step(self, source: TorchModel) -> None:
        from coreproof.convert.coremltools_route import coremltools_route

        started = time.monotonic()
        try:
            (self.out / "models").mkdir(parents=True, exist_ok=True)
            model = coremltools_route(source, self.out / "models", target=self.target)
        except CoreproofError as error:
            self.add(
                Step(
                    "Witness: coremltools' own route",
                    "witness",
                    f"fails on this model: {error.found}",
                    None,
                    time.monotonic() - started,
                    candidate="ct",
                    notes=tuple(str(error).splitlines()),
                )
            )
            return
        self.models["ct"] = model
        assert self.feeding is not None
        self.feedings["ct"] = self.feeding
        self.add(
            Step(
                "Witness: coremltools' own route",
                "witness",
                f"ct: {len(model.graph.nodes)} layers",
                None,
                time.monotonic() - started,
                candidate="ct",
                notes=model.notes,
            )
        )
        self.verify_step("ct", "torchm")

    def compare(self) -> Comparison | None:
        """All models over all photos, where the model is a classifier."""
        from coreproof.compare.compare import compare
        from coreproof.compare.lineup import Entry, Lineup

        outputs = self.source.signature.outputs
        shape = outputs[0].shape or ()
        lengths = [d for d in shape if isinstance(d, int)]
        if len(outputs) != 1 or not lengths or int(np.prod(lengths)) != max(lengths):
            self.add(Step("Compare predictions", "compare", "skipped: the model is no classifier", None, 0.0))
            return None
        started = time.monotonic()
        lineup = Lineup(
            tuple(Entry(name, model, feeding=self.feedings[name]) for name, model in self.models.items()),
        )
        comparison = compare(lineup, self.photos.folder, store=self.out / "store", progress=self.progress)
        self.add(
            Step(
                "Compare predictions",
                "compare",
                f"{len(self.models)} models over {len(self.photos.files)} photos",
                None,
                time.monotonic() - started,
            )
        )
        return comparison

    # feeding

    def _takes_image(self) -> bool:
        shape, feeding = self.input.shape, self.feeding
        return feeding is not None and feeding.layout == "NCHW" and shape is not None and len(shape) == 4

    def _image(self) -> Any:
        from coreproof.convert.onnx_to_coreml.convert import ImageInput

        assert self.feeding is not None
        return ImageInput(
            colour=self.feeding.colour, mean=self.feeding.mean, std=self.feeding.std, scale=self.feeding.scale
        )

    def tensors(self) -> list[dict[str, Any]]:
        """What the source is verified on: the first photos as tensors."""
        return self.feeds(self.source)

    def feeds(self, model: Model) -> list[dict[str, Any]]:
        """The same photos in the form that ``model`` takes: pixels for an image input, else numbers."""
        assert self.feeding is not None
        feature = model.signature.inputs[0]
        fed = []
        for path in self.photos.files[:: max(1, len(self.photos.files) // VERIFIED_PHOTOS)][:VERIFIED_PHOTOS]:
            picture = open_picture(path)
            if feature.image is not None:
                value = pixels(fit(picture, self.feeding), feature.image.colour)
            else:
                value = to_tensor(picture, self.feeding)
            fed.append({feature.name: value})
        return fed


def _size(path: Path) -> str:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    total = sum(p.stat().st_size for p in files)
    return f"{total / 1e6:.1f} MB"
