"""Core ML's tensors have five dimensions at most; what goes through more on its way is rewritten, or refused."""

from __future__ import annotations

from collections.abc import Iterator

from coreproof.conversion.onnx_to_coreml.mil import Block, Operation, Program, Var
from coreproof.errors import ConversionError

HIGHEST_RANK = 5


def limit_rank(program: Program, source: str) -> None:
    """Folds reshape -> transpose -> reshape chains of higher rank into ones that Core ML takes.

    ::

        before:  a = reshape(x, [d1 ... d6])    b = transpose(a, perm)    c = reshape(b, shape of rank 5 or less)
        after:   the same elements through reshapes and transposes of rank 4

    Windowed attention (Swin, MaxViT) cuts its windows like that. The rewrite is coremltools' own
    (expand_high_rank_reshape_and_transpose), run only where it is needed. Raises
    ConversionError, which names every operation that still has more dimensions.
    """
    if not _too_high(program):
        return
    from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY

    PASS_REGISTRY["common::expand_high_rank_reshape_and_transpose"].apply(program)
    left = _too_high(program)
    if left:
        raise ConversionError(
            f"{len(left)} operation(s) have more dimensions than Core ML has",
            where=source,
            expected=f"at most {HIGHEST_RANK} dimensions",
            found="; ".join(f"{op.op_type} {op.name!r} with {op.outputs[0].rank}" for op in left[:10]),
            fix="reshape the value to fewer dimensions before and after",
        )


def _too_high(program: Program) -> list[Operation]:
    return [
        operation
        for function in program.functions.values()
        for operation in _all_operations(function)
        if operation.op_type != "const" and any(o.rank > HIGHEST_RANK for o in operation.outputs if _is_tensor(o))
    ]


def _all_operations(block: Block) -> Iterator[Operation]:
    for operation in block.operations:
        yield operation
        for nested in operation.blocks:
            yield from _all_operations(nested)


def _is_tensor(value: Var) -> bool:
    """A list of MIL's has no rank; its elements have."""
    from coremltools.converters.mil.mil import ListVar

    return not isinstance(value, ListVar)
