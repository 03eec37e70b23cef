"""Conversions held against their source before they are handed out: what was made runs once on drawn input."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from coreproof.conversion.operators import meaning
from coreproof.errors import ConversionError, CoreproofError, InputError, RunError, UnsupportedModelError
from coreproof.feeding.drawn import Feeds, Sample, is_finite, random_sample, roles_for
from coreproof.feeding.ends import as_free_as, as_long_as
from coreproof.feeding.example_feeds import example_feeds
from coreproof.feeding.roles.role import Role
from coreproof.model.base import Model
from coreproof.model.features import Signature
from coreproof.model.feeding import Feeding
from coreproof.model.graph import Graph
from coreproof.model.numbers import FLOAT16_MAX
from coreproof.model.opened import opened
from coreproof.model.torch.model import TorchModel
from coreproof.pairing.align import Pair
from coreproof.pairing.class_names import other_names
from coreproof.pairing.taps import as_array, match_outputs, taps_of
from coreproof.runtime.open import session
from coreproof.runtime.session import Engine, Session
from coreproof.verification.at_ends import AtEnds, ConvertedPair, Rounded, at_ends
from coreproof.verification.error_stats import BLOCK
from coreproof.verification.fills import largest_finite, ordinary_part
from coreproof.verification.steady import unsteady
from coreproof.verification.verify import verify

if TYPE_CHECKING:
    from coreproof.conversion.onnx_to_coreml.features import ImageInput

    Images = Mapping[str, ImageInput]

_CLOSE = {True: 2e-2, False: 5e-5}
"""Differences of outputs, as a share of their scale, that need no closer look: of a float16 program, and of others."""

_AS_FAR_OFF = 8
"""How many times the error of the large elements those beside them may be off where both are computed of the same terms."""

_DRAWN = "drawn input"
_UNRUN = "not checked: the source does not run on {} ("

_AGAIN = ((0, True), (1, False), (2, False))
"""Draws, by number and whether without zeros, for a source that answers the first one with what is not finite."""


_KEEPS = "what it keeps of a call belongs into buffers, or has to be handed in and out of forward"


class _RunsNoMoreError(Exception):
    """A module that ran on its example inputs, and does not after it was traced."""


@dataclass(frozen=True)
class ConversionCheck:
    """What came of it: true where nothing speaks against the conversion. ``said`` is one line for a report."""

    agrees: bool
    said: str

    def __bool__(self) -> bool:
        return self.agrees


def check_conversion(
    source: Model,
    made: Model,
    images: Images | None = None,
    *,
    frozen: bool = False,
    states: Mapping[str, str] | None = None,
    labelled: bool = False,
    judge: Engine = "auto",
) -> ConversionCheck:
    """Runs a converted model once on drawn input beside its source.

    Raises ConversionError where the converted model does not run on what its source runs on. A source that does not run on
    drawn input, or draws at random itself, leaves nothing to hold against: the check says so. An ONNX model that ONNX Runtime
    has no kernels for is run by ONNX's own reference evaluator (``judge``), and the check says that, too.
    A PyTorch module that answers differently when it is called twice in a row fails it, unless its state was ``frozen`` as the
    user asked: then it is called with its buffers as they are. A module whose branches were frozen is held at its example inputs.
    What a model remembers is drawn as well, and what it remembers afterwards held against the source's; ``states`` are those of
    ``convert``.
    The names of classes have to be the source's too, unless they were given (``labelled``).
    """
    names = "" if labelled else other_names(source.signature, made.signature)
    if names:
        return ConversionCheck(False, f"the converted model names its classes otherwise than its source: {names}")
    source, made = source if frozen else opened(source, states), opened(made)
    try:
        source = as_long_as(source, made)
        signature = as_free_as(source, made)
        # the source says what the inputs are for, where it can be read
        roles = roles_for(source, source if getattr(source, "has_program", True) else made)
        fed, source_sample, made_sample = _fed_once(source, made, signature, roles, images or {})
        reference = session(source, judge)
        if source.is_torch:
            reference.signature = signature
    except CoreproofError as error:
        return ConversionCheck(True, f"not checked: {_first_line(error)}")
    with reference:
        try:
            (fed, source_sample, made_sample), answer, changing = _asked_again(
                source, made, reference, signature, roles, (fed, source_sample, made_sample), images or {}
            )
        except CoreproofError as error:
            if judge == "auto" and source.is_onnx and isinstance(error, UnsupportedModelError):
                return _judged_by_standard(
                    error,
                    partial(check_conversion, source, made, images, frozen=frozen, states=states, labelled=labelled),
                )
            return ConversionCheck(True, f"{_UNRUN.format(fed)}{_with_reason(error)})")
        if changing is not None:
            said = f"not checked: its state was frozen as asked, and {changing}" if frozen else changing
            return ConversionCheck(frozen, said)
        half = _is_half(made)
        try:
            with session(made) as candidate:
                pairs = match_outputs(reference, candidate)
                source_names, made_names = ([getattr(p, side) for p in pairs] for side in ("reference", "candidate"))
                got = candidate.run(made_sample, taps_of(candidate, made_names))
                taps = taps_of(reference, source_names)
                # a module that changes may do so at a later call only
                known = not taps and not isinstance(source, TorchModel)
                expected = answer if known else reference.run(source_sample, taps)
                if not any(_has_numbers(expected[name]) for name in source_names):
                    return ConversionCheck(
                        True, "not checked: the source's own answer to drawn input is NaN or infinite"
                    )
                # of an answer without a number there is nothing to hold but that the other is the same
                unsure = {
                    p.reference for p in pairs if _alike(expected, got, p) and not _has_numbers(expected[p.reference])
                }
                pairs = [p for p in pairs if p.reference not in unsure]
                source_names = [name for name in source_names if name not in unsure]
                worst = _worst(expected, got, pairs) if all(_alike(expected, got, p) for p in pairs) else math.inf
                if worst > _CLOSE[half]:
                    once = {name: expected[name] for name in source_names}
                    if not _is_the_same(source, reference.run(source_sample, taps), once):
                        said = "the source answers differently from one call to another"
                        # what a module keeps and looks at later is as frozen as what shows in its first two calls
                        module = source.is_torch and not frozen
                        return ConversionCheck(not module, said if module else f"not checked: {said}")
                # at other lengths nobody looks closer: what either side rounds by is let through
                pair = ConvertedPair(
                    source, made, reference, candidate, signature, roles,
                    differ=lambda a, b: _beyond(_worst(a, b, [p for p in pairs if _is_whole(a, p)]), half or _is_half(source)),
                    handed=lambda sample: {n: _numbers(v, (images or {}).get(n)) for n, v in sample.items()},
                    rounded=partial(_rounded, source, made, pairs, judge),
                )  # fmt: skip
                ends = at_ends(pair) if fed == _DRAWN else AtEnds()
        except InputError as error:
            return ConversionCheck(True, f"not checked: {_first_line(error)}")
        except CoreproofError as error:
            raise ConversionError(
                "what was made does not run, so that it is not handed out",
                where=error.where or made.name,
                expected=error.expected,
                found=": ".join(part for part in map(str, (error.problem, error.found or "")) if part),
                fix=error.fix or "please report it with the model: `coreproof shrink` makes a small one of it",
            ) from error
    if ends.problem is not None:
        return ConversionCheck(False, ends.problem)
    if worst <= _CLOSE[half]:
        return ConversionCheck(
            True,
            f"checked: ran once on {fed}; outputs {_apart(worst)}{ends.said}{_left_out(unsure)}",
        )
    if (there := _at_these_lengths(source, source_sample)) is None and signature != source.signature:
        # a layer-by-layer look is traced at the example's lengths, which these are not
        fed = ", ".join(f"{name} of shape {list(np.asarray(value).shape)}" for name, value in source_sample.items())
        return ConversionCheck(
            False, f"the converted model does not answer as its source does for {fed}: off by {worst:.2g} of the scale"
        )
    return _looked_at_closely(
        there or source, made, (source_sample, made_sample), unsure, judge, frozen=frozen, likewise=ends.said
    )


def _at_these_lengths(source: Model, sample: Sample) -> Model | None:
    """A module whose layers are traced at the lengths that it is fed, if it is one that can be."""
    if not isinstance(source, TorchModel):
        return None
    try:
        return source.at_lengths({name: np.asarray(value).shape for name, value in sample.items()})
    except CoreproofError:
        return None


def _judged_by_standard(error: CoreproofError, check: Callable[..., ConversionCheck]) -> ConversionCheck:
    """The check by ONNX's own evaluator: what one engine lacks, as ``error`` says, says nothing against the model."""
    found = check(judge="reference")
    unrun = _UNRUN.format(_DRAWN)
    if found.said.startswith(unrun):
        return ConversionCheck(True, f"{unrun}{_with_reason(error)}; {found.said.removeprefix(unrun)}")
    by = "by ONNX's reference evaluator, as ONNX Runtime lacks a part of it"
    return ConversionCheck(found.agrees, f"{found.said} (the source was run {by})")


