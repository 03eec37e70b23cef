"""Lines that only check or report: an ``assert``, an ``if`` that only raises, a ``print``. No number hangs on them.

So does a line that only gives a name to what such lines read.
"""

from __future__ import annotations

import ast
import linecache
import sys
import traceback
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from itertools import chain
from types import FunctionType
from typing import TYPE_CHECKING

from coreproof.model.torch.user_code import is_foreign

if TYPE_CHECKING:
    import torch

_REPORTS = frozenset(("debug", "info", "warning", "warn", "error", "critical", "exception", "log"))
"""Methods of a logger, and of ``warnings``."""
_PURE = frozenset(
    ("float", "int", "bool", "round", "abs", "min", "max", "sum", "len", "str", "list", "tuple", "all", "any")
)
_READS = frozenset(
    (
        *("item", "tolist", "numpy", "detach", "cpu", "float", "double", "long", "int", "bool", "size", "dim", "numel"),
        *(
            "max",
            "min",
            "amax",
            "amin",
            "argmax",
            "argmin",
            "abs",
            "sum",
            "mean",
            "std",
            "norm",
            "all",
            "any",
            "unique",
        ),
        *("isnan", "isinf", "isfinite", "nonzero", "eq", "ne", "lt", "le", "gt", "ge", "flatten", "reshape", "view"),
    )
)
"""Functions of Python's, and methods of a tensor or an array, that change nothing."""


def running_check(within: str) -> bool:
    """Whether the user's innermost line that is running now only checks or reports.

    ``within`` is the function of ours that called the user's code: what stands around that is not asked.
    """
    paths = list(_running(within))
    # a try around it, here or where it was called from, may make a way of what is raised
    return bool(paths) and all(paths) and _checks(paths[0]) and not any(map(_catches, chain(*paths)))


def running_caught(within: str) -> bool:
    """Whether what is raised now may be caught by the user's own code, as in ``running_check``."""
    return any(map(_catches, chain(*_running(within))))


def _running(within: str) -> Iterator[list[ast.stmt]]:
    """For each of the user's functions that are running, innermost first, the statements around its line."""
    for frame, line in traceback.walk_stack(sys._getframe(1)):
        if frame.f_code.co_name == within:
            return
        if not is_foreign(frame.f_code.co_filename):
            yield _statements_at(frame.f_code.co_filename, line, frame.f_globals)


def only_checks(name: str, line: int, known: Mapping[str, object] | None = None) -> bool:
    """Whether the statement at a line of a file only checks or reports, and what it raises goes all the way out."""
    path = _statements_at(name, line, known)
    return bool(path) and _checks(path) and not any(map(_catches, path))


def user_line() -> tuple[str, int] | None:
    """The file and the line of the user's innermost code that is running now."""
    lines = traceback.walk_stack(sys._getframe(1))
    return next(((f.f_code.co_filename, n) for f, n in lines if not is_foreign(f.f_code.co_filename)), None)


def checks_data(at: tuple[str, int], read: Collection[tuple[str, int]]) -> bool:
    """Whether a line reads what was taken out of data: at one of the ``read`` lines, under a name, and what is made of that."""
    path = _statements_at(*at, None)
    if at in read or not path:
        return at in read
    function = next((s for s in reversed(path) if isinstance(s, ast.FunctionDef | ast.AsyncFunctionDef)), path[0])
    given = [s for s in ast.walk(function) if isinstance(s, ast.Assign | ast.AnnAssign)]
    names: set[str] = set()
    for _ in given:  # as often as one name may be made of another
        before = len(names)
        for statement in given:
            taken = any(f == at[0] and statement.lineno <= n <= (statement.end_lineno or 0) for f, n in read)
            if statement.value is not None and (taken or _loads(statement.value, names)):
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                names |= {t.id for each in targets for t in _targets(each) if isinstance(t, ast.Name)}
        if len(names) == before:
            break
    return _loads(path[-1], names)


def _loads(node: ast.AST, names: set[str]) -> bool:
    return any(isinstance(n, ast.Name) and n.id in names and isinstance(n.ctx, ast.Load) for n in ast.walk(node))


def names_checks(module: torch.nn.Module) -> bool:
    """Whether the code of a module's parts names one of PyTorch's own checks."""
    classes = {c for part in module.modules() for c in type(part).__mro__ if not is_foreign(_file_of(c))}
    codes = [f.__code__ for c in classes for f in vars(c).values() if isinstance(f, FunctionType)]
    return any(name.startswith(PYTORCHS) for code in codes for name in code.co_names)


def _file_of(made: type) -> str:
    return str(getattr(sys.modules.get(made.__module__), "__file__", "") or "")


PYTORCHS = ("_check", "_assert")
"""How PyTorch's own checks begin."""


