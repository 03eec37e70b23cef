"""Verbs on the width in which an ML Program computes: widen."""

from __future__ import annotations

from collections.abc import Sequence

from coreproof.editing.editor import Editor
from coreproof.editing.editors.program import ProgramEditor
from coreproof.editing.verbs.registry import verb
from coreproof.errors import EditError


@verb
def widen(editor: Editor, layers: Sequence[str] | str) -> None:
    """Makes operations of a float16 ML Program compute in float32, with casts where they meet float16.

    The layers keep their names. Their weights are widened as they are stored; ``set`` gives them what they were before.
    """
    if not isinstance(editor, ProgramEditor):
        raise EditError(
            "only an ML Program has operations in float16",
            where=editor.model.name,
            expected="an ML Program",
            found=editor.model.format,
        )
    names = [layers] if isinstance(layers, str) else list(layers)
    editor.widen([editor.node(name).outputs[0] for name in names])
