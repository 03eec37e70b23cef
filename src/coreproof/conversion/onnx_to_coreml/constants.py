"""Constants of a program: equal small ones (strides, axes, "valid") are made once, which halves a program's operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from coreproof.conversion.onnx_to_coreml.mil import Builder, Operand, Var
from coreproof.conversion.onnx_to_coreml.packed import PackedConstants, packed_in

_MOST_ELEMENTS = 16
_AS_THEY_ARE = frozenset({"const", "placeholder", "cond", "while_loop", "make_list", "classify", "program", "function"})
"""What takes Python values that do not become constants of their own, or must not share them."""

_COUNTED = frozenset({"begin", "end"})
"""Places along an axis: negative ones count from its end."""


class SharedConstants:
    """coremltools' builder; small operands of its operations become constants that later operations share.

    ``target``: the MIL opset as the iOS number, which says what packed constants are written as.
    """

    def __init__(self, builder: Builder, target: int = 0, made: dict[tuple[object, ...], Var] | None = None) -> None:
        self._builder = builder
        self._made = {} if made is None else made
        self._packed = PackedConstants(builder, target)

    def __getattr__(self, operation: str) -> Callable[..., Var]:
        make: Callable[..., Var] = getattr(self._builder, operation)
        if operation in _AS_THEY_ARE:
            return make

        def call(**operands: object) -> Var:
            made = make(**{k: v if k == "name" else self._shared(k, v) for k, v in operands.items()})
            for var in made if isinstance(made, list | tuple) else (made,):
                _give_its_dtype(var)
            return made

        setattr(self, operation, call)
        return call

    def _shared(self, parameter: str, value: object) -> object:
        if isinstance(value, np.ndarray) and packed_in(value) is not None:
            return self._packed.written(value)
        key = _identity(value)
        if key is None:
            return value
        # coremltools counts these from the front, in place, by the first operation's lengths: another's are others
        if parameter in _COUNTED and np.any(np.asarray(value) < 0):
            return np.array(value, np.int32)
        from coremltools.converters.mil.mil.block import curr_block

        # A constant made inside a nested block cannot be seen outside it. The block is kept: a loop's blocks are built twice, and
        # the first is thrown away.
        key = (curr_block(), *key)
        if key not in self._made:
            self._made[key] = self._builder.const(val=value, name=parameter)
        return self._made[key]


class NetworkBuilder(SharedConstants):
    """The same for a NeuralNetwork, which holds a single number as [1]: an axis added to it would be a second one."""

    def __init__(self, builder: Builder, target: int = 0) -> None:
        super().__init__(builder, target)
        self._plain = SharedConstants(builder, target, self._made)

    def expand_dims(self, *, x: Operand, axes: Sequence[int], **named: object) -> Var:
        """expand_dims, or for a single number a reshape, which says the whole shape."""
        if not isinstance(x, np.ndarray) and len(x.shape) == 0:
            # the single number has its axis [1] already: added to, it would have one too many
            return self.reshape(x=x, shape=np.ones(len(axes), np.int32), **named)
        return self._plain.expand_dims(x=x, axes=axes, **named)


def _give_its_dtype(made: Var) -> None:
    """What coremltools cuts out of a value that it knows in part is an array of objects: no function is known of these."""
    known = made.val
    if isinstance(known, np.ndarray) and known.dtype == object:
        from coremltools.converters.mil.mil.types.type_mapping import nptype_from_builtin

        made._sym_val.val = known.astype(nptype_from_builtin(made.dtype))


def _identity(value: object) -> tuple[object, ...] | None:
    """What makes two small constants equal; None for variables, large arrays and anything else."""
    if isinstance(value, np.ndarray | np.generic):
        # MIL types a number and an array of rank 0 differently, and a loop's values keep their type
        kind = isinstance(value, np.generic)
        return (value.dtype.str, value.shape, kind, value.tobytes()) if value.size <= _MOST_ELEMENTS else None
    if isinstance(value, bool | int | float | str):
        return type(value), str(value)
    if isinstance(value, list | tuple) and 0 < len(value) <= _MOST_ELEMENTS:
        kinds = {type(v) for v in value}
        if len(kinds) == 1 and kinds <= {bool, int, float}:
            return (kinds.pop(), str(list(value)))
    return None
