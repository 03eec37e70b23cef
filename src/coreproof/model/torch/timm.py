"""Networks of timm: by name with the weights that it publishes, of a repository of the hub, of a file, or random ones."""

from __future__ import annotations

import difflib
import importlib
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from coreproof.errors import InputError, MissingDependencyError, UnreadableModelError, UnsafeModelError
from coreproof.model.feeding import Feeding
from coreproof.model.named.hub import Repository, weight_files
from coreproof.model.named.query import (
    random_weights_note,
    read_query,
    require_classes,
    wants_random_weights,
    weights_said,
    whole_number,
)
from coreproof.model.optional import import_optional
from coreproof.model.stored_source import is_file_of_weights
from coreproof.model.torch.model import TorchModel, import_torch, import_torchvision, quiet
from coreproof.model.torch.torchvision import enliven, fill, load_state_dict
from coreproof.model.torch.user_code import made_by, said_by

if TYPE_CHECKING:
    import torch
    from timm.models import PretrainedCfg

_OPTIONS = ("weights", "seed", "num_classes", "revision")
_NOT_ARGUMENTS = ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir")
"""What a configuration may not say of how a network is made: it would name files."""
_INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")


def load_timm(reference: str, folder: Path | None = None, *, trust: bool = False) -> TorchModel:
    """``NAME[.TAG][?weights=...&seed=N&num_classes=N&revision=...]``: a network of timm.

    Without a query it has the weights that timm publishes for the tag (the first, where none is said), as safetensors from the
    hub, with the feeding of its pretrained configuration. ``weights`` chooses a FILE (safetensors, a state dict), or ``random``.

    Raises InputError, UnreadableModelError (also where weights cannot be had), UnsafeModelError for weights that are published as
    a pickle alone, MissingDependencyError.
    """
    name, _, query = reference.partition("?")
    where = f"timm:{reference}"
    options = read_query(query, _OPTIONS, where)
    seed = whole_number(options, "seed", 0, 0, where)
    classes = whole_number(options, "num_classes", 1, 1, where) if "num_classes" in options else None
    chosen = weights_said(options, where)
    timm = import_timm()
    config = _configuration(timm, name, where)
    if chosen == "random":
        return _random(name, {} if classes is None else {"num_classes": classes}, seed)
    if chosen is not None:
        if not is_file_of_weights(chosen):
            raise InputError(
                f"timm has its weights by a tag: {chosen!r} is no file",
                where=where,
                expected="weights=random, or a file (one without a suffix as ./FILE); other published weights: timm:NAME.TAG",
                found=f"weights={chosen}",
            )
        path = Path(chosen) if folder is None or Path(chosen).is_absolute() else folder / chosen
        return _of_file(timm, name, path, classes)
    require_classes(classes, config.num_classes, where, f"timm:{name}")
    file = _published(name, config, where, options.get("revision"), trust=trust)
    overlay = None if file is None else {"file": str(file), "custom_load": False}
    with quiet(), made_by("timm", where):
        module = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    return _model(module, name, (f"weights: {config.tag or 'the published ones'} of timm's {name}",))


def load_timm_repository(repository: Repository, config: Mapping[str, Any], *, trust: bool = False) -> TorchModel:
    """A network that somebody put on the hub with timm: its configuration names the architecture, and how it is fed.

    Raises what ``load_timm`` raises.
    """
    timm = import_timm()
    name, where = repository.name.rpartition("/")[2], repository.where
    architecture = str(config.get("architecture"))
    _configuration(timm, architecture, where)
    beside = {"length", "size"} & set(repository.options)
    if beside:
        raise InputError("these options are not for a network of timm", where=where, found=", ".join(sorted(beside)))
    # a stranger's file: it may say how the network is built, and name no file of this machine
    said = {key: value for key, value in dict(config.get("model_args") or {}).items() if key not in _NOT_ARGUMENTS}
    arguments = {**said, "num_classes": config.get("num_classes")}
    pretrained = {**dict(config.get("pretrained_cfg") or {}), "num_classes": config.get("num_classes")}
    pretrained |= {key: config[key] for key in ("label_names", "label_descriptions") if key in config}
    # where weights come from is decided here, not by the configuration
    known = set(vars(timm.models.PretrainedCfg())) - {
        "url",
        "file",
        "state_dict",
        "hf_hub_id",
        "hf_hub_filename",
        "source",
    }
    pretrained = {key: value for key, value in pretrained.items() if key in known and value is not None}
    given = {key: value for key, value in arguments.items() if value is not None}
    if wants_random_weights(repository.options, where):
        seed = whole_number(repository.options, "seed", 0, 0, where)
        return _random(architecture, {**given, "pretrained_cfg": pretrained}, seed, name)
    file = weight_files(repository, trust=trust)[0]
    pretrained |= {"file": str(file), "custom_load": False}
    with quiet(), made_by("timm", where):
        module = timm.create_model(architecture, pretrained=True, pretrained_cfg=pretrained, **given)
    return _model(module, name, (f"weights: {repository.name} on the hub",))


