"""migrate: a Core ML model carried over to Core AI, and the proof that it is still the same, on our engine and on Apple's."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from coreproof.conversion.convert import convert
from coreproof.conversion.mil_to_coreai.left_behind import LeftBehind, kind_left_behind, left_behind
from coreproof.errors import InputError
from coreproof.feeding.drawn import Inputs
from coreproof.feeding.photos import list_photos
from coreproof.feeding.picture_values import lone_input, picture_input
from coreproof.feeding.proof_feeds import PROOF_PHOTOS, ProofFeeds
from coreproof.model.arguments import of_kind, whole
from coreproof.model.base import Model
from coreproof.model.coreai.child import require_packages
from coreproof.model.feeding import Feeding
from coreproof.model.files.atomic import replacing_together
from coreproof.model.files.outputs import AIMODEL, COMPARISON, PAGE, PROOF, check_output, refuse_photos_folder
from coreproof.model.load import load
from coreproof.model.progress import Progress
from coreproof.model.public import public
from coreproof.proof.document import Proof, ProofStep, spoken
from coreproof.proof.foundation import foundation_of
from coreproof.proof.steps import ProofSteps, write_proof

VERB = "migrate"
STAYS = "What stays with Core ML"


@public
def migrate(
    model: Model | str | Path | object,
    target: str | Path,
    out: str | Path | None = None,
    *,
    photos: str | Path | None = None,
    truth: str | Path | None = None,
    inputs: str | Path | Inputs | None = None,
    samples: int = PROOF_PHOTOS,
    feeding: Feeding | None = None,
    limit: int | None = None,
    precision: Literal["fp16", "fp32", "float16", "float32"] | None = None,
    shapes: Mapping[str, object] | None = None,
    progress: Progress | None = None,
    announce: Callable[[ProofStep], None] | None = None,
    command: str = "",
    replace: bool = False,
) -> Proof:
    """Carries a Core ML model over to Core AI and proves that it is still the same; needs ``coreproof[coreai]``.

    Writes the Core AI model to ``target`` (.aimodel), and index.html and proof.json into ``out`` (default: a folder beside it,
    NAME-proof), all at the end. The model is verified value by value on coreproof's runtime, and its outputs once more by
    Apple's own interpreter; over ``photos``, or a folder of ``inputs``, both models are compared. A step says what a Core AI
    program has no place for (pictures, labels, ranges of lengths, ...) and what an app does instead.
    ML Programs are translated as they are stored; all other kinds through an ML Program, of ``precision`` (default: float32, in
    which they are defined) and at ``shapes`` as ``convert`` takes them. ``samples``, ``truth``, ``feeding``, ``limit`` and
    ``announce`` are those of ``prove``.

    Raises MissingDependencyError without Apple's package, ConversionError and UnsupportedOperatorsError (all of them at once)
    for a model that does not go there, InputError, PhotoError, and OutputExistsError unless ``replace`` allows what stands there.

    Example:
        >>> cp.migrate("net.mlpackage", "net.aimodel", "proof").agrees
        True

    """
    target = Path(target)
    out = target.with_name(f"{target.stem}-proof") if out is None else Path(out)
    limit = None if limit is None else whole(limit, "limit", least=1)
    feeding = of_kind(feeding, Feeding, "feeding")
    source = _coreml(load(model))
    if target.suffix != ".aimodel":
        raise InputError(
            "migrate writes a Core AI model",
            expected="a name that ends in .aimodel",
            found=str(target),
            fix=f"coreproof migrate {source.path or source.name} {target.with_suffix('.aimodel')}",
        )
    require_packages()
    refuse_photos_folder(out, photos)
    check_output(target, AIMODEL, replace=replace)
    for name, kind in (("index.html", PAGE), ("proof.json", PROOF), ("comparison.json", COMPARISON)):
        check_output(out / name, kind, replace=replace)
    pictures = None if photos is None else list_photos(photos, truth).spread(limit)
    feeding = feeding or source.feeding
    if pictures is not None and lone_input(source).image is not None:
        feeding = picture_input(source, feeding).feeding
    fed = ProofFeeds(source, pictures, inputs, feeding, samples)
    with replacing_together(out) as stage:
        steps = _Migration(
            source, pictures, fed, out, stage, progress, announce, replace, precision=precision, shapes=shapes or {}
        )
        steps.obtain()
        steps.carry(target)
        comparison, over = steps.compare(), steps.compare_over_inputs()
        asked = {"verb": VERB, "samples": samples, "limit": limit, "precision": precision, "shapes": _said(shapes)}
        # the model lies where it was asked for, which need not be the folder of the page
        rests_on = foundation_of(source, pictures, fed, {}, stage, asked)
        answers = steps.answers() if comparison is None and over is None else ()
        proof = Proof(source.name, tuple(steps.steps), out, comparison, command, over, steps.models, rests_on, answers)
        write_proof(proof, stage)
        steps.models["c2a"].save(target, replace=replace)
    stored = load(target)
    stored.notes = steps.models["c2a"].notes
    stored.take_provenance(steps.models["c2a"])
    steps.models["c2a"] = stored
    return proof


@dataclass
class _Migration(ProofSteps):
    """Core ML to Core AI, verified twice."""

    precision: Literal["fp16", "fp32", "float16", "float32"] | None = None
    shapes: Mapping[str, object] = field(default_factory=dict)

    def obtain(self) -> None:
        """The source: what it is, whether it can be verified at all, and what of it has no place in Core AI."""
        started, source = time.monotonic(), self.source
        self.models["cml"] = source
        signature = source.signature
        features = ", ".join(map(str, (*signature.inputs, *signature.outputs, *signature.states)))
        fed = f"fed {self.fed.feeding}" if self.photos is not None else f"inputs: {self.fed.said}"
        text = f"{source.name}, {source.called}: {features}"
        notes = (*source.notes, fed, *self.left_out())
        self.add(ProofStep("Obtain", "obtain", text, candidate="cml", notes=notes), started)
        self.sanity_step("cml")
        gone = stays(source)
        text = "; ".join(map(str, gone)) or "nothing: a Core AI program says all that this model declares"
        self.add(ProofStep(STAYS, "check", text, notes=tuple(f"{one}: {one.to_do}" for one in gone)))

    def carry(self, target: Path) -> None:
        """The conversion, verified on our engine and on Apple's."""
        started, source = time.monotonic(), self.source
        as_stored = source.is_program
        if as_stored and (self.precision is not None or self.shapes):
            raise InputError(
                "an ML Program is carried over as it is stored",
                where=source.name,
                found="a precision, or shapes",
                fix="leave them out; they are for what becomes an ML Program first",
            )
        precision = None if as_stored else self.precision or "fp32"
        made = convert(source, "coreai", precision=precision, shapes=self.shapes or None)
        made.name = target.stem
        self.models["c2a"] = made
        functions = f", functions {', '.join(made.functions)}" if made.functions else ""
        text = f"{target.name}: {len(made.graph.nodes)} operations{functions}"
        self.add(ProofStep(f"Convert to {spoken('c2a')}", "convert", text, candidate="c2a", notes=made.notes), started)
        self.verify_step("c2a", "cml")
        self.verify_step("c2a", "cml", engine="coreai", called="apple")


def stays(model: Model) -> tuple[LeftBehind, ...]:
    """What there is of a Core ML model that Core AI has no place for."""
    return (*kind_left_behind(model), *left_behind(model.signature))


def _coreml(model: Model) -> Model:
    if not model.is_coreml:
        raise InputError(
            "migrate starts from a Core ML model",
            where=model.name,
            expected="a .mlpackage or .mlmodel",
            found=model.format,
            fix="coreproof convert MODEL NEW.aimodel" if model.is_source else "coreproof show MODEL",
        )
    return model


def _said(shapes: Mapping[str, object] | None) -> dict[str, str]:
    """What was asked of shapes, in the words of the command line as far as they have such."""
    return {name: str(asked) for name, asked in (shapes or {}).items()}
