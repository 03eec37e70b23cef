"""What known weights do to errors: how much they amplify noise, and how unevenly over the channels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from coreproof.conversion.operators import meaning
from coreproof.errors import UnreadableModelError
from coreproof.model.onnx.constants import constant_of, stored_constant
from coreproof.runtime.session import Session
from coreproof.verification.error_stats import ChannelScale

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Profile:
    """Share of the typical error that each channel has: root mean square 1 over the channels, which lie on ``axis``.

    ``gain`` is by how much the operator that makes the value amplifies white noise; None where that is not known.
    """

    shares: Array
    axis: int
    gain: float | None = None

    def over(self, shape: tuple[int, ...]) -> ChannelScale | None:
        """The factors, at least 1, for a tensor of ``shape``; None where they do not fit it."""
        axis = self.axis % len(shape) if shape else 0
        if len(shape) <= axis or shape[axis] != self.shares.size:
            return None
        return ChannelScale(np.maximum(self.shares, 1.0), math.prod(shape[axis + 1 :]))


def profiles(graph: ir.Graph) -> dict[str, Profile]:
    """The profile of every value that depends on a convolution or matrix product with known weights, by name.

    A channel o of ``y = W x`` has an error proportional to ``sqrt(sum_i W[o, i]^2 p[i]^2)`` when the input's channels have
    errors proportional to p; what acts on each element alone passes it on. Its gain is the root mean square over
    the channels of ``sqrt(sum_i W[o, i]^2)``.
    """
    found: dict[str, Profile] = {}
    for node in graph:
        profile = _profile(node, found)
        if profile is not None and node.outputs[0].name:
            found[node.outputs[0].name] = profile
    return found


def _profile(node: ir.Node, found: Mapping[str, Profile]) -> Profile | None:
    if node.domain not in ("", "ai.onnx") or not node.outputs:
        return None
    rule = _RULES.get(node.op_type, _same if meaning(node.op_type).get("channelwise", False) else None)
    try:
        return None if rule is None else rule(node, found)
    except (IndexError, KeyError, ValueError, TypeError, ZeroDivisionError):
        # an operand or attribute is missing, or weights do not fit: nothing is known, and the engine says what is wrong
        return None


def _normal(squares: Array, axis: int, power: Array) -> Profile | None:
    mean = float(squares.mean()) if squares.size else 0.0
    if not np.isfinite(mean) or mean <= 0:
        return None
    return Profile(np.sqrt(squares / mean), axis, float(np.sqrt(power.mean())))


def _power(weights: np.ndarray) -> Array:
    """The sum of squares over the last axis."""
    # float16 weights are squared in float32, where 65504 squared still fits
    wide = weights if weights.dtype == np.float64 else weights.astype(np.float32, copy=False)
    power: Array = np.einsum("...k,...k->...", wide, wide).astype(np.float64)
    return power


def _profile_of(value: ir.Value | None, found: Mapping[str, Profile]) -> Profile | None:
    return None if value is None else found.get(value.name or "")


def _arriving(node: ir.Node, found: Mapping[str, Profile], channels: int) -> Array:
    profile = _profile_of(node.inputs[0], found)
    if profile is None or profile.shares.size != channels:
        return np.ones(channels)
    return np.square(profile.shares)


def _conv(node: ir.Node, found: Mapping[str, Profile]) -> Profile | None:
    weights = stored_constant(node.inputs[1])
    if weights is None:
        return None
    # [groups, outputs of each, inputs of each, elements of the kernel]
    groups = node.attributes.get_int("group", 1)
    power = _power(weights.reshape(groups, weights.shape[0] // groups, weights.shape[1], -1))
    if (
        node.op_type == "ConvTranspose"
    ):  # its weights are [in, out / groups, ...], those of Conv [out, in / groups, ...]
        power = power.swapaxes(1, 2)
    arriving = _arriving(node, found, groups * power.shape[2]).reshape(groups, -1)
    return _normal(np.einsum("goi,gi->go", power, arriving).reshape(-1), 1, power.sum(-1))


def _product(node: ir.Node, found: Mapping[str, Profile]) -> Profile | None:
    weights = constant_of(node.inputs[1])
    if weights is None or weights.ndim != 2:
        return None
    if node.op_type == "Gemm" and node.attributes.get_int("transB", 0) != 0:
        weights = weights.T
    # [outputs, inputs], as those of a convolution
    power = np.square(weights).T
    return _normal(power @ _arriving(node, found, weights.shape[0]), -1, power.sum(1))


def _batch_normalization(node: ir.Node, found: Mapping[str, Profile]) -> Profile | None:
    scale, variance = constant_of(node.inputs[1]), constant_of(node.inputs[4])
    if scale is None or variance is None:
        return None
    epsilon = node.attributes.get_float("epsilon", 1e-5)
    # a channel is multiplied by scale / sqrt(variance + epsilon)
    power = np.square(scale) / (variance + epsilon)
    return _normal(_arriving(node, found, scale.size) * power, 1, power)


def _same(node: ir.Node, found: Mapping[str, Profile]) -> Profile | None:
    profile = _rounded(node, found)
    return None if profile is None else replace(profile, gain=None)  # it is no longer the operator's that amplified


def _rounded(node: ir.Node, found: Mapping[str, Profile]) -> Profile | None:
    """A Cast is how the lowering rounds, no operator of the model's: the value is still that of the operator before."""
    return _profile_of(node.inputs[0], found)


