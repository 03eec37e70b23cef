"""What a PyTorch module keeps in buffers that it changes, opened: an input and an output of each, so that it is one step.

A wrapper lends the module the buffers that it is given, calls it, and hands out what it left in them. Nothing stays behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coreproof.model.formats.free_name import free_name
from coreproof.model.remembered import identifier
from coreproof.model.torch.kept import changed_by_call
from coreproof.model.torch.model import TorchModel, import_torch, name_outputs, quiet


def open_buffers(model: TorchModel) -> TorchModel:
    """The module with each buffer that it changes as an input and an output; itself where it changes none.

    A buffer ``layer.cache`` becomes the input ``layer_cache``, whose example is what the buffer holds, and the output
    ``layer_cache_after``. A module whose state is frozen, or that counts what it trains on, stays as it is.
    """
    with model.evaluation():
        return _opened(model)


def _opened(model: TorchModel) -> TorchModel:
    # a .pt2 program keeps its buffers where no wrapper can lend it others
    if model.frozen_state or model.frozen_branches or (model.path is not None and model.path.suffix == ".pt2"):
        return model
    names = changed_buffers(model)
    training = any(
        getattr(m, "training", False) and getattr(m, "track_running_stats", False) for m in model.module.modules()
    )
    if not names or training:
        return model
    torch = import_torch()
    buffers = dict(model.module.named_buffers())
    taken = {*model.input_names, *model.example_outputs}
    pairs: dict[str, str] = {}
    for name in names:
        given = free_name(identifier(name), taken | pairs.keys())
        pairs[given] = free_name(f"{given}_after", taken | set(pairs.values()))

    class Step(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.module = model.module

        def forward(self, *tensors: Any) -> Mapping[str, object]:
            given, held = tensors[: len(model.input_names)], tensors[len(model.input_names) :]
            # looked up in each call: a module may put others in their places
            owners = [(self.module.get_submodule(n.rpartition(".")[0]), n.rpartition(".")[2]) for n in names]
            before = [getattr(owner, own) for owner, own in owners]
            for (owner, own), value in zip(owners, held, strict=True):
                # the module may write into what it is lent
                setattr(owner, own, value.clone())
            try:
                outputs = name_outputs(self.module(*given))
                # read again, since a module may replace a buffer instead of writing into it
                after = [getattr(owner, own) for owner, own in owners]
            finally:
                for (owner, own), value in zip(owners, before, strict=True):
                    setattr(owner, own, value)
            return {**outputs, **dict(zip(pairs.values(), after, strict=True))}

    opened = TorchModel(
        Step(),
        (*model.example_inputs, *(buffers[name].detach().clone() for name in names)),
        name=model.name,
        path=model.path,
        notes=model.notes,
        feeding=model.feeding,
        untrained=model.untrained,
    )
    opened.labels = model.labels
    opened.input_names = (*model.input_names, *pairs)
    opened.remembers = pairs
    opened.lent = model.lent
    return opened


def changed_buffers(model: TorchModel) -> list[str]:
    """The buffers that the module writes to, or replaces, when it is called with its example inputs; whatever it writes."""
    torch = import_torch()

    def call() -> None:
        with torch.no_grad(), quiet():
            model.module(*(x.clone() if hasattr(x, "clone") else x for x in model.example_inputs))

    return changed_by_call(model.module, call)
