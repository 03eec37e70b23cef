"""check: whether a model converts, what stands in the way and where, and which target would do, before anything is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from coreproof.conversion.convert import TARGETS, Target, to_onnx
from coreproof.conversion.shapes import with_batches
from coreproof.errors import ConversionError, CoreproofError, InputError, UnsupportedOperatorsError
from coreproof.model.arguments import PRECISIONS, System, one_of
from coreproof.model.notebook_view import Spoken
from coreproof.model.public import public

if TYPE_CHECKING:
    from pathlib import Path

    from coreproof.model.base import Model
    from coreproof.model.onnx.model import OnnxModel

Precision = Literal["fp16", "fp32", "float16", "float32"]

_WORDS = {"onnx": "ONNX", "mlprogram": "an ML Program", "neuralnetwork": "a NeuralNetwork", "coreai": "Core AI"}


@dataclass(frozen=True)
class Obstacle:
    """One thing that stands in the way of a conversion: what, where, and what would help, as far as it is known."""

    problem: str
    where: str | None = None
    expected: str | None = None
    found: str | None = None
    fix: str | None = None

    def __str__(self) -> str:
        return str(
            CoreproofError(self.problem, where=self.where, expected=self.expected, found=self.found, fix=self.fix)
        )


@dataclass(frozen=True, repr=False)
class Checked(Spoken):
    """What ``check`` found; true where the model converts.

    ``to`` and ``target`` say into what it was to be converted ("mlprogram", "iOS17"; no target for "onnx"). ``obstacles`` are all
    that stood in the way, in the order of the model's nodes. ``would_do`` are the formats and targets for which it converts as it
    stands, ("mlprogram", "iOS18"), the asked one alone where that is among them. ``notes`` is what a conversion would say.
    """

    model: str
    to: Target
    target: str | None
    obstacles: tuple[Obstacle, ...]
    would_do: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()

    def _spoken(self) -> str:
        return self.text

    def __bool__(self) -> bool:
        return not self.obstacles

    @property
    def text(self) -> str:
        """All of it in lines."""
        into = f"{self.model} to {_as(self.to, self.target)}"
        if self:
            return "\n".join([f"{into}: converts", *(f"  note: {note}" for note in self.notes)])
        count = len(self.obstacles)
        lines = [f"{into}: {count} {'thing stands' if count == 1 else 'things stand'} in the way"]
        for obstacle in self.obstacles:
            lines += [f"  {line}" for line in str(obstacle).split("\n")]
        others = ", ".join(_as(to, target) for to, target in self.would_do)
        lines.append(f"what would do: {others or 'none of the targets, as it stands'}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, object]:
        """A document of it."""
        return {
            "model": self.model,
            "to": self.to,
            "target": self.target,
            "converts": bool(self),
            "obstacles": [vars(obstacle) for obstacle in self.obstacles],
            "would_do": [{"to": to, "target": target} for to, target in self.would_do],
            "notes": list(self.notes),
        }


@public
def check(
    model: Model | str | Path | object,
    to: Target | None = None,
    *,
    target: System | None = None,
    precision: Precision | None = None,
    shapes: Mapping[str, object] | None = None,
    batch: int | str | None = None,
    freeze_state: bool = False,
    freeze_branches: bool = False,
) -> Checked:
    """Says before converting whether a model converts: what fails, where, what would help, and which target would do.

    The conversion is tried in memory, node by node, so that all that stands in the way is found at once, and nothing is written.
    ``to`` is "mlprogram" for ONNX and PyTorch models and "onnx" for Core ML models where nothing is said; ``target`` and the
    others are the arguments of ``convert``. Whether the result *equals* its source is what ``convert`` and ``verify`` find out.

    Raises what ``load`` raises, and InputError for an argument that is none of its list.

    Example:
        >>> bool(cp.check("net.onnx"))
        True

    """
    from coreproof.conversion.onnx_to_coreml.features import SPECIFICATIONS, ios_version
    from coreproof.model.load import load

    if precision is not None:
        precision = one_of(precision, PRECISIONS, "precision")
    if to is not None:
        to = one_of(to, TARGETS, "to")
        if to == "coreai" and target is not None:
            raise InputError("target= is for Core ML", found='to="coreai"')
        if to not in ("onnx", "coreai"):
            ios_version(target, to)  # before a model is read and traced, which takes its time
    source = load(model)
    to = to or ("mlprogram" if source.is_source else "onnx")
    if to == "coreai" and source.is_program:
        failed = _translated(source)
        return Checked(source.name, to, None, () if failed is None else _obstacles(failed), ())
    if to != "onnx" and not source.is_source and not (to == "coreai" and source.is_coreml):
        raise ConversionError(
            f"there is no way from {source.format} to {to}", where=source.name, expected="an ONNX or PyTorch model"
        )
    asked = None if to in ("onnx", "coreai") else f"iOS{ios_version(target, to)}"
    if batch is not None:
        shapes = with_batches(source.signature.inputs, shapes or {}, batch)
    try:
        middle = to_onnx(source, shapes=shapes, freeze_state=freeze_state, freeze_branches=freeze_branches)
    except (ConversionError, UnsupportedOperatorsError) as error:
        return Checked(source.name, to, asked, _obstacles(error), ())
    if to == "coreai":
        failed, notes = _tried(middle, to, "iOS18", precision, shapes)
        return Checked(source.name, to, None, () if failed is None else _obstacles(failed), (), notes)
    if to == "onnx" or asked is None:
        return Checked(source.name, to, None, (), (), tuple(middle.notes))

    def tried(form: str, system: str) -> tuple[CoreproofError | None, tuple[str, ...]]:
        return _tried(middle, form, system, precision, shapes)

    failed, notes = tried(to, asked)
    if failed is None:
        return Checked(source.name, to, asked, (), ((to, asked),), notes)
    would_do: list[tuple[str, str]] = []
    # what has no lowering has none for any target
    if not isinstance(failed, UnsupportedOperatorsError):
        for version in SPECIFICATIONS:
            form, system = "mlprogram" if version >= 15 else "neuralnetwork", f"iOS{version}"
            if (form, system) != (to, asked) and tried(form, system)[0] is None:
                would_do.append((form, system))
    return Checked(source.name, to, asked, _obstacles(failed), tuple(would_do))


def _tried(
    middle: OnnxModel, form: str, system: str, precision: Precision | None, shapes: Mapping[str, object] | None
) -> tuple[CoreproofError | None, tuple[str, ...]]:
    """What a conversion fails for, None where it does not, and what it says."""
    from coreproof.conversion.onnx_to_coreml.convert import onnx_to_coreml

    try:
        if form == "neuralnetwork":
            made = onnx_to_coreml(middle, "neuralnetwork", target=system, shapes=shapes)
        else:
            made = onnx_to_coreml(middle, "mlprogram", precision=precision, target=system, shapes=shapes)
        if form == "coreai":
            return _translated(made), tuple(made.notes)
    except (ConversionError, UnsupportedOperatorsError) as error:
        return error, ()
    return None, tuple(made.notes)


def _translated(program: Model) -> CoreproofError | None:
    """What keeps an ML Program from becoming a Core AI program; None where nothing does. It does not take Apple's package."""
    from coreproof.conversion.mil_to_coreai.convert import translated
    from coreproof.model.coreml.model import CoreMLModel

    assert isinstance(program, CoreMLModel)
    try:
        translated(program)
    except (ConversionError, UnsupportedOperatorsError) as error:
        return error
    return None


def _obstacles(error: CoreproofError) -> tuple[Obstacle, ...]:
    """Each of the problems that an error tells at once, by itself."""
    found = [
        Obstacle(
            f"{operator} is not lowered",
            where=f"{len(nodes)} nodes: {', '.join(map(repr, nodes))}" if len(nodes) > 1 else f"node {nodes[0]!r}",
            fix=error.fix,
        )
        for operator, nodes in (error.operators.items() if isinstance(error, UnsupportedOperatorsError) else ())
    ]
    rest = error.problems or (() if found else (error,))
    return (*found, *(_as_obstacle(problem) for problem in rest))


def _as_obstacle(error: CoreproofError) -> Obstacle:
    expected, found = (None if part is None else str(part) for part in (error.expected, error.found))
    return Obstacle(error.problem, error.where, expected, found, error.fix)


def _as(to: str, target: str | None) -> str:
    return _WORDS[to] if target is None else f"{_WORDS[to]} for {target}"