def _fed_once(
    source: Model, made: Model, signature: Signature, roles: Mapping[str, Role], images: Images
) -> tuple[str, Sample, Sample]:
    """What both are fed, in words and as each takes it: the example where branches were frozen as that goes, else a draw."""
    if not isinstance(source, TorchModel) or not source.frozen_branches:
        return _drawn(source, made, signature, roles, images)
    fed = _example(source, made, images)
    return fed.said.replace("the frozen", "its frozen"), *fed.pairs[0]


def _drawn(
    source: Model,
    made: Model,
    signature: Signature,
    roles: Mapping[str, Role],
    images: Images,
    number: int = 0,
    *,
    clean: bool = False,
) -> tuple[str, Sample, Sample]:
    graphs = [source.graph, made.graph]
    drawn, made_sample = random_sample(
        signature, made.signature, roles=roles, graphs=graphs, number=number, clean=clean
    )
    return _DRAWN, {name: _numbers(value, images.get(name)) for name, value in drawn.items()}, made_sample


def _asked_again(
    source: Model,
    made: Model,
    reference: Session,
    signature: Signature,
    roles: Mapping[str, Role],
    fed: tuple[str, Sample, Sample],
    images: Images,
) -> tuple[tuple[str, Sample, Sample], Mapping[str, object], str | None]:
    """``_that_runs``, and in what a module answers otherwise when it is called again; None where it does not."""
    try:
        fed, answer = _that_runs(source, made, reference, signature, roles, fed, images)
    except _RunsNoMoreError as error:
        # a module is put back after it was traced: what is left behind is kept by a closure, a class, a global
        again = f"the module ran on its example inputs before it was traced, and does not any more: {error}"
        return fed, {}, f"{again}; {_KEEPS}"
    told = unsteady(source, reference, fed[1], answer)
    said = "the module answers differently when it is called twice in a row"
    return fed, answer, None if told is None else f"{said}: {told}"


