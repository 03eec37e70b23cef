"""prove: the whole chain of one model: obtain, sanity-check, convert, verify, compare, report."""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from coreproof.conversion.convert import Target, convert
from coreproof.conversion.description import Description
from coreproof.conversion.torch_to_onnx.frozen import freeze as frozen
from coreproof.conversion.torch_to_onnx.kept_export import (
    FOLDER,
    export_digest,
    is_kept,
    keep_export,
    kept_export,
    waiting,
)
from coreproof.errors import CoreproofError, InputError, OutputExistsError
from coreproof.feeding.drawn import Inputs
from coreproof.feeding.example_feeds import SAID
from coreproof.feeding.photos import list_photos
from coreproof.feeding.proof_feeds import PROOF_PHOTOS, ProofFeeds
from coreproof.model.arguments import System, of_kind, texts, whole
from coreproof.model.base import Model
from coreproof.model.class_labels import class_count, refuse_misfit
from coreproof.model.feeding import Feeding
from coreproof.model.files.atomic import replacing_together
from coreproof.model.files.outputs import COMPARISON, PAGE, PROOF, check_output, refuse_photos_folder
from coreproof.model.files.paths import file_name
from coreproof.model.load import load
from coreproof.model.numbers import bytes_as_text
from coreproof.model.onnx.data_files import data_file
from coreproof.model.onnx.model import OnnxModel
from coreproof.model.opened import opened
from coreproof.model.progress import Progress
from coreproof.model.public import public
from coreproof.model.torch.model import TorchModel
from coreproof.proof.document import SPOKEN
from coreproof.proof.document import Proof as Proof
from coreproof.proof.document import ProofStep as ProofStep
from coreproof.proof.foundation import foundation_of
from coreproof.proof.shipping import Shipping
from coreproof.proof.steps import ProofSteps, write_proof

if TYPE_CHECKING:
    from coreproof.conversion.onnx_to_coreml.features import ImageInput

_FORMATS: Mapping[Target, tuple[str, str]] = {
    "onnx": ("ONNX", ".onnx"),
    "mlprogram": ("ML Program", ".mlpackage"),
    "neuralnetwork": ("NeuralNetwork", ".mlmodel"),
    "coreai": ("Core AI", ".aimodel"),
}
"""What each format is called, and how its files end."""

UNNAMED = "its classes have no names, and an app will show numbers: give --labels FILE, or cp.Source(..., labels=(...))"
ROWS = "with a batch the models give rows of scores: a Core ML classifier names the class of one sample at a time (--batch 1)"


