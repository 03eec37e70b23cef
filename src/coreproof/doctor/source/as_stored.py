"""AsStored: the source with the weights that a model stores compressed, which is what the model's values are held against."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from coreproof.editing.edit import Edit
from coreproof.model.base import Model
from coreproof.verification.compressed_weights import Compressed, compressed_weights
from coreproof.verification.stored_weights import with_numbers_of


class AsStored:
    """A source beside one model, whose compressed weights are measured when they are first asked for.

    A weight that an edit gives the source's own numbers is not compressed any more: there the source keeps its own.
    """

    def __init__(self, source: Model, model: Model) -> None:
        self._source, self._model = source, model
        self._known: dict[frozenset[tuple[str, str]], Model] = {}

    @cached_property
    def _found(self) -> Compressed:
        return compressed_weights(self._source, self._model)

    def weights(self, edits: Sequence[Edit] = ()) -> frozenset[tuple[str, str]]:
        """The layers and names of the weights of the model, after these edits, whose numbers the source has."""
        edited = {(str(edit.arguments.get("layer")), str(edit.arguments.get("attribute"))) for edit in edits}
        return frozenset((s.layer, s.parameter) for s in self._found.stored) - edited

    def source(self, edits: Sequence[Edit] = ()) -> Model:
        """The source with these numbers."""
        kept = self.weights(edits)
        if not kept:
            return self._source
        if kept not in self._known:
            stored = tuple(s for s in self._found.stored if (s.layer, s.parameter) in kept)
            self._known = {kept: with_numbers_of(self._source, self._found._replace(stored=stored))[0]}
        return self._known[kept]
