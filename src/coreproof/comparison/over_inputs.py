"""Several models over inputs that are no photos: arrays, sounds, token ids. Agreement by output, and by class where one tells.

A sample at a time goes through all models; to models that remember (Core ML states) the samples are the steps of one sequence,
and each goes on from what it remembers itself. Of each output and each two models it is kept how far they differ; where an output
is a row of class scores (or of whole numbers), at how many places both name the same class.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from coreproof.comparison.agreement import wilson
from coreproof.comparison.answers import MOST, Answer
from coreproof.comparison.lineup import Lineup, as_lineup, spoken
from coreproof.comparison.scored import Scored, batch
from coreproof.comparison.variants import ModelFactory
from coreproof.comparison.weakness import FEW
from coreproof.errors import InputError, LineupError
from coreproof.feeding.drawn import Inputs, Sample
from coreproof.feeding.input_files import NamedSample
from coreproof.feeding.inputs import hand_over
from coreproof.feeding.user_inputs import given_samples, named_samples
from coreproof.model.base import Model
from coreproof.model.notebook_view import Spoken
from coreproof.model.numbers import json_ready
from coreproof.model.progress import Progress, silent
from coreproof.model.public import public
from coreproof.model.weakness import Weakness
from coreproof.pairing.taps import as_array, match_outputs, taps_of
from coreproof.runtime.open import session
from coreproof.runtime.session import Session
from coreproof.visible import in_json

_LISTED = 200
"""Samples of which a report has a line, those that differ most first; and classes."""


@dataclass(frozen=True)
class OutputPair:
    """How far two models agree on one output.

    ``furthest``: the largest difference as a share of the sample's largest value, in ``sample``; infinite where one side alone
    is not finite. ``typical``: the root mean square of it, in the middle sample. ``same`` of ``places`` name one class; None
    where the output tells none. ``low`` and ``high``: Wilson's 95% interval of that share.
    """

    output: str
    a: str
    b: str
    furthest: float
    typical: float
    sample: str
    same: int | None = None
    places: int | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class SampleRow:
    """One sample: what was fed, how far apart the two models are that differ most, and the class that each names."""

    name: str
    fed: str
    furthest: float
    named: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class InputComparison(Spoken):
    """What several models say of the same inputs. ``classes``: output -> class -> model -> at how many places it is named.

    ``answers``: of the inputs on which two models are furthest apart, what those two said.
    """

    title: str
    names: tuple[str, ...]
    samples: int
    pairs: tuple[OutputPair, ...]
    rows: tuple[SampleRow, ...]
    classes: Mapping[str, Mapping[str, Mapping[str, int]]]
    weaknesses: tuple[Weakness, ...]
    origin: str = ""
    called: Mapping[str, str] = field(default_factory=dict)
    answers: tuple[Answer, ...] = field(default=(), compare=False)

    def _spoken(self) -> str:
        return self.text

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs that are compared, in order."""
        return tuple(dict.fromkeys(pair.output for pair in self.pairs))

    def spoken(self, name: str) -> str:
        """A model as a sentence names it: what people call it, and its name."""
        return spoken(name, self.called.get(name, ""))

    @property
    def text(self) -> str:
        """The finding in a sentence: of each output the two models that agree least."""
        told = []
        for output in self.outputs:
            of = [pair for pair in self.pairs if pair.output == output]
            worst = max(of, key=lambda pair: pair.furthest)
            where = f"{self.spoken(worst.a)} and {self.spoken(worst.b)}, {worst.sample}"
            said = f"{output!r} differs by at most {worst.furthest:.2g} of its scale ({where})"
            counted = [pair for pair in of if pair.places]
            if counted:
                least = min(counted, key=lambda pair: (pair.same or 0) / (pair.places or 1))
                said += f", and names the same class at {least.same:,} of {least.places:,} places at least"
            told.append(said)
        inputs = "input" if self.samples == 1 else "inputs"
        return f"{len(self.names)} models over {self.samples:,} {inputs}: {'; '.join(told)}"

    def to_json(self) -> dict[str, object]:
        """What comparison.json and proof.json hold of it."""
        return {
            "format": "coreproof comparison over inputs",
            "version": 1,
            "title": self.title,
            "inputs": self.origin,
            "samples": self.samples,
            "models": list(self.names),
            "called": dict(self.called),
            "agreement": json_ready([asdict(pair) for pair in self.pairs]),
            "details": json_ready([asdict(row) for row in self.rows]),
            "classes": {output: {c: dict(m) for c, m in of.items()} for output, of in self.classes.items()},
            "weaknesses": [weakness.to_json() for weakness in self.weaknesses],
        }

    def save_json(self, folder: Path) -> None:
        """Writes comparison.json into a folder."""
        text = json.dumps(json_ready(self.to_json()), indent=1, ensure_ascii=False, allow_nan=False)
        (folder / "comparison.json").write_text(in_json(text), encoding="utf-8")