@public
def prove(
    source: object,
    photos: str | Path | None,
    out: str | Path,
    *,
    truth: str | Path | None = None,
    inputs: str | Path | Inputs | None = None,
    samples: int = PROOF_PHOTOS,
    feeding: Feeding | None = None,
    labels: Sequence[str] | None = None,
    target: System = "iOS17",
    precision: Literal["fp16", "fp32", "float16", "float32"] | None = None,
    batch: int | str | None = None,
    limit: int | None = None,
    metadata: Mapping[str, str] | None = None,
    describe: Mapping[str, str] | None = None,
    defaults: Mapping[str, float] | None = None,
    witness: bool = True,
    progress: Progress | None = None,
    announce: Callable[[ProofStep], None] | None = None,
    command: str = "",
    replace: bool = False,
    fresh: bool = False,
    freeze_state: bool = False,
    freeze_branches: bool = False,
) -> Proof:
    """Carries a PyTorch or ONNX model to Core ML and proves every step.

    Each conversion is verified value by value against the step before it, on photos; then all models predict all
    photos and are compared. Writes index.html, proof.json, comparison.json and the converted models into ``out``: all of
    them at the end, together, so that page and models are always of one run. Only ``out/store`` grows meanwhile.

    ``truth`` is a csv that tells what the photos show (default: the labels.csv beside them).
    ``samples`` is how many of the photos each step is verified on. ``inputs``, in place of photos: a .npz as ``verify``
    takes it, or mappings of name to array; or a folder of .npz, .npy, .wav and token ids. Over several of them the models are
    then compared output by output. Without any of these, inputs are drawn, and no predictions are compared.
    ``feeding`` says how photos are fed, ``labels`` what the classes are called (default: what the model carries). The written
    models hold both; where the classes are known, the Core ML models are classifiers. ``announce`` hears of each
    finished step.
    The written models are those to ship: ``target``, ``batch``, ``metadata``, ``describe`` and ``defaults`` are those of
    ``convert``; ``precision`` makes an ML Program of that arithmetic alone (None: one of each). With a ``batch`` inputs are
    arrays, since Core ML's pictures come one by one. ``limit`` takes at most so many photos, spread over the folder; photos
    that cannot be read are left out, and said.
    What PyTorch's exporter made is kept in ``out/export`` and taken by the next run with the same weights and code (see
    ``coreproof.conversion.torch_to_onnx.kept_export``), unless ``fresh``.
    ``freeze_state`` and ``freeze_branches`` are those of ``convert``: the module is then held with its buffers as they are, and,
    where nothing else is fed, at its example inputs, whose branches the conversions keep.
    Raises OutputExistsError where something else stands in the place of one of them, unless ``replace`` allows it;
    UnreadableModelError, PhotoError, InputError, ConversionError; a route that cannot express the model is a
    step that says so, not an error.

    Example:
        >>> bool(cp.prove("net.onnx", None, "proof", samples=2, witness=False))
        True

    """
    out, feeding = Path(out), of_kind(feeding, Feeding, "feeding")
    told = Description(metadata or {}, describe or {}, defaults or {})
    shipping = Shipping(target, precision, None if batch is None else str(batch), told)
    limit = None if limit is None else whole(limit, "limit", least=1)
    labels = None if labels is None else texts(labels, "labels")
    refuse_photos_folder(out, photos)
    for name, kind in (("index.html", PAGE), ("proof.json", PROOF), ("comparison.json", COMPARISON)):
        check_output(out / name, kind, replace=replace)
    loaded = _labelled(_source(load(source)), labels)
    freeze = {"freeze_state": freeze_state, "freeze_branches": freeze_branches}
    examples, origin = frozen(loaded, freeze_state=freeze_state, freeze_branches=freeze_branches), None
    if examples is not None and photos is None and inputs is None:
        inputs, origin = examples, SAID
    # what it remembers comes in and goes out from here on, so that each step answers for itself
    loaded = opened(loaded)
    plain, loaded = loaded, copy.copy(loaded)
    # whatever is made of it notes how pictures are fed
    loaded.feeding = feeding or loaded.feeding
    pictures = None if photos is None else list_photos(photos, truth).spread(limit)
    if pictures is not None:
        shipping.check_photos(loaded)
    fed = ProofFeeds(loaded, pictures, inputs, loaded.feeding, samples, origin, batches=shipping.takes_several)
    packages: list[str] = []
    with replacing_together(out, packages) as stage:
        chain = _Chain(
            loaded,
            pictures,
            fed,
            out,
            stage,
            progress,
            announce,
            replace,
            shipping=shipping,
            fresh=fresh,
            freeze=freeze,
        )
        chain.obtain()
        chain.carry(witness=witness)
        comparison, over = chain.compare(), chain.compare_over_inputs()
        asked = {"witness": witness, "samples": samples, "limit": limit, "labels": labels and [*labels], **freeze}
        rests_on = foundation_of(plain, pictures, fed, chain.stored, stage, asked | shipping.to_json())
        answers = chain.answers() if comparison is None and over is None else ()
        proof = Proof(loaded.name, tuple(chain.steps), out, comparison, command, over, chain.models, rests_on, answers)
        write_proof(proof, stage)
        packages += [name for name in (*chain.stored.values(), FOLDER) if (stage / name).is_dir()]
    chain.follow()
    return proof