def _that_runs(
    source: Model,
    made: Model,
    reference: Session,
    signature: Signature,
    roles: Mapping[str, Role],
    fed: tuple[str, Sample, Sample],
    images: Images,
) -> tuple[tuple[str, Sample, Sample], Mapping[str, object]]:
    """What both are fed, where the source runs on it; else the example of a module, which may take nothing that is drawn.

    And the source's answer to it.

    What is drawn is drawn again where the answer is not finite throughout: what is made of an infinity further on, a whole
    number or a comparison, is no part of ONNX's definitions. And where a program in float16 cannot hold it.
    """
    most = FLOAT16_MAX if _is_half(made) else math.inf

    def holds(found: Mapping[str, object]) -> bool:
        return all(is_finite(value) and _largest(value) <= most for value in found.values())

    try:
        answer = reference.run(fed[1])
    except RunError:
        if not isinstance(source, TorchModel):
            raise
        fed = "its example inputs", *_example(source, made, images).pairs[0]
        try:
            return fed, reference.run(fed[1])
        except RunError as error:
            raise _RunsNoMoreError(error.found or error.problem) from error
    if fed[0] != _DRAWN or holds(answer):
        return fed, answer
    for number, clean in _AGAIN:
        other = _drawn(source, made, signature, roles, images, number, clean=clean)
        try:
            if holds(found := reference.run(other[1])):
                return other, found
        except RunError:
            continue
    return fed, answer  # it answers so whatever it is fed


def _largest(value: object) -> float:
    """The largest size among the floats of an output."""
    array = as_array(value)
    return float(np.max(np.abs(array), initial=0.0)) if array.dtype.kind == "f" else 0.0


