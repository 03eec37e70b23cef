"""How weights are to be compressed, as it is written: ``palettize:4``, ``linear:4:block=32``, ``prune:0.5+palettize:4``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from coreproof.errors import ConversionError, InputError

GRAMMAR = (
    "palettize:BITS (1, 2, 3, 4, 6, 8) with :group=CHANNELS, :vector=LENGTH, :scale, :uniform; linear:BITS (4, 8) with "
    ":block=LENGTH, :tensor, :asymmetric; prune:SHARE (0.5) or prune:NofM (2of4); joined by +: prune:0.5+palettize:4"
)
_BITS = {"palettize": (1, 2, 3, 4, 6, 8), "linear": (4, 8)}
_OPTIONS: Mapping[str, frozenset[str]] = {
    "palettize": frozenset({"group", "vector", "scale", "uniform"}),
    "linear": frozenset({"block", "tensor", "asymmetric"}),
    "prune": frozenset(),
}
_WITH_NUMBER = frozenset({"group", "vector", "block"})


@dataclass(frozen=True)
class SchemeStep:
    """One step of a scheme.

    ``bits`` of palettize and linear; ``share`` or (``least``, ``of``) of prune; the others as ``GRAMMAR`` names them, 0 where
    nothing is said.
    """

    kind: Literal["palettize", "linear", "prune"]
    bits: int = 0
    share: float = 0.0
    least: int = 0
    of: int = 0
    group: int = 0
    vector: int = 0
    block: int = 0
    scale: bool = False
    uniform: bool = False
    tensor: bool = False
    asymmetric: bool = False

    @property
    def since(self) -> int:
        """The first iOS version that holds it."""
        # constexpr_lut_to_dense of iOS 16 has one table for all and 1, 2, 4, 6 or 8 bits; the rest came with iOS 18
        newer = self.group or self.vector or self.block or self.scale
        return 18 if newer or self.bits == 3 or (self.kind == "linear" and self.bits == 4) else 16

    def bytes_at_least(self, elements: int, itemsize: int, channels: int) -> float:
        """What a weight of so many numbers takes compressed, about."""
        if self.kind == "prune":
            kept: float = 1 - (self.share if self.share else self.least / self.of)
            # a bit for each number says whether it was kept (constexpr_sparse_to_dense)
            return elements / 8 + elements * kept * itemsize
        if self.kind == "palettize":
            # a table for each group of channels, the last one for what is left
            tables = -(-channels // self.group) if self.group else 1
            scales = channels * itemsize if self.scale else 0
            entries: int = tables * (self.vector or 1) * (1 << self.bits)
            # an index stands for a whole vector of numbers, and each entry of the table is one
            return elements * self.bits / 8 / (self.vector or 1) + entries * itemsize + scales
        # a scale for each block, for the whole tensor, or, which is the usual, for each channel
        blocks = elements / self.block if self.block else 1 if self.tensor else channels
        return elements * self.bits / 8 + blocks * itemsize


@dataclass(frozen=True)
class Scheme:
    """The steps in their order, and the text that they were written as."""

    text: str
    steps: tuple[SchemeStep, ...]

    def __str__(self) -> str:
        return self.text

    @property
    def since(self) -> int:
        """The first iOS version that holds it: weights that are compressed in two ways need iOS 18."""
        return 18 if len(self.steps) > 1 else max(step.since for step in self.steps)

    def version_for(self, version: int, *, is_said: bool) -> tuple[int, list[str]]:
        """The iOS version that a program is made for: newer where nothing was said; and what there is to say about it.

        Raises ConversionError where an older one was asked for.
        """
        if version >= self.since:
            return version, []
        if is_said:
            raise ConversionError(
                f"{self.text} needs iOS {self.since}",
                expected=f"--target iOS{self.since} or newer",
                found=f"iOS{version}",
                fix=_older(version),
            )
        return self.since, [f"made for iOS {self.since}, the first that holds {self.text}"]


def _older(version: int) -> str:
    if version < 16:
        return "an ML Program holds compressed weights from iOS 16 on"
    return "palettize with 1, 2, 4, 6 or 8 bits, linear:8 and prune, each alone, go with iOS16"


def read_scheme(text: str) -> Scheme:
    """The scheme that ``text`` says. Raises InputError, which shows the whole grammar."""
    steps = tuple(_step(part.strip(), text) for part in text.split("+"))
    kinds = [step.kind for step in steps]
    # coremltools' joint compression prunes first: the other step then compresses what is left
    if len(set(kinds)) < len(kinds) or ("prune" in kinds[1:]) or len(steps) > 2:
        raise _wrong(
            text, "prune stands first, and one other way of compressing behind it, or palettize with linear:8 behind it"
        )
    if kinds == ["linear", "palettize"] or (kinds == ["palettize", "linear"] and steps[1].bits != 8):
        raise _wrong(text, "what is palettized may have its table quantised: palettize:4+linear:8")
    if len(steps) > 1 and (steps[0].vector or steps[1].block):
        raise _wrong(text, "vectors and blocks stand alone")
    return Scheme("+".join(part.strip() for part in text.split("+")), steps)


def _step(part: str, text: str) -> SchemeStep:
    kind, *said = part.split(":")
    if kind not in _OPTIONS or not said:
        raise _wrong(text, f"{part!r} is no way to compress")
    options = _options(kind, said[1:], text)
    if kind == "prune":
        return _pruned(said[0], text)
    if not said[0].isdigit() or int(said[0]) not in _BITS[kind]:
        bits = ", ".join(map(str, _BITS[kind]))
        raise _wrong(text, f"{kind} takes {bits} bits, which is what Core ML holds, and not {said[0]}")
    if "tensor" in options and "block" in options:
        raise _wrong(text, "one scale for all, or one a block")
    return SchemeStep(
        "palettize" if kind == "palettize" else "linear",
        int(said[0]),
        group=options.get("group", 0),
        vector=options.get("vector", 0),
        block=options.get("block", 0),
        scale="scale" in options,
        uniform="uniform" in options,
        tensor="tensor" in options,
        asymmetric="asymmetric" in options,
    )


def _pruned(said: str, text: str) -> SchemeStep:
    least, _, of = said.partition("of")
    if of.isdigit() and least.isdigit() and 0 < int(least) < int(of):
        return SchemeStep("prune", least=int(least), of=int(of))
    try:
        share = float(said)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise _wrong(text, f"prune takes a share between 0 and 1, or so many of so many, and not {said}")
    return SchemeStep("prune", share=share)


def _options(kind: str, said: Sequence[str], text: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for option in said:
        name, equals, value = option.partition("=")
        if name not in _OPTIONS[kind] or (name in _WITH_NUMBER) != bool(equals):
            raise _wrong(text, f"{kind} knows no {option!r}")
        if equals and (not value.isdigit() or int(value) < 1):
            raise _wrong(text, f"{name} takes a whole number, and not {value!r}")
        found[name] = int(value) if equals else 1
    return found


def _wrong(text: str, why: str) -> InputError:
    return InputError(f"the compression {text!r} is not understood: {why}", expected=GRAMMAR, found=text)
