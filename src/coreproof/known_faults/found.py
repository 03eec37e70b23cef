"""known_faults: which of the publicly known faults a model has the pattern of, and where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from coreproof.editing.edit import Edit
from coreproof.known_faults.catalogue import FAULTS
from coreproof.known_faults.record import Framework, KnownFault, Seen, Sighting
from coreproof.model.base import Model
from coreproof.model.graph import Graph


@dataclass(frozen=True)
class MetFault:
    """A known fault whose pattern a model has, and all places that have it."""

    fault: KnownFault
    sightings: tuple[Sighting, ...]

    @property
    def evidence(self) -> str:
        """Where the pattern is, in words; of many places the first few."""
        told = [f"{sighting.what} at {sighting.place!r}" for sighting in self.sightings[:_TOLD]]
        more = len(self.sightings) - _TOLD
        return "; ".join([*told, *([f"and {more} more"] if more > 0 else [])])

    @property
    def cause(self) -> str:
        """What is known of it: where it was seen, on which systems, and who says so."""
        known = (
            "nobody says in public that it is gone" if self.fault.until is None else f"gone with iOS {self.fault.until}"
        )
        return f"{self.fault.where}: {self.fault.seen} ({self.fault.seen_on}; {known}; {self.fault.cited})"

    def edits(self, model: Model) -> tuple[Edit, ...]:
        """The edits that bring every place into the form that is known to be good; none where one place has no such form."""
        if self.fault.form is None or any(sighting.within for sighting in self.sightings):
            return ()
        each = [self.fault.form(model, sighting) for sighting in self.sightings]
        return tuple(step for steps in each for step in steps) if all(each) else ()


_TOLD = 3
"""Places that are named in a line: some networks have dozens of one kind."""


def known_faults(model: Model) -> tuple[MetFault, ...]:
    """The known faults of the model's framework whose pattern it has, in the order of the catalogue; nested layers count.

    Nothing is run. Core ML and Core AI models have some; of any other format there is nothing to say.
    """
    if not (model.is_coreml_graph or model.is_coreai):
        return ()
    framework: Framework = "coreai" if model.is_coreai else "coreml"
    return sighted(list(_all_seen(model, framework)))


def sighted(graphs: list[Seen]) -> tuple[MetFault, ...]:
    """The known faults whose pattern one of these graphs has."""
    found = []
    for fault in FAULTS:
        places = tuple(s for seen in graphs if seen.framework == fault.framework for s in fault.find(seen))
        if places:
            found.append(MetFault(fault, places))
    return tuple(found)


def _all_seen(model: Model, framework: Framework) -> Iterator[Seen]:
    yield Seen(framework, model.graph, model.signature, model)
    for graph in _nested(model.graph):
        yield Seen(framework, graph, model.signature, model, within=True)


def _nested(graph: Graph) -> Iterator[Graph]:
    for node in graph.nodes:
        for block in node.blocks:
            yield block
            yield from _nested(block)
