"""The program inside a .pt2, which is JSON: judged before PyTorch makes Python code of it.

PyTorch resolves an operator's name by ``getattr`` from ``torch`` (so ``torch.os.system`` is an operator too), writes the names
of values, arguments and weights into Python source that it runs, imports what a container's type names, and evaluates
expressions and guards. So names must be names, operators those of PyTorch's own operator libraries, containers the plain
ones, and expressions those of ``expression``. What only informs (guards, notes of passes) is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

from coreproof.model.torch.expression import ExpressionError, check_expression

NODES = 20_000
"""Operators and values of a program; each takes PyTorch up to a millisecond."""
EXPRESSIONS = 5_000
_WHOLE = 2**63
_BITS = 4_096
"""Of a size while it is computed: squared again and again, a whole number fills any memory."""
_NESTED = 20
_NAMED = 1_000
_COUNTED = 100_000
"""PyTorch counts up to the number in a symbol's name."""

_PYTHON = frozenset(
    (
        *(
            f"_operator.{n}"
            for n in ("eq", "ne", "le", "ge", "lt", "gt", "neg", "pos", "mul", "add", "sub", "floordiv")
        ),
        *(f"_operator.{n}" for n in ("mod", "pow", "truediv", "and_", "or_")),
        *(f"torch.sym_{n}" for n in ("not", "int", "float", "ite", "max", "min", "sqrt")),
        *(f"math.{n}" for n in ("trunc", "floor", "ceil")),
    )
)
"""What computes sizes: Python's own functions, on numbers alone."""
_NESTING = frozenset(("cond", "map_impl", "scan", "wrap_with_set_grad_enabled", "wrap_with_autocast"))
"""Operators that take graphs and end by themselves."""
_LIBRARIES = frozenset(("aten", "prims", "torchvision", "quantized_decomposed"))
_REFUSED = frozenset(("aten.from_file", "aten.save", "aten._print", "aten.warn"))
"""They read, write or print; what else takes a ``filename`` is refused with them."""
_OPERATOR = re.compile(r"torch\.ops\.([a-z_0-9]+)\.(\w+)\.(\w+)", re.ASCII)
_PATH = re.compile(r"[\w\-/:@+ ]+(\.[\w\-/:@+ ]+)*")
_CONTAINERS = frozenset(
    (
        "builtins.tuple",
        "builtins.list",
        "builtins.dict",
        "collections.OrderedDict",
        "torch.fx.immutable_collections.immutable_list",
        "torch.fx.immutable_collections.immutable_dict",
    )
)
_KEPT_NOTES = ("stack_trace", "nn_module_stack", "torch_fn")
_VALUES = ("tensor_values", "sym_int_values", "sym_bool_values", "sym_float_values")
_BY_NAME = (*_VALUES, "as_string_to_argument", "custom_obj_values", "range_constraints", "opset_version", "config")
_PATHS = ("fqn", "parameter_name", "buffer_name", "tensor_constant_name", "user_input_name")
_NUMBERS = frozenset(("as_int", "as_float", "as_bool", "as_sym_int", "as_sym_float", "as_sym_bool"))


class TooMany(str):
    """What is wrong with a program that asks for nothing but data, and for more of it than is read from strangers."""


def judge(document: object) -> Iterator[str]:
    """What in a program (or in the list of its weights) is not accepted, in words; the document is made safe in place.

    Nothing comes out for a program as ``torch.export.save`` writes it. What only informs is taken out of ``document``.
    """
    expressions: dict[str, str | None] = {}
    counted = 0
    # what comes from outside a graph is a 64-bit number
    yield from _growing(document, 64, _NESTED)
    waiting: list[object] = [document]
    while waiting:
        each = waiting.pop()
        if isinstance(each, list):
            waiting += each
        elif isinstance(each, dict):
            # nodes have a target, values a dtype
            counted += "target" in each or "dtype" in each
            if counted > NODES:
                yield TooMany(f"more than {NODES:,} operators and values")
                return
            yield from _table(each, expressions)
            # the keys of these tables are names, and none of the schema
            waiting += [list(v.values()) if k in _BY_NAME and isinstance(v, dict) else v for k, v in each.items()]
            if len(expressions) > EXPRESSIONS:
                yield TooMany(f"more than {EXPRESSIONS:,} different expressions")
                return
        elif isinstance(each, int) and not -_WHOLE <= each < _WHOLE:
            yield "a whole number of more than 64 bits"


