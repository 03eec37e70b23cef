"""The classes that two models name: whether both give their scores the same names, and which outputs hold the winning one.

Scores are compared number by number, in their order. A classifier hands them out under names, as a Core ML model with class
labels and an ONNX model that ends in a ZipMap do; scores that are equal under names that are not are other answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from coreproof.model.features import Signature
from coreproof.model.graph import Node
from coreproof.pairing.align import Pair
from coreproof.runtime.recorded import RecordedSession
from coreproof.runtime.session import Session

_TOLD = 3
"""Classes that are told where the names of two models differ."""


def other_names(reference: Signature, candidate: Signature) -> str:
    """In what the names of the classes differ, in words; empty where they do not, or where one side has none.

    Names that have nothing in common are another language, or numbers on one side: who named the classes anew meant it, and
    ``renamed`` says so.
    """
    one, other = _handed_out(reference), _handed_out(candidate)
    if not one or not other or _folded(one) == _folded(other) or renamed(reference, candidate):
        return ""
    if len(one) != len(other):
        return f"the classes differ: {len(one)} in the reference, {len(other)} in the candidate"
    apart = [at for at, (a, b) in enumerate(zip(_folded(one), _folded(other), strict=True)) if a != b]
    told = "; ".join(
        f"score {at} is {one[at]!r} in the reference, {other[at]!r} in the candidate" for at in apart[:_TOLD]
    )
    more = f"; and {len(apart) - _TOLD} more" if len(apart) > _TOLD else ""
    return f"{len(apart)} of {len(one)} classes bear another name: {told}{more}"


def renamed(reference: Signature, candidate: Signature) -> bool:
    """Whether both sides name their classes, and no name is the same."""
    one, other = _handed_out(reference), _handed_out(candidate)
    return bool(one) and bool(other) and not set(_folded(one)) & set(_folded(other))


def translated(reference: Signature, candidate: Signature, pairs: Sequence[Pair]) -> dict[str, Mapping[object, object]]:
    """Of the candidate's outputs that name classes, what the reference calls each: where all bear other names, by their position.

    What names the winning class of such a model is right where it stands for the same score.
    """
    one, other = reference.labels or (), candidate.labels or ()
    if not renamed(reference, candidate) or len(one) != len(other):
        return {}
    texts = all(isinstance(name, str) for name in (*one, *other))
    return {
        pair.candidate: dict(zip(other, one, strict=True))
        for pair in pairs
        if all(
            _names(side, name, texts=texts) for side, name in ((reference, pair.reference), (candidate, pair.candidate))
        )
    }


def _names(signature: Signature, name: str, *, texts: bool) -> bool:
    """Whether an output is of texts, or of whole numbers."""
    found = next((f for f in signature.outputs if f.name == name), None)
    return _is_text(signature, name) if texts else found is not None and (found.dtype or "").startswith(("int", "uint"))


def names_classes(maker: Node | None, name: str) -> bool:
    """Whether a value is the winning class, or a dictionary of classes, as what makes it hands it out."""
    if maker is None:
        return False
    return maker.operator == "ZipMap" or (maker.operator.endswith("Classifier") and name == maker.outputs[0])


def label_pairs(reference: Session, candidate: Session, taken: Sequence[Pair]) -> list[Pair]:
    """The outputs of both that hold the winning class, where the two name their classes alike; at most one pair.

    That of a Core ML classifier has a part in its signature of its own; of another model it is the output of the same name.
    """
    one, other = reference.signature, candidate.signature
    names = _handed_out(one), _handed_out(other)
    spelt_otherwise = names[0] != names[1] and _folded(names[0]) == _folded(names[1])
    if not any(names) or renamed(one, other) or spelt_otherwise:
        return []
    theirs, own = one.predicted_label, other.predicted_label
    if own in {f.name for f in one.outputs}:
        theirs = own
    elif own is None and theirs in {f.name for f in other.outputs}:
        own = theirs
    elif theirs is None:
        theirs = _only_label(reference, own, other, taken)
    elif own is None:
        own = _only_label(candidate, theirs, one, [Pair(p.candidate, p.reference, p.how) for p in taken])
    if own is None or theirs is None or any(p.reference == theirs or p.candidate == own for p in taken):
        return []
    # a saved run need not hold it
    if not (_gives(reference, theirs) and _gives(candidate, own)):
        return []
    # a class that the reference numbers, and the candidate names as its user asked
    if _is_text(reference.signature, theirs) != _is_text(candidate.signature, own):
        return []
    return [Pair(theirs, own, "output")]


def _only_label(of: Session, named: str | None, other: Signature, taken: Sequence[Pair]) -> str | None:
    """The output that names the winning class under another name than the other model's ``named``: the only text left."""
    known = next((f for f in other.outputs if f.name == named), None)
    if known is None or not _is_text(other, known.name):
        return None
    left = [f.name for f in of.signature.outputs if f.name not in {p.reference for p in taken}]
    alike = [n for n in left if _is_text(of.signature, n)]
    return alike[0] if len(alike) == 1 else None


def holder_of_names(reference: Session, candidate: Session, outputs: Sequence[Pair]) -> str | None:
    """The candidate's output whose elements the names belong to: its scores; None where no pair of outputs holds them."""
    sides = reference.signature.scores, candidate.signature.scores
    return next((p.candidate for p in outputs if p.reference == sides[0] or p.candidate == sides[1]), None)


def handed_out_as_scores(reference: Session, candidate: Session) -> set[str]:
    """The dictionaries of class to score on either side: their numbers are compared as scores, their keys as names."""
    both = reference.signature, candidate.signature
    if not all(map(_handed_out, both)):
        return set()
    return {f.name for signature in both for f in signature.outputs if f.kind in ("dictionary", "sequence")}


def _gives(running: Session, name: str) -> bool:
    return not isinstance(running, RecordedSession) or name in running.tappable


def _folded(names: Sequence[str]) -> tuple[str, ...]:
    """The names without their case: "Cat" for "cat" is a spelling, and no other class."""
    return tuple(name.casefold() for name in names)


def _is_text(signature: Signature, name: str) -> bool:
    found = next((f for f in signature.outputs if f.name == name), None)
    return found is not None and (found.kind == "string" or found.dtype in ("string", "str", "object"))


def _handed_out(signature: Signature) -> tuple[str, ...]:
    """The names that the model's own outputs give its classes; what its file only notes of them is no answer."""
    gives = signature.probabilities is not None or signature.predicted_label is not None
    zipped = any(feature.kind in ("dictionary", "sequence") for feature in signature.outputs)
    return tuple(map(str, signature.labels or ())) if gives or zipped else ()
