"""advise: whether a model is to ship with Core ML, with Core AI or with both, from facts that stand beside the answer."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from coreproof.conversion.check import Checked, Obstacle, check
from coreproof.conversion.convert import Target, convert
from coreproof.conversion.mil_to_coreai.left_behind import LeftBehind, kind_left_behind, left_behind
from coreproof.conversion.onnx_to_coreml.features import SPECIFICATIONS
from coreproof.errors import CoreproofError
from coreproof.known_faults.found import known_faults
from coreproof.model.arguments import whole
from coreproof.model.base import Model
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.notebook_view import Spoken
from coreproof.model.public import public

COREAI_SINCE = 27
"""The first iOS that has Core AI, and the first macOS (June 2026)."""
_OLDEST = 11
"""The first iOS that has Core ML."""

Framework = Literal["coreml", "coreai"]
Verdict = Literal["coreml", "coreai", "both", "neither"]
FactKind = Literal["system", "operations", "kind", "declared", "states", "known"]


@dataclass(frozen=True)
class Fact:
    """One thing that speaks for a framework, or against it; ``where`` in the model, and what ``to_do``, if that is known."""

    kind: FactKind
    framework: Framework
    speaks_for: bool
    text: str
    where: str | None = None
    to_do: str | None = None

    def to_json(self) -> dict[str, object]:
        """The fact as JSON holds it."""
        return dict(vars(self))


@dataclass(frozen=True, repr=False)
class Advice(Spoken):
    """What to ship for devices from ``min_ios`` on, and why; true unless neither framework takes the model.

    ``verdict`` "both": Core ML for all systems, and Core AI from iOS 27 on in its place. ``coreml_since`` is the first iOS that
    runs the Core ML form, None where there is none; ``coreai`` whether the model becomes a Core AI program.
    """

    model: str
    min_ios: int
    verdict: Verdict
    text: str
    facts: tuple[Fact, ...]
    coreml_since: int | None
    coreai: bool

    def _spoken(self) -> str:
        return self.text

    def __bool__(self) -> bool:
        return self.verdict != "neither"

    def to_json(self) -> dict[str, object]:
        """A document of it."""
        return {
            "model": self.model,
            "min_ios": self.min_ios,
            "verdict": self.verdict,
            "text": self.text,
            "coreml_since": self.coreml_since,
            "coreai": self.coreai,
            "facts": [fact.to_json() for fact in self.facts],
        }


@public
def advise(
    model: Model | str | Path | object, min_ios: int = 17, *, shapes: Mapping[str, object] | None = None
) -> Advice:
    """Whether a model is to ship with Core ML, with Core AI or with both, for devices from ``min_ios`` on.

    The facts: which systems have each framework, which operations have no translation (both conversions are tried in memory, at
    ``shapes`` where lengths are free), what the model remembers, what of it a Core AI program has no place for, and which
    publicly known faults of Apple's systems concern its layers in either form. How fast either is on a phone is not among them:
    only the phone tells.

    Raises InputError for a system that has no Core ML, and what ``load`` raises.

    Example:
        >>> cp.advise("net.onnx", min_ios=17).verdict
        'both'
        >>> cp.advise("net.onnx", min_ios=27).verdict
        'coreai'

    """
    from coreproof.model.load import load

    min_ios = whole(min_ios, "min_ios", least=_OLDEST)
    source = load(model)
    since, of_coreml = _coreml(source, min_ios, shapes)
    goes, of_coreai = _coreai(source, shapes)
    gone = (*kind_left_behind(source), *left_behind(source.signature))
    facts = [*of_coreml, *of_coreai, *(_declared(one) for one in gone), *_states(source)]
    facts += [*_known_faults(source, min_ios, since, goes, shapes), *_systems(min_ios)]
    verdict = _verdict(min_ios, since, goes, gone)
    return Advice(source.name, min_ios, verdict, _text(source, min_ios, verdict, since), tuple(facts), since, goes)


def _verdict(min_ios: int, since: int | None, goes: bool, gone: tuple[LeftBehind, ...]) -> Verdict:
    if since is None or since > min_ios:
        if goes and (since is None or since >= COREAI_SINCE):
            return "coreai"
        return "neither" if since is None else "coreml"
    # what Core AI has no place for, an app would have to do itself
    if not goes or gone:
        return "coreml"
    return "coreai" if min_ios >= COREAI_SINCE else "both"


def _text(source: Model, min_ios: int, verdict: Verdict, since: int | None) -> str:
    late = "" if since is None or since <= min_ios else f", and from iOS {since} on, which is later than you asked for"
    told = {
        "coreml": f"Core ML{late}",
        "coreai": f"Core AI{'' if min_ios >= COREAI_SINCE else f', which begins with iOS {COREAI_SINCE}'}",
        "both": f"Core ML for all of iOS {min_ios} and later; Core AI in its place from iOS {COREAI_SINCE} on, if you want it",
        "neither": "neither Core ML nor Core AI takes it as it stands",
    }
    return f"{source.name}: {told[verdict]}"


def _coreml(source: Model, min_ios: int, shapes: Mapping[str, object] | None) -> tuple[int | None, list[Fact]]:
    """The first iOS that runs the model's Core ML form, and why."""
    if isinstance(source, CoreMLModel):
        version = int(source.spec.specificationVersion)
        since = min((ios for ios, known in SPECIFICATIONS.items() if known >= version), default=max(SPECIFICATIONS))
        since = _OLDEST if version < min(SPECIFICATIONS.values()) else since
        text = f"it is a Core ML model, and iOS {since} and later read it (specification version {version})"
        return since, [Fact("system", "coreml", True, text)]
    asked, form = _form(min_ios)
    found = _checked(source, form, f"iOS{asked}", shapes)
    if found is None or isinstance(found, CoreproofError):
        return None, [_refused("coreml", found)]
    if found:
        newest = f"every operation is there, in the form of iOS {asked}, which later systems read too"
        text = f"every operation is there from iOS {asked} on" if asked == min_ios else newest
        return asked, [Fact("operations", "coreml", True, text)]
    later = sorted(int(system.removeprefix("iOS")) for _, system in found.would_do)
    after = next((ios for ios in later if ios > asked), None)
    facts = _obstacles("coreml", found.obstacles)
    if after is not None:
        facts.append(Fact("system", "coreml", False, f"it converts for iOS {after} and later only"))
    return after, facts