def _table(table: dict[str, object], expressions: dict[str, str | None]) -> Iterator[str]:
    if isinstance(table.get("target"), str):
        yield from _node(table)
    for key in list(table):
        if key in _LESSENED:
            table[key] = _LESSENED[key](table[key])
        elif key == "metadata" and "target" not in table:  # that of a node keeps what is told of it: see _node
            table[key] = {}
        elif key in _JUDGES:
            yield from _JUDGES[key](table[key], key)
        elif key == "expr_str":
            text = str(table[key])
            if text not in expressions:
                expressions[text] = _why_not(table[key])
                if expressions[text] is not None:
                    yield str(expressions[text])


def _why_not(expression: object) -> str | None:
    try:
        check_expression(expression)
    except ExpressionError as error:
        return f"{error} (in {str(expression)[:80]!r})"
    return None


def _node(node: dict[str, object]) -> Iterator[str]:
    target = node["target"]
    yield from operator_problems(target)
    notes = node.get("metadata")
    if isinstance(notes, dict):
        node["metadata"] = {key: _printable(notes[key]) for key in _KEPT_NOTES if isinstance(notes.get(key), str)}
    if target in _PYTHON:
        kinds = {kind for given in _arguments(node) for kind in given}
        if not kinds <= _NUMBERS:
            yield f"{target} of {', '.join(sorted(kinds - _NUMBERS))}"


def operator_problems(target: object) -> Iterator[str]:
    """Why an operator is not accepted: it is none of PyTorch's own, or it is known to read or write files."""
    if not isinstance(target, str):
        yield "an operator without a name"
        return
    if target in _PYTHON or target.removeprefix("torch.ops.higher_order.") in _NESTING:
        return
    match = _OPERATOR.fullmatch(target)
    if match is None or match[1] not in _LIBRARIES:
        yield f"the operator {target[:100]!r}"
        return
    import torch

    name = f"{match[1]}.{match[2]}"
    found = getattr(getattr(getattr(torch.ops, match[1]), match[2], None), match[3], None)
    if name in _REFUSED or not isinstance(found, torch._ops.OpOverload) or str(found) != f"{name}.{match[3]}":
        yield f"the operator {target[:100]!r}"
        return
    if any("file" in argument.name for argument in found._schema.arguments):
        yield f"the operator {target[:100]!r}, which opens files"


def _growing(thing: object, unknown: int, depth: int) -> Iterator[str]:
    """Sizes that are computed from sizes, each time longer; ``unknown`` are the bits of what comes from outside a graph."""
    graph = thing.get("graph_module") if isinstance(thing, dict) else None
    graph = graph if isinstance(graph, dict) else thing
    graph = graph.get("graph") if isinstance(graph, dict) else None
    if not isinstance(graph, dict):
        return
    if depth == 0:
        yield f"graphs nested more than {_NESTED} deep"
        return
    bits: dict[str, int] = {}
    for node in _list(graph.get("nodes")):
        if not isinstance(node, dict):
            continue
        arguments = _arguments(node)
        taken = [_bits(argument, bits, unknown) for argument in arguments]
        for argument in arguments:
            yield from _growing(argument.get("as_graph"), max(taken), depth - 1)
        if node.get("target") not in _PYTHON:
            continue
        long = _result_bits(str(node["target"]), arguments, taken)
        if long > _BITS:
            yield f"{node['target']} with a result of {long:,} bits"
            return
        for made in _list(node.get("outputs")):
            for argument in made.values() if isinstance(made, dict) else ():
                if isinstance(argument, dict) and isinstance(name := argument.get("as_name"), str):
                    bits[name] = long


def _result_bits(target: str, arguments: list[dict[str, object]], taken: list[int]) -> int:
    if target == "_operator.mul":
        return sum(taken)
    if target == "_operator.pow":
        exponent = arguments[1].get("as_int") if len(arguments) > 1 else None
        # b bits to the power of e have up to b * e bits; without a stated exponent there is no bound
        return taken[0] * abs(exponent) if isinstance(exponent, int) else _BITS + 1
    # a sum of two has at most one bit more than the longer one
    return max(taken, default=0) + 1


def _arguments(node: dict[str, object]) -> list[dict[str, object]]:
    given = [entry.get("arg") for entry in _list(node.get("inputs")) if isinstance(entry, dict)]
    return [argument for argument in given if isinstance(argument, dict)]


def _bits(argument: dict[str, object], known: dict[str, int], unknown: int) -> int:
    """Of a number, or of the longest of several."""
    named = [given for each in argument.values() for given in (each if isinstance(each, list) else [each])]
    names = [given["as_name"] for given in named if isinstance(given, dict) and isinstance(given.get("as_name"), str)]
    return max((known.get(name, unknown) for name in names), default=64)


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _printable(text: str) -> str:
    """Notes end up in comments of Python source: no character of theirs ends a line but the newline that PyTorch expects."""
    return "".join(c for c in text if c == "\n" or c.isprintable())


