"""Why the agreement of two models proves little: what their outputs held, counted and said in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from coreproof.model.weakness import Kind, Weakness, listed
from coreproof.pairing.taps import as_array
from coreproof.verification.content import Content, Contents
from coreproof.verification.row import Row, drowned_in
from coreproof.verification.stored_weights import Loss
from coreproof.verification.tolerance import EXACT, VACUOUS, judge

_INNER: dict[Kind, str] = {
    "not-finite": "NaN or infinite",
    "empty": "empty",
    "zero": "all zero",
    "constant": "constant",
    "rounding": "of which rounding may change half",
    "tolerance": "of which half is tolerated",
}


def weaknesses_of(
    rows: Sequence[Row],
    samples: int,
    untrained: bool,
    lone: Sequence[str] = (),
    loss: Loss | None = None,
    unexplained: Mapping[str, str] | None = None,
    *,
    unmatched: bool = False,
) -> tuple[Weakness, ...]:
    """Why the agreement of these rows proves little: outputs one by one, inner values counted.

    ``unmatched``: both sides have outputs among those that have no partner. ``loss``: of compression; ``unexplained`` are
    layers whose compressed weight differs by more than its bits explain, with where: that values agree all the same is said of
    their bounds, and of nothing else.
    """
    outputs = [row for row in rows if row.how == "output" and row.agrees]
    found = []
    for row in outputs:
        reason = row.weakness
        if reason is not None:
            found.append(Weakness(reason, _fault_in_words(row, reason), (row.candidate,), fails=reason != "tolerance"))
    # an output that proves something in most samples is still told where it does not in some
    for row in outputs:
        at = max(drowned_in(row))
        if row.weakness is None and row.content is not None and at:
            text = f"in {at} of {row.content.samples} samples rounding changes half of output {row.candidate!r}, or may"
            found.append(Weakness("rounding", text, (row.candidate,)))
    unmoved = [row for row in outputs if row.weakness is None and row.content is not None and row.content.unmoved]
    if unmoved:
        # beside an output that moves, one that does not was still compared number by number: anchors, a class's name
        every = len(unmoved) + sum(w.fails for w in found) == len(outputs)
        names = [row.candidate for row in unmoved]
        is_ = "is" if len(names) == 1 else "are"
        text = f"{_outputs(names)} {is_} the same in all {samples} samples"
        found.append(Weakness("unmoved", text, tuple(names), fails=every))
    if loss is not None and loss.ruins:
        found.append(Weakness("compression", str(loss), (loss.output,), fails=True))
    if unexplained:
        many = f"{len(unexplained)} compressed weight{'s differ' if len(unexplained) > 1 else ' differs'}"
        text = f"{many} from the other side's by more than bits explain: {listed(list(unexplained))}"
        where = next(((layer, words) for layer, words in unexplained.items() if words), None)
        text += "" if where is None else f" (in {where[0]!r} {where[1]})"
        found.append(Weakness("compression", text, tuple(unexplained), fails=True))
    if lone:
        # where both have one, it may be the same that either calls otherwise
        found.append(Weakness("uncompared", f"{_outputs(lone)} compared with nothing", tuple(lone), fails=unmatched))
    for kind, words in _INNER.items():
        names = [row.candidate for row in rows if row.how != "output" and row.weakness == kind]
        if names:
            many = "value" if len(names) == 1 else "values"
            found.append(Weakness(kind, f"{len(names)} inner {many} {words}", tuple(names)))
    if untrained:
        found.append(Weakness("untrained", "untrained weights"))
    if samples == 1:
        found.append(Weakness("few-samples", "one sample"))
    return tuple(sorted(found, key=lambda weakness: not weakness.fails))


def _outputs(names: Sequence[str]) -> str:
    return f"output{'s' if len(names) > 1 else ''} {listed(names)}"


def _fault_in_words(row: Row, kind: Kind) -> str:
    """What is wrong with an output, in words."""
    name = f"output {row.candidate!r}"
    if kind == "rounding" and row.carried is not None:
        off = row.judgement.rms_relative_error
        return f"rounding before it changes {name} by {off:.2g} of its scale, though it is computed alike"
    if kind == "rounding" and row.strayed >= VACUOUS:
        return f"an element of {name} is off by {row.strayed:.2g} of its size, which only so wide a bound lets pass"
    if kind == "rounding":
        return f"rounding to {row.dtype} may change half of {name} (scale {row.judgement.scale:.1e})"
    if kind == "tolerance":
        return f"half of {name} is tolerated"
    assert row.content is not None
    # what it holds is the reference's; of zeros the other side may be a rounded step away
    off = row.judgement.max_error
    if kind == "zero" and off > 0:
        return f"{name} is all zero in the reference, and up to {off:.2g} in the candidate"
    return f"{name} {_content_in_words(row.content, kind, ' on both sides')}"


def _content_in_words(content: Content, kind: Kind, sides: str) -> str:
    """What an output is or has, in words."""
    if kind == "empty":
        return "has no elements"
    if kind == "zero":
        return f"is all zero{sides}"
    if kind == "constant":
        return f"is {content.low:.4g} everywhere"
    what = "NaN" if not content.infinite else "infinite" if not content.nan else "NaN or infinite"
    part = f" in {content.nan + content.infinite:,} of {content.elements:,} elements" if content.finite else ""
    return f"is {what}{sides}{part}"


def weaknesses_alone(
    answers: Sequence[Mapping[str, object]], *, moving: bool = False, strict: bool = True
) -> tuple[Weakness, ...]:
    """What one model's own answers, sample by sample, would prove nothing of if another model gave the same.

    ``moving``: the samples were fed differently, so that outputs which are all the same count as well. Not ``strict``: only
    rows of floating-point numbers leave nothing proved; labels, classes and what has no elements are said and no more.
    """
    moving = moving and len(answers) > 1
    contents = Contents(moving)
    for answer in answers:
        for name, value in answer.items():
            array = as_array(value)
            contents.add(name, judge(array, array, EXACT), array)
    counts = {name: strict or _is_row_of_numbers(value) for name, value in answers[0].items()}
    found, unmoved = [], []
    for name in answers[0]:
        content = contents.content_of(name)
        if content is None:
            continue
        if (kind := content.kind) is not None:
            found.append(
                Weakness(kind, f"output {name!r} {_content_in_words(content, kind, '')}", (name,), fails=counts[name])
            )
        elif content.unmoved:
            unmoved.append(name)
    if unmoved and len(unmoved) + len(found) == len(answers[0]):
        is_ = "is" if len(unmoved) == 1 else "are"
        text = f"{_outputs(unmoved)} {is_} the same in all {len(answers)} samples"
        found.append(Weakness("unmoved", text, tuple(unmoved), fails=all(counts[name] for name in unmoved)))
    return tuple(sorted(found, key=lambda weakness: not weakness.fails))


def _is_row_of_numbers(value: object) -> bool:
    """Whether an output is an array of several floating-point numbers, which differ in a network that works."""
    return isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size > 1
