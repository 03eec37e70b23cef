"""A graph with custom layers run by ONNX Runtime in parts: between two of them the caller's functions compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import onnx
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.custom import DOMAIN, WEIGHTS, CustomLayer, call, of_node
from coreproof.errors import RunError
from coreproof.runtime.skeleton import Skeleton, element_type


class Runnable(Protocol):
    """What an ONNX Runtime session offers, as far as it is used."""

    def run(self, output_names: Sequence[str] | None, input_feed: Mapping[str, object]) -> Sequence[Any]:
        """The outputs of these names."""


def has_custom_layers(part: onnx.ModelProto) -> bool:
    """Whether nodes of the graph are computed by functions of the caller's."""
    return any(node.domain == DOMAIN for node in part.graph.node)


class CustomParts:
    """Runs as a session does. Parts are opened when their inputs are known, and kept for inputs of the same types."""

    def __init__(
        self,
        part: onnx.ModelProto,
        layers: Mapping[str, CustomLayer],
        dtypes: Mapping[str, np.dtype],
        open_part: Callable[[onnx.ModelProto], Runnable],
    ) -> None:
        self._skeleton = Skeleton(part)
        self._layers, self._dtypes = layers, dtypes
        self._open = open_part
        self._outputs = [output.name for output in part.graph.output]
        self._opened: dict[tuple[object, ...], Runnable] = {}

    def run(self, output_names: Sequence[str] | None, input_feed: Mapping[str, object]) -> list[Any]:
        """Every custom layer in its turn, and then the rest."""
        known = dict(input_feed)
        wanted = self._outputs if output_names is None else list(output_names)
        for node in self._needed(wanted):
            layer = self._layers[node.output[0]]
            count = next((a.i for a in node.attribute if a.name == WEIGHTS), 0)
            reads = list(node.input)[: len(node.input) - count]
            self._compute([name for name in dict.fromkeys(reads) if name not in known], known)
            made = call(layer, [np.asarray(known[name]) for name in reads], len(node.output))
            for name, array in zip(node.output, made, strict=True):
                known[name] = array.astype(self._dtypes.get(name, array.dtype), copy=False)
        self._compute([name for name in dict.fromkeys(wanted) if name not in known], known)
        return [known[name] for name in wanted]

    def _needed(self, wanted: Sequence[str]) -> list[onnx.NodeProto]:
        places = self._skeleton.before(wanted)
        return [self._skeleton.nodes[place] for place in places if self._skeleton.nodes[place].domain == DOMAIN]

    def _compute(self, names: Sequence[str], known: dict[str, object]) -> None:
        if not names:
            return
        arrays = {name: value for name, value in known.items() if isinstance(value, np.ndarray)}
        places, reads = self._skeleton.part(names, arrays)
        fed = {name: array for name, array in arrays.items() if name in reads}
        types = {name: (element_type(array), None) for name, array in fed.items()}
        key = (tuple(names), tuple(sorted(types.items(), key=str)))
        if key not in self._opened:
            self._opened[key] = self._open(self._skeleton.prune(names, types))
        if any(self._skeleton.nodes[place].domain == DOMAIN for place in places):
            raise RunError("a custom layer inside a loop or a branch is not run")
        known.update(zip(names, self._opened[key].run(list(names), fed), strict=True))


def layers_of(graph: ir.Graph) -> tuple[dict[str, CustomLayer], dict[str, np.dtype]]:
    """The custom layers of a graph, by the first value that each makes, and the dtypes that their outputs are to have."""
    nodes = [node for node in graph if node.domain == DOMAIN]
    made = [value for node in nodes for value in node.outputs]
    dtypes = {v.name or "": v.dtype.numpy() for v in made if v.dtype not in (None, ir.DataType.STRING)}
    return {node.outputs[0].name or "": of_node(node) for node in nodes}, dtypes