@dataclass
class _Chain(ProofSteps):
    """The chain from PyTorch or ONNX to what Apple's frameworks run."""

    shipping: Shipping = field(default_factory=Shipping)
    fresh: bool = False
    freeze: Mapping[str, bool] = field(default_factory=dict)

    def obtain(self) -> None:
        """The source itself: what it is, and that it computes finite, repeatable numbers."""
        started = time.monotonic()
        name = "torchm" if self.source.is_torch else "onnxm"
        self.models[name] = self.source
        features = ", ".join(str(f) for f in (*self.source.signature.inputs, *self.source.signature.outputs))
        fed = f"fed {self.fed.feeding}" if self.photos is not None else f"inputs: {self.fed.said}"
        text = f"{self.source.name} as {name}: {features}"
        notes = (*self.source.notes, fed, *self.left_out(), *self._about_classes())
        self.add(ProofStep("Obtain", "obtain", text, candidate=name, notes=notes), started)
        self.sanity_step(name)

    def _about_classes(self) -> Iterator[str]:
        if class_count(self.source.signature) is None:
            return
        if self.photos is not None and not self.source.signature.labels:
            yield UNNAMED
        if self.source.signature.labels and self.shipping.takes_several:
            yield ROWS

    def carry(self, *, witness: bool) -> None:
        """Every conversion, each verified against the step before."""
        reference, prefix = "onnxm", "o2"
        if isinstance(self.source, TorchModel):
            reference, prefix = "t2o", "t2"
            if self.convert_step("t2o", self.source, "onnx") is None:
                return
            self.verify_step("t2o", "torchm")
        for name, to, precision in self.shipping.conversions(prefix):
            if self.convert_step(name, self.models[reference], to, precision) is not None:
                self.verify_step(name, reference)
                if to == "coreai":
                    self.verify_step(name, reference, engine="coreai", called="apple")
        # of our sources Apple's tools convert PyTorch's alone; coremltools has given up ONNX
        if witness and isinstance(self.source, TorchModel):
            self.witness_steps(self.source)

    def convert_step(
        self, name: str, source: Model, to: Target, precision: Literal["fp16", "fp32"] | None = None
    ) -> Model | None:
        """A conversion, written and read back; None where the format cannot express the model."""
        started = time.monotonic()
        word, suffix = _FORMATS[to]
        title = f"Convert to {SPOKEN[name]}" + (f" ({word})" if to == "mlprogram" else "")
        try:
            path = self.place(name, f"{name}{suffix}")
            if isinstance(source, TorchModel):
                model = self._export(source, path)
            else:
                target = self.shipping.target if to == "mlprogram" else None
                batch = self.shipping.batch
                # Core AI takes numbers, and knows no classes
                images, labels = (None, None) if to == "coreai" else (self._images(), self._labels())
                model = convert(
                    source, to, precision=precision, target=target, images=images, batch=batch, labels=labels
                )
                self.shipping.finish(model, self.source.name)
                model.save(path)
            # what is verified and compared is the stored file, read back
            stored = load(path)
        except CoreproofError as error:
            # without ONNX there is no chain, and what stands in the way of a file is the user's to say
            if to == "onnx" or isinstance(error, OutputExistsError | InputError):
                raise
            self.stored.pop(name, None)
            text, notes = f"not possible: {error.problem}", tuple(str(error).splitlines())
            self.add(ProofStep(title, "convert", text, candidate=name, notes=notes), started)
            return None
        stored.notes, stored.untrained = model.notes, self.source.untrained
        stored.take_provenance(model)
        self.models[name] = stored
        text = f"{name}: {len(stored.graph.nodes)} layers, {_size(path)}"
        self.add(ProofStep(title, "convert", text, candidate=name, notes=model.notes), started)
        return stored

    def _export(self, source: TorchModel, path: Path) -> Model:
        """The source as ONNX, stored at ``path``: what the run before kept, or what PyTorch's exporter makes now."""
        # what was frozen is not in the digest, and neither are the module's buffers as they change
        batch = self.shipping.batch
        digest = (
            None if any(self.freeze.values()) else export_digest(source, **({} if batch is None else {"batch": batch}))
        )
        folder, before = self.out / FOLDER, self.out / "models" / path.name
        kept = None if self.fresh else kept_export(source, folder, before, digest)
        if kept is not None:
            # weights beyond 2 GB lie in a file beside it
            for file in (before, data_file(before)):
                if file.is_file():
                    shutil.copyfile(file, path.with_name(file.name))
            kept.notes = (
                *kept.notes,
                "exported in an earlier run from the same weights and code; --fresh exports anew",
            )
            return kept
        # PyTorch's exporter may take minutes and says nothing meanwhile
        with waiting(self.progress):
            state, branches = self.freeze["freeze_state"], self.freeze["freeze_branches"]
            model = convert(source, "onnx", batch=batch, freeze_state=state, freeze_branches=branches)
        model.save(path)
        if is_kept(folder):
            assert isinstance(model, OnnxModel)
            keep_export(source, model, path, self.stage / FOLDER, digest)
        return model

    def witness_steps(self, source: TorchModel) -> None:
        """What others make of the module itself: second opinions, that prove nothing of ours.

        They are held against the module: they were made of that, by no way of ours.
        """
        from coreproof.conversion import coreai_torch_route as coreai
        from coreproof.conversion.coremltools_route import coremltools_route

        target = self.shipping.target
        file = f"{file_name(source.name)}-coremltools-fp16.mlpackage"
        if self.witness_step("ct", "coremltools'", file, lambda path: coremltools_route(source, path, target=target)):
            self.verify_step("ct", "torchm")
        if coreai.is_installed():
            file = f"{file_name(source.name)}-coreai-torch.aimodel"
            if self.witness_step("cat", "coreai-torch's", file, lambda path: coreai.coreai_torch_route(source, path)):
                # by Apple's own interpreter: nothing of ours is in between
                self.verify_step("cat", "torchm", engine="coreai")

    def witness_step(self, name: str, called: str, file: str, make: Callable[[Path], Model]) -> bool:
        """One such opinion; whether there is one."""
        started, title = time.monotonic(), f"Witness: {called} own route"
        path = self.place(name, file)
        try:
            model = make(path)
        except CoreproofError as error:
            # no model stands there: nothing is to be opened in the end
            del self.stored[name]
            shutil.rmtree(path, ignore_errors=True)
            text, notes = f"fails on this model: {error.found}", tuple(str(error).splitlines())
            self.add(ProofStep(title, "witness", text, candidate=name, notes=notes), started)
            return False
        model.untrained = self.source.untrained
        self.models[name] = model
        text = f"{name}: {len(model.graph.nodes)} layers"
        self.add(ProofStep(title, "witness", text, candidate=name, notes=model.notes), started)
        return True

    def _labels(self) -> Sequence[str] | Sequence[int] | None:
        """What the classifiers that are made call their classes; None where the models are none, and only note them."""
        labels, count = self.source.signature.labels, class_count(self.source.signature)
        return labels if labels and count == len(labels) and not self.shipping.takes_several else None

    def _images(self) -> dict[str, ImageInput] | None:
        """The input as a picture, where the source takes one and is not fed arrays."""
        from coreproof.conversion.onnx_to_coreml.features import ImageInput

        feeding, inputs = self.fed.feeding, self.source.signature.inputs
        if feeding is None or self.fed.given is not None or len(inputs) != 1:
            return None
        # a picture has no batch
        if self.shipping.takes_several:
            return None
        # Core ML's pictures have their channels in front
        if feeding.layout != "NCHW" or len(inputs[0].shape or ()) != 4:
            return None
        return {inputs[0].name: ImageInput.from_feeding(feeding)}


def _source(model: Model) -> Model:
    if not model.is_source:
        raise InputError(
            "prove starts from a PyTorch or ONNX model",
            where=model.name,
            found=model.format,
            fix="compare a Core ML model with its source by: coreproof verify SOURCE MODEL",
        )
    return model


def _labelled(source: Model, labels: Sequence[str] | None) -> Model:
    """The same model under these labels, which go into all that is made of it. InputError where they do not fit its classes."""
    refuse_misfit(source.signature, source.signature.labels if labels is None else labels, source.name)
    if labels is None:
        return source
    renamed = copy.copy(source)
    vars(renamed).pop("signature", None)  # cached under the old labels
    renamed.labels = tuple(labels)
    return renamed


def _size(path: Path) -> str:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return bytes_as_text(sum(p.stat().st_size for p in files))
