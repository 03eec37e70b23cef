"""Free lengths by the names that ONNX has for them: what bears one name is one length, wherever it stands in the graph.

MIL's own inference gives a new symbol to whatever it cannot follow (the end of a slice, a range, a reshape by computed lengths),
so that two lengths that are equal by construction look different. Exporters write down what they know: dimensions are named,
or are expressions of names (``sequence + 5``), and the standard says that equal names are equal lengths (IR.md, "Tensor Shapes").
"""

from __future__ import annotations

import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.mil import Var


class Lengths:
    """The symbol of each name, and the names of a program's values put into their types."""

    def __init__(self) -> None:
        self._symbols: dict[str, object] = {}
        self._of_inputs: set[str] = set()

    def of_input(self, name: str | None) -> object:
        """The symbol of an input's free length: of one name always the same."""
        from coremltools.converters.mil.mil import get_new_symbol

        symbol = get_new_symbol() if name is None else self._symbols.setdefault(name, get_new_symbol())
        self._of_inputs.add(str(symbol))
        return symbol

    def settle(self, made: Var, value: ir.Value) -> None:
        """Gives the free lengths of ``made`` the symbols that the names of ``value``'s dimensions have, or notes theirs.

        What an input's own length is, stays: a file that calls two inputs' lengths by one name elsewhere is not believed.
        """
        names = dimension_names(value)
        if names is None or made.shape is None or len(names) != len(made.shape):
            return
        lengths = list(made.shape)
        for axis, (length, name) in enumerate(zip(lengths, names, strict=True)):
            if name is None or isinstance(length, int) or str(length).startswith("*"):
                continue
            known = self._symbols.setdefault(name, length)
            if str(known) != str(length) and str(length) not in self._of_inputs:
                lengths[axis] = known
        if any(a is not b for a, b in zip(lengths, made.shape, strict=True)):
            from coremltools.converters.mil.mil import types

            made._sym_type = types.tensor(made.dtype, tuple(lengths))  # noqa: SLF001 - there is no public way


def dimension_names(value: ir.Value) -> list[str | None] | None:
    """The names of a value's dimensions, None for those that have none; None where nothing says how many there are."""
    if value.shape is None:
        return None
    return [str(d.value) if isinstance(d, ir.SymbolicDim) and d.value else None for d in value.shape]
