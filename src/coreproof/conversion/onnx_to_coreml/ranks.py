"""Core ML's tensors have five dimensions at most; what goes through more on its way is rewritten, or refused."""

from __future__ import annotations

from collections.abc import Iterator

from coreproof.conversion.onnx_to_coreml.high_rank_rules import rewritten
from coreproof.conversion.onnx_to_coreml.high_ranks import HIGHEST_RANK, CannotFoldError, Folder, is_tensor
from coreproof.conversion.onnx_to_coreml.mil import Block, Operation, Program, Var
from coreproof.errors import ConversionError


def limit_rank(program: Program, source: str, named: set[int]) -> list[Operation]:
    """Folds what goes through six dimensions and more into operations that Core ML takes.

    ::

        before:  a = reshape(x, [d1 ... d6])    b = transpose(a, perm)    c = reshape(b, shape of rank 5 or less)
        after:   the same elements through reshapes and transposes of rank 4

    Windowed attention (Swin, MaxViT) cuts its windows like that: such chains are rewritten by coremltools' own pass
    (expand_high_rank_reshape_and_transpose), everything else operation by operation (``high_ranks``). ``named`` holds the
    ``id`` of every variable that was named on purpose. The result has to be kept as long as those ids are used. Raises
    ConversionError, which names every operation that still has more dimensions.
    """
    if not _too_high(program):
        return []
    from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY

    # it needs the reshape, the transpose and the reshape directly behind each other, and is exact then
    PASS_REGISTRY["common::expand_high_rank_reshape_and_transpose"].apply(program)
    if not _too_high(program):
        return []
    left, removed = _fold_high_ranks(program, named)
    left = left or _too_high(program)
    if left:
        ranks = [max((o.rank for o in op.outputs if is_tensor(o)), default=0) for op in left]
        raise ConversionError(
            f"{len(left)} operation(s) have more dimensions than Core ML has",
            where=source,
            expected=f"at most {HIGHEST_RANK} dimensions",
            found="; ".join(
                f"{op.op_type} {op.name!r} with {rank}" for op, rank in zip(left[:10], ranks, strict=False)
            ),
            fix="reshape the value to fewer dimensions before and after",
        )
    return removed


def _fold_high_ranks(program: Program, named: set[int]) -> tuple[list[Operation], list[Operation]]:
    """Rewrites a program; the operations that are still too high, and those that were taken out (to be kept alive meanwhile).

    ``named`` holds the ``id`` of every variable that was named on purpose; what takes its place bears the name, and its id is
    added.
    """
    from coremltools.converters.mil import Builder

    folder, left, removed = Folder(Builder), list[Operation](), list[Operation]()
    for function in program.functions.values():
        _fold_block(function, folder, named, left, removed)
    return left, removed


def _fold_block(block: Block, folder: Folder, named: set[int], left: list[Operation], removed: list[Operation]) -> None:
    from coremltools.converters.mil import Builder

    own: list[Operation] = []
    with block:
        for operation in list(block.operations):
            for nested in operation.blocks:
                with folder.within():
                    _fold_block(nested, folder, named, left, removed)
            if operation.op_type == "const" or not folder.touches(operation):
                continue
            try:
                with Builder.set_before_op(operation):
                    results = rewritten(folder, operation)
            except CannotFoldError:
                left.append(operation)
                continue
            own.append(operation)
            for old, new in zip(operation.outputs, results, strict=True):
                if new is not None:
                    _put_in_place(block, operation, old, new, named)
        left += [v.op for v in block.outputs if is_tensor(v) and v.rank > HIGHEST_RANK]
        if not left:
            # last readers first: an operation that is still read cannot be taken out
            constants = [op for op in block.operations if op.op_type == "const" and op.outputs[0].rank > HIGHEST_RANK]
            for operation in (*reversed(own), *constants):
                block.remove_ops([operation])
    removed += own


def _put_in_place(block: Block, operation: Operation, old: Var, new: Var, named: set[int]) -> None:
    block.replace_uses_of_var_after_op(
        anchor_op=operation, old_var=old, new_var=new, no_check_var_types=True, force_replace=True
    )
    name = old.name
    # two values of one name would be separated later, and the wrong one would keep it
    old.name = f"{name}_unfolded"
    new.name = name
    if len(new.op.outputs) == 1:
        new.op.name = name
    if id(old) in named:
        named.add(id(new))


def _too_high(program: Program) -> list[Operation]:
    return [
        operation
        for function in program.functions.values()
        for operation in _all_operations(function)
        # a constant of more dimensions is folded where it is read
        if operation.op_type != "const" and any(o.rank > HIGHEST_RANK for o in operation.outputs if is_tensor(o))
    ]


def _all_operations(block: Block) -> Iterator[Operation]:
    for operation in block.operations:
        yield operation
        for nested in operation.blocks:
            yield from _all_operations(nested)
