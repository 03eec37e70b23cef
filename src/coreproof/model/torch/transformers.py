"""``hf:OWNER/REPO``: a network of transformers by its configuration and safetensors, with the labels and the feeding beside."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from coreproof.errors import InputError, MissingDependencyError, UnreadableModelError, UnsafeModelError
from coreproof.model.feeding import Feeding, Source
from coreproof.model.files.entries import read_json
from coreproof.model.named.hub import Repository, choices, weight_files
from coreproof.model.named.query import random_weights_note, wants_random_weights, whole_number
from coreproof.model.optional import import_optional
from coreproof.model.torch.hub_feeding import feeding_of
from coreproof.model.torch.model import TorchModel, import_torch, import_torchvision, quiet
from coreproof.model.torch.torchvision import enliven
from coreproof.model.torch.user_code import made_by
from coreproof.model.torch.user_models import from_object

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedModel

_LENGTH = 16
_SAMPLES = 16000
"""Of a sound that is an example: a second at 16 kHz."""


def load_repository(repository: Repository, *, trust: bool = False) -> TorchModel:
    """The network of a repository of the hub: of transformers or of timm, as its config.json says.

    Options: ``revision``; ``weights=random`` and ``seed``, without the published weights; ``length`` of the example's text and
    ``size`` (224 or 320x240) of its picture. ``trust`` runs Python code of the repository, and reads pickled weights.

    Raises UnreadableModelError, InputError, UnsafeModelError for what needs ``trust``, MissingDependencyError.
    """
    path = repository.optional("config.json")
    if path is None:
        raise _no_network(repository)
    config = _read(path, repository.where)
    # timm writes config.json too, with its own words
    if "architecture" in config and "model_type" not in config:
        from coreproof.model.torch.timm import load_timm_repository

        return load_timm_repository(repository, config, trust=trust)
    if not isinstance(config.get("model_type"), str):
        raise UnreadableModelError(
            "the repository's config.json names no network",
            where=repository.where,
            expected="a model_type of transformers, or an architecture of timm",
            found=", ".join(list(config)[:8]) or "nothing",
        )
    return _load(repository, config, path, trust=trust)


def _load(repository: Repository, said: Mapping[str, Any], path: Path, *, trust: bool) -> TorchModel:
    where, options = repository.where, repository.options
    transformers = import_transformers()
    untrained = wants_random_weights(options, where)
    foreign = said["model_type"] not in transformers.CONFIG_MAPPING
    if foreign:
        _require_trust(repository, said, trust=trust)
    files = [] if untrained else _weights(repository, trust=trust)
    folder = _code(repository) if foreign else path.parent
    more = {"trust_remote_code": True} if foreign else {}
    with quiet(), made_by("transformers", where):
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, **more)
        # a cache would make past keys and values outputs, and inputs of the next call
        config.use_cache = False
    seed = whole_number(options, "seed", 0, 0, where)
    kind = _class(transformers, said)
    if untrained:
        module = _random(kind, config, seed, where, more)
        notes: tuple[str, ...] = (random_weights_note(seed),)
    else:
        module = _filled(
            kind, folder, config, where, more, safe=files[0].name.endswith((".safetensors", "s.index.json"))
        )
        notes = (f"weights: {repository.name} on the hub",)
    preprocessor = repository.optional("preprocessor_config.json")
    feeding, unsaid = (None, ()) if preprocessor is None else feeding_of(_read(preprocessor, where), transformers)
    inputs, remarks = _example(module, config, feeding, repository)
    # a feeding is of the one picture that a model takes; beside a text it would be half of it
    if "pixel_values" in inputs and len(inputs) == 1:
        notes += unsaid
    else:
        feeding = None
    if untrained:
        with made_by("transformers", where):
            enliven(_named(module, inputs), tuple(inputs.values()), seed)
    source = Source(
        module, inputs, feeding=feeding, labels=_labels(config), notes=(*notes, *remarks), untrained=untrained
    )
    return from_object(source, name=repository.name.rpartition("/")[2])


def _named(module: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    from coreproof.model.torch.nested import flattened

    return flattened(module, (), dict(inputs))[0]


def import_transformers() -> ModuleType:
    """transformers, or a message with the line that installs it."""
    import_torch()
    # transformers does without it, where it is not there
    with suppress(MissingDependencyError):
        import_torchvision()  # transformers imports it, too
    with quiet():
        return import_optional("transformers", "transformers", "transformers")


def _read(path: Path, where: str) -> dict[str, Any]:
    entry = read_json(path, UnreadableModelError.of_file(f"{path.name} of the repository cannot be read", where))
    if not isinstance(entry.value, dict):
        raise entry.refuse("a JSON object")
    return entry.value


def _require_trust(repository: Repository, said: Mapping[str, Any], *, trust: bool) -> None:
    """Raises where a network is none of transformers': without code of its own it cannot be made, and code needs ``trust``."""
    if not said.get("auto_map"):
        raise UnreadableModelError(
            f"this transformers does not know {said['model_type']!r}",
            where=repository.where,
            fix="update it: pip install -U transformers",
        )
    if not trust:
        raise UnsafeModelError(
            "this network is made by Python code of its repository, which would be executed",
            where=repository.where,
            found=f"{said['model_type']!r}: {said['auto_map']}",
            fix="read that code, and pass --trust (in Python: trust=True), with ?revision=COMMIT so that it stays what you read",
        )


