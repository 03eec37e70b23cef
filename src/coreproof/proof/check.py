"""check_proof: whether a proof still holds: the files that it is about, and its steps carried out again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from coreproof.errors import InputError
from coreproof.feeding.drawn import Inputs
from coreproof.feeding.photos import list_photos
from coreproof.feeding.proof_feeds import ProofFeeds
from coreproof.model.arguments import PRECISIONS, one_of
from coreproof.model.digest import model_digest
from coreproof.model.load import load
from coreproof.model.notebook_view import Spoken
from coreproof.model.opened import opened
from coreproof.model.progress import Progress
from coreproof.model.public import public
from coreproof.model.versions import versions
from coreproof.proof.chain import prove
from coreproof.proof.difference import ProofDifference, compare_proofs
from coreproof.proof.foundation import Foundation, file_digest, inputs_digest
from coreproof.proof.migration import VERB, migrate
from coreproof.proof.shipping import Shipping
from coreproof.proof.stored import StoredProof, read_proof


@dataclass(frozen=True)
class Ground:
    """One thing that the proof rests on. ``holds`` is None for what is told and decides nothing."""

    what: str
    holds: bool | None
    text: str

    def to_json(self) -> dict[str, object]:
        """The line as ``coreproof check-proof --json`` prints it."""
        return vars(self)


@dataclass(frozen=True, repr=False)
class ProofCheck(Spoken):
    """Whether a proof still holds: ``holds`` is None where nothing speaks against it and its steps were not carried out again."""

    proof: str
    lines: tuple[Ground, ...]
    repeated: bool

    def _spoken(self) -> str:
        return self.text

    @property
    def holds(self) -> bool | None:
        """True, False, or None where that is not known."""
        if any(line.holds is False for line in self.lines):
            return False
        return True if self.repeated else None

    def __bool__(self) -> bool:
        return self.holds is True

    @property
    def text(self) -> str:
        """The finding in one sentence."""
        failed = [line.what for line in self.lines if line.holds is False]
        if failed:
            return f"{self.proof} no longer holds: {', '.join(failed)}"
        if self.repeated:
            return f"{self.proof} still holds: all that it rests on is the same, and so is what its steps find"
        return f"{self.proof}: nothing speaks against it, but its steps were not carried out again"

    def to_json(self) -> dict[str, object]:
        """What ``coreproof check-proof --json`` prints."""
        return {
            "proof": self.proof,
            "holds": self.holds,
            "repeated": self.repeated,
            "text": self.text,
            "lines": [line.to_json() for line in self.lines],
        }


@public
def check_proof(
    proof: str | Path,
    source: object = None,
    *,
    photos: str | Path | None = None,
    inputs: str | Path | Inputs | None = None,
    progress: Progress | None = None,
) -> ProofCheck:
    """Whether what ``coreproof.prove`` wrote still holds.

    The models beside ``proof`` (proof.json, or its folder) are held against the digests in it. With the ``source``, and the
    ``photos`` or ``inputs`` that it was made with, those are held against theirs, and all steps are carried out again in a
    folder that vanishes: their verdicts have to be the same. Raises InputError for what is no proof, or one without digests, and
    what ``prove`` raises.

    Example:
        >>> proof = cp.prove("net.onnx", None, "proof", samples=2, witness=False)
        >>> bool(cp.check_proof("proof", "net.onnx"))
        True

    """
    stored = read_proof(proof)
    grounds = stored.foundation
    if grounds is None:
        raise InputError(
            "this proof does not say what it rests on",
            where=str(stored.path),
            expected="digests of its models and inputs",
            found="a proof of an earlier coreproof",
            fix="make it anew: coreproof prove",
        )
    lines = [*_models(stored, grounds), *_versions(stored)]
    if source is None:
        return ProofCheck(
            str(proof), (*lines, Ground("steps", None, "not carried out again: no source was given")), repeated=False
        )
    carried = grounds.options.get("verb") == VERB
    loaded = load(source) if carried else opened(load(source))
    same = model_digest(loaded) == grounds.source
    lines.append(Ground("source", same, "the same content" if same else f"another content than that of {stored.title}"))
    given = {"photos": photos, "arrays": inputs}.get(grounds.fed)
    # what is drawn follows from the model and a seed, and needs no files
    if grounds.fed != "drawn":
        if given is None:
            told = f"not carried out again: it was made with {grounds.count:,} {grounds.fed}, and none were given"
            return ProofCheck(str(proof), (*lines, Ground("steps", None, told)), repeated=False)
        pictures = list_photos(photos).spread(_limit(grounds)) if photos is not None else None
        batches = not carried and Shipping.read(grounds.options).takes_several
        feeding = grounds.feeding or loaded.feeding
        fed = ProofFeeds(loaded, pictures, inputs, feeding, _samples(grounds), batches=batches)
        same = inputs_digest(pictures, fed) == grounds.inputs
        lines.append(Ground(grounds.fed, same, "the same content" if same else "other ones than those of the proof"))
    again = _migrated_again if carried else _again
    lines += again(stored, grounds, source, photos, inputs, progress)
    return ProofCheck(str(proof), tuple(lines), repeated=True)


def _models(stored: StoredProof, grounds: Foundation) -> Iterator[Ground]:
    for name, (place, digest) in grounds.models.items():
        file = stored.path.parent / place
        # a proof may be a stranger's: it asks for no digest of a file elsewhere on this machine
        if Path(place).is_absolute() or ".." in Path(place).parts:
            yield Ground(name, False, f"{place!r} lies outside the proof's folder")
        elif not file.exists():
            yield Ground(name, False, f"{place} is not there")
        else:
            same = file_digest(file) == digest
            yield Ground(name, same, f"{place}: {'the same content' if same else 'changed since the proof'}")


def _versions(stored: StoredProof) -> Iterator[Ground]:
    now = versions()
    for name in dict.fromkeys((*stored.versions, *now)):
        before, after = stored.versions.get(name, "none"), now.get(name, "none")
        if before != after:
            # other versions may well find the same: the steps tell, if they are carried out again
            yield Ground(f"version of {name}", None, f"{before} then, {after} now")


def _samples(grounds: Foundation) -> int:
    samples = grounds.options.get("samples")
    # a proof is a file like any other: what stands in it need not be what coreproof wrote
    return samples if isinstance(samples, int) else 1


def _limit(grounds: Foundation) -> int | None:
    limit = grounds.options.get("limit")
    return limit if isinstance(limit, int) else None


def _again(
    stored: StoredProof,
    grounds: Foundation,
    source: object,
    photos: str | Path | None,
    inputs: str | Path | Inputs | None,
    progress: Progress | None,
) -> Iterator[Ground]:
    options, shipping = grounds.options, Shipping.read(grounds.options)
    labels = options.get("labels")
    with tempfile.TemporaryDirectory() as folder:
        prove(
            source,
            photos,
            folder,
            inputs=inputs,
            samples=_samples(grounds),
            feeding=grounds.feeding,
            labels=labels if isinstance(labels, list) else None,
            limit=_limit(grounds),
            target=shipping.target,
            precision=shipping.precision,
            batch=shipping.batch,
            metadata=shipping.told.metadata,
            describe=shipping.told.features,
            defaults=shipping.told.defaults,
            witness=options.get("witness") is True,
            freeze_state=options.get("freeze_state") is True,
            freeze_branches=options.get("freeze_branches") is True,
            progress=progress,
        )
        found = compare_proofs(stored.path, folder)
    yield from _changes(found)


def _migrated_again(
    stored: StoredProof,
    grounds: Foundation,
    source: object,
    photos: str | Path | None,
    inputs: str | Path | Inputs | None,
    progress: Progress | None,
) -> Iterator[Ground]:
    """The same of a model that was carried over to Core AI."""
    precision, shapes = grounds.options.get("precision"), grounds.options.get("shapes")
    with tempfile.TemporaryDirectory() as folder:
        migrate(
            source,
            Path(folder) / "again.aimodel",
            folder,
            photos=photos,
            inputs=inputs,
            samples=_samples(grounds),
            feeding=grounds.feeding,
            limit=_limit(grounds),
            precision=None if precision is None else one_of(precision, PRECISIONS, "precision"),
            shapes={str(name): str(asked) for name, asked in shapes.items()} if isinstance(shapes, dict) else None,
            progress=progress,
        )
        found = compare_proofs(stored.path, folder)
    yield from _changes(found)


def _changes(found: ProofDifference) -> Iterator[Ground]:
    # versions are told above, digests of models scatter with them, and the options are those of the proof
    own = {"source", "inputs"}
    changes = [c for c in found.changes if c.what not in own and not c.what.startswith(("version of ", "option "))]
    yield Ground("steps", not found.worse, "carried out again" + ("" if changes else ", with the same findings"))
    for change in changes:
        yield Ground(change.what, False if change.worse else None, f"then: {change.before}; now: {change.after}")