def import_timm() -> ModuleType:
    """timm, or a message with the line that installs it."""
    import_torch()
    with suppress(MissingDependencyError):
        import_torchvision()  # with the operators that it lacks beside another build of PyTorch: timm imports it too
    with quiet():
        return import_optional("timm", "timm", "timm")


def _configuration(timm: ModuleType, name: str, where: str) -> PretrainedCfg:
    """What timm knows of a network's weights. Raises InputError where it has no such network, or not with this tag."""
    plain, _, tag = name.partition(".")
    if not timm.is_model(plain):
        # of the many names that timm knows
        near = difflib.get_close_matches(plain, timm.list_models(), 3)
        fix = f"did you mean {', '.join(near)}?" if near else None
        raise InputError(f"timm has no model {plain!r}", where=where, expected="one of timm.list_models()", fix=fix)
    tags = [each.partition(".")[2] for each in timm.list_pretrained(f"{plain}.*")]
    if tag and tag not in tags:
        raise InputError(
            f"timm has no weights {tag!r} for {plain}", where=where, expected=", ".join(tags) or "none", found=tag
        )
    return timm.models.get_pretrained_cfg(name)


def _published(name: str, config: PretrainedCfg, where: str, revision: str | None, *, trust: bool) -> Path | None:
    """The file of the published weights; None where timm itself is to fetch a pickle that the user trusts."""
    if not config.has_weights:
        raise InputError(
            "timm publishes no weights for this network",
            where=where,
            fix=f"take random ones: timm:{name}?weights=random",
        )
    if config.hf_hub_id:
        repository = Repository(config.hf_hub_id, where, revision=revision)
        if config.hf_hub_filename and config.hf_hub_filename.endswith(".safetensors"):
            return repository.path(config.hf_hub_filename)
        return weight_files(repository, trust=trust)[0]
    if trust:
        return None
    raise UnsafeModelError(
        "the published weights are a pickle, and no safetensors",
        where=where,
        found=str(config.url),
        fix="pass --trust (in Python: trust=True) if you trust its publisher; or give a file of weights: ?weights=FILE",
    )


# files and random weights


