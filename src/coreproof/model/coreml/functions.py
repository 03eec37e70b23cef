"""The functions of an ML Program that has several: their names, and the package looked at from one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coreproof.errors import ConversionError

if TYPE_CHECKING:
    from coreproof.model.coreml.model import CoreMLModel

SIGN = "#"
"""Between a package and the name of its function, wherever a model is named: ``llm.mlpackage#decode``."""


def function_names(model: object) -> tuple[str, ...]:
    """The functions of a package that has several, its default one first; none for any other model."""
    from coreproof.model.coreml.model import CoreMLModel

    if not isinstance(model, CoreMLModel) or not model.is_program:
        return ()
    description = model.spec.description
    names = [function.name for function in description.functions]
    return tuple(sorted(names, key=lambda name: name != (model.stored_default or description.defaultFunctionName)))


def at_function(model: CoreMLModel, name: str) -> CoreMLModel:
    """The package with this function as the one that every verb works on; written, it has the default function that it had.

    Raises ConversionError for a name that it does not have.
    """
    described = [function.name for function in model.spec.description.functions]
    if name not in model.spec.mlProgram.functions or (described and name not in described):
        raise ConversionError(
            "the model has no such function",
            where=model.where,
            expected=" or ".join(sorted(described or model.spec.mlProgram.functions)) or "an ML Program with functions",
            found=name,
        )
    default = model.spec.description.defaultFunctionName
    if not described:
        return model
    spec = model.spec
    if name != default:
        spec = type(model.spec)()
        spec.CopyFrom(model.spec)
        spec.description.defaultFunctionName = name
    chosen = model.with_spec(spec)
    chosen.stored_default = model.stored_default or default
    chosen.path = model.path
    chosen.name = f"{model.name.partition(SIGN)[0]}{SIGN}{name}"
    return chosen