def _example(source: TorchModel, made: Model, images: Images) -> Feeds:
    return example_feeds(source, made, feedings={name: _as_feeding(image) for name, image in images.items()})


def _as_feeding(image: ImageInput) -> Feeding:
    """How a source that takes numbers is fed where the converted model takes their picture of any size."""
    return Feeding(size=(1, 1), colour=image.colour, scale=image.scale, mean=image.mean, std=image.std)


def _looked_at_closely(
    source: Model,
    made: Model,
    fed: tuple[Sample, Sample],
    unsure: Collection[str],
    judge: Engine,
    *,
    frozen: bool,
    likewise: str,
) -> ConversionCheck:
    """Whether rounding explains what the outputs differ by, layer by layer, save those that are ``unsure``."""
    try:
        found = verify(source, made, feeds=fed, reference_engine=judge)
    except InputError as error:
        if not isinstance(source, TorchModel):
            raise
        # a module that counts its calls may change at a later one
        said = f"{error.problem}: {error.found}"
        return ConversionCheck(frozen, f"not checked: {said}" if frozen else said)
    failing = [row for row in found.outputs if not row.agrees and row.reference not in unsure]
    if not failing:
        said = "checked: ran once on drawn input; outputs differ from the source's by what rounding explains"
        return ConversionCheck(True, said + likewise + _left_out(unsure))
    said = "; ".join(f"output {row.candidate!r}: {row.judgement.problem}" for row in failing)
    return ConversionCheck(False, f"the converted model does not answer as its source does: {said}")


def _rounded(
    source: Model,
    made: Model,
    pairs: Sequence[Pair],
    judge: Engine,
    source_sample: Sample,
    made_sample: Sample,
    expected: Mapping[str, object],
) -> Rounded:
    """Whether what differs at other lengths comes of a program's float16 alone, and whether rounding explains it there."""
    if not _is_half(made):
        return Rounded.NOT
    try:
        with session(made, precision="fp32") as ideal:
            got = ideal.run(made_sample, taps_of(ideal, [p.candidate for p in pairs]))
        whole = [p for p in pairs if _is_whole(expected, p)]
        # constants are stored in float16 all the same
        if not all(_alike(expected, got, p) for p in whole) or _worst(expected, got, whole) > _CLOSE[True]:
            return Rounded.NOT
        there = _at_these_lengths(source, source_sample)
        found = verify(there or source, made, feeds=(source_sample, made_sample), reference_engine=judge)
    except CoreproofError:
        return Rounded.TOO_MUCH
    return Rounded.EXPLAINED if all(row.agrees for row in found.outputs) else Rounded.TOO_MUCH


def _numbers(value: object, image: ImageInput | None) -> object:
    """What a source that takes numbers is fed where the converted model takes their picture."""
    if image is None:
        return value
    planes = np.asarray(value)
    factor, offset = image.affine(planes.shape[1])
    scaled = planes if factor is None else planes * factor
    return scaled if offset is None else scaled + offset


def _is_half(made: Model) -> bool:
    return (made.is_program or made.is_coreai) and any(v.dtype == "float16" for v in made.graph.values.values())


def _worst(expected: Mapping[str, object], got: Mapping[str, object], pairs: Sequence[Pair]) -> float:
    """The largest difference of an output that both brought, over what is finite in the source's."""
    both = [(expected[p.reference], got[p.candidate]) for p in pairs if p.reference in expected and p.candidate in got]
    return max((_difference(a, b) for a, b in both if _has_numbers(a) or is_finite(as_array(a))), default=0.0)


def _is_whole(expected: Mapping[str, object], pair: Pair) -> bool:
    return pair.reference in expected and is_finite(as_array(expected[pair.reference]))


def _is_the_same(source: Model, again: Mapping[str, object], once: Mapping[str, object]) -> bool:
    """Whether the source answers as it did before; of one that draws at random two answers may be the same by chance."""
    return not (source.is_onnx and _draws(source.graph)) and not any(
        _difference(value, again[name]) > 0 for name, value in once.items()
    )


