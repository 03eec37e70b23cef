"""Registry: which handler lowers which operator of one format, and what is true of each operator, said where it is registered.

All three formats that are lowered use it (``coreproof.conversion.operators``)::

    @lowers("relu", exact=True, commutes=True, error="move")
    def relu(low: Lowering, *, x: Operand) -> ir.Value:
        return low.op("Relu", x)

Whoever has to know something about an operator (rounding, verification, editing, the documentation) asks here, and keeps
no list of names.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import threading
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar, Unpack

ErrorClass = Literal["move", "linear", "average", "norm", "add", "bounded", "exponential", "elementwise"]
"""How an operator passes an error on.

- "move": values are moved or chosen among, nothing is computed (reshape, concat, relu, max pooling);
- "linear": sums of products with weights or between values (convolution, matrix product);
- "average": sums over many values (mean, average pooling);
- "norm": centring and division by a deviation (batch, layer, instance normalisation);
- "add": sum or difference, where scales can cancel;
- "bounded": slopes of 1/4 at most (sigmoid, hard-sigmoid);
- "exponential": the absolute error becomes a relative one (exp, softmax);
- "elementwise": everything else: products, quotients, and what passes through zero like them (tanh, gelu, silu).
"""


class Meaning(TypedDict, total=False):
    """What is true of an operation in whatever format it is spelled: said once, at the handler of one of them."""

    error: ErrorClass
    """How it passes an error on; "elementwise" where nothing is said."""
    word: str
    """The one word for the same operation in every format ("conv", "linear"); its own name where nothing is said."""
    steps: bool
    """Its results are whole numbers of steps: what arrives within its error of an edge is a step off."""
    flattens: bool
    """Far from zero it is flat, or hands on what it reads with a slope near 1 (softplus, gelu, tanh, the sum of exponentials)."""
    interpolates: bool
    """Its results lie between neighbours, at places that it computes."""
    compares: bool
    """It says how two numbers stand to each other."""
    indices: int
    """Which of its outputs holds indices into its first operand."""
    random: bool
    """Its result depends on chance."""
    keeps_order: bool
    """Its result holds the elements of its operand in the same order."""
    channelwise: bool
    """Each channel of its result is made of the same channel of its one operand."""
    hands_on: Literal["whole", "reshaped", "part"]
    """It computes no number, and hands on what it reads.

    The operand as it is, in another dtype at most ("whole"); all of its numbers in another shape or order, once or several times
    ("reshaped"); or some of them, beside those of others, or with another sign ("part").
    """
    truths: bool
    """Its results are true or false."""
    positions: bool
    """Its results are positions or lengths, which memory bounds."""


class Traits(Meaning, total=False):
    """What may be said of an operator where it is registered. What is not said is not so."""

    exact: bool
    """Float16 operands give a float16 result: there is nothing to round."""
    commutes: bool
    """It may be done before the rounding of its input x instead of after it.

    It never turns an order around, and what it cuts at is a float16 number itself, so that round(f(x)) = f(round(x)).
    """
    passes_on: bool
    """It computes nothing: it hands on what it gets, in the width in which it gets it."""
    weights_may_vary: bool
    """It is lowered alike whether its weights are known now or at run time."""
    effects: bool
    """It does something besides making its outputs, so that it is wanted even where nobody reads them."""
    wide: tuple[str, ...]
    """Parameters that are float32 in a float16 program too."""
    variadic: str
    """The parameter that takes any number of values."""
    tuples: tuple[str, ...]
    """Other parameters that are bound to several constants."""
    places: tuple[int, ...]
    """Which of its operands, by their order, are positions, lengths or shapes."""
    sequences: bool
    """It takes or gives sequences of tensors."""
    in_float32: bool
    """On its way to Core AI it becomes several operations: in float32, so that it is rounded once, as the one is."""
    complex_numbers: bool
    """It is lowered for complex numbers, which are pairs along a last axis."""
    guards: bool
    """A small constant among its operands guards against zero, or tells it apart, and is no factor and no weight."""


_MEANINGS: dict[str, Meaning] = {}
"""By the plain name, over all formats."""


@lru_cache(4096)
def normalise_op_name(operator: str) -> str:
    """``aten.batch_norm.default``, ``BatchNormalization`` and ``batch_norm`` without their house's spelling."""
    base = operator.removeprefix("aten.").split(".", 1)[0]
    name = re.sub(r"[^a-z0-9]", "", base.lower()).removesuffix("layer")
    # a NeuralNetwork has "addBroadcastable" where others have "add"
    return name.removesuffix("broadcastable") or name