def _statements_at(name: str, line: int, known: Mapping[str, object] | None) -> list[ast.stmt]:
    """The statements around a line, outermost first; of several that begin on it the outermost is the last."""
    source = "".join(linecache.getlines(name, dict(known) if known is not None else None))
    path: list[ast.stmt] = []
    inside: ast.AST | None = _parsed(source)
    while inside is not None:
        found = next((s for s in _children(inside) if s.lineno <= line <= (s.end_lineno or s.lineno)), None)
        if found is None or (path and found.lineno == path[-1].lineno):
            break
        path.append(found)
        inside = found
    return path


@lru_cache(maxsize=32)
def _parsed(source: str) -> ast.Module | None:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError):  # a cell of a notebook, with commands of its own
        return None


def _children(node: ast.AST) -> list[ast.stmt]:
    inner: list[ast.stmt] = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            inner.append(child)
        elif isinstance(child, ast.ExceptHandler | ast.match_case):
            inner += child.body
    return inner


def _catches(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.With):
        return any("suppress" in ast.unparse(item.context_expr) for item in statement.items)
    return isinstance(statement, ast.Try | ast.TryStar) and bool(statement.handlers)


def _checks(path: list[ast.stmt]) -> bool:
    """Whether the last of these statements only checks, or names what only checks read."""
    functions = [each for each in path if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
    return _is_check(path[-1]) or (bool(functions) and _is_for_checks(path[-1], functions[-1], ()))


def _is_for_checks(statement: ast.stmt, function: ast.stmt, before: tuple[ast.stmt, ...]) -> bool:
    """Whether a statement only gives names to values, and all that a function does with these names is to check or report."""
    if not isinstance(statement, ast.Assign) or statement in before or not _only_reads(statement.value):
        return False
    named = [each for target in statement.targets for each in _targets(target)]
    names = {each.id for each in named if isinstance(each, ast.Name)}
    return len(names) == len(named) and _all_for_checks(function, names, function, (*before, statement))


def _targets(target: ast.expr) -> list[ast.expr]:
    return [one for each in target.elts for one in _targets(each)] if isinstance(target, ast.Tuple) else [target]


def _all_for_checks(around: ast.stmt, names: set[str], function: ast.stmt, before: tuple[ast.stmt, ...]) -> bool:
    """Whether the statements within one read these names in checks alone."""
    for statement in _children(around):
        # what a check raises decides something where it is caught
        if _catches(statement) and any(_reads(node, names, statement) for node in ast.walk(statement)):
            return False
        if _is_check(statement):
            continue
        read = any(_reads(node, names, statement) for node in (statement, *_own(statement)))
        if read and not _is_for_checks(statement, function, before):
            return False
        if not _all_for_checks(statement, names, function, before):
            return False
    return True


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """All that a statement holds besides other statements."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.stmt):
            yield child
            yield from _own(child)


def _reads(node: ast.AST, names: set[str], statement: ast.stmt) -> bool:
    """Whether a part of a statement reads one of these names, or lets others do so."""
    if isinstance(node, ast.Global | ast.Nonlocal):
        return not names.isdisjoint(node.names)
    stored = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and not isinstance(statement, ast.AugAssign)
    return isinstance(node, ast.Name) and node.id in names and not stored


def _only_reads(value: ast.expr) -> bool:
    """Whether an expression changes nothing: its calls are those of a tensor's methods, and Python's own functions."""
    return not any(
        isinstance(node, ast.NamedExpr | ast.Await | ast.Yield | ast.YieldFrom | ast.Lambda)
        or (isinstance(node, ast.Call) and not _is_reading(node))
        for node in ast.walk(value)
    )


def _is_reading(call: ast.Call) -> bool:
    if isinstance(call.func, ast.Name):
        return call.func.id in _PURE
    method = isinstance(call.func, ast.Attribute) and call.func.attr in _READS
    # a module's own method of that name may keep what it is given
    return method and not any(isinstance(node, ast.Name) and node.id == "self" for node in ast.walk(call.func))


def _is_check(statement: ast.stmt) -> bool:
    read = statement.test if isinstance(statement, ast.If | ast.Assert) else statement
    if any(isinstance(node, ast.NamedExpr) for node in ast.walk(read)):
        return False
    match statement:
        case ast.Assert():
            return True
        case ast.If(body=body, orelse=[]):
            return all(isinstance(each, ast.Raise | ast.Pass) or _is_check(each) for each in body)
        case ast.Expr(value=ast.Call(func=function)):
            return _reports(function)
    return False


def _reports(function: ast.expr) -> bool:
    match function:
        case ast.Name(id=name):
            return name == "print"
        case ast.Attribute(value=ast.Name(id="torch"), attr=name):
            return name == "_assert" or name.startswith("_check")
        case ast.Attribute(value=owner, attr=name):
            return name in _REPORTS and ("log" in (of := ast.unparse(owner).lower()) or of == "warnings")
    return False
