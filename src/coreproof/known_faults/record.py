"""KnownFault: one fault of Apple's systems as its public thread tells it; Sighting: where a model has its pattern."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from coreproof.editing.edit import Edit
from coreproof.model.base import Model
from coreproof.model.features import Signature
from coreproof.model.graph import Graph, Node
from coreproof.model.layer_weights import WeightRef, all_weights, layer_weights

Framework = Literal["coreml", "coreai"]
Unit = Literal["Neural Engine", "GPU", "CPU"]
FRAMEWORKS: Mapping[Framework, str] = {"coreml": "Core ML", "coreai": "Core AI"}


@dataclass(frozen=True)
class Sighting:
    """A place that has the pattern of a known fault: the layers of it, the one where it shows first; none for what is declared.

    ``what`` says it in words, with what was found there. ``named`` are the features that are meant where no layer is.
    ``within``: the layers stand in a block of another one, where no edit reaches.
    """

    what: str
    layers: tuple[Node, ...] = ()
    named: tuple[str, ...] = ()
    within: bool = False

    @property
    def place(self) -> str:
        """The layer where it shows, or the feature."""
        return self.layers[0].name if self.layers else ", ".join(self.named)


class Seen:
    """One graph of a model as patterns look at it: the main one with what the model declares, or a nested one.

    ``model`` is None where a graph is looked at by itself.
    """

    def __init__(
        self,
        framework: Framework,
        graph: Graph,
        signature: Signature,
        model: Model | None = None,
        *,
        within: bool = False,
    ) -> None:
        self.framework = framework
        self.graph = graph
        self.signature = signature
        self.within = within
        self._model = model

    def numbers(self, node: Node) -> tuple[float, ...]:
        """The single numbers that a layer computes with and that are stored: 1.0 of ``x + 1``."""
        said = [v for k, v in node.attributes.items() if k in ("x", "y") and isinstance(v, int | float)]
        if said or self._model is None or not any(shape == () for _, shape in node.parameters.values()):
            return tuple(float(value) for value in said)
        held = layer_weights(self._model, node.name).values()
        return tuple(float(array.reshape(())) for array in held if array.shape == ())

    def stored(self, node: Node) -> Mapping[str, tuple[int, ...]]:
        """The lengths of all that a layer stores, by name, also of what it is decompressed from; nothing is read."""
        known = {name: lengths for name, (_, lengths) in node.parameters.items()}
        return {**known, **{name: held.shape for name, held in self._all.get(node.name, {}).items()}}

    @cached_property
    def _all(self) -> Mapping[str, Mapping[str, WeightRef]]:
        return {} if self._model is None else all_weights(self._model)

    def sighted(self, what: str, *layers: Node) -> Sighting:
        """A sighting at these layers of the graph."""
        return Sighting(what, layers, within=self.within)


Finder = Callable[[Seen], Iterator[Sighting]]
Former = Callable[[Model, Sighting], tuple[Edit, ...]]


@dataclass(frozen=True, kw_only=True)
class KnownFault:
    """One publicly known fault.

    ``pattern`` says in words what ``find`` looks for. ``seen`` is what goes wrong, on which ``units``, and ``seen_on`` the
    systems and versions that the thread names. ``since`` is the first iOS of that year's systems (macOS 15 came with iOS 18),
    ``until`` the first one that is known to be free of it; None: nobody has said so in public. ``threads`` are the public
    addresses. ``workaround`` says what to do; ``form`` makes the edits that bring it into the form that is known to be good,
    where there is one: it computes the same.
    """

    id: str
    framework: Framework
    units: tuple[Unit, ...]
    seen: str
    seen_on: str
    since: int
    until: int | None = None
    pattern: str
    threads: tuple[str, ...]
    workaround: str
    find: Finder = field(repr=False)
    form: Former | None = field(default=None, repr=False)

    @property
    def where(self) -> str:
        """The framework, and the units on which it was seen: "Core ML on the GPU"."""
        return f"{FRAMEWORKS[self.framework]} on the {' and the '.join(self.units)}"

    @property
    def cited(self) -> str:
        """The threads as they are called for short: "apple/coremltools#2687"."""
        return ", ".join(_short(thread) for thread in self.threads)

    def concerns(self, min_ios: int) -> bool:
        """Whether some system from ``min_ios`` on may have it: nobody says that systems before ``since`` were free of it."""
        return self.until is None or min_ios < self.until


def _short(thread: str) -> str:
    """A thread's address as GitHub calls it for short."""
    parts = thread.removeprefix("https://github.com/").split("/")
    return f"{parts[0]}/{parts[1]}#{parts[3]}"
