"""The labels of a classifier that is an ML Program: stored in its classify operation, as a list or a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from coreproof.editing.editors.noted_labels import relabel_noted
from coreproof.editing.editors.program_state import ProgramState
from coreproof.editing.editors.program_weights import set_tensor_type
from coreproof.errors import EditError
from coreproof.model.coreml.proto import MIL_pb2
from coreproof.model.formats import program as mil


class ProgramLabels(ProgramState):
    """Other labels, and with them the types of what is handed out."""

    def relabel(self, labels: Sequence[str] | Sequence[int]) -> None:
        operation = next((op for op in self._block.operations if op.type == "classify"), None)
        if operation is None:
            if relabel_noted(self._spec, labels, self._where):
                self._changed()
                return
            raise EditError("the model has no labels", where=self._where, expected="a classifier", found="no classify")
        if not labels:
            raise EditError("there are no labels in the list", expected="one label a score", found="none")
        bound = {key: binding for key, argument in operation.inputs.items() for binding in argument.arguments}
        _, shape = self._type(bound["probabilities"].name)
        if None not in shape and prod(n or 1 for n in shape) != len(labels):
            raise EditError(
                "the labels do not fit the scores",
                where=f"{self._where}, layer {mil.name(operation)!r}",
                expected=f"{prod(n or 1 for n in shape)} labels, one a score",
                found=f"{len(labels)} labels",
            )
        binding = bound["classes"]
        stored = binding.value
        if binding.WhichOneof("binding") == "name":
            constant = self._constants()[binding.name]
            stored = constant.attributes["val"]
        whole = _are_whole(stored) and all(isinstance(n, int) or n.removeprefix("-").isdigit() for n in labels)
        _write_labels(stored, labels, whole=whole)
        if binding.WhichOneof("binding") == "name":
            constant.outputs[0].type.CopyFrom(stored.type)
        self._type_labels(operation, whole=whole)
        self._changed()

    def _type_labels(self, operation: Any, *, whole: bool) -> None:
        """The label and the dictionary's keys are texts or whole numbers, where they are made and where they are described."""
        number = MIL_pb2.INT64 if whole else MIL_pb2.STRING
        for output in operation.outputs:
            if output.type.WhichOneof("type") == "dictionaryType":
                output.type.dictionaryType.keyType.tensorType.dataType = number
            else:
                output.type.tensorType.dataType = number
        for feature in self._description.output:
            if feature.name == self._description.predictedFeatureName:
                getattr(feature.type, "int64Type" if whole else "stringType").SetInParent()
            elif feature.name == self._description.predictedProbabilitiesName:
                kind = feature.type.dictionaryType
                getattr(kind, "int64KeyType" if whole else "stringKeyType").SetInParent()


def _are_whole(stored: Any) -> bool:
    """Whether the labels that are stored now are whole numbers."""
    kind = stored.type.listType.type if stored.type.WhichOneof("type") == "listType" else stored.type
    return bool(kind.tensorType.dataType != MIL_pb2.STRING)


def _write_labels(stored: Any, labels: Sequence[str | int], *, whole: bool) -> None:
    """Writes them as they were stored: as a list, or as a tensor."""
    dtype = "int64" if whole else "str"
    if stored.type.WhichOneof("type") != "listType":
        set_tensor_type(stored.type, dtype, [len(labels)])
        tensor = stored.immediateValue.tensor
        tensor.Clear()
        _extend(tensor, labels, whole=whole)
        return
    set_tensor_type(stored.type.listType.type, dtype, ())
    stored.type.listType.length.constant.size = len(labels)
    values = stored.immediateValue.list.values
    del values[:]
    for label in labels:
        item = values.add()
        set_tensor_type(item.type, dtype, ())
        _extend(item.immediateValue.tensor, [label], whole=whole)


def _extend(tensor: Any, labels: Sequence[str | int], *, whole: bool) -> None:
    if whole:
        tensor.longInts.values.extend(int(label) for label in labels)
    else:
        tensor.strings.values.extend(str(label) for label in labels)
