"""A model that gives nothing: said wherever one is run or converted, for no engine and no format takes it."""

from __future__ import annotations

from coreproof.errors import CoreproofError
from coreproof.model.base import Model


def require_outputs(model: Model, kind: type[CoreproofError]) -> None:
    """Raises ``kind`` for a model that declares no output, unless it is there for the states that it writes.

    The last values that its layers make are named: one of them is mostly meant.
    """
    if model.signature.outputs or model.signature.states:
        return
    last = [name for node in model.graph.nodes[-3:] for name in node.outputs if name]
    raise kind(
        "the model declares no outputs, so that nothing of what it computes can be read",
        where=model.name,
        expected="at least one output",
        found=f"none; the last values are {', '.join(last)}" if last else "none, and no layer that makes a value",
        fix=f"declare what it is to give: coreproof edit MODEL OUT --do 'extract outputs={last[-1]}'" if last else None,
    )