@public
def compare_inputs(
    lineup: Lineup | str | Path | Mapping[str, object],
    inputs: str | Path | Inputs,
    *,
    trust: bool = False,
    progress: Progress | None = None,
) -> InputComparison:
    """Lets every model of a line-up compute every input, and compares what they say, output by output.

    ``lineup`` is a Lineup, a TOML file, or models by name; ``inputs`` a folder of .npz, .npy, .wav and token ids (.json, .txt),
    one such file, or mappings of name to array, named and shaped as the first model declares; in their order they are the steps
    of one sequence to a model with states. ``trust`` is that of ``compare``.

    Raises LineupError, InputError with every file that does not fit, and what loading, converting and running the models raises.

    Example:
        >>> import numpy as np
        >>> inputs = [{"x": np.full((1, 3, 8, 8), k, np.float32)} for k in range(3)]
        >>> found = cp.compare_inputs({"onnx": "net.onnx", "half": "net.mlpackage"}, inputs)
        >>> found.samples, found.pairs[0].furthest < 0.01
        (3, True)

    """
    lineup = as_lineup(lineup, trust=trust)
    if any(entry.device is not None for entry in lineup.entries):
        raise LineupError("what a device answered is about photos", fix="compare it with --photos")
    factory = ModelFactory(lineup)
    called = {entry.name: entry.called for entry in lineup.entries if entry.called}
    return over_inputs({name: factory.model(name) for name in lineup.names}, inputs, lineup.title, progress, called)


def over_inputs(
    models: Mapping[str, Model],
    inputs: str | Path | Inputs | Sequence[NamedSample],
    title: str = "",
    progress: Progress | None = None,
    called: Mapping[str, str] = MappingProxyType({}),
) -> InputComparison:
    """The same of models that are there; the first of them says what each input is called. See ``compare_inputs``.

    ``called``: what people call a model, where that is not its format.
    """
    names = tuple(models)
    first = models[names[0]]
    listed, origin = _listed(inputs, first)
    # photos carry feedings of each model's own (size, mean), which arrays do not
    if any(f.image is not None for model in models.values() for f in model.signature.inputs):
        raise InputError("a model takes pictures, and is given arrays", fix="compare these models over photos")
    with ExitStack() as stack:
        running = {name: stack.enter_context(session(model)) for name, model in models.items()}
        judged = _Judged(models, running)
        report = progress or silent
        for number, sample in enumerate(listed):
            judged.add(sample, first)
            report("Compare over inputs", number + 1, len(listed))
    spoken_as = {name: called.get(name) or model.called for name, model in models.items()}
    return dataclasses.replace(judged.result(title, origin), called=spoken_as)


def _listed(inputs: str | Path | Inputs | Sequence[NamedSample], first: Model) -> tuple[list[NamedSample], str]:
    if isinstance(inputs, str | Path):
        return named_samples(inputs, first.signature), Path(inputs).name
    given: Any = inputs
    if isinstance(given, Sequence) and given and isinstance(given[0], NamedSample):
        return list(given), ""
    return [NamedSample(f"sample {at}", each) for at, each in enumerate(given_samples(given, first.signature))], ""


