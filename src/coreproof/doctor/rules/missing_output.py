"""missing-output: an output that no layer makes: a feature that was renamed in the description and not where it is made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, permutations

from coreproof.doctor.case import Case
from coreproof.doctor.finding import Answers, Hypothesis, Repair
from coreproof.doctor.trial import fatal_problems
from coreproof.editing.edit import Edit
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
    if not case.model.signature.outputs:
        yield _none_declared(case)
    fitting = {output.name: [v for v in _unread(case) if _fits(case, v, output)] for output in missing}
    for output in missing:
        values = fitting[output.name]
        rivals = [o.name for o in missing if o is not output and set(fitting[o.name]) & set(values)]
        sure = len(values) == 1 and not rivals
        repairs = [_repair({output.name: values[0]})] if sure else [*_ways(case, missing, fitting)]
        yield Hypothesis(
            evidence=f"output {output.name!r} is declared, and no layer makes it; {_told(case, values)}",
            cause=(
                "the feature was renamed in the description alone (coremltools' rename_feature with rename_inputs=False "
                "leaves the layers as they are), or the layer that made it was taken out"
            ),
            repairs=tuple(repairs),
            needs=None if sure else _needs(case, output.name, values),
            weight=90,
            # any value that fits makes the model run
            about=None if sure else Answers(tuple(o.name for o in missing)),
        )


def _none_declared(case: Case) -> Hypothesis:
    """Of a model that gives nothing: which of its values is meant, only its maker knows."""
    last = _unread(case)
    return Hypothesis(
        evidence=f"no output is declared; {_told(case, last)}",
        cause="the description of the outputs was lost, or the part that made them was taken out",
        repairs=(),
        needs=f"the output by its name: coreproof edit MODEL OUT --do 'extract outputs={last[-1] if last else 'VALUE'}'",
        weight=90,
    )


def _missing(case: Case) -> list[Feature]:
    wanted = set(wanted_outputs(case.model)) - case.graph.made
    return [f for f in case.model.signature.outputs if f.name in wanted]


def _unread(case: Case) -> list[str]:
    """What the ends of the graph make: of layers of which nothing is read or declared, else every value that is not."""
    graph, signature = case.graph, case.model.signature
    declared = {f.name for f in signature.outputs} | {signature.scores, signature.probabilities}
    # the scores of a classifier are read by what makes the label, which no layer does
    used = declared.union(*map(graph.reads, graph.nodes)) | {n for n, value in graph.values.items() if value.constant}
    ends = [o for n in graph.nodes if used.isdisjoint(n.outputs) for o in n.outputs if o]
    return ends or [o for n in graph.nodes for o in n.outputs if o and o not in used]


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
        # channels may lie in front, with a batch and in an order of the format's
        return tuple(shape[-2:]) == declared
    long, wanted = [n for n in shape if n != 1], [n for n in declared if n != 1]
    return len(long) == len(wanted) and all(
        w in (None, n) or not isinstance(w, int) for n, w in zip(long, wanted, strict=True)
    )


def _repair(names: dict[str, str]) -> Repair:
    words = ", ".join(f"call {value!r} {output!r} where it is made" for output, value in names.items())
    return Repair(words, tuple(Edit("produce", {"output": o, "value": v}) for o, v in names.items()))


def _ways(case: Case, missing: Sequence[Feature], fitting: dict[str, list[str]]) -> Iterator[Repair]:
    """The ways of naming values as these outputs, where there is a source whose answers can tell them apart."""
    names = [f.name for f in missing]
    values = list(dict.fromkeys(v for name in names for v in fitting[name]))
    if case.evidence.reference is None or not len(names) <= len(values) <= 4 * len(names):
        return
    for chosen in islice(permutations(values, len(names)), MOST_ORDERS):
        called = dict(zip(names, chosen, strict=True))
        if all(value in fitting[name] for name, value in called.items()):
            yield _repair(called)


def _told(case: Case, values: Sequence[str]) -> str:
    if not values:
        return (
            "no layer makes a value"
            if not case.graph.nodes
            else "every value that fits is read by a layer or is another output"
        )
    shapes = [(v, case.evidence.shapes.get(v)) for v in values[:5]]
    told = ", ".join(repr(v) + (f" {list(s)}" if s is not None else "") for v, s in shapes)
    return f"nothing reads {told}{', ...' if len(values) > 5 else ''}, which {'fits' if len(values) == 1 else 'fit'}"


def _needs(case: Case, output: str, values: Sequence[str]) -> str:
    by_hand = f"or name it by hand: coreproof edit MODEL OUT --do 'produce {output} {values[0] if values else 'VALUE'}'"
    if case.evidence.reference is not None:
        return f"no value that fits gives the source's answers; {by_hand}"
    return f"the source: its answers tell which value is meant (--against SOURCE); {by_hand}"
