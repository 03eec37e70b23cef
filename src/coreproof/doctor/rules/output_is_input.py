"""output-is-input: an output that is an input: Core ML wants a layer behind every output, and no two features of one name."""

from __future__ import annotations

from collections.abc import Iterator

from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis, Repair
from coreproof.doctor.trial import fatal_problems
from coreproof.editing.edit import Edit
from coreproof.model.formats.free_name import free_name
from coreproof.validation.names import wanted_outputs


def applies(case: Case) -> bool:
    return bool(fatal_problems(case, "output-is-input"))


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """Before and after; ONNX and PyTorch allow the first, Core ML compiles the second only::

    input x, output x
    input x, identity x -> x_out, output x_out
    """
    # layers count as well: the copy is called after what it makes
    taken = {*case.graph.values, *(n.name for n in case.graph.nodes), *(f.name for f in case.model.signature.outputs)}
    for name in (n for n in wanted_outputs(case.model) if n in case.graph.inputs):
        fresh = free_name(f"{name}_out", taken, 2)
        yield Hypothesis(
            evidence=f"{name!r} is declared as an input and as an output, and no layer lies between",
            cause="the model hands an input through, which PyTorch and ONNX allow; Core ML does not compile such a model",
            repairs=(
                Repair(
                    f"hand out a copy of {name!r} as {fresh!r}: the app has to ask for that name",
                    (Edit("copy", {"input": name, "new": fresh}),),
                ),
            ),
            weight=90,
        )
