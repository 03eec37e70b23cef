"""The verb extract: the sub-model between values."""

from __future__ import annotations

from collections.abc import Sequence

from coreproof.editing.editor import Editor
from coreproof.editing.submodels.open import builder_of, learn
from coreproof.editing.submodels.submodel import Submodel, SubmodelBuilder
from coreproof.editing.verbs.registry import verb
from coreproof.errors import EditError


@verb
def extract(
    editor: Editor, inputs: Sequence[str] | str | None = None, outputs: Sequence[str] | str | None = None
) -> None:
    """Keeps what lies between values: layers that ``outputs`` need and ``inputs`` do not replace.

    Values are named by themselves or by the layer that makes them. None given: the model's own. An input of the model stays one
    where something still reads it. Preprocessing and a classifier's labels go with what they belonged to.
    """
    begin, end = _values(editor, inputs), _values(editor, outputs)
    if both := sorted(set(begin) & set(end)):
        raise EditError(f"{', '.join(both)} would be an input and an output", where=editor.graph.name)
    whole = builder_of(editor.model)
    _require_read(whole, begin, end)
    inner = [name for name in begin if name not in editor.graph.inputs]
    learn(whole, [name for name in inner if name not in whole.shapes])
    unknown = [name for name in inner if name not in whole.shapes]
    if unknown:
        raise EditError(
            f"it is not known what {', '.join(unknown)} looks like",
            where=editor.model.name,
            expected="a tensor of one dimension at least",
        )
    # the editor declares both ends, for it can cast what no feature can be; the builder takes what lies between
    declared = [feature.name for feature in editor.model.signature.outputs]
    for name in end:
        if name not in declared:
            editor.interface.set_output(name)
    dtypes = {name: value.dtype for name, value in editor.graph.values.items()}
    for name in inner:
        _make_free(editor, name)
        editor.interface.set_input(
            name, whole.declared_shape(name), whole.dtypes.get(name) or dtypes[name] or "float32"
        )
    editor.reopen(builder_of(editor.model).build(Submodel(tuple(end))))


def _values(editor: Editor, names: Sequence[str] | str | None) -> list[str]:
    given = [names] if isinstance(names, str) else names or ()
    return list(dict.fromkeys(map(editor.value, given)))


def _require_read(whole: SubmodelBuilder, begin: Sequence[str], end: Sequence[str]) -> None:
    selection = whole.select(Submodel(tuple(end), frozenset(begin)))
    read = {name for layer in selection.layers for name in layer.reads}
    idle = [name for name in begin if name not in read]
    if idle:
        raise EditError(
            f"nothing between reads {', '.join(map(repr, idle))}",
            where=whole.model.name,
            expected="inputs that lie before the outputs",
            fix="leave them out, or ask for outputs that are made from them",
        )


def _make_free(editor: Editor, value: str) -> None:
    """What makes the value so far makes it under another name: it may be needed for another of its outputs."""
    maker = editor.graph.producer(value)
    if maker is not None:
        editor.set_outputs(maker.name, [f"{value}_unread" if name == value else name for name in maker.outputs])
