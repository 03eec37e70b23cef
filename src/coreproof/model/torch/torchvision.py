"""Models of torchvision by name: published weights with their own transforms and labels, a file of weights, or random ones."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import inspect
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from coreproof.errors import InputError, MissingDependencyError, UnreadableModelError, first_few
from coreproof.model.feeding import TORCHVISION_FEEDING, Feeding
from coreproof.model.files.paths import regular_file
from coreproof.model.named.query import random_weights_note, read_query, require_classes, weights_said, whole_number
from coreproof.model.stored_source import is_file_of_weights
from coreproof.model.torch.model import TorchModel, import_torch, import_torchvision, quiet
from coreproof.model.torch.user_code import said_by

if TYPE_CHECKING:
    import torch
    from torchvision.models import WeightsEnum

_OPTIONS = ("weights", "seed", "num_classes")
_LARGER_PICTURES = {"inception_v3": (299, 342)}
_PATIENCE = 20
"""Seconds without an answer after which there is no network."""


def load_torchvision(reference: str, folder: Path | None = None) -> TorchModel:
    """``NAME[?weights=...&seed=N&num_classes=N]``: a network of torchvision.

    Without a query it has the weights that torchvision publishes, which torchvision downloads once and keeps; they bring their
    own transforms and labels. ``weights`` chooses others: another published set by its name (IMAGENET1K_V1), a FILE (a state
    dict; whatever has a dot or a slash in it is a file), or ``random``. ``seed`` is of random weights, and asks for them.

    How pictures are fed is known for published weights alone, also where a file holds just those. Random weights were trained for
    nothing; they see pictures as torchvision's usually do, and the model says that it is ``untrained``.

    Raises InputError, UnreadableModelError (also where weights cannot be downloaded), MissingDependencyError.
    """
    name, _, query = reference.partition("?")
    where = f"torchvision:{reference}"
    options = read_query(query, _OPTIONS, where)
    torch = import_torch()
    models = import_torchvision().models
    registered = models.list_models()
    if name not in registered:
        raise InputError(
            f"torchvision has no model {name!r}",
            where=where,
            expected="one of torchvision.models.list_models()",
            fix=f"did you mean {', '.join(difflib.get_close_matches(name, registered, 3) or registered[:3])}?",
        )
    seed = whole_number(options, "seed", 0, 0, where)
    classes = whole_number(options, "num_classes", 1, 1, where) if "num_classes" in options else None
    chosen = weights_said(options, where) or "DEFAULT"
    if is_file_of_weights(chosen):
        path = Path(chosen) if folder is None or Path(chosen).is_absolute() else folder / chosen
        model = _from_file(name, path, classes)
    elif chosen == "random":
        model = _random(name, seed, classes)
    else:
        model = _published(name, _member(name, chosen, where), where, classes)
    torch.manual_seed(seed)
    model.example_inputs = _example(name, model.feeding)
    return model


# the published weights


def _published(name: str, member: WeightsEnum, where: str, classes: int | None) -> TorchModel:
    """The network with weights that torchvision publishes, downloaded where they are not kept yet."""
    require_classes(classes, len(member.meta.get("categories") or ()), where, f"torchvision:{name}")
    return _of_member(name, member, _downloaded(name, member), f"weights: {member}, as torchvision publishes them")


def _of_member(name: str, member: WeightsEnum, state: object, *notes: str) -> TorchModel:
    """The network as torchvision builds it for these weights: some take larger pictures, or change what they are fed."""
    models = import_torchvision().models
    extra = {"quantize": True} if name.startswith("quantized_") and "unquantized" in member.meta else {}
    with quiet(), _lend_weights(member, state):
        module = models.get_model(name, weights=member, **extra)
    feeding, cut = _feeding_of(member.transforms())
    return TorchModel(
        module,
        (),
        name=name,
        notes=(*notes, *cut),
        feeding=feeding,
        labels=tuple(map(str, member.meta.get("categories") or ())) or None,
    )


@contextmanager
def _lend_weights(member: WeightsEnum, state: object) -> Iterator[None]:
    """Lets torchvision build with weights that were read already, as tensors and nothing else."""
    member.get_state_dict = lambda *_, **__: state
    try:
        yield
    finally:
        del member.get_state_dict


def _member(name: str, chosen: str, where: str) -> object:
    """One of the sets of weights that torchvision publishes for a network; DEFAULT is the best."""
    kinds = import_torchvision().models.get_model_weights(name)
    names = [each for each in kinds.__members__ if each != "DEFAULT"]
    if chosen not in kinds.__members__:
        near = difflib.get_close_matches(chosen.upper(), names, 1)
        raise InputError(
            f"torchvision publishes no weights {chosen!r} for {name}",
            where=where,
            expected=f"{', '.join(names) or 'none'}; random; or a file (one without a suffix as ./FILE)",
            fix=f"did you mean {near[0]}?" if near else None,
        )
    member = kinds[chosen]
    plain = member.meta.get("unquantized") if chosen == "DEFAULT" else None
    return member if plain is None else plain


def _downloaded(name: str, member: WeightsEnum) -> object:
    """The state dict of published weights, from where torchvision keeps it or from the network."""
    torch = import_torch()
    kept = Path(torch.hub.get_dir()) / "checkpoints" / member.url.rsplit("/", 1)[-1]
    before = socket.getdefaulttimeout()
    shown = sys.stderr.isatty()
    there = kept.exists()
    # torch.hub passes none on, and would wait for ever
    socket.setdefaulttimeout(_PATIENCE)
    try:
        with nullcontext() if shown and not there else quiet():
            return member.get_state_dict(progress=shown, check_hash=True, map_location="cpu", weights_only=True)
    except Exception as error:  # the network, the disk, a damaged file: each library under it has errors of its own
        if there:
            raise UnreadableModelError(
                f"the weights of {name} that torchvision keeps cannot be read",
                where=str(kept),
                expected=f"{member}",
                found=said_by(error),
                fix="delete the file: it is downloaded again",
            ) from error
        raise UnreadableModelError(
            f"the published weights of {name} are not on this machine and cannot be downloaded",
            where=member.url,
            expected=f"{member} at {kept}",
            found=said_by(error),
            fix=f"run it once with a network, or put the file there; or take random weights: torchvision:{name}?weights=random",
        ) from error
    finally:
        socket.setdefaulttimeout(before)


_INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")


def _feeding_of(preset: torch.nn.Module) -> tuple[Feeding | None, tuple[str, ...]]:
    """The transforms that belong to published weights, as a Feeding; None for those of videos, of pairs and of detectors.

    Segmentation sees whole photos of any proportions; a Feeding has one size, and a note says what is cut.
    """
    kind, interpolation = type(preset).__name__, str(getattr(getattr(preset, "interpolation", None), "value", ""))
    if kind not in ("ImageClassification", "SemanticSegmentation") or interpolation not in _INTERPOLATIONS:
        return None, ()
    resize_to = int(preset.resize_size[0])
    side = int(preset.crop_size[0]) if kind == "ImageClassification" else resize_to
    feeding = Feeding(
        size=(side, side),
        resize_to=resize_to,
        interpolation=interpolation,  # type: ignore[arg-type]
        scale=1 / 255,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )
    if kind == "ImageClassification":
        return feeding, ()
    return feeding, (f"torchvision segments whole photos; here the centre of {side}x{side} is cut out",)


# weights from a file


def _from_file(name: str, path: Path, classes: int | None) -> TorchModel:
    """The network with the weights of a file. Where those are published ones, what belongs to them comes along."""
    state = load_state_dict(path)
    note = f"weights from {path.name}"
    member = None if classes is not None else _published_as(name, path)
    if member is not None:
        return _of_member(name, member, state, f"{note}: {member}, as torchvision publishes them")
    with quiet():
        module = import_torchvision().models.get_model(name, **_bare(name, classes))
    fill(module, state, path, f"torchvision's {name}")
    return TorchModel(module, (), name=name, notes=(note,))


def _published_as(name: str, path: Path) -> object:
    """Which published weights a file holds, None for others. Their addresses end with the first digits of their SHA-256."""
    kinds = import_torchvision().models.get_model_weights(name)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    for member in kinds:
        _, dash, stem = Path(member.url).stem.rpartition("-")
        # NAME-0123abcd.pth: eight digits and more, as torch.hub writes and checks them
        if dash and len(stem) >= 8 and digest.startswith(stem) and "unquantized" not in member.meta:
            return member
    return None


def fill(module: torch.nn.Module, state: object, path: Path, name: str) -> None:
    """Loads a state dict. Raises UnreadableModelError with every weight that is missing, too many or of another shape."""
    own = module.state_dict()
    given = state if isinstance(state, dict) else {}
    shapes = {key: tuple(getattr(value, "shape", ())) for key, value in given.items()}
    counters = ".num_batches_tracked"  # files of before 2018 lack them, and nothing that is computed reads them
    problems = [f"{key!r} is missing" for key in own if key not in given and not key.endswith(counters)]
    problems += [f"{str(key)!r} is too many" for key in given if key not in own]
    problems += [
        f"{key!r} is {list(shapes[key])} instead of {list(own[key].shape)}"
        for key in own
        if key in given and shapes[key] != tuple(own[key].shape)
    ]
    if problems:
        raise UnreadableModelError(
            f"the weights are not those of {name}",
            where=str(path),
            expected=f"{len(own)} tensors: {', '.join(list(own)[:3])}, ...",
            found=first_few(problems),
            fix="give the network that they were trained for, with num_classes=N where it has other classes",
        )
    module.load_state_dict(given, strict=False)


def load_state_dict(path: Path) -> object:
    """The tensors of a file of weights; UnreadableModelError where it cannot be read without executing code from it."""
    from coreproof.model.torch.pickled import require_stored

    torch = import_torch()
    if not path.exists():
        raise UnreadableModelError("the weight file is missing", where=str(path))
    regular_file(path, what="the weight file")
    require_stored(path)
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:
        raise UnreadableModelError(
            "the weights cannot be read without executing code from the file",
            where=str(path),
            expected="a state dict (tensors only)",
            found=said_by(error),
            fix="save it again with torch.save(model.state_dict(), path)",
        ) from None


# random weights


def _random(name: str, seed: int, classes: int | None) -> TorchModel:
    torch = import_torch()
    models = import_torchvision().models
    torch.manual_seed(seed)
    with quiet():
        module = models.get_model(name, **_bare(name, classes))
    side, resize_to = _LARGER_PICTURES.get(name, (224, 256))
    feeding = replace(TORCHVISION_FEEDING, size=(side, side), resize_to=resize_to)
    enliven(module, _example(name, feeding), seed)
    sees_imagenet = classes is None and name in models.list_models(models)
    return TorchModel(
        module,
        (),
        name=name,
        notes=(random_weights_note(seed),),
        feeding=feeding,
        labels=imagenet_labels() if sees_imagenet else None,
        untrained=True,
    )


def _bare(name: str, classes: int | None) -> dict[str, object]:
    """What a network is built with before its weights are there."""
    arguments: dict[str, object] = {"weights": None}
    if classes is not None:
        arguments["num_classes"] = classes
    builder = import_torchvision().models.get_model_builder(name)
    if "weights_backbone" in inspect.signature(builder).parameters:
        # or the backbone of a detector is downloaded
        arguments["weights_backbone"] = None
    return arguments


def _example(name: str, feeding: Feeding | None) -> tuple[object, ...]:
    """Noise of the shape that a network takes: one picture, unless it is made for videos or for pairs of pictures."""
    torch = import_torch()
    for member in list(import_torchvision().models.get_model_weights(name))[:1]:  # any of them says what all take
        preset = member.transforms()
        if type(preset).__name__ == "VideoClassification":
            return (torch.randn(1, 3, 16, *preset.crop_size),)
        if type(preset).__name__ == "OpticalFlow":
            return torch.randn(1, 3, 128, 128), torch.randn(1, 3, 128, 128)
    width, height = _LARGER_PICTURES.get(name, (224, 256))[:1] * 2 if feeding is None else feeding.size
    return (torch.randn(1, 3, height, width),)


def enliven(module: torch.nn.Module, example: tuple[torch.Tensor, ...], seed: int) -> None:
    """Gives layers that start as zeros random weights, and every BatchNorm the statistics of a batch of noise.

    A head of zeros (ViT) answers zero, and with untouched statistics (mean 0, variance 1) the values of a deep random
    network shrink to nothing or grow beyond bounds: a comparison of those proves nothing.
    """
    torch = import_torch()
    module.eval()
    torch.manual_seed(seed)
    for layer in module.modules():
        weight = getattr(layer, "weight", None)
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d) and weight is not None and not weight.any():
            # small, and different for each class
            torch.nn.init.trunc_normal_(weight, std=0.02)
    norms = [m for m in module.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.train()
        # the statistics become the average over what is seen, and not 0.9 of the untouched ones
        norm.momentum = None
    torch.manual_seed(seed)
    with torch.no_grad():
        module(*(torch.randn(4, *each.shape[1:]) for each in example))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    module.eval()


def imagenet_labels() -> tuple[str, ...] | None:
    """The 1000 ImageNet classes in standard order, from torchvision's own metadata; None without torchvision."""
    try:
        import_torchvision()
    except MissingDependencyError:
        return None
    meta = importlib.import_module("torchvision.models._meta")
    return tuple(meta._IMAGENET_CATEGORIES)
