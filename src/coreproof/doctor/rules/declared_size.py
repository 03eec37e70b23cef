"""declared-size: a model whose layers take one crop or length, and that declares another."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from math import prod

from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis, Repair
from coreproof.doctor.trial import fatal_problems
from coreproof.editing.edit import Edit
from coreproof.errors import CoreproofError
from coreproof.feeding.drawn import random_sample
from coreproof.model.features import Feature
from coreproof.runtime.open import session

CROPS = (224, 227, 299, 256, 231, 192, 160, 128, 320, 331, 384, 416, 448, 512, 513, 112, 96, 64, 48, 32, 28)
"""Sides of pictures that networks were trained with, the commonest first."""
_MOST = 60
"""Sizes that are tried: each costs an inspection."""
_LARGEST = 4_000_000
"""Elements of an input above which a declared shape is not run."""
_ABOUT_SHAPES = ("shape", "rank", "declared-type", "label-count")

Shapes = Mapping[str, tuple[int, ...]]


def applies(case: Case) -> bool:
    return any(_shape(feature) is not None for feature in case.model.signature.inputs)


def last_resort(case: Case) -> Iterator[Hypothesis]:
    """Before and after::

        input [1, 3, 224, 224], and a last layer for what is left of 227 by 227
        input [1, 3, 227, 227]

    The source says which it should be. Without one a layer may be as wrong as the declaration: what would fit is named then.
    """
    flexible = any(f.ranges or len(f.enumerated) > 1 for f in case.model.signature.inputs)
    if case.evidence.runs or (flexible and _takes(case, _default(case))):
        yield from _of_flexible(case)
        return
    problem = next(iter(fatal_problems(case)), None)
    about = problem or case.evidence.failure
    if case.evidence.unsupported_here or (problem is not None and problem.kind not in _ABOUT_SHAPES):
        return
    failure = str(about).splitlines()[0]
    if wanted := _of_source(case):
        yield Hypothesis(
            evidence=f"{_declared(case, wanted)}; the source takes {_told(wanted)}, and so do the layers; {failure}",
            cause=_CAUSE,
            repairs=(Repair(f"declare {_told(wanted)}", _reshaped(wanted)),),
            weight=89,
            about=about,
        )
    # the source says which size is right: nothing has to be guessed
    if case.evidence.reference is not None:
        return
    for fitting in _sizes(case):
        yield Hypothesis(
            evidence=f"{_declared(case, fitting)}; the layers fit together with {_told(fitting)}; {failure}",
            cause=_CAUSE,
            needs=(
                "the source, which says whether the size is wrong or a layer (--against SOURCE); "
                f"or: coreproof edit MODEL OUT {_commands(fitting)}"
            ),
            weight=40,
            about=about,
            whole=True,
            trial=_reshaped(fitting),
        )


def _commands(shapes: Shapes) -> str:
    return " ".join(f"--do 'reshape {name} [{','.join(map(str, shape))}]'" for name, shape in shapes.items())


_CAUSE = "the size of another network's input, or of the dummy input, was declared when the model was converted"


def _shape(feature: Feature) -> tuple[int, ...] | None:
    """What ``reshape`` takes: [height, width] of a picture, else the fixed lengths; None where there are others."""
    if feature.image is not None:
        return feature.image.height, feature.image.width
    if feature.kind != "tensor" or not feature.shape or not all(isinstance(n, int) and n > 0 for n in feature.shape):
        return None
    return tuple(int(n) for n in feature.shape if isinstance(n, int))


def _reshaped(shapes: Shapes) -> tuple[Edit, ...]:
    return tuple(Edit("reshape", {"feature": name, "shape": list(shape)}) for name, shape in shapes.items())


def _declared(case: Case, shapes: Shapes) -> str:
    inputs = [f for f in case.model.signature.inputs if f.name in shapes]
    return f"declared {'is' if len(inputs) == 1 else 'are'} {', '.join(map(str, inputs))}"


def _told(shapes: Shapes) -> str:
    return ", ".join(f"{name!r} {list(shape)}" for name, shape in shapes.items())


def _of_source(case: Case) -> Shapes:
    """The source's fixed shapes of the inputs that are declared otherwise here."""
    if case.evidence.reference is None:
        return {}
    of_source, inputs = case.evidence.reference.signature.inputs, case.model.signature.inputs
    named = {f.name: f for f in of_source}
    found = {}
    for place, feature in enumerate(inputs):
        # converters rename inputs, and keep their order
        other = named.get(feature.name) or (of_source[place] if len(of_source) == len(inputs) else None)
        own, right = _shape(feature), None if other is None else _shape(other)
        if own is None or right is None or feature.ranges or len(feature.enumerated) > 1:
            continue
        # the source may have a batch that pictures, and the [C, H, W] of the older networks, do not say
        right = right[-len(own) :] if prod(right[: -len(own)]) == 1 else right
        if len(right) == len(own) and right != own:
            found[feature.name] = right
    return found


def _sizes(case: Case) -> Iterator[Shapes]:
    """Other sizes for the inputs, the likeliest first: crops for pictures, lengths that the weights have for the rest."""
    fixed = {f.name: s for f in case.model.signature.inputs if (s := _shape(f)) is not None and not f.ranges}
    pictures = {
        f.name
        for f in case.model.signature.inputs
        if f.name in fixed
        # a square plane is taken for a picture, whatever the feature is called
        and (f.image is not None or (len(fixed[f.name]) >= 3 and fixed[f.name][-2] == fixed[f.name][-1]))
    }
    yield from islice(chain(_crops(fixed, pictures), _lengths(case, fixed, pictures)), _MOST)