def _largest(node: ir.Node, found: Mapping[str, Profile]) -> Profile | None:
    """Sums and products of several values: in each channel the operand that errs most."""
    known = [profile for value in node.inputs if (profile := _profile_of(value, found)) is not None]
    # operands whose channels are not the same ones say nothing together
    if not known or any(p.shares.shape != known[0].shares.shape or p.axis != known[0].axis for p in known):
        return None
    return Profile(np.maximum.reduce([p.shares for p in known]), known[0].axis)


def _sum(node: ir.Node, found: Mapping[str, Profile]) -> Profile | None:
    """A known addend is a bias: what it is added to keeps its gain."""
    operands = [v for v in node.inputs if v is not None]
    unknown = [v for v in operands if stored_constant(v) is None]
    return _profile_of(unknown[0], found) if len(unknown) < len(operands) == 2 and unknown else _largest(node, found)


_MOST_CHANNELS = 1 << 22
"""Beyond this, what is joined is taken to err evenly: a file of a few lines doubles a value as often as it likes."""


def _concat(node: ir.Node, found: Mapping[str, Profile]) -> Profile | None:
    axis = node.attributes["axis"].as_int()
    parts: list[Array | int] = []
    for value in node.inputs:
        profile = _profile_of(value, found)
        length = value.shape[axis] if value is not None and value.shape is not None else None
        if profile is not None and profile.axis == axis:
            parts.append(profile.shares)
        elif isinstance(length, int):
            parts.append(length)  # nothing is known of these channels: they err evenly
        else:
            return None
    if sum(part if isinstance(part, int) else part.size for part in parts) > _MOST_CHANNELS:
        return None
    return Profile(np.concatenate([np.ones(part) if isinstance(part, int) else part for part in parts]), axis)


_Rule = Callable[[ir.Node, Mapping[str, Profile]], "Profile | None"]
_RULES: dict[str, _Rule] = {
    "Conv": _conv,
    "ConvTranspose": _conv,
    "Gemm": _product,
    "MatMul": _product,
    "BatchNormalization": _batch_normalization,
    "Cast": _rounded,
    "Concat": _concat,
    **dict.fromkeys(("Add", "Sub"), _sum),
    **dict.fromkeys(("Mul", "Div", "Max", "Min", "Sum"), _largest),
}


def _shares(array: np.ndarray, name: str, where: object) -> Array:
    """What a saved run holds of a value's channels: one number each."""
    if array.ndim != 1 or array.dtype.kind not in "fiu":
        raise UnreadableModelError(
            f"the saved run's profile of {name!r} makes no sense",
            where=None if where is None else str(where),
            expected="one number a channel",
            found=f"{array.dtype}{list(array.shape)}",
            fix="record the run again",
        )
    return array.astype(np.float64)


def profiles_of(session: Session) -> dict[str, Profile]:
    """The profiles of a session's values by the model's own names; none where the engine has no graph to read.

    A saved run holds those of the session that it was recorded from.
    """
    recording = session.recording
    if recording is not None:
        return {
            name: Profile(_shares(recording.array(entry), name, recording.path), axis, gain)
            for name, (axis, gain, entry) in recording.gains.items()
        }
    executable = session.executable
    if executable is None:
        return {}
    found = profiles(executable.graph.graph)
    return {**found, **{own: found[name] for own, name in executable.values.items() if name in found}}