class _Judged:
    """What is kept of the answers, sample by sample."""

    def __init__(self, models: Mapping[str, Model], running: Mapping[str, Session]) -> None:
        self.models = models
        self.running = running
        self.names = tuple(models)
        self.states = {name: each.state() if each.signature.states else None for name, each in running.items()}
        reference = running[self.names[0]]
        self.scored = Scored(models[self.names[0]], reference)
        # for each model: its own name of each output of the first
        self.outputs = {
            name: {pair.reference: pair.candidate for pair in match_outputs(reference, candidate)}
            for name, candidate in running.items()
        }
        # an output that one of the models lacks cannot be compared
        shared = [set(of) for of in self.outputs.values()]
        self.shared = [output for output in self.outputs[self.names[0]] if all(output in of for of in shared)]
        self.far: dict[tuple[str, str, str], list[tuple[float, float, str]]] = {}
        self.same: dict[tuple[str, str, str], list[int]] = {}
        self.named: dict[str, dict[str, Counter[int]]] = {}
        self.rows: list[SampleRow] = []
        # samples, each of a batch counted
        self.fed = 0
        self.kept: list[tuple[float, Answer]] = []

    def add(self, sample: NamedSample, first: Model) -> None:
        """Feeds all models with a sample."""
        answers = {name: self._answers(name, sample.values, first) for name in self.names}
        rows = batch(sample.values, {output: answers[self.names[0]][output] for output in self.shared})
        self.fed += rows
        worst, told, furthest_two = 0.0, dict[str, str](), self.names[:2]
        for output in self.shared:
            values = {name: answers[name][output] for name in self.names}
            # whole numbers may be lengths or counts, of which no class is named
            telling = self.scored.says_classes(output, values[self.names[0]])
            classes = {
                name: self.scored.classes(output, answers[name], rows) if telling else None for name in self.names
            }
            for name, found in classes.items():
                if found is not None:
                    self.named.setdefault(output, {}).setdefault(name, Counter()).update(found.reshape(-1).tolist())
                    # a line of the report has room for one class; a row of tokens or pixels is only counted
                    if found.size == 1:
                        told.setdefault(name, self._class_name(int(found.reshape(-1)[0])))
            for a, b in combinations(self.names, 2):
                furthest, typical = _apart(values[a], values[b])
                self.far.setdefault((output, a, b), []).append((furthest, typical, sample.name))
                if furthest > worst:
                    worst, furthest_two = furthest, (a, b)
                one, other = classes[a], classes[b]
                if one is not None and other is not None and one.shape == other.shape:
                    counted = self.same.setdefault((output, a, b), [0, 0])
                    counted[0] += int((one == other).sum())
                    counted[1] += one.size
        fed = ", ".join(f"{name} {_kind(value)}" for name, value in sample.values.items())
        self.rows.append(SampleRow(sample.name, fed, worst, told))
        if len(self.names) > 1:
            self._keep(worst, sample, furthest_two, answers)

    def _keep(
        self,
        far: float,
        sample: NamedSample,
        two: tuple[str, ...],
        answers: Mapping[str, Mapping[str, np.ndarray]],
    ) -> None:
        """Of all samples the few that differ most, whole; the first of equals."""
        a, b = two
        outputs = {output: (answers[a][output], answers[b][output]) for output in self.shared}
        labels = tuple(map(str, self.models[self.names[0]].signature.labels or ()))
        self.kept.append((far, Answer(sample.name, a, b, sample.values, outputs, labels)))
        self.kept = sorted(self.kept, key=lambda each: -each[0])[:MOST]

    def _answers(self, name: str, sample: Sample, first: Model) -> dict[str, np.ndarray]:
        model, running, outputs = self.models[name], self.running[name], self.outputs[name]
        fed = hand_over(sample, first.signature, model.signature)[1]
        found = running.run(fed, taps_of(running, list(outputs.values())), self.states[name])
        return {output: np.asarray(as_array(found[own])) for output, own in outputs.items()}

    def _class_name(self, index: int) -> str:
        labels = self.models[self.names[0]].signature.labels or ()
        return str(labels[index]) if 0 <= index < len(labels) else str(index)

    def result(self, title: str, origin: str) -> InputComparison:
        """All that was found, those that differ most first."""
        rows = sorted(self.rows, key=lambda row: -row.furthest)[:_LISTED]
        classes = {
            output: {
                self._class_name(index): {name: counted.get(name, Counter())[index] for name in self.names}
                for index, _ in _most(counted.values())
            }
            for output, counted in self.named.items()
        }
        return InputComparison(
            title,
            self.names,
            len(self.rows),
            tuple(self._pairs()),
            tuple(rows),
            classes,
            tuple(self._weak()),
            origin,
            answers=tuple(answer for _, answer in self.kept),
        )

    def _pairs(self) -> Iterator[OutputPair]:
        for (output, a, b), found in self.far.items():
            furthest, _, sample = max(found, key=lambda each: each[0])
            # the median: one odd sample does not move it
            typical = sorted(each[1] for each in found)[len(found) // 2]
            counted = self.same.get((output, a, b))
            if counted is None:
                yield OutputPair(output, a, b, furthest, typical, sample)
                continue
            low, high = wilson(counted[0], counted[1])
            yield OutputPair(output, a, b, furthest, typical, sample, counted[0], counted[1], float(low), float(high))

    def _weak(self) -> Iterator[Weakness]:
        alone = {output: {index for of in counted.values() for index in of} for output, counted in self.named.items()}
        # where one output of several names more classes than one, the others' agreement is not all that there is
        throughout = all(len(classes) == 1 for classes in alone.values())
        for output, classes in alone.items():
            # one place may name one class; several that all name the same one tell nothing of agreement
            places = max(sum(of.values()) for of in self.named[output].values())
            if len(classes) == 1 and places > 1:
                only = self._class_name(next(iter(classes)))
                what = f"{only!r} is the only class that output {output!r} names on any input"
                # one place of many (tokens, pixels) may well be like all others, and is compared as a value besides
                yield Weakness("one-class", what, self.names, fails=throughout and places == self.fed)
        if random := tuple(name for name, model in self.models.items() if model.untrained):
            yield Weakness("untrained", "untrained weights: their classes mean nothing", random)
        if self.fed < FEW:
            yield Weakness("few-samples", f"only {self.fed} input{'s' if self.fed != 1 else ''}")


def _most(counted: Iterable[Counter[int]]) -> list[tuple[int, int]]:
    total: Counter[int] = Counter()
    for each in counted:
        total.update(each)
    return total.most_common(_LISTED)


def _apart(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """The largest difference, and the root mean square of it, as shares of the largest value of ``a``."""
    # other lengths are another answer, however alike the values
    if a.size != b.size:
        return float("inf"), float("inf")
    if a.dtype.kind not in "iufb" or b.dtype.kind not in "iufb":
        # texts are equal or not; there is no distance between them
        differs = float(not np.array_equal(a.reshape(-1), b.reshape(-1)))
        return differs, differs
    one, other = a.reshape(-1).astype(np.float64), b.reshape(-1).astype(np.float64)
    # equal infinities would differ by NaN, and a NaN from itself
    alike = (one == other) | (np.isnan(one) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        apart = np.where(alike, 0.0, np.abs(one - other))
    finite = np.abs(one[np.isfinite(one)])
    # an output of zeros has no scale: there the differences count as they are
    scale = float(finite.max(initial=0.0)) or 1.0
    if not apart.size:
        return 0.0, 0.0
    if not np.isfinite(apart).all():
        return float("inf"), float("inf")
    return float(apart.max()) / scale, float(np.sqrt(np.mean(apart**2))) / scale


def _kind(value: object) -> str:
    array = np.asarray(value)
    return f"{array.dtype}[{'x'.join(map(str, array.shape))}]"
