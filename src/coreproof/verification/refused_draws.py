"""What a PyTorch module's own checks refuse of the inputs that are drawn: it is held at the rest, or at its example inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from coreproof.errors import CoreproofError
from coreproof.feeding.drawn import Feeds
from coreproof.feeding.example_feeds import example_feeds
from coreproof.model.base import Model
from coreproof.model.torch.model import TorchModel
from coreproof.runtime.session import Session

EXAMPLE = "the example inputs, as the module refuses what was drawn"


def without_refused(models: tuple[Model, Model], sessions: tuple[Session, Session], fed: Feeds) -> Feeds | None:
    """A module's example inputs and the draws that it takes, where it refuses some of them.

    None where nothing was drawn, neither model is a module with example inputs, or it refuses nothing.
    """
    at = next((at for at, model in enumerate(models) if isinstance(model, TorchModel) and model.examples), None)
    if at is None or not fed.taken:
        return None
    kept = [number for number, pair in enumerate(fed.pairs) if takes(sessions[at], pair[at])]
    if len(kept) == len(fed.pairs):
        return None
    module, other = models[at], models[1 - at]
    assert isinstance(module, TorchModel)
    example = example_feeds(module, other, sessions[1 - at], module_first=at == 0)
    if not kept:
        return replace(example, said=EXAMPLE)
    left = len(fed.pairs) - len(kept)
    refused = f"{left} {'draws' if left > 1 else 'draw'} that the module refuses left out"
    return Feeds(
        [*example.pairs, *(fed.pairs[number] for number in kept)], f"the example inputs, and {fed.said}; {refused}"
    )


def takes(running: Session, sample: Mapping[str, object]) -> bool:
    """Whether a model runs on a sample."""
    try:
        running.run(sample)
    except CoreproofError:
        return False
    return True