# one judge a key


def _identifier(name: object, _: str) -> Iterator[str]:
    if not _is_name(name):
        yield f"the name {str(name)[:80]!r}"


def _is_name(value: object) -> bool:
    return value in (None, "") or (isinstance(value, str) and value.isidentifier() and len(value) <= _NAMED)


def _values(values: object, key: str) -> Iterator[str]:
    """Their names are keys, and no key of the schema: the walk goes on with a list of what they name."""
    if not isinstance(values, dict):
        yield f"{key} that is no table"
        return
    yield from (f"the name {name[:80]!r}" for name in values if not _is_name(name))


def _path(path: object, _: str) -> Iterator[str]:
    if not is_attribute_path(path):
        yield f"the path {str(path)[:80]!r}"


def is_attribute_path(value: object) -> bool:
    """Whether ``value`` names a weight as a module does ("layers.0.weight"), or is empty, which is the module itself."""
    if not isinstance(value, str):
        return value is None
    parts = value.split(".")
    return value == "" or (
        len(value) <= _NAMED and _PATH.fullmatch(value) is not None and not any(p.startswith("__") for p in parts)
    )


def _argument_names(names: object, _: str) -> Iterator[str]:
    if names is not None and not (isinstance(names, list) and all(_is_name(n) and n for n in names)):
        yield f"argument names {str(names)[:80]}"


def _container(described: object, key: str) -> Iterator[str]:
    try:
        protocol, spec = json.loads(described if isinstance(described, str) else "")
    except (TypeError, ValueError, RecursionError):
        yield f"{key} that describes no container"
        return
    waiting, problems = [(spec, 0)], 0
    while waiting and problems < 5:
        each, depth = waiting.pop()
        children = each.get("children_spec") if isinstance(each, dict) else None
        # torch.utils._pytree writes protocol 1 so far
        if protocol != 1 or not isinstance(children, list) or depth > 50:
            yield f"{key} that describes no container"
            return
        kind, context = each.get("type"), each.get("context")
        if kind is None and context is None and not children:
            continue
        if kind not in _CONTAINERS:
            problems += 1
            yield f"a container of type {str(kind)[:80]!r}"
        elif not _plain_keys(context):
            problems += 1
            yield f"a container with keys {str(context)[:80]}"
        waiting += [(child, depth + 1) for child in children]


def _plain_keys(context: object) -> bool:
    try:
        keys = json.loads(context) if isinstance(context, str) else context
    except (ValueError, RecursionError):
        return False
    return keys is None or (
        isinstance(keys, list)
        and all(isinstance(k, int) or (isinstance(k, str) and is_attribute_path(k)) for k in keys)
    )


def _ranges(ranges: object, _: str) -> Iterator[str]:
    for symbol in ranges if isinstance(ranges, dict) else ():
        number = re.fullmatch(r"[A-Za-z_]+(\d*)", symbol, re.ASCII)
        # twenty digits say enough, and a longer text is slow to convert
        if number is None or int(number[1][:20] or 0) > _COUNTED:
            yield f"the symbol {symbol[:80]!r}"


def _script_object(held: object, _: str) -> Iterator[str]:
    if held:
        yield "a script object, which is restored by code"


def _string_keys(names: object, _: str) -> Iterator[str]:
    yield from (
        f"the name {str(n)[:80]!r}"
        for n in (names if isinstance(names, dict | list) else ())
        if not is_attribute_path(n)
    )


_LESSENED: dict[str, Callable[[object], object]] = {
    "guards_code": lambda _: [],
    "treespec_namedtuple_fields": lambda _: {},
    "verifiers": lambda named: [verifier for verifier in _list(named) if verifier in ("ATEN", "TRAINING")],
}
"""What only informs, or would have code looked up by its name -> what is left of it."""
_JUDGES: dict[str, Callable[[object, str], Iterator[str]]] = {
    **dict.fromkeys(("name", "as_name"), _identifier),
    **dict.fromkeys(_VALUES, _values),
    **dict.fromkeys(_PATHS, _path),
    **dict.fromkeys(("custom_obj", "as_custom_obj", "custom_obj_values"), _script_object),
    **dict.fromkeys(("in_spec", "out_spec"), _container),
    "forward_arg_names": _argument_names,
    "as_operator": lambda named, _: operator_problems(named),
    "as_string_to_argument": _string_keys,
    "range_constraints": _ranges,
}