def _form(min_ios: int) -> tuple[int, Target]:
    """The newest target that all systems from ``min_ios`` on read, and what a model becomes for it."""
    asked = max((ios for ios in SPECIFICATIONS if ios <= min_ios), default=min(SPECIFICATIONS))
    return asked, "mlprogram" if asked >= 15 else "neuralnetwork"


def _known_faults(
    source: Model, min_ios: int, since: int | None, goes: bool, shapes: Mapping[str, object] | None
) -> list[Fact]:
    """The publicly known faults of Apple's systems whose pattern the model has, in the forms that it would be shipped in."""
    forms: list[Model] = [source]
    wanted = [_form(max(min_ios, since))] if since is not None and source.is_source else []
    with suppress(CoreproofError):
        forms += [convert(source, to, target=f"iOS{ios}", shapes=shapes) for ios, to in wanted]
        # Apple's package writes a Core AI program, and without it there is none to look into
        if goes and not source.is_coreai and find_spec("coreai") is not None:
            forms.append(convert(source, "coreai", shapes=shapes))
    return [
        Fact(
            "known",
            found.fault.framework,
            False,
            f"known fault {found.fault.id}: {found.cause}",
            ", ".join(sighting.place for sighting in found.sightings),
            found.fault.workaround,
        )
        for form in forms
        for found in known_faults(form)
        if found.fault.concerns(min_ios)
    ]


def _coreai(source: Model, shapes: Mapping[str, object] | None) -> tuple[bool, list[Fact]]:
    """Whether the model becomes a Core AI program, and why not."""
    found = _checked(source, "coreai", None, shapes)
    if found is None or isinstance(found, CoreproofError):
        return False, [_refused("coreai", found)]
    if not found:
        return False, _obstacles("coreai", found.obstacles)
    return True, [Fact("operations", "coreai", True, "every operation has a translation")]


def _checked(
    source: Model,
    to: Target,
    target: str | None,
    shapes: Mapping[str, object] | None,
) -> Checked | CoreproofError | None:
    try:
        return check(source, to, target=target, shapes=shapes)
    except CoreproofError as error:
        return error


def _refused(framework: Framework, error: CoreproofError | None) -> Fact:
    problem = "it does not convert" if error is None else error.problem
    return Fact(
        "kind", framework, False, problem, None if error is None else error.where, None if error is None else error.fix
    )


def _obstacles(framework: Framework, obstacles: tuple[Obstacle, ...]) -> list[Fact]:
    return [Fact("operations", framework, False, o.problem, o.where, o.fix) for o in obstacles]


def _declared(one: LeftBehind) -> Fact:
    kind: FactKind = "kind" if one.kind in ("estimator", "pipeline") else "declared"
    return Fact(kind, "coreai", False, one.what, ", ".join(one.features) or None, one.to_do)


def _states(source: Model) -> list[Fact]:
    states = [f.name for f in source.signature.states]
    if not states:
        return []
    where = ", ".join(states)
    return [
        Fact("states", "coreml", False, "what it remembers is a state, which Core ML has from iOS 18 on", where),
        Fact("states", "coreai", True, "what it remembers stays a state", where),
    ]


def _systems(min_ios: int) -> list[Fact]:
    below = min_ios < COREAI_SINCE
    return [
        Fact("system", "coreml", True, "every system runs Core ML, those from iOS 27 on too: it is not deprecated"),
        Fact(
            "system",
            "coreai",
            not below,
            f"iOS {min_ios} to {COREAI_SINCE - 1} have no Core AI, nor has the Simulator"
            if below
            else "all systems that you ask for have Core AI; the Simulator has not",
        ),
    ]