def _crops(fixed: Shapes, pictures: Collection[str]) -> Iterator[Shapes]:
    sides = {fixed[name][-1] for name in pictures if fixed[name][-1] == fixed[name][-2]}
    for side in sorted(sides):
        # near ones first, those that are half as large or more than half as large again later
        for crop in sorted(CROPS, key=lambda c: (abs(c - side) > side // 2, CROPS.index(c))):
            if crop != side:
                yield {n: (*fixed[n][:-2], crop, crop) for n in pictures if fixed[n][-1] == side}


def _lengths(case: Case, fixed: Shapes, pictures: Collection[str]) -> Iterator[Shapes]:
    rest = {name: shape for name, shape in fixed.items() if name not in pictures}
    stored = sorted(_stored_lengths(case))
    for length in dict.fromkeys(n for shape in rest.values() for n in shape if n > 1):
        # near ones first, since only so many are tried
        for other in sorted(stored, key=lambda n: abs(n - length)):
            if other != length:
                yield {
                    name: tuple(other if n == length else n for n in shape)
                    for name, shape in rest.items()
                    if length in shape
                }


def _stored_lengths(case: Case) -> set[int]:
    """Every length above 1 of a constant or a weight, and what the shapes that are stored say."""
    shapes: list[Sequence[object]] = [v.shape for v in case.graph.values.values() if v.constant and v.shape]
    for node in case.graph.nodes:
        shapes += [shape for _, shape in node.parameters.values()]
        shapes += [value for value in node.attributes.values() if isinstance(value, tuple)]
    return {n for shape in shapes for n in shape if isinstance(n, int) and not isinstance(n, bool) and n > 1}


# flexible inputs


def _of_flexible(case: Case) -> Iterator[Hypothesis]:
    """Shapes that are declared as allowed, and that the layers do not take: all but the default one."""
    if not case.model.is_coreml_graph:
        return
    flexible = [f for f in case.model.signature.inputs if f.ranges or len(f.enumerated) > 1]
    tried = [shapes for shapes in _allowed(flexible) if all(prod(s) <= _LARGEST for s in shapes.values())]
    results = [(shapes, taken) for shapes in tried if (taken := _takes(case, shapes)) is not None]
    # one allowed shape that works is enough: the others may be too small for the windows behind
    if not results or any(taken for _, taken in results):
        return
    default = _default(case)
    yield Hypothesis(
        evidence=(
            f"{_declared(case, default)}, but the layers take {_told(default)} alone: "
            f"with {_told(results[0][0])} the model does not run"
        ),
        cause="the size of the example was folded into the layers when the model was traced or converted",
        needs=(
            "the model converted anew with that dimension free; or declare what it takes: coreproof edit MODEL OUT "
            + _commands(default)
        ),
        weight=45 if case.evidence.runs else 89,
        about=None if case.evidence.runs else case.evidence.failure,
    )


def _default(case: Case) -> Shapes:
    """The shapes that the flexible inputs have where nothing is said."""
    flexible = (f for f in case.model.signature.inputs if f.ranges or len(f.enumerated) > 1)
    return {f.name: s for f in flexible if (s := _shape(f)) is not None}


def _allowed(flexible: Sequence[Feature]) -> Iterator[Shapes]:
    """Some of the shapes that are declared as allowed, for all inputs at once; never the default ones."""
    default = {f.name: _shape(f) for f in flexible}
    if not flexible or None in default.values():
        return
    seen = [default]
    most = max(len(f.enumerated) for f in flexible)
    # each costs a run, and a size that was folded in shows at any other one
    for number in range(min(most, 4)):
        chosen = {f: f.enumerated[min(number, len(f.enumerated) - 1)] for f in flexible if f.enumerated}
        shapes = {f.name: tuple(shape[-2:] if f.image is not None else shape) for f, shape in chosen.items()}
        yield from _fresh({**default, **shapes}, seen)
    # three lengths of each range: a size that is folded into a layer shows at the first that is another one
    for place in range(3):
        shapes = {f.name: _picked(f, own, place) for f in flexible if f.ranges and (own := default[f.name]) is not None}
        yield from _fresh({**default, **shapes}, seen)


def _picked(feature: Feature, own: tuple[int, ...], place: int) -> tuple[int, ...]:
    """The least lengths above 1 that a range allows (1 fits everything), twice the default ones, or one more."""
    ranges = feature.ranges[-len(own) :]
    return tuple(
        n
        if r.low == r.high
        else (min(max(r.low, 2), r.high or 2), min(2 * n, r.high or 2 * n), min(n + 1, r.high or n + 1))[place]
        for n, r in zip(own, ranges, strict=True)
    )


def _fresh(
    shapes: Mapping[str, tuple[int, ...] | None], seen: list[dict[str, tuple[int, ...] | None]]
) -> Iterator[Shapes]:
    if dict(shapes) not in seen:
        seen.append(dict(shapes))
        yield {name: shape for name, shape in shapes.items() if shape is not None}


def _takes(case: Case, shapes: Shapes) -> bool | None:
    """Whether the model runs with these shapes; None where nothing can be drawn for them."""
    whole = case.evidence.model.signature
    signature = replace(whole, inputs=tuple(_with(f, shapes[f.name]) if f.name in shapes else f for f in whole.inputs))
    try:
        fed = random_sample(signature, signature, roles=case.evidence.roles, graphs=[case.graph])[0]
    except CoreproofError:
        return None
    try:
        with session(case.evidence.model) as running:
            running.run(fed)
    except CoreproofError:
        return False
    return True


def _with(feature: Feature, shape: tuple[int, ...]) -> Feature:
    image = feature.image and replace(feature.image, height=shape[0], width=shape[1])
    return replace(feature, image=image, shape=feature.shape if image else shape, ranges=(), enumerated=())