def _code(repository: Repository) -> Path:
    """The folder of the repository with all its Python code, which is trusted."""
    paths = [
        repository.path(name) for name in repository.files() if name.endswith((".py", ".json")) and "/" not in name
    ]
    return paths[0].parent


def _weights(repository: Repository, *, trust: bool) -> list[Path]:
    try:
        return weight_files(repository, trust=trust)
    except UnreadableModelError as error:
        files: list[str] = []
        with suppress(UnreadableModelError):
            files = choices(repository)
        if not files:
            raise
        raise UnreadableModelError(
            error.problem,
            where=error.where,
            expected=error.expected,
            found=error.found,
            fix=f"the repository has these models: {', '.join(f'hf:{repository.name}/{file}' for file in files[:6])}",
        ) from None


def _class(transformers: ModuleType, said: Mapping[str, Any]) -> type[PreTrainedModel]:
    """The class that the configuration names, with its head; of several the first."""
    names = said.get("architectures") or ()
    mapped = said.get("auto_map") or {}
    chosen = str(names[0]) if names and hasattr(transformers, str(names[0])) else "AutoModel"
    for auto, reference in mapped.items() if isinstance(mapped, Mapping) and chosen == "AutoModel" else ():
        if auto.startswith("AutoModel") and names and str(reference).rpartition(".")[2] == str(names[0]):
            chosen = auto
    kind: type[PreTrainedModel] = getattr(transformers, chosen)
    return kind


def _filled(
    kind: type[PreTrainedModel],
    folder: Path,
    config: PretrainedConfig,
    where: str,
    more: Mapping[str, Any],
    *,
    safe: bool,
) -> torch.nn.Module:
    """The network with its weights, all of which have to be there: what is missing would be random."""
    with quiet(), made_by("transformers", where):
        module, found = kind.from_pretrained(
            folder, config=config, local_files_only=True, use_safetensors=safe, output_loading_info=True, **more
        )
    missing = sorted({*found.get("missing_keys", ()), *(str(key) for key in found.get("mismatched_keys", ()))})
    if missing:
        raise UnreadableModelError(
            f"the weights are not those of {type(module).__name__}",
            where=where,
            expected=f"a tensor for each of its {len(module.state_dict())}",
            found=f"{len(missing)} are missing or of another shape: {', '.join(missing[:5])}",
            fix="take a repository whose network was trained with this head",
        )
    return module


def _random(
    kind: type[PreTrainedModel], config: PretrainedConfig, seed: int, where: str, more: Mapping[str, Any]
) -> torch.nn.Module:
    torch = import_torch()
    # the same numbers on every machine: what is reported can be repeated
    torch.manual_seed(seed)
    with quiet(), made_by("transformers", where):
        return kind.from_config(config, **more) if hasattr(kind, "from_config") else kind(config)


