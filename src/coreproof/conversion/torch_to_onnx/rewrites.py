"""The rewrites that the exporter applies to what it wrote: exact in their constants, and tried where they can apply."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol
from unittest.mock import patch


class _Operator(Protocol):
    """What a pattern says of an operator's name: equal to one, or beginning with one."""

    def matches(self, name: str) -> bool: ...


class _Node(Protocol):
    """A node of a pattern."""

    op: _Operator


class _Pattern(Protocol):
    """What a rule looks for, from the nodes on that give its outputs."""

    output_nodes: Sequence[_Node]


class _Written(Protocol):
    """A node of the graph."""

    op_type: str


@contextmanager
def exact_rewrites() -> Iterator[None]:
    """Within it, onnxscript's rewrites take nothing but zero for zero, and are tried only at nodes that they can begin at.

    They compare constants with an absolute tolerance of 1e-8, and so drop ``x + 1e-12``: the epsilon of a norm that is
    written out. The model then divides by zero where it did not.

    Each of their 50 rules is tried at each node, and those of several outputs gather the whole graph anew each time, only to find
    that the node is another operator than the rule begins with: a third of what the export of a hundred nodes takes, and more of
    longer ones, as it grows with their square.
    """
    from onnxscript.rewriter import _pattern_ir, _rewrite_rule  # noqa: PLC2701 - they have no public name

    constant, tolerance = _pattern_ir.Constant, "_abs_tol"
    exact = property(lambda _: 0.0, lambda self, given: self.__dict__.update({tolerance: given}))
    tried = _rewrite_rule.RewriteRule.try_rewrite

    def try_rewrite(rule: object, model: object, graph: object, node: _Written, **named: object) -> object:
        pattern: _Pattern | None = getattr(rule, "_target_pattern", None)
        if pattern is not None and pattern.output_nodes and not pattern.output_nodes[0].op.matches(node.op_type):
            return None
        found: object = tried(rule, model, graph, node, **named)
        return found

    with (
        patch.object(constant, tolerance, exact, create=True),
        patch.object(_rewrite_rule.RewriteRule, "try_rewrite", try_rewrite),
    ):
        yield
