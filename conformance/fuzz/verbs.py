"""Every verb of coreproof as the fuzzer calls it on damaged models, with healthy files beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

import coreproof as cp
from conformance.fuzz.files import Case

MODELS = ("onnx", "mlmodel", "mlpackage", "pt2")


@dataclass
class Scene:
    """Where a verb finds what it needs: the mutant, its healthy original, the photos, healthy models, and room to write."""

    kind: str
    case: Case
    mutant: Path
    healthy: Path
    seeds: Path
    out: Path

    @property
    def path(self) -> Path:
        """What is damaged."""
        return self.mutant / self.case.main

    @property
    def original(self) -> Path:
        """The same before it was."""
        return self.healthy / (self.case.healthy or self.case.main)

    @property
    def photos(self) -> Path:
        """Healthy photos."""
        return self.seeds / "photos"

    def seed(self, kind: str, name: str, file: str) -> Path:
        """A healthy file of another kind."""
        return self.seeds / kind / name / file

    @cached_property
    def model(self) -> Any:
        """The damaged model, loaded once for all verbs that look at it in memory."""
        return cp.load(self.path)


@dataclass(frozen=True)
class Verb:
    """``one_in``: a slow verb is tried on one mutant in so many."""

    name: str
    call: Callable[[Scene], Any]
    one_in: int = 1


def command(*words: Any) -> None:
    """A command line, up to its error: what ``main`` would have to tell."""
    code = _commands().main([str(word) for word in words], prog_name="coreproof", standalone_mode=False)
    if code not in (None, 0, 1, 2):
        raise AssertionError(f"exit code {code}")


@cache
def _commands() -> Any:
    """The commands; to build them takes as long as to show a model."""
    from typer.main import get_command

    from coreproof.cli.main import app

    return get_command(app)


# models


def _load(scene: Scene) -> None:
    model = scene.model
    str(model.signature), len(model.graph.nodes), model.notes


def _save(scene: Scene) -> None:
    scene.model.save(scene.out / f"saved{scene.path.suffix}")


def _run(scene: Scene) -> None:
    cp.record(scene.model, scene.out / "run.npz")


def _html(scene: Scene) -> None:
    from coreproof.report.notebook import html

    html(scene.model)


def _predict(scene: Scene) -> None:
    cp.predict(scene.model, scene.photos / "p0.png")


def _verify(scene: Scene) -> None:
    from coreproof.report.notebook import html

    result = cp.verify(cp.load(scene.original), scene.model)
    result.summary()
    html(result)


def _doctor(scene: Scene) -> None:
    from coreproof.report.notebook import html

    html(cp.diagnose(scene.model))


def _diff(scene: Scene) -> None:
    cp.diff(cp.load(scene.original), scene.model)


def _mlprogram(scene: Scene) -> None:
    cp.convert(scene.model, "mlprogram").save(scene.out / "made.mlpackage")


def _network(scene: Scene) -> None:
    cp.convert(scene.model, "neuralnetwork").save(scene.out / "made.mlmodel")


def _onnx(scene: Scene) -> None:
    cp.convert(scene.model, "onnx").save(scene.out / "made.onnx")


def _upgrade(scene: Scene) -> None:
    cp.upgrade(scene.model).save(scene.out / "upgraded.mlpackage")


def _split(scene: Scene) -> None:
    for number, stage in enumerate(cp.split(scene.model)):
        stage.save(scene.out / f"stage{number}{'.mlpackage' if stage.format == 'mlprogram' else '.mlmodel'}")


def _join(scene: Scene) -> None:
    cp.join([cp.load(scene.original), scene.model]).save(scene.out / "joined.mlpackage")


def _edit(scene: Scene) -> None:
    """The edits that every layered model takes, with names from the damaged model itself."""
    model = scene.model
    node = next(iter(cp.load(scene.original).graph.nodes), None)
    steps = [cp.Edit("rename", {"old": f.name, "new": f"{f.name}_renamed"}) for f in model.signature.inputs[:1]]
    cp.edit(model, steps).model.save(scene.out / f"renamed{scene.path.suffix}")
    if node is not None:
        cp.edit(model, [cp.Edit("delete", {"layer": node.name})])


def _extract(scene: Scene) -> None:
    nodes = [n for n in cp.load(scene.original).graph.nodes if n.outputs]
    if nodes:
        name = nodes[len(nodes) // 2].outputs[0]
        cp.edit(scene.model, [cp.Edit("extract", {"outputs": [name]})]).model.save(
            scene.out / f"extracted{scene.path.suffix}"
        )


def _around(scene: Scene) -> None:
    from coreproof.reduction.neighbourhood import around

    nodes = cp.load(scene.original).graph.nodes
    if nodes:
        around(scene.model, nodes[len(nodes) // 2].name, 1).save(scene.out / f"around{scene.path.suffix}")


def _shrink(scene: Scene) -> None:
    tries = iter(range(40))
    cp.shrink(scene.model, lambda part: next(tries, None) is not None and bool(part.graph.nodes))


def _compare(scene: Scene) -> None:
    models = {"healthy": cp.load(scene.original), "damaged": scene.model}
    feeding = cp.Feeding(size=(8, 8), resize="squash")
    compared = cp.compare({n: _fed(m, feeding) for n, m in models.items()}, scene.photos, workers=1)
    cp.page(compared, scene.out / "page")


def _fed(model: Any, feeding: Any) -> Any:
    if getattr(model, "feeding", None) is None:
        model.feeding = feeding
    return model


def _app(scene: Scene) -> None:
    cp.app(scene.model, scene.photos, scene.out / "app", feeding=cp.Feeding(size=(8, 8), resize="squash"))


def _prove(scene: Scene) -> None:
    cp.prove(
        scene.path, scene.photos, scene.out / "proof", feeding=cp.Feeding(size=(4, 4), resize="squash"), witness=False
    )


def _half(scene: Scene) -> None:
    command("verify", scene.path, "--half")


def _interpreted(scene: Scene) -> None:
    """By Apple's own interpreter, in its child process."""
    with cp.session(scene.model, engine="coreai") as running:
        fed = {
            f.name: np.ones([n if isinstance(n, int) else 2 for n in f.shape or ()]) for f in running.signature.inputs
        }
        running.run(fed, state=running.state() or None)


