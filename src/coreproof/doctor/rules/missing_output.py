"""missing-output: an output that no layer makes: a feature that was renamed in the description and not where it is made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations

from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis, Repair
from coreproof.doctor.trial import fatal_problems
from coreproof.editing.edit import Edit
from coreproof.errors import CoreproofError
from coreproof.model.features import Feature
from coreproof.validation.names import wanted_outputs

MOST_ORDERS = 24
"""Ways in which several values are tried as several outputs: four of each."""
_NOT_TENSORS = {"dictionary": "dictionaryType", "string": "str", "int64": "int64"}


def applies(case: Case) -> bool:
    return bool(fatal_problems(case, "missing-output"))


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """Before and after ``rename_feature(spec, "var_21", "scores", rename_inputs=False)``::

        output scores, innerProduct -> var_21     and nothing reads var_21
        output scores, innerProduct -> scores

    Without a source the value has to be the only one that fits; with one, the answers tell which it is.
    """
    missing = _missing(case)
    fitting = {output.name: [v for v in _unread(case) if _fits(case, v, output)] for output in missing}
    for output in missing:
        values = fitting[output.name]
        rivals = [o.name for o in missing if o is not output and set(fitting[o.name]) & set(values)]
        if len(values) == 1 and not rivals:
            repairs: tuple[Repair, ...] = (_repair({output.name: values[0]}),)
        else:
            repairs = tuple(_by_answers(case, missing, fitting))
        yield Hypothesis(
            layer=None,
            evidence=f"output {output.name!r} is declared, and no layer makes it; {_told(case, values)}",
            cause=(
                "the feature was renamed in the description alone (coremltools' rename_feature with rename_inputs=False "
                "leaves the layers as they are), or the layer that made it was taken out"
            ),
            repairs=repairs,
            needs=None if repairs else _needs(case, output.name, values),
            weight=90,
        )


def _missing(case: Case) -> list[Feature]:
    graph = case.graph
    made = {*graph.inputs, *(o for n in graph.nodes for o in n.outputs)}
    wanted = set(wanted_outputs(case.model))
    return [f for f in case.model.signature.outputs if f.name in wanted and f.name not in made]


def _unread(case: Case) -> list[str]:
    """What the ends of the graph make: of layers of which nothing is read or declared, else every value that is not."""
    graph, signature = case.graph, case.model.signature
    declared = {f.name for f in signature.outputs} | {signature.scores, signature.probabilities}
    nested = [n for node in graph.nodes for block in node.blocks for n in block.nodes]
    read = {name for node in (*graph.nodes, *nested) for name in node.inputs} | declared
    read |= {name for node in graph.nodes for block in node.blocks for name in block.outputs}
    constant = {name for name, value in graph.values.items() if value.constant}
    ends = [n for n in graph.nodes if not any(o in read or o in constant for o in n.outputs)]
    values = [o for n in ends for o in n.outputs if o]
    return values or [o for n in graph.nodes for o in n.outputs if o and o not in read and o not in constant]


def _fits(case: Case, value: str, output: Feature) -> bool:
    """Whether a value has the kind and the lengths that are declared, as far as they are known; ones do not count."""
    known = case.graph.values.get(value)
    dtype = known.dtype if known is not None else None
    if output.kind in _NOT_TENSORS:
        return dtype is None or dtype == _NOT_TENSORS[output.kind]
    if dtype is not None and dtype in ("dictionaryType", "str", "listType"):
        return False
    shape = case.evidence.shapes.get(value)
    declared = (output.image.height, output.image.width) if output.image is not None else output.shape
    if shape is None or not declared:
        return True
    if output.image is not None:
        return tuple(shape[-2:]) == declared
    long, wanted = [n for n in shape if n != 1], [n for n in declared if n != 1]
    return len(long) == len(wanted) and all(
        w in (None, n) or not isinstance(w, int) for n, w in zip(long, wanted, strict=True)
    )


def _repair(names: dict[str, str]) -> Repair:
    words = ", ".join(f"call {value!r} {output!r} where it is made" for output, value in names.items())
    return Repair(words, tuple(Edit("produce", {"output": o, "value": v}) for o, v in names.items()))


def _by_answers(case: Case, missing: Sequence[Feature], fitting: dict[str, list[str]]) -> Iterator[Repair]:
    """The one way of naming them after which each of these outputs agrees with the source."""
    names = [f.name for f in missing]
    values = list(dict.fromkeys(v for name in names for v in fitting[name]))
    if case.evidence.reference is None or not len(names) <= len(values) <= 4 * len(names):
        return
    for number, chosen in enumerate(permutations(values, len(names))):
        if number >= MOST_ORDERS:
            return
        if any(value not in fitting[name] for name, value in zip(names, chosen, strict=True)):
            continue
        repair = _repair(dict(zip(names, chosen, strict=True)))
        try:
            found = case.after(repair.edits).evidence.verification
        except CoreproofError:
            continue
        if found is not None and set(names) <= {row.candidate for row in found.outputs if row.agrees}:
            yield repair
            return


def _told(case: Case, values: Sequence[str]) -> str:
    if not values:
        return "every value that fits is read by a layer or is another output"
    shapes = [(v, case.evidence.shapes.get(v)) for v in values[:5]]
    told = ", ".join(repr(v) + (f" {list(s)}" if s is not None else "") for v, s in shapes)
    return f"nothing reads {told}{', ...' if len(values) > 5 else ''}, which {'fits' if len(values) == 1 else 'fit'}"


def _needs(case: Case, output: str, values: Sequence[str]) -> str:
    by_hand = f"or name it by hand: coreproof edit MODEL OUT --do 'produce {output} {values[0] if values else 'VALUE'}'"
    if case.evidence.reference is not None:
        return f"no value that fits gives the source's answers; {by_hand}"
    return f"the source: its answers tell which value is meant (--against SOURCE); {by_hand}"
