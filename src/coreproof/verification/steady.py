"""Whether a PyTorch module answers the same when it is called again, and if not, what changed in between."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import numpy as np

from coreproof.errors import CoreproofError, InputError
from coreproof.model.base import Model
from coreproof.model.torch.kept import attributes_held
from coreproof.model.torch.model import TorchModel
from coreproof.runtime.session import Session

_SAME = 1e-6
"""Difference of two answers, as a share of their scale, that threads may make by summing in another order."""

_TOLD = 4


_MORE = 5
"""So many times another input comes between in a module that counts its calls: it may answer otherwise every few, or look at
what it is fed at those alone."""


def unsteady(
    model: Model, running: Session, sample: Mapping[str, object], first: Mapping[str, object] | None = None
) -> str | None:
    """What differed between calls of the module with one sample, in words; None where nothing did.

    ``first`` is its answer to the sample where it was called with it once already, as the first of all.
    An exported program (.pt2) has no module of its own, and other models have nothing to call: None. Raises RunError.
    """
    if not isinstance(model, TorchModel) or (model.path is not None and model.path.suffix == ".pt2"):
        return None
    # three looks: what the first call leaves may differ from what the second changes
    before = _buffers(model)
    once = running.run(sample) if first is None else first
    between, held = _buffers(model), attributes_held(model.module)
    differing, calls = list[str](), 1
    for other in (False, *[True] * _MORE):
        # what is kept of the same input may be the same: a running maximum shows only where another input came between
        if other:
            calls += 1
            with suppress(CoreproofError):
                running.run({name: _half_as_much_again(value) for name, value in sample.items()})
        again = running.run(sample)
        calls += 1
        differing = [told for name in once if (told := _difference(name, once[name], again[name])) is not None]
        kept = [name for name, now in attributes_held(model.module).items() if name not in held or held[name] != now]
        if differing or (calls > _LOOKS and not kept):
            break
    if not differing:
        return None
    said = [f"call one and call {'two' if calls == 2 else calls} differ in {_listed(differing)}"]
    after = _buffers(model)
    # what the second call changes tells more: the first may only have filled what was empty
    changed = _changes(between, after) or _changes(before, between)
    if changed:
        said.append(f"the call changes {_listed(changed)}")
    with model.evaluation():
        training = [
            f"{name or 'the module'} ({type(m).__name__})"
            for name, m in model.module.named_modules()
            if getattr(m, "training", False)
        ]
    if training:
        said.append(f"in training mode: {_listed(training)}")
    if not changed and not training:
        said.append(
            f"no buffer changes: it keeps numbers in attributes, as {_listed([repr(name) for name in kept])}"
            if kept
            else "no buffer changes: it draws at random, or keeps numbers in attributes"
        )
    return "; ".join(said)


_LOOKS = 3
"""Calls that each module is given: the same input twice in a row, another one, and the first again."""


def _half_as_much_again(value: object) -> object:
    """Other floats of the same kind; whole numbers may be indices, and stay."""
    array = np.asarray(value)
    return (array * 1.5).astype(array.dtype) if array.dtype.kind == "f" else value


def refuse_unsteady(model: Model, running: Session, sample: Mapping[str, object]) -> None:
    """Raises InputError for a module that answers differently when it is called twice in a row."""
    if (said := unsteady(model, running, sample)) is not None:
        # what is no buffer is not frozen either
        frozen = isinstance(model, TorchModel) and model.frozen_state
        raise InputError(
            "the module answers differently when it is called twice in a row with the same input",
            where=model.name,
            expected="the same answer each time: a converted model has no memory and no chance",
            found=said,
            fix="put it into evaluation mode, draw nothing at random, and hand what it remembers in and out of forward"
            + ("" if frozen else "; or hold it with its buffers as they are: --freeze-state, freeze_state=True"),
        )


def _buffers(model: TorchModel) -> dict[str, np.ndarray]:
    return {name: np.array(buffer.detach().cpu().float().numpy()) for name, buffer in model.module.named_buffers()}


def _moved(before: np.ndarray | None, after: np.ndarray) -> bool:
    return before is None or before.shape != after.shape or not np.array_equal(before, after, equal_nan=True)


def _changes(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> list[str]:
    """The buffers that changed, in words; of single numbers from what to what."""
    moved = {name: (before[name], now) for name, now in after.items() if _moved(before.get(name), now)}
    numbers = {name: f" ({a.item():g} to {b.item():g})" for name, (a, b) in moved.items() if a.size == b.size == 1}
    return [f"buffer {name!r}{numbers.get(name, '')}" for name in moved]


def _difference(name: str, first: object, second: object) -> str | None:
    """In what an output differs, if it does."""
    a, b = np.asarray(first), np.asarray(second)
    if a.shape != b.shape:
        return f"output {name!r}: its shape is {list(a.shape)}, then {list(b.shape)}"
    if np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"):
        return None
    a, b = a.astype(np.float64), b.astype(np.float64)
    known = np.isfinite(a) & np.isfinite(b)
    scale = float(np.sqrt(np.mean(a[known] ** 2))) if known.any() else 0.0
    most = float(np.abs(a - b)[known].max()) if known.any() else 0.0
    # a number that is finite in one call only is never the same
    if known.all() and most <= _SAME * scale:
        return None
    share = f"by {most / scale:.2g} of its scale" if scale > 0 else f"by {most:.2g}"
    at = np.unravel_index(int(np.argmax(np.where(known, np.abs(a - b), np.inf))), a.shape)
    return f"output {name!r} {share} (first {a[at]:.4g}, then {b[at]:.4g})"


def _listed(words: list[str]) -> str:
    more = len(words) - _TOLD
    return ", ".join(words[:_TOLD]) + (f" and {more} more" if more > 0 else "")
