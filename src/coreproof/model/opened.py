"""opened: a model that remembers, of whatever format, as one step: what it remembers comes in and goes out."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import replace

from coreproof.model.base import Model
from coreproof.model.features import Signature
from coreproof.model.remembered import matched_pairs, noted_pairs


def opened(model: Model, states: Mapping[str, str] | None = None) -> Model:
    """The model with all that it remembers as inputs and outputs, whose pairs are its ``remembers``; itself without any.

    ``states`` say which of the inputs of an ONNX or Core ML model are such, as patterns (``past_*=present_*``); without them
    its metadata does. Raises InputError for patterns that do not fit, ConversionError for a program whose states make no sense.
    """
    from coreproof.model.coreai.model import CoreAIModel
    from coreproof.model.coreai.open_states import open_states as open_coreai_states
    from coreproof.model.coreml.model import CoreMLModel
    from coreproof.model.coreml.open_states import open_states
    from coreproof.model.onnx.model import OnnxModel
    from coreproof.model.torch.model import TorchModel
    from coreproof.model.torch.open_states import open_buffers

    if model.remembers:
        return model
    if isinstance(model, TorchModel):
        return open_buffers(model)
    step, known = model, dict[str, str]()
    if isinstance(model, CoreMLModel):
        # a model with states may hand on other things besides, of a kind that a state cannot hold
        states_opened = open_states(model)
        step, known = states_opened.model, dict(states_opened.pairs)
        metadata: Mapping[str, str] = model.spec.description.metadata.userDefined
    elif isinstance(model, CoreAIModel):
        step, pairs = open_coreai_states(model)
        known, metadata = dict(pairs), {}
    elif isinstance(model, OnnxModel):
        metadata = model.ir.metadata_props
    else:
        return model
    known |= matched_pairs(states, step.signature, model.name) if states else noted_pairs(metadata, step.signature)
    if not known:
        return model
    step = copy(step)
    step.remembers = known
    return step


def without_memory(signature: Signature, remembers: Mapping[str, str]) -> Signature:
    """The features of an opened model that are fed and answered, without what it remembers."""
    return replace(
        signature,
        inputs=tuple(f for f in signature.inputs if f.name not in remembers),
        outputs=tuple(f for f in signature.outputs if f.name not in remembers.values()),
    )
