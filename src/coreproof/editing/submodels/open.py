"""submodel_builder: what builds sub-models of a model, by its format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from coreproof.editing.submodels.network import NetworkSubmodelBuilder
from coreproof.editing.submodels.onnx import OnnxSubmodelBuilder
from coreproof.editing.submodels.program import ProgramSubmodelBuilder
from coreproof.editing.submodels.submodel import SubmodelBuilder
from coreproof.errors import CoreproofError, EditError
from coreproof.model.base import Model

BUILDERS: Mapping[str, type[SubmodelBuilder]] = {
    "onnx": OnnxSubmodelBuilder,
    "neuralnetwork": NetworkSubmodelBuilder,
    "mlprogram": ProgramSubmodelBuilder,
}
_TAPPED = 64
"""Values that are brought out at a time: all at once may be more than memory holds."""


def submodel_builder(model: Model) -> SubmodelBuilder:
    """The builder of a model's format, with the shapes that values have when the model runs where nothing else says them.

    Raises EditError for a format that has no layers to cut at.
    """
    builder = builder_of(model)
    unknown = [name for layer in builder.layers for name in layer.makes if not builder.can_feed(name)]
    # every blob of a NeuralNetwork has a shape that follows; a model that does not run is cut where its shapes are declared
    with suppress(CoreproofError):
        learn(builder, unknown if not model.is_network else ())
    return builder


def builder_of(model: Model) -> SubmodelBuilder:
    """The builder of a model's format, knowing what the file says. Raises EditError for a format without layers to cut at."""
    if model.format not in BUILDERS:
        raise EditError(
            f"a {model.format} model cannot be cut",
            where=model.name,
            expected="an ONNX, NeuralNetwork or ML Program model",
            found=model.format,
            fix="convert a PyTorch model to ONNX first; split a pipeline into its stages",
        )
    return BUILDERS[model.format](model)


def learn(builder: SubmodelBuilder, names: Sequence[str]) -> None:
    """Tells the builder the shapes that values have on random inputs. Raises what a session raises if the model does not run."""
    if not names:
        return
    from coreproof.feeding.drawn import random_feeds
    from coreproof.runtime.open import session

    with session(builder.model) as running:
        fed = random_feeds(builder.model, builder.model)[0]
        taps = [name for name in names if name in running.tappable]
        for start in range(0, len(taps), _TAPPED):
            chosen = taps[start : start + _TAPPED]
            made = running.run(fed, chosen)
            for name in chosen:
                if hasattr(made[name], "shape"):
                    builder.learn(name, tuple(made[name].shape), str(made[name].dtype))
