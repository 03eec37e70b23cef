"""An output that no layer makes: a feature that was renamed in the description and not where it is made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations

from coreproof.doctor.evidence import Patient
from coreproof.doctor.finding import Remedy, Suspicion
from coreproof.doctor.rules import rule
from coreproof.doctor.trial import loud
from coreproof.editing.edit import Edit
from coreproof.errors import CoreproofError
from coreproof.model.features import Feature
from coreproof.validation.names import wanted_outputs

RULE = "missing-output"
MOST_ORDERS = 24
"""Ways in which several values are tried as several outputs: four of each."""
_NOT_TENSORS = {"dictionary": "dictionaryType", "string": "str", "int64": "int64"}


@rule(RULE)
def missing_output(patient: Patient) -> Iterator[Suspicion]:
    """Before and after ``rename_feature(spec, "var_21", "scores", rename_inputs=False)``::

        output scores, innerProduct -> var_21     and nothing reads var_21
        output scores, innerProduct -> scores

    Without a source the value has to be the only one that fits; with one, the answers tell which it is.
    """
    if not loud(patient, RULE):
        return
    missing = _missing(patient)
    fitting = {output.name: [v for v in _unread(patient) if _fits(patient, v, output)] for output in missing}
    for output in missing:
        values = fitting[output.name]
        rivals = [o.name for o in missing if o is not output and set(fitting[o.name]) & set(values)]
        if len(values) == 1 and not rivals:
            remedies: tuple[Remedy, ...] = (_remedy({output.name: values[0]}),)
        else:
            remedies = tuple(_by_answers(patient, missing, fitting))
        yield Suspicion(
            rule=RULE,
            layer=None,
            evidence=f"output {output.name!r} is declared, and no layer makes it; {_told(patient, values)}",
            cause=(
                "the feature was renamed in the description alone (coremltools' rename_feature with rename_inputs=False "
                "leaves the layers as they are), or the layer that made it was taken out"
            ),
            remedies=remedies,
            needs=None if remedies else _needs(patient, output.name, values),
            weight=90,
        )


def _missing(patient: Patient) -> list[Feature]:
    graph = patient.graph
    made = {*graph.inputs, *(o for n in graph.nodes for o in n.outputs)}
    wanted = set(wanted_outputs(patient.model))
    return [f for f in patient.model.signature.outputs if f.name in wanted and f.name not in made]


def _unread(patient: Patient) -> list[str]:
    """What the ends of the graph make: of layers of which nothing is read or declared, else every value that is not."""
    graph, signature = patient.graph, patient.model.signature
    declared = {f.name for f in signature.outputs} | {signature.scores, signature.probabilities}
    nested = [n for node in graph.nodes for block in node.blocks for n in block.nodes]
    read = {name for node in (*graph.nodes, *nested) for name in node.inputs} | declared
    read |= {name for node in graph.nodes for block in node.blocks for name in block.outputs}
    constant = {name for name, value in graph.values.items() if value.constant}
    ends = [n for n in graph.nodes if not any(o in read or o in constant for o in n.outputs)]
    values = [o for n in ends for o in n.outputs if o]
    return values or [o for n in graph.nodes for o in n.outputs if o and o not in read and o not in constant]


def _fits(patient: Patient, value: str, output: Feature) -> bool:
    """Whether a value has the kind and the lengths that are declared, as far as they are known; ones do not count."""
    known = patient.graph.values.get(value)
    dtype = known.dtype if known is not None else None
    if output.kind in _NOT_TENSORS:
        return dtype is None or dtype == _NOT_TENSORS[output.kind]
    if dtype is not None and dtype in ("dictionaryType", "str", "listType"):
        return False
    shape = patient.shapes.get(value)
    declared = (output.image.height, output.image.width) if output.image is not None else output.shape
    if shape is None or not declared:
        return True
    if output.image is not None:
        return tuple(shape[-2:]) == declared
    long, wanted = [n for n in shape if n != 1], [n for n in declared if n != 1]
    return len(long) == len(wanted) and all(
        w in (None, n) or not isinstance(w, int) for n, w in zip(long, wanted, strict=True)
    )


def _remedy(names: dict[str, str]) -> Remedy:
    words = ", ".join(f"call {value!r} {output!r} where it is made" for output, value in names.items())
    return Remedy(words, tuple(Edit("produce", {"output": o, "value": v}) for o, v in names.items()))


def _by_answers(patient: Patient, missing: Sequence[Feature], fitting: dict[str, list[str]]) -> Iterator[Remedy]:
    """The one way of naming them after which each of these outputs agrees with the source."""
    names = [f.name for f in missing]
    values = list(dict.fromkeys(v for name in names for v in fitting[name]))
    if patient.reference is None or not len(names) <= len(values) <= 4 * len(names):
        return
    for number, chosen in enumerate(permutations(values, len(names))):
        if number >= MOST_ORDERS:
            return
        if any(value not in fitting[name] for name, value in zip(names, chosen, strict=True)):
            continue
        remedy = _remedy(dict(zip(names, chosen, strict=True)))
        try:
            found = patient.after(remedy.edits).verification
        except CoreproofError:
            continue
        if found is not None and set(names) <= {row.candidate for row in found.outputs if row.agrees}:
            yield remedy
            return


def _told(patient: Patient, values: Sequence[str]) -> str:
    if not values:
        return "every value that fits is read by a layer or is another output"
    shapes = [(v, patient.shapes.get(v)) for v in values[:5]]
    told = ", ".join(repr(v) + (f" {list(s)}" if s is not None else "") for v, s in shapes)
    return f"nothing reads {told}{', ...' if len(values) > 5 else ''}, which {'fits' if len(values) == 1 else 'fit'}"


def _needs(patient: Patient, output: str, values: Sequence[str]) -> str:
    by_hand = f"or name it by hand: coreproof edit MODEL OUT --do 'produce {output} {values[0] if values else 'VALUE'}'"
    if patient.reference is not None:
        return f"no value that fits gives the source's answers; {by_hand}"
    return f"the source: its answers tell which value is meant (--against SOURCE); {by_hand}"
