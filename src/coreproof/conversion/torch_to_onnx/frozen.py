"""What a user asked to keep of a PyTorch module: its buffers as they are, and each if on data as the example inputs take it."""

from __future__ import annotations

from collections.abc import Mapping

from coreproof.conversion.torch_to_onnx.branches import branches_of
from coreproof.errors import InputError
from coreproof.model.base import Model
from coreproof.model.torch.model import TorchModel


def freeze(model: Model, *, freeze_state: bool, freeze_branches: bool) -> Mapping[str, object] | None:
    """Lets a module be run, exported and held against others as it is frozen; nothing happens where nothing is asked.

    Returns its example inputs where it decides by its data and that is kept: its conversions follow those. Raises InputError
    for a model that is no PyTorch module.
    """
    if not isinstance(model, TorchModel):
        asked = {"--freeze-state": freeze_state, "--freeze-branches": freeze_branches}
        if options := [option for option, wanted in asked.items() if wanted]:
            raise InputError(
                f"{' and '.join(options)}: for PyTorch modules alone",
                where=model.name,
                found=model.format,
                fix="leave it out (in Python: freeze_state, freeze_branches)",
            )
        return None
    model.frozen_state = model.frozen_state or freeze_state
    if freeze_branches and not model.frozen_branches:
        model.frozen_branches = bool(branches_of(model))
    return model.examples if model.frozen_branches else None


def freeze_either(reference: Model, candidate: Model, *, freeze_state: bool, freeze_branches: bool) -> None:
    """The same of two models that are compared, of which one is a PyTorch module. Raises InputError where neither is."""
    modules = [model for model in (reference, candidate) if model.is_torch]
    for model in modules or [reference]:
        freeze(model, freeze_state=freeze_state, freeze_branches=freeze_branches)