def meaning(operator: str) -> Meaning:
    """What is said of the operation of this name, in any format (``operators.meaning`` asks all of them).

    What is said later stands in it as well: whoever keeps it need not ask again.
    """
    return _MEANINGS.setdefault(normalise_op_name(operator), Meaning())


Handler: TypeAlias = Callable[..., Any]
"""What it takes and makes is the format's own matter."""

AnyHandler = TypeVar("AnyHandler", bound=Handler)


def registers(table: dict[str, AnyHandler]) -> Callable[..., Callable[[AnyHandler], AnyHandler]]:
    """Makes the decorator that puts a function into ``table``, under each of the names that it is given."""

    def under(*names: str) -> Callable[[AnyHandler], AnyHandler]:
        def keep(handler: AnyHandler) -> AnyHandler:
            table.update(dict.fromkeys(names, handler))
            return handler

        return keep

    return under


class Registry:
    """The handlers of one format's operators.

    The modules of ``packages`` register them when they are imported, at the first question.

    An operator may have a handler for each version of its format in which it took another form; ``first`` is the version from
    which one holds that says nothing.
    """

    def __init__(self, name: str, *packages: str, first: int = 1) -> None:
        self.name = name
        self._packages = packages
        self._first = first
        self._handlers: dict[str, dict[int, Handler]] = {}
        self._traits: dict[str, Traits] = {}
        self._lock = threading.RLock()
        self._state: Literal["empty", "loading", "full"] = "empty"

    # registering

    def lowers(
        self, *operators: str, since: int | str | None = None, domain: str = "", **traits: Unpack[Traits]
    ) -> Callable[[AnyHandler], AnyHandler]:
        """Registers a handler for these operators from version ``since`` on ("iOS17" or a number), and what is true of them.

        Raises ValueError where one has a handler of that version already, or where something else was said of it.
        """
        version = self._first if since is None else int(str(since).removeprefix("iOS"))

        def register(handler: AnyHandler) -> AnyHandler:
            for operator in operators:
                versions = self._handlers.setdefault(_key(operator, domain), {})
                if version in versions:
                    raise ValueError(f"{operator} is lowered twice, since {version}")
                versions[version] = handler
                self.describe(_key(operator, domain), **traits)
            return handler

        return register

    def describe(self, *operators: str, **traits: Unpack[Traits]) -> None:
        """Says what is true of these operators, which need not have a handler."""
        for operator in operators:
            own = self._traits.setdefault(operator, Traits())
            shared = _MEANINGS.setdefault(normalise_op_name(operator.rpartition(":")[2]), Meaning())
            for name, value in traits.items():
                said = shared if name in Meaning.__annotations__ else own
                if said.setdefault(name, value) != value:  # type: ignore[misc]
                    raise ValueError(f"{operator}: {name} is said to be {said[name]!r} and {value!r}")  # type: ignore[literal-required]

    def load(self) -> None:
        """Imports the modules that register; questions do it by themselves."""
        if self._state == "full":
            return
        with self._lock:
            if self._state != "empty":  # a module that is being imported asks for what is registered so far
                return
            self._state = "loading"
            for package in self._packages:
                for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
                    importlib.import_module(f"{package}.{module.name}")
            self._state = "full"

    # asking

    def find(self, operator: str, version: int | None = None, domain: str = "") -> Handler | None:
        """The newest handler that holds in ``version`` (in the newest one where None); None where there is none."""
        usable = [v for v in self.versions(operator, domain) if version is None or v <= max(version, self._first)]
        return self._handlers[_key(operator, domain)][max(usable)] if usable else None

    def __getitem__(self, operator: str) -> Handler:
        """The newest handler. Raises KeyError where there is none."""
        handler = self.find(operator)
        if handler is None:
            raise KeyError(operator)
        return handler

    def versions(self, operator: str, domain: str = "") -> tuple[int, ...]:
        """The versions at which the operator's form changes, beginning with the one that brought it; none: not lowered."""
        self.load()
        return tuple(sorted(self._handlers.get(_key(operator, domain), ())))

    def traits(self, operator: str) -> Traits:
        """What is true of the operator in this format alone."""
        self.load()
        return self._traits.get(operator, Traits())

    def __iter__(self) -> Iterator[str]:
        self.load()
        return iter(sorted(self._handlers))

    def __contains__(self, operator: object) -> bool:
        self.load()
        return operator in self._handlers


def _key(operator: str, domain: str) -> str:
    return f"{domain}:{operator}" if domain not in ("", "ai.onnx") else operator