def _example(
    module: torch.nn.Module, config: PretrainedConfig, feeding: Feeding | None, repository: Repository
) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """Inputs of the kinds that its ``forward`` takes: token ids with their mask, a picture, a sound."""
    torch = import_torch()
    taken = inspect.signature(module.forward).parameters
    main = getattr(module, "main_input_name", "input_ids")
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    both = all(getattr(config, f"{part}_config", None) is not None for part in ("text", "vision"))
    # the example decides nothing but the shapes; a seed keeps exports the same
    torch.manual_seed(0)
    inputs: dict[str, Tensor] = {}
    remarks: list[str] = []
    if "input_ids" in taken and (main == "input_ids" or both):
        longest = getattr(text, "max_position_embeddings", None)
        default = min(_LENGTH, longest) if isinstance(longest, int) and longest > 0 else _LENGTH
        length = whole_number(repository.options, "length", default, 1, repository.where)
        inputs["input_ids"] = torch.randint(0, int(text.vocab_size), (1, length))
        if "attention_mask" in taken:
            inputs["attention_mask"] = torch.ones(1, length, dtype=torch.long)
        remarks.append(f"example input of {length} tokens; for another length ?length=N, for free ones --shape")
    if "pixel_values" in taken and (main == "pixel_values" or both):
        width, height = _sides(config, feeding, repository)
        channels = getattr(getattr(config, "vision_config", config), "num_channels", 3)
        inputs["pixel_values"] = torch.randn(1, int(channels), height, width)
    if main == "input_values":
        # a spectrogram, where the configuration says how long and how high; else a sound
        drawn = [getattr(config, key, None) for key in ("max_length", "num_mel_bins")]
        spectrogram = all(isinstance(n, int) for n in drawn) and hasattr(config, "frequency_stride")
        inputs["input_values"] = torch.randn(1, *(drawn if spectrogram else [_SAMPLES]))
    if main == "input_features":
        bins = int(getattr(config, "num_mel_bins", 80))
        # Whisper halves the frames by a stride of 2 before it gives them positions
        frames = 2 * int(getattr(config, "max_source_positions", 50))
        shape = (1, bins, frames) if config.model_type == "whisper" else (1, frames, bins)
        inputs["input_features"] = torch.randn(*shape)
    if "decoder_input_ids" in taken and getattr(config, "is_encoder_decoder", False):
        start = getattr(config, "decoder_start_token_id", None)
        # one step of the decoder, from the token that starts every text
        inputs["decoder_input_ids"] = torch.full((1, 1), 0 if start is None else int(start))
    if not inputs:
        raise InputError(
            f"what {type(module).__name__} takes is not known",
            where=repository.where,
            expected="input_ids, pixel_values, input_values or input_features",
            found=main,
            fix="write a function that returns (module, inputs), and give module.path:callable",
        )
    return inputs, tuple(remarks)


def _sides(config: PretrainedConfig, feeding: Feeding | None, repository: Repository) -> tuple[int, int]:
    """Width and height of the picture: as said, as it is fed, or as the configuration has it."""
    said = repository.options.get("size")
    if said is not None:
        parts = said.lower().split("x")
        if len(parts) > 2 or not all(p.isascii() and p.isdecimal() and 0 < int(p) < 10**6 for p in parts):
            raise InputError("size is 224 or 320x240", where=repository.where, found=said)
        return int(parts[0]), int(parts[-1])
    if feeding is not None:
        return feeding.size
    size = getattr(getattr(config, "vision_config", config), "image_size", None)
    if isinstance(size, int):
        return size, size
    if isinstance(size, list | tuple) and len(size) == 2:
        return int(size[1]), int(size[0])
    raise InputError(
        "the size of the pictures is not known",
        where=repository.where,
        expected="a preprocessor_config.json that says it, or an image_size",
        fix="say it: ?size=224",
    )


def _labels(config: PretrainedConfig) -> tuple[str, ...] | None:
    """The classes by name; None where they are only numbered, or there are none."""
    named = getattr(config, "id2label", None)
    if not isinstance(named, Mapping) or not named or "Classification" not in str(getattr(config, "architectures", "")):
        return None
    # transformers numbers classes LABEL_0, LABEL_1, ... where nobody named them
    if sorted(map(int, named)) != list(range(len(named))) or all(str(v) == f"LABEL_{k}" for k, v in named.items()):
        return None
    return tuple(str(label) for _, label in sorted(named.items(), key=lambda item: int(item[0])))


def _no_network(repository: Repository) -> Exception:
    files = choices(repository)
    if not files:
        return UnreadableModelError(
            "the repository holds no model that is known here",
            where=repository.where,
            expected="config.json and safetensors, .onnx, .mlmodel, .mlpackage or .pt2",
            found=", ".join(repository.files()[:8]) or "nothing",
        )
    return InputError(
        "the repository holds files and no network: which one is meant?",
        where=repository.where,
        expected="one of " + ", ".join(f"hf:{repository.name}/{file}" for file in files[:12]),
        found=f"{len(files)} model(s)",
    )
