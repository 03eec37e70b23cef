"""Linked models: a file that names another one, which lies beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from coreproof.conversion.coreml_to_onnx.classic.lowerer import ModelLowerer, lowers_model
from coreproof.conversion.coreml_to_onnx.classic.pipeline import added
from coreproof.conversion.coreml_to_onnx.classic.stage import Stage
from coreproof.conversion.coreml_to_onnx.kinds import lowerer_of
from coreproof.errors import UnsupportedModelError
from coreproof.model.coreml.model import CoreMLModel, load_coreml
from coreproof.model.files.paths import inside

_SUFFIXES = (".mlmodel", ".mlpackage")
_followed: ContextVar[tuple[Path, ...]] = ContextVar("_followed", default=())
"""The files that lead to the one that is being lowered."""


def _problems(model: CoreMLModel) -> Iterator[str]:
    if model.spec.linkedModel.WhichOneof("LinkType") is None or not _name(model):
        yield "it names no other model"


def _name(model: CoreMLModel) -> str:
    return str(model.spec.linkedModel.linkedModelFile.linkedModelFileName.defaultValue)


@lowers_model(_problems)
def lower_linked(stage: Stage) -> None:
    """The model that the file names, as a .mlmodel or .mlpackage of that name in the folder of the file, or in one below it."""
    path = _target(stage)
    if path in _followed.get():
        raise stage.refuse(
            "the models link to each other in a circle", found=" -> ".join(map(str, (*_followed.get(), path)))
        )
    before = _followed.set((*_followed.get(), path))
    try:
        model = load_coreml(path)
        lower = lowerer_of(model.kind)
        if lower is None:
            raise stage.refuse(f"it links to a model of a kind that is not lowered, {model.kind}", found=str(path))
        inner = Stage(model, f"{stage.where}, which links to {path.name}", stage.held, stage.shared)
        made = (
            lower.into(inner)
            if isinstance(lower, ModelLowerer)
            else added(inner, lower(model, "stored", function=None))
        )
    finally:
        _followed.reset(before)
    for feature in stage.model.signature.outputs:
        if feature.name not in made:
            raise stage.refuse(
                f"the model that it links to does not make its output {feature.name!r}", found=", ".join(made)
            )
        stage.write(feature.name, made[feature.name])


def _target(stage: Stage) -> Path:
    name = _name(stage.model)
    origin = stage.model.origin if isinstance(stage.model.origin, Path) else stage.model.path
    folders = stage.model.spec.linkedModel.linkedModelFile.linkedModelSearchPath.defaultValue.split(":")
    for folder in folders if origin is not None else []:
        if folder.startswith("$"):  # a bundle of an app
            continue
        for suffix in _SUFFIXES:
            assert origin is not None
            said = f"{folder or '.'}/{Path(name).stem}{suffix}"
            path = inside(origin.parent, said, what="the model that it links to", where=stage.where)
            if path.exists():
                return path
    raise UnsupportedModelError(
        f"it links to {name!r}, a compiled model that is not there in a form that can be read",
        where=stage.where,
        expected=f"{Path(name).stem}{' or '.join(_SUFFIXES)} beside the file",
        fix="put the model that it links to, not compiled, into the same folder",
    )
