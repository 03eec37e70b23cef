"""Subgraph: a stretch of a model run by itself, from inner values to inner values, named as the model names them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches

import numpy as np
import onnx_ir as ir

from coreproof.errors import InputError, RunError
from coreproof.model.base import Model
from coreproof.model.structured import is_structured
from coreproof.runtime.arena import engine_error
from coreproof.runtime.custom_layers import Runnable
from coreproof.runtime.executable import Executable, compile_model
from coreproof.runtime.onnxruntime import OnnxRuntimeSession
from coreproof.runtime.session import Closing, Precision, Session
from coreproof.runtime.skeleton import ExternalInputs, element_type, recomputed
from coreproof.runtime.subgraph_pool import SubgraphPool

Array = np.ndarray


def run_subgraph(of: Model | Session, inputs: Mapping[str, object], outputs: Sequence[str]) -> dict[str, Array]:
    """What ``outputs`` are when the values ``inputs`` are given and only what lies between is run.

    Any value of the model may be given or asked for, by the model's own name: a feature, an inner value, a classifier's scores
    (``signature.scores``). What makes a value that is given is not run. Raises InputError as ``Subgraph`` does, and RunError.
    """
    with Subgraph(of, inputs, outputs) as stretch:
        return stretch.run(inputs)


class Subgraph(Closing):
    """A stretch of an ONNX or Core ML model, made ready to run; a context manager.

    ``inputs`` and ``outputs`` are names as in ``run_subgraph``. Of a session that runs on ONNX Runtime the weights are shared.
    In a lowered Core ML model a value that is stored in float16 is rounded to it when it is given. With ``remake`` a
    value that is both given and asked for is made as well, from others that are given: so one run shows of every layer
    what it makes of the right inputs.

    Raises InputError that names every value that the model does not have, and every value that is needed, but neither
    given nor computed from what is given.
    """

    def __init__(
        self,
        of: Model | Session,
        inputs: Iterable[str],
        outputs: Sequence[str],
        *,
        precision: Precision = "stored",
        threads: int | None = None,
        remake: bool = False,
    ) -> None:
        self._own = not isinstance(of, OnnxRuntimeSession)
        self._pool = (
            of.pool if isinstance(of, OnnxRuntimeSession) else SubgraphPool(_executable(of, precision), threads=threads)
        )
        executable = self._pool.executable
        self.name = executable.name
        asked = {name: executable.values.get(name, name) for name in outputs}
        self._outputs = dict(asked)
        cuts = {name: _entry_point(self._pool, executable.values.get(name, name)) for name in inputs}
        self._check(cuts)
        fed = set(cuts.values())
        self._rounded: set[str] = set()
        if remake:
            self._outputs = {name: self._computed_name(name, value, fed) for name, value in asked.items()}
        needed, self._computed = self._needed(fed)
        # what nobody reads is not fed either, and goes by its own name
        unread = {name for name, value in asked.items() if _entry_point(self._pool, value) not in needed}
        self._outputs = {name: asked[name] if name in unread else value for name, value in self._outputs.items()}
        self.inputs = tuple(name for name, cut in cuts.items() if cut in needed)
        self._cuts = {name: cuts[name] for name in self.inputs}
        self._session: tuple[ExternalInputs, Runnable] | None = None

    def run(self, inputs: Mapping[str, object]) -> dict[str, Array]:
        """The outputs by name, as arrays. Further inputs than the stretch needs are ignored."""
        # what need not be fed has a value in the graph
        stored = self._pool.executable.graph.graph.initializers
        defaults = {name: stored[cut].const_value for name, cut in self._cuts.items() if cut in stored}
        inputs = {**{name: tensor.numpy() for name, tensor in defaults.items() if tensor is not None}, **inputs}
        missing = [name for name in self.inputs if name not in inputs]
        if missing:
            raise self._lacking(missing)
        lists = [name for name in self.inputs if is_structured(inputs[name])]
        if lists:
            raise RunError(
                "a part that begins at a dictionary or a sequence is not run by itself",
                where=self.name,
                found=", ".join(lists),
            )
        arrays = {cut: self._cast(cut, np.asarray(inputs[name])) for name, cut in self._cuts.items()}
        # without shapes: the same session takes samples of other lengths
        kinds = {cut: (element_type(array), None) for cut, array in arrays.items()}
        wanted = list(dict.fromkeys(self._outputs.values()))
        if self._session is None or self._session[0] != kinds:
            # not optimised: a part runs a few times, and fusing takes longer than that
            self._session = (kinds, self._pool.open(wanted, kinds, optimised=False))
        try:
            values = dict(zip(wanted, self._session[1].run(wanted, arrays), strict=True))
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise engine_error("ONNX Runtime failed while running a part of the model", error, self.name) from error
        return {own: self._stored(own, values[name]) for own, name in self._outputs.items()}

    def computes(self, name: str) -> bool:
        """Whether the value of that name is made on the way, and not given."""
        return self._pool.executable.values.get(name, name) in self._computed

    def close(self) -> None:
        """Frees what the engine holds, except what belongs to the session that this is a part of."""
        self._session = None
        if self._own:
            self._pool.close()

    def _cast(self, cut: str, array: Array) -> Array:
        """The array in the dtype in which the graph carries this value, where that is known."""
        carried = self._pool.values[cut].dtype if cut in self._pool.values else None
        if carried is None or carried == ir.DataType.STRING:
            return array
        return np.ascontiguousarray(array, dtype=carried.numpy())

    def _check(self, cuts: Mapping[str, str]) -> None:
        known = self._pool.values
        unknown = [own for own, name in (*cuts.items(), *self._outputs.items()) if name not in known]
        if unknown:
            own_names = {*self._pool.executable.values, *known}
            near = [n for name in unknown for n in get_close_matches(name, own_names, n=2)]
            raise InputError(
                f"the model has no value {', '.join(map(repr, dict.fromkeys(unknown)))}",
                where=self.name,
                expected="names of values" + (f", such as {', '.join(near)}" if near else ""),
                found=", ".join(unknown),
            )

    def _computed_name(self, own: str, value: str, fed: Collection[str]) -> str:
        """The name under which the graph makes ``value`` itself, although it, or what it is rounded from, is fed."""
        cut = _entry_point(self._pool, value)
        if cut not in fed or self._pool.values[cut].producer() is None:
            return value
        if cut != value:
            self._rounded.add(own)  # what it is rounded from may be asked for as well
        return recomputed(cut)

    def _stored(self, own: str, array: Array) -> Array:
        """A value that was made before its rounding, rounded as the graph would have."""
        if own not in self._rounded:
            return array
        with np.errstate(over="ignore"):  # beyond 65504 is infinite in float16, and so in the model
            return array.astype(np.float16).astype(array.dtype)

    def _needed(self, fed: Collection[str]) -> tuple[set[str], set[str]]:
        """The values that have to be given, and those that are computed; InputError for those that are lacking."""
        skeleton = self._pool.skeleton
        places, read = skeleton.part(self._outputs.values(), fed)
        made = {name for place in places for name in skeleton.nodes[place].output if name}
        computed = {recomputed(name) if name in fed else name for name in made}
        needed = {n for n in read - computed if n not in self._pool.initializers or n in fed}
        lacking = sorted(needed.difference(fed))
        if lacking:
            raise self._lacking(lacking)
        return needed, computed

    def _lacking(self, names: Sequence[str]) -> InputError:
        return InputError(
            f"nothing is given for {', '.join(map(repr, names))}, from which {', '.join(map(repr, self._outputs))} is computed",
            where=self.name,
            expected=f"a value for {', '.join(names)}, or for values between",
            fix="give it among the inputs",
        )


def _executable(of: Model | Session, precision: Precision) -> Executable:
    if isinstance(of, Session) and of.executable is not None:
        return of.executable
    if isinstance(of, Model) and (of.is_onnx or of.is_coreml):
        return compile_model(of, precision)
    raise InputError(
        "a part can be run of a model whose layers are known",
        where=getattr(of, "name", None),
        expected="an ONNX or Core ML model",
        found=getattr(of, "format", type(of).__name__),
        fix="convert a PyTorch model to ONNX first",
    )


def _entry_point(pool: SubgraphPool, name: str) -> str:
    """Where a given value enters: in a lowered model before its rounding, which others may read around."""
    half = _cast_from(pool.values.get(name)) if pool.executable.values else None
    wide = _cast_from(half)
    if half is None or wide is None or half.dtype != ir.DataType.FLOAT16:
        return name
    return wide.name or name


def _cast_from(value: ir.Value | None) -> ir.Value | None:
    """What a Cast makes the value of; None for a value that something else makes."""
    maker = None if value is None else value.producer()
    return maker.inputs[0] if maker is not None and maker.op_type == "Cast" else None
