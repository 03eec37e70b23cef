"""CompressionReport: what compressing weights saved and what it cost, weight by weight and output by output."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from coreproof.model.numbers import json_ready
from coreproof.visible import visible


@dataclass(frozen=True)
class CompressedWeight:
    """One weight. ``stored``: its dtype in the file, before and after; ``error``: rms, as a share of the weight's own rms."""

    layer: str
    parameter: str
    operator: str
    shape: tuple[int, ...]
    stored_before: str
    stored: str
    bytes_before: int
    bytes: int
    error: float
    kept: bool
    """It stays as it was."""

    @property
    def name(self) -> str:
        """What ``keep_size`` takes: "layer:parameter"."""
        return f"{self.layer}:{self.parameter}"


@dataclass(frozen=True)
class CompressedOutput:
    """An output's error against the source, as a share of its scale: as converted, and with its weights compressed."""

    name: str
    error_before: float
    error: float


@dataclass(frozen=True)
class CompressionReport:
    """The proof of a compression; true where the loss is within ``at_most``, or nothing was asked.

    ``outputs`` are held against the source model over ``samples`` inputs (``inputs`` says which). ``same_first`` counts those
    for which the largest element of the first output is the source's, None where it is no vector of scores. ``left`` names the
    weights that were found to have to stay as they are for ``at_most`` (``minimal``: none of them can be compressed as well);
    ``trials`` were run for it.
    """

    model: str
    scheme: str
    weights: tuple[CompressedWeight, ...]
    outputs: tuple[CompressedOutput, ...]
    inputs: str
    samples: int
    same_first: int | None
    bytes_before: int
    bytes: int
    at_most: float | None = None
    left: tuple[str, ...] = ()
    minimal: bool = True
    trials: int = 0

    def __bool__(self) -> bool:
        return self.at_most is None or self.loss <= self.at_most

    @property
    def loss(self) -> float:
        """The error of the worst output against the source, as a share of its scale."""
        return max((output.error for output in self.outputs), default=0.0)

    def summary(self) -> str:
        """What was saved and what it cost, then what that rests on; one line each."""
        done = sum(not weight.kept for weight in self.weights)
        saved = self.bytes_before - self.bytes
        share = saved / self.bytes_before if self.bytes_before else 0.0
        before = max((output.error_before for output in self.outputs), default=0.0)
        lines = [
            f"{self.scheme}: {done} of {len(self.weights)} weights compressed; {self.bytes:,} bytes instead of "
            f"{self.bytes_before:,}, {saved:,} saved ({share:.0%})",
            f"outputs differ from the source's by {self.loss:.2g} of their scale (uncompressed {before:.2g})",
        ]
        if self.same_first is not None:
            lines.append(f"the largest score is the source's for {self.same_first} of {self.samples} inputs")
        if self.at_most is not None:
            least = "none of them can be compressed as well" if self.minimal else "perhaps not the fewest"
            names = ", ".join(self.left) or "none"
            lines.append(
                f"left as they are for a loss of at most {self.at_most:g}: {names} ({self.trials} trials; {least})"
            )
        lines.append(f"inputs: {self.inputs}")
        return "\n".join(visible(line) for line in lines)

    def to_json(self) -> dict[str, object]:
        """The whole report as JSON."""
        whole: dict[str, object] = json_ready({**asdict(self), "loss": self.loss, "summary": self.summary()})
        return whole
