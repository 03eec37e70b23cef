"""submodel_builder: a model made ready to be cut, by the builder of its format."""

from __future__ import annotations

from contextlib import suppress

from coreproof.editing.submodels.submodel import SubmodelBuilder
from coreproof.errors import CoreproofError, EditError
from coreproof.model.base import Model

_TAPPED = 64
"""Values that are brought out at a time."""


def submodel_builder(model: Model) -> SubmodelBuilder:
    """Makes a model ready to be cut. Raises EditError for a format that has no layers to cut at."""
    if model.format == "onnx":
        from coreproof.editing.submodels.onnx import OnnxSubmodelBuilder

        return _learned(OnnxSubmodelBuilder.of(model))
    if model.format == "neuralnetwork":
        from coreproof.editing.submodels.network import NetworkSubmodelBuilder

        return NetworkSubmodelBuilder.of(model)
    if model.format == "mlprogram":
        from coreproof.editing.submodels.program import ProgramSubmodelBuilder

        return _learned(ProgramSubmodelBuilder.of(model))
    raise EditError(
        f"a {model.format} model cannot be cut",
        where=model.name,
        expected="an ONNX, NeuralNetwork or ML Program model",
        found=model.format,
        fix="convert a PyTorch model to ONNX first; split a pipeline into its stages",
    )


def _learned(found: SubmodelBuilder) -> SubmodelBuilder:
    """With the shapes that values have when the model runs on random inputs, where nothing else says them."""
    unknown = [name for layer in found.layers for name in layer.makes if not found.can_feed(name)]
    if not unknown:
        return found
    from coreproof.feeding.inputs import random_feeds
    from coreproof.runtime.open import session

    # a model that does not run is cut where its shapes are declared
    with suppress(CoreproofError), session(found.model) as running:
        fed = random_feeds(found.model, found.model)[0]
        taps = [name for name in unknown if name in running.tappable]
        for start in range(0, len(taps), _TAPPED):
            names = taps[start : start + _TAPPED]
            made = running.run(fed, names)
            for name in names:
                if hasattr(made[name], "shape"):
                    found.learn(name, tuple(made[name].shape), str(made[name].dtype))
    return found