def _of_file(timm: ModuleType, name: str, path: Path, classes: int | None) -> TorchModel:
    with quiet():
        module = timm.create_model(name, pretrained=False, num_classes=classes)
    if path.suffix == ".safetensors":
        state: object = read_safetensors(path)
    else:
        state = load_state_dict(path)
    fill(module, state, path, f"timm's {name}")
    width, height = _size(module)
    note = f"weights from {path.name}"
    # whose they are, and what those were trained on, a file does not say
    return _torch_model(module, name, (note,), None, None, (width, height))


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file. Raises UnreadableModelError for a damaged one, MissingDependencyError."""
    from coreproof.model.files.paths import regular_file

    library = import_optional("safetensors.torch", "safetensors", "timm")
    regular_file(path, what="the weight file")
    try:
        return dict(library.load_file(path))
    except Exception as error:  # the library's own error, and what NumPy and PyTorch make of a damaged header
        raise UnreadableModelError("the weights cannot be read", where=str(path), found=said_by(error)) from error


def _random(name: str, arguments: Mapping[str, Any], seed: int, called: str | None = None) -> TorchModel:
    torch, timm = import_torch(), import_timm()
    torch.manual_seed(seed)
    with quiet(), made_by("timm", f"timm:{name}"):
        module = timm.create_model(name, pretrained=False, **arguments)
    width, height = _size(module)
    channels = int(module.pretrained_cfg["input_size"][0])
    enliven(module, (torch.randn(1, channels, height, width),), seed)
    return _model(module, called or name, (random_weights_note(seed),), untrained=True)


# what belongs to them


def _model(module: torch.nn.Module, name: str, notes: tuple[str, ...], *, untrained: bool = False) -> TorchModel:
    feeding, said = feeding_of(module.pretrained_cfg)
    labels = _labels(module)
    return _torch_model(module, name, (*notes, *said), feeding, labels, _size(module), untrained=untrained)


def _torch_model(
    module: torch.nn.Module,
    name: str,
    notes: tuple[str, ...],
    feeding: Feeding | None,
    labels: tuple[str, ...] | None,
    size: tuple[int, int],
    *,
    untrained: bool = False,
) -> TorchModel:
    torch = import_torch()
    channels = int(dict(module.pretrained_cfg).get("input_size", (3,))[0])
    torch.manual_seed(0)
    example = torch.randn(1, channels, size[1], size[0])
    return TorchModel(module, (example,), name=name, notes=notes, feeding=feeding, labels=labels, untrained=untrained)


def _size(module: torch.nn.Module) -> tuple[int, int]:
    """Width and height of what the network was made for."""
    _, height, width = module.pretrained_cfg["input_size"]
    return int(width), int(height)


def feeding_of(config: Mapping[str, Any]) -> tuple[Feeding | None, tuple[str, ...]]:
    """timm's pretrained configuration as a Feeding (timm.data.transforms_imagenet_eval), and what it cannot say as notes.

    None where it says less than all of it, or asks for borders, or for stretching and cropping: that has to be said by the user.
    """
    needed = ("input_size", "interpolation", "crop_pct", "mean", "std")
    missing = [key for key in needed if config.get(key) in (None, ())]
    if missing:
        return None, (f"how pictures are fed is not known: the configuration has no {', '.join(missing)}",)
    channels, height, width = config["input_size"]
    mode, share = config.get("crop_mode") or "center", float(config["crop_pct"])
    interpolation, unsaid = config["interpolation"], None
    if channels != 3 and channels != 1:
        unsaid = f"the network sees {channels} channels"
    elif interpolation not in _INTERPOLATIONS:
        unsaid = f"it interpolates by {interpolation}"
    elif mode == "border" or (mode == "squash" and share != 1.0):
        unsaid = f"it crops by {mode!r} with a share of {share:g}"
    elif mode == "center" and height != width and share != 1.0:
        unsaid = f"it crops {width}x{height} of a share of {share:g}"
    if unsaid is not None:
        return None, (f"pictures are not fed by themselves: {unsaid}, which a feeding here cannot say",)
    cropped = mode == "center"
    return Feeding(
        size=(width, height),
        resize="crop" if cropped else "squash",
        # timm scales the shorter side to the size over crop_pct, rounded down, and cuts the centre out
        resize_to=math.floor(height / share) if cropped and height == width else None,
        interpolation=interpolation,
        colour="RGB" if channels == 3 else "GRAY",
        scale=1 / 255,
        mean=tuple(map(float, config["mean"])),
        std=tuple(map(float, config["std"])),
    ), ()


def _labels(module: torch.nn.Module) -> tuple[str, ...] | None:
    """The classes by name: as the configuration lists them, or as timm's own table of the ImageNet that the tag names."""
    config = module.pretrained_cfg
    classes, names = getattr(module, "num_classes", None), config.get("label_names")
    if names:
        described = config.get("label_descriptions") or {}
        listed = tuple(
            str(described.get(name, name)) if isinstance(described, Mapping) else str(name) for name in names
        )
        return listed if len(listed) == classes else None
    # classes of its own, or tags of other data: timm's tables would name them wrongly
    if classes != config.get("num_classes") or not any(f"in{n}k" in str(config.get("tag")) for n in (1, 12, 21, 22)):
        return None
    data = importlib.import_module("timm.data")
    subset = data.infer_imagenet_subset(module)
    if subset is None:
        return None
    table = data.ImageNetInfo(subset)
    return (
        tuple(table.index_to_description(at) for at in range(int(classes))) if table.num_classes() == classes else None
    )