_SHOWN = (
    Verb("load", _load),
    Verb("show", lambda s: command("show", s.path)),
    Verb("json", lambda s: command("show", s.path, "--json")),
    Verb("html", _html),
    Verb("save", _save),
)
_JUDGED = (
    Verb("run", _run),
    Verb("predict", _predict),
    Verb("verify", _verify, 2),
    Verb("verify2", lambda s: command("verify", s.path, s.original, "--node-data", s.out / "nodes.json"), 2),
    Verb("doctor", _doctor, 2),
    Verb(
        "against",
        lambda s: command("doctor", s.path, "--against", s.original, "--fix", s.out / f"fixed{s.path.suffix}"),
        4,
    ),
    Verb("diff", _diff),
    Verb("diff2", lambda s: command("diff", s.path, s.original)),
)
_CHANGED = (
    Verb("edit", _edit, 2),
    Verb("extract", _extract, 2),
    Verb("around", _around, 2),
    Verb("shrink", _shrink, 8),
    Verb("compare", _compare, 8),
    Verb("app", _app, 16),
)
ONNX = (
    *_SHOWN,
    *_JUDGED,
    Verb("convert", _mlprogram),
    Verb("network", _network, 2),
    Verb("command", lambda s: command("convert", s.path, s.out / "made.mlpackage", "--precision", "fp32"), 8),
    Verb("half", _half, 4),
    *_CHANGED,
    Verb("prove", _prove, 50),
)
COREML = (
    *_SHOWN,
    *_JUDGED,
    Verb("convert", _onnx),
    Verb("upgrade", _upgrade),
    Verb("split", _split),
    Verb("join", _join, 4),
    Verb("command", lambda s: command("split", s.path, s.out / "stages"), 8),
    *_CHANGED,
)
COREAI = (
    *_SHOWN,
    Verb("run", _run),
    Verb("predict", _predict, 2),
    Verb("verify2", lambda s: command("verify", s.path, s.original), 4),
    Verb("diff2", lambda s: command("diff", s.path, s.original), 2),
    Verb("convert", _onnx),
    Verb("apple", _interpreted, 2),
)
TORCH = (
    Verb("load", _load),
    Verb("show", lambda s: command("show", s.path)),
    Verb("html", _html),
    Verb("save", _save, 2),
    Verb("run", _run, 2),
    Verb("verify", _verify, 8),
    Verb("diff", _diff, 4),
    Verb("convert", _onnx, 16),
)


def _script(scene: Scene) -> Any:
    return cp.load(f"{scene.path}?x=1x4", trust=True)


SCRIPT = (
    Verb("load", lambda s: cp.load(s.path)),
    Verb("show", lambda s: command("show", f"{s.path}?x=1x4", "--trust")),
    Verb("run", lambda s: cp.record(_script(s), s.out / "run.npz")),
    Verb("convert", lambda s: cp.convert(_script(s), "mlprogram").save(s.out / "made.mlpackage"), 2),
)

# a saved run, which is read as the model that it stands for


def _recorded(scene: Scene) -> Path:
    return scene.healthy / next(n for n in scene.case.files if n != "run.npz").split("/")[0]


def _replay(scene: Scene) -> None:
    model = scene.model
    for index, fed in enumerate(model.samples):
        with cp.session(model) as running:
            running.run(fed, taps=tuple(model.names))
        for name in model.names:
            model.value(name, index)


RECORDING = (
    Verb("load", _load),
    Verb("show", lambda s: command("show", s.path)),
    Verb("json", lambda s: command("show", s.path, "--json")),
    Verb("html", _html),
    Verb("save", _save),
    Verb("run", _replay),
    Verb("verify", lambda s: cp.verify(s.model, cp.load(_recorded(s))).summary()),
    Verb("verify2", lambda s: cp.verify(cp.load(s.original), s.model).summary()),
    Verb("command", lambda s: command("verify", _recorded(s), "--load", s.path), 2),
    Verb("diff", _diff),
    Verb("doctor", _doctor, 2),
    Verb("against", lambda s: command("doctor", _recorded(s), "--against", s.path), 4),
    Verb("convert", _onnx, 4),
    Verb("edit", lambda s: cp.edit(s.model, [cp.Edit("rename", {"old": "x", "new": "z"})]), 4),
)
