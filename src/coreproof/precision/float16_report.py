"""Float16Report: what float16 will do to a model, operator by operator."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from coreproof.model.numbers import json_ready
from coreproof.visible import visible

Status = Literal["ok", "overflow", "nan", "spread", "clipped", "constant", "underflow"]
"""What float16 does to an operator's result.

- "overflow": numbers beyond 65504 become infinite here;
- "nan": NaN appears here first, made of infinities or of a division of zero by zero;
- "spread": infinity or NaN arrives from an operator before;
- "clipped": numbers beyond 65504 that come from a constant which was clipped to it (a mask of -1e9);
- "constant": a weight, an epsilon or another constant does not fit (beyond 65504, or it becomes zero);
- "underflow": numbers so small that a hundredth of the result is lost, or all of it.
"""

NOT_MODELLED = (
    "sums inside an operator are formed in float32 here and rounded once; "
    "the Neural Engine may add up in float16 and lose more"
)


@dataclass(frozen=True)
class Float16Row:
    """One operation. ``smallest`` and ``largest`` are the ends of its results' size (zeros left out) in float32.

    ``unit`` is what ``keep_fp32`` of the conversion takes. ``error_added`` is what rounding its result and its weights adds, as
    a share of the result's scale; ``error_at_output`` the error of the worst output when it alone computes in float16 (None: not
    measured). ``source`` is the module or layer that it comes from.
    """

    operator: str
    layer: str
    unit: str
    source: str | None
    smallest: float
    largest: float
    status: Status
    problem: str
    error_added: float
    error_at_output: float | None
    must_stay: bool


@dataclass(frozen=True)
class Float16Output:
    """An output in float16: its error and the error that rounding explains, both as shares of its scale."""

    name: str
    error: float
    allowed: float | None
    agrees: bool
    problem: str


@dataclass(frozen=True)
class Float16Report:
    """The prediction. Truthy when the outputs agree and nothing overflows.

    ``outputs`` with everything in float16, ``mended`` with ``must_stay_fp32`` in float32: names of ONNX values, or of
    operations where the model is an ML Program. ``minimal`` says that none of them can go back to float16 (False: the search
    ended before).
    ``flushed_agrees`` says whether it would also agree on hardware that takes numbers below 6.1e-5 for zero.
    """

    model: str
    stored: str
    inputs: str
    rows: tuple[Float16Row, ...]
    outputs: tuple[Float16Output, ...]
    mended: tuple[Float16Output, ...]
    agrees: bool
    must_stay_fp32: tuple[str, ...]
    minimal: bool
    trials: int
    flushed_agrees: bool | None

    def __bool__(self) -> bool:
        return self.agrees and not self.overflows

    @property
    def predicted_output_error(self) -> float:
        """The error of the worst output with everything in float16, as a share of its scale."""
        return max((o.error for o in self.outputs), default=0.0)

    @property
    def overflows(self) -> tuple[Float16Row, ...]:
        """Operations whose results become infinite or NaN, or whose constants are beyond float16."""
        return tuple(r for r in self.rows if r.status in ("overflow", "nan"))

    @property
    def suspects(self) -> tuple[Float16Row, ...]:
        """Every operation that float16 does something to beyond rounding, in the program's order."""
        return tuple(r for r in self.rows if r.status != "ok")

    @property
    def first(self) -> Float16Row | None:
        """The operation where it goes wrong first, if it goes wrong."""
        kept = [r for r in self.rows if r.must_stay]
        # what breaks, else what must stay wide, else whatever is suspect
        loud = [r for r in self.rows if r.status in ("overflow", "nan")]
        return next(iter(loud or [r for r in kept if r.status != "ok"] or kept or self.suspects), None)

    def summary(self) -> str:
        """The verdict first, then what it rests on; one line each."""
        lines = [self._verdict()]
        first = self.first
        if first is not None and (not self or first.status in ("overflow", "nan")):
            came_from = f" in {first.source}" if first.source else ""
            lines.append(f"first: {first.layer!r} ({first.operator}{came_from}): {first.problem or 'rounding'}")
        if self.must_stay_fp32:
            units = len({row.unit for row in self.rows})
            left = max((o.error for o in self.mended), default=0.0)
            least = "none of them can go back to float16" if self.minimal else "perhaps not the fewest"
            lines.append(
                f"in float32: {', '.join(self.must_stay_fp32)} ({len(self.must_stay_fp32)} of {units}; {least}); "
                f"the outputs then differ by {left:.2g}"
            )
        if self.flushed_agrees is False:
            lines.append("hardware that takes numbers below 6.1e-5 for zero would not agree")
        lines.append(f"inputs: {self.inputs}")
        lines.append(f"not modelled: {NOT_MODELLED}")
        return "\n".join(visible(line) for line in lines)

    def _verdict(self) -> str:
        error = self.predicted_output_error
        if not self.agrees:
            worst = max(self.outputs, key=lambda o: (not o.agrees, o.error))
            return f"in float16 the output {worst.name!r} would be wrong: {worst.problem}"
        if self.overflows:
            return (
                f"in float16 {len(self.overflows)} operators overflow, which the outputs survive with these inputs "
                f"(they differ by {error:.2g} of their scale)"
            )
        return f"float16 is safe with these inputs: the outputs differ by {error:.2g} of their scale"

    def to_json(self) -> dict[str, object]:
        """The whole report as JSON."""
        verdict = {"overflows": bool(self.overflows), "summary": self.summary(), "not_modelled": NOT_MODELLED}
        whole: dict[str, object] = json_ready(
            {**asdict(self), **verdict, "predicted_output_error": self.predicted_output_error}
        )
        return whole
