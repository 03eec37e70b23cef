"""softmax: a softmax too few or too many at the end: scores where the source has probabilities, or the other way round."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from coreproof.doctor.case import Case, relative_error
from coreproof.doctor.finding import Hypothesis, Repair
from coreproof.editing.edit import Edit
from coreproof.feeding.predict import softmax as shares
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.graph import Node
from coreproof.verification.row import Row

_MOVES = ("cast", "reshape", "squeeze", "identity", "flatten", "expand_dims")
_CLOSE = 1e-2
"""Relative rms error below which two lists of probabilities are the same but for rounding to float16."""


def applies(case: Case) -> bool:
    return case.evidence.verification is not None


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """An output that equals the source's but for one softmax."""
    found = case.evidence.verification
    for row in (row for row in (() if found is None else found.outputs) if not row.agrees):
        reference, value = case.evidence.reference_value(row), case.evidence.value(row)
        if reference.size != value.size or reference.size < 2:
            continue  # the softmax of one number is 1, whatever it is
        a, b = (np.asarray(v, np.float64).reshape(-1) for v in (reference, value))
        if relative_error(a, shares(b)) < _CLOSE:
            yield _missing(case, row, a, b)
        elif relative_error(shares(a), b) < _CLOSE:
            yield _surplus(case, row, a, b)


def _missing(case: Case, row: Row, a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> Hypothesis:
    softmax = "Softmax" if case.model.is_onnx else "softmax"
    forms: list[tuple[str, dict[str, object]]] = [(softmax, {"axis": -1})]
    if isinstance(case.model, CoreMLModel) and case.model.is_network:
        # the older layer works on channels; the one that takes an axis came with specification version 4
        younger = case.model.spec.specificationVersion >= 4
        forms = [("softmaxND", {"axis": -1}), ("softmax", {})] if younger else [("softmax", {})]
    place = {"name": f"{row.candidate}_softmax", "after": row.candidate}
    words = f"put a softmax behind {row.candidate!r}"
    repairs = tuple(Repair(words, (Edit("insert", {"operator": op, **place, **axis}),)) for op, axis in forms)
    return Hypothesis(
        layer=case.graph.layer_of(row.candidate) or row.candidate,
        evidence=f"the source ends in probabilities ({_range(a)}), the model in scores ({_range(b)})",
        cause="the softmax was left out, or lost, when the model was converted",
        repairs=repairs,
        weight=70,
    )


def _surplus(case: Case, row: Row, a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> Hypothesis:
    last = _last_softmax(case, row)
    doubled = bool(np.all(a >= 0)) and abs(float(a.sum()) - 1) < 1e-2
    repairs = () if last is None else (Repair(f"take {last.name!r} out", (Edit("delete", {"layer": last.name}),)),)
    return Hypothesis(
        layer=last.name if last is not None else case.graph.layer_of(row.candidate) or row.candidate,
        evidence=(
            f"the model's output ({_range(b)}) is the softmax of the source's ({_range(a)})"
            + (", which is one already" if doubled else "")
        ),
        cause="a softmax was added to " + ("a model that ends in one" if doubled else "the source's scores"),
        repairs=repairs,
        weight=70,
    )


def _last_softmax(case: Case, row: Row) -> Node | None:
    """The softmax nearest before the output, through layers that only move data."""
    node = case.graph.producer(row.candidate)
    while node is not None:
        if node.operator.lower().startswith("softmax"):
            return node
        data = case.graph.data(node)
        if node.operator.lower() not in _MOVES or not data:
            return None
        node = case.graph.producer(data[0])
    return None


def _range(values: npt.NDArray[np.float64]) -> str:
    return f"{values.min():.3g} to {values.max():.3g}, sum {values.sum():.3g}"