def _draws(graph: Graph) -> bool:
    """Whether an operator of the graph, or of one within it, draws at random: two draws may be the same by chance."""
    return any(meaning(n.operator).get("random", False) or any(map(_draws, n.blocks)) for n in graph.nodes)


def _has_numbers(value: object) -> bool:
    """Whether anything of an output can be compared; what is no float always can."""
    array = as_array(value)
    return array.dtype.kind != "f" or not array.size or bool(np.isfinite(array).any())


def _alike(expected: Mapping[str, object], got: Mapping[str, object], pair: Pair) -> bool:
    """Whether an output is NaN or infinite where the source's is, with the same sign."""
    if pair.candidate not in got or pair.reference not in expected or _is_whole(expected, pair):
        return True
    a, b = (np.asarray(as_array(v)).reshape(-1) for v in (expected[pair.reference], got[pair.candidate]))
    if a.size != b.size:
        return True  # which is a difference of its own
    return bool(np.all(np.isfinite(a) & np.isfinite(b) | np.isnan(a) & np.isnan(b) | (a == b)))


def _left_out(unsure: Collection[str]) -> str:
    if not unsure:
        return ""
    names = ", ".join(map(repr, sorted(unsure)))
    return f"; not checked: {names}, which the source itself answers with NaN or infinite"


def _apart(error: float) -> str:
    return f"differ from the source's by {error:.1g} of their scale" if error else "equal the source's"


def _beyond(difference: float, half: bool) -> float:
    """A difference, 0 where it is one of those that need no closer look."""
    return difference if difference > _CLOSE[half] else 0.0


def _difference(expected: object, got: object) -> float:
    """The root-mean-square difference as a share of the scale; infinite where shapes, or what is not finite, differ."""
    a, b = as_array(expected), as_array(got)
    if a.size != b.size or a.dtype.kind in "OSU":
        return 0.0 if a.dtype.kind in "OSU" else np.inf
    a, b = a.reshape(-1), b.reshape(-1)
    part = ordinary_part(a, largest_finite(a))
    whole = _share(a, b, math.inf)
    if part is None or part.scale == 0:
        return whole
    # beside a mask's minimum nothing else would count
    beside = _share(a, b, part.limit)
    # a mask comes through as it is; where the large ones are computed, as the lines of a spectrum, they are off themselves,
    # and what stands beside them is what is left of terms of their size
    left_over = beside * part.scale <= _AS_FAR_OFF * _error_above(a, b, part.limit)
    return whole if left_over else max(whole, beside)


def _error_above(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic], limit: float) -> float:
    """The root-mean-square difference of the finite elements beyond a size."""
    errors, count = 0.0, 0
    for start in range(0, a.size, BLOCK):
        x, y = (v[start : start + BLOCK].astype(np.float64) for v in (a, b))
        large = np.isfinite(x) & np.isfinite(y) & (np.abs(x) > limit)
        errors += float(np.sum((x[large] - y[large]) ** 2))
        count += int(np.count_nonzero(large))
    return math.sqrt(errors / count) if count else 0.0


def _share(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic], limit: float) -> float:
    """The same over the elements of ``a`` up to a size."""
    squares = errors = 0.0
    count = 0
    # block by block: in float64 all at once, a large output would take four times its own memory
    for start in range(0, a.size, BLOCK):
        x, y = (v[start : start + BLOCK].astype(np.float64) for v in (a, b))
        whole: npt.NDArray[np.bool_] = np.isfinite(x)
        if not np.array_equal(whole, np.isfinite(y)):
            return float(np.inf)
        whole &= np.abs(x) <= limit
        x, y = x[whole], y[whole]
        count += x.size
        squares += float(x @ x)
        errors += float(np.sum((x - y) ** 2))
    if not count:
        return 0.0
    scale, error = math.sqrt(squares / count), math.sqrt(errors / count)
    return error / scale if scale > 0 else (0.0 if error < 1e-6 else float(np.inf))


def _with_reason(error: CoreproofError) -> str:
    """What is wrong, and what was found, in a line; ONNX Runtime's own numbers of its errors say nothing."""
    found = str(error.found).splitlines()[0] if error.found else ""
    return ": ".join(part for part in (_first_line(error), found.rpartition(" : ")[2]) if part)


def _first_line(error: CoreproofError) -> str:
    return error.problem.splitlines()[0]
