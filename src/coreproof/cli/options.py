"""Options that mean the same in every verb, and what they make."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from coreproof.errors import InputError
from coreproof.model.arguments import one_of

if TYPE_CHECKING:
    from coreproof.conversion.description import Description
    from coreproof.model.base import Model
    from coreproof.model.feeding import Feeding

_OF_PYTORCH = "PyTorch modules"
_PANEL = "How a picture is fed (default: what the model carries)"
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")

NAMED = "a name (torchvision:NAME, timm:NAME, hf:OWNER/REPO/FILE, https://HOST/FILE#sha256=DIGEST)"
ANY_MODEL = (
    "A .onnx, .mlpackage, .mlmodel or .pt2 file, a zipped package, MODEL.mlpackage#FUNCTION, a PyTorch module "
    f"(FILE.py:FUNCTION, module.path:callable), or {NAMED}."
)
ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help=ANY_MODEL,
        show_default=False,
    ),
]
StoredArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A .onnx, .mlpackage or .mlmodel file, a zipped package, MODEL.mlpackage#FUNCTION, or an address "
        "(https://HOST/FILE#sha256=DIGEST).",
        show_default=False,
    ),
]
CoreMLArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A .mlpackage or .mlmodel file, a zipped package, MODEL.mlpackage#FUNCTION, or an address "
        "(https://HOST/FILE#sha256=DIGEST).",
        show_default=False,
    ),
]
Written = Annotated[
    Path | None, typer.Option("--out", help="Where to write: the same as OUT by its place.", show_default=False)
]
Replace = Annotated[
    bool, typer.Option("--replace", help="Write over what stands at the output, whatever it is.", show_default=False)
]
AllowWeak = Annotated[
    bool,
    typer.Option("--allow-weak", help="Exit 0 also where agreement proves nothing: an output is NaN, zero, constant."),
]
Fresh = Annotated[
    bool,
    typer.Option(
        "--fresh", help="Export a PyTorch model anew, whatever an earlier run kept of it.", show_default=False
    ),
]
Truth = Annotated[
    Path | None,
    typer.Option(
        "--truth",
        help="What the photos show: a csv with file, class index, synset, name (default: labels.csv beside them).",
        show_default=False,
    ),
]
Arrays = Annotated[
    Path | None,
    typer.Option(
        help="In place of photos: a .npz with an array for every input (several samples: name/0, name/1), or a folder of "
        ".npz, .npy, .wav and token ids (.json, .txt).",
        show_default=False,
    ),
]
States = Annotated[
    list[str] | None,
    typer.Option(
        "--state",
        help="What an ONNX model remembers, its input and its output: past_*=present_*. Again for others.",
        show_default=False,
    ),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Allow what executes code when read: pickled PyTorch files, .pt2 with more than data, code of a repository, "
        "line-ups of code.",
    ),
]


def place_of(by_place: Path | None, by_option: Path | None, usage: str) -> Path:
    """Where to write, said by its place or by ``--out``. Raises InputError where it was said twice or not at all."""
    if by_place is not None and by_option is not None and by_place != by_option:
        raise InputError("say once where to write", expected=usage, found=f"{by_place} and --out {by_option}")
    out = by_option if by_place is None else by_place
    if out is None:
        raise InputError("say where to write", expected=usage, fix="give OUT, or --out OUT")
    return out


def script_beside(out: Path) -> Path:
    """Where the edits stand that made the model ``out``."""
    return out.with_name(out.stem + ".edits.toml")


def named(model: str) -> str:
    """A model as it is called in what is written: by its file's name, because where it lies on this machine helps nobody."""
    # "torchvision:resnet18" is no file, and stays as it is
    return Path(model).name if Path(model).exists() else model


Command = Callable[..., None]


def show_as(command: Command, parameters: Sequence[Parameter]) -> None:
    """Lets Typer, which reads a command's signature, see these parameters in place of its own."""
    vars(command)["__signature__"] = Signature(parameters)
    command.__annotations__ = {option.name: option.annotation for option in parameters}


def _feeding_option(help_text: str, *names: str, **more: Any) -> object:
    return typer.Option(*names, help=help_text, rich_help_panel=_PANEL, **more)


@dataclass(frozen=True)
class Freezing:
    """What is kept of a PyTorch module as the example inputs find it."""

    freeze_state: Annotated[
        bool,
        typer.Option(
            "--freeze-state",
            help="Keep buffers that a PyTorch module changes while it runs as they are: no states of them.",
            rich_help_panel=_OF_PYTORCH,
            show_default=False,
        ),
    ] = False
    freeze_branches: Annotated[
        bool,
        typer.Option(
            "--freeze-branches",
            help="Keep each if on data of a PyTorch module as the example inputs take it.",
            rich_help_panel=_OF_PYTORCH,
            show_default=False,
        ),
    ] = False


AS_IT_RUNS = Freezing()
"""Nothing is kept."""


_TOLD = "What the model tells of itself"


def _telling_option(help_text: str, *names: str) -> object:
    return typer.Option(*names, help=help_text, rich_help_panel=_TOLD, show_default=False)


@dataclass(frozen=True)
class Telling:
    """What the command line says that a model is to tell of itself."""

    author: Annotated[str | None, _telling_option("Who made the model.")] = None
    license: Annotated[str | None, _telling_option("Under which terms.", "--license", "--licence")] = None
    model_version: Annotated[str | None, _telling_option("Its version: a text.")] = None
    description: Annotated[str | None, _telling_option("What it is for.")] = None
    describe: Annotated[
        list[str] | None, _telling_option("What a feature is for, NAME=TEXT. Again for others.", "--describe")
    ] = None
    default: Annotated[
        list[str] | None,
        _telling_option("An input that may be left out, and what it holds then: NAME=NUMBER.", "--default"),
    ] = None

    def read(self) -> Description:
        """All of it. Raises InputError for what is no NAME=TEXT or NAME=NUMBER."""
        from coreproof.conversion.description import Description

        said = {"author": self.author, "license": self.license, "version": self.model_version}
        said["description"] = self.description
        numbers = {name: _number(text, "--default") for name, text in _pairs(self.default, "--default").items()}
        metadata = {name: text for name, text in said.items() if text is not None}
        return Description(metadata, _pairs(self.describe, "--describe"), numbers)


NOTHING_TOLD = Telling()
"""The model tells nothing of itself but what it does."""


def _pairs(given: Sequence[str] | None, option: str) -> dict[str, str]:
    # at the first sign: a text may hold some itself, and no feature is named with one
    pairs = [text.partition("=") for text in given or ()]
    wrong = [name for name, equals, _ in pairs if not equals or not name]
    if wrong:
        raise InputError(f"{option} takes NAME=...", found=", ".join(wrong))
    return {name: text for name, _, text in pairs}


_CI = "For CI"


@dataclass(frozen=True)
class Reporting:
    """What CI wants of a result: how much has to agree, and files that it can show."""

    require: Annotated[
        float | None,
        typer.Option(
            help="Exit 0 when at least this share agrees, 0..1: of values, or of photos on which two models name one class.",
            min=0,
            max=1,
            rich_help_panel=_CI,
            show_default=False,
        ),
    ] = None
    require_lower: Annotated[
        float | None,
        typer.Option(
            help="The same of the lower end of the share's 95% interval: few photos prove little.",
            min=0,
            max=1,
            rich_help_panel=_CI,
            show_default=False,
        ),
    ] = None
    junit: Annotated[
        Path | None, typer.Option(help="Write test results (.xml).", rich_help_panel=_CI, show_default=False)
    ] = None
    markdown: Annotated[
        Path | None,
        typer.Option(help="Write a summary (.md) for a pull request.", rich_help_panel=_CI, show_default=False),
    ] = None


NOT_REPORTED = Reporting()
"""Nothing is required beyond what the verb itself does, and nothing is written for CI."""


@dataclass(frozen=True)
class FeedingOptions:
    """How a picture is fed, as far as the command line says it; what it leaves out is as the model carries it."""

    size: Annotated[str | None, _feeding_option("Width x height of what the network sees: 224 or 320x240.")] = None
    squash: Annotated[bool, _feeding_option("Stretch pictures instead of cropping the centre.", "--squash")] = False
    resize_to: Annotated[int | None, _feeding_option("Shorter side before the centre crop.", min=1)] = None
    interpolation: Annotated[str | None, _feeding_option("nearest, bilinear, bicubic or lanczos.")] = None
    colour: Annotated[str | None, _feeding_option("RGB, BGR or GRAY.")] = None
    scale: Annotated[str | None, _feeding_option("Factor on the pixels (0-255) before mean and std: 1/255.")] = None
    mean: Annotated[str | None, _feeding_option("One number, or one a channel: 0.485,0.456,0.406.")] = None
    std: Annotated[str | None, _feeding_option("One number, or one a channel: 0.229,0.224,0.225.")] = None

    def resolve(self, model: Model | None, *beside: Model | None) -> Feeding | None:
        """The model's own feeding, changed by what was said; None when there is neither.

        Raises InputError where only the size of pictures is known, and the model takes numbers: what becomes of the pixels is not
        guessed. A model ``beside`` it that takes pictures itself tells what it does to them.
        """
        from coreproof.feeding.picture_values import declared_geometry
        from coreproof.model.feeding import Feeding, check_numbers

        base, changes = None if model is None else model.feeding, self._changes()
        if base is None and not changes:
            return None
        inputs = (feature for each in (model, *beside) if each is not None for feature in each.signature.inputs)
        if base is None and model is not None and not (self.pixels or any(f.image is not None for f in inputs)):
            raise unsaid_pixels(model)
        # what becomes of the pixels is not guessed; how large a picture is, the model says itself
        own = base or (Feeding() if model is None else declared_geometry(model))
        whole: dict[str, Any] = {**vars(own), **changes}
        # together, since a mean for each channel has to fit the colour, whoever said either
        check_numbers("--", whole["colour"], scale=whole["scale"], mean=whole["mean"], std=whole["std"])
        return Feeding(**whole)

    @property
    def numbers(self) -> bool:
        """Whether something was said of what becomes of the pixels, and not only of which are seen."""
        return self.colour is not None or self.pixels

    @property
    def pixels(self) -> bool:
        """Whether it was said which numbers the pixels become."""
        return any(said is not None for said in (self.scale, self.mean, self.std))

    @property
    def said(self) -> bool:
        """Whether anything was said."""
        return self != AS_CARRIED

    def _changes(self) -> dict[str, object]:
        read: Mapping[str, Callable[[str], object]] = {
            "size": _sides,
            "interpolation": lambda text: one_of(text, INTERPOLATIONS, "--interpolation"),
            "colour": lambda text: one_of(text.upper(), ("RGB", "BGR", "GRAY"), "--colour"),
            "scale": lambda text: _number(text, "--scale"),
            "mean": lambda text: tuple(_number(part, "--mean") for part in text.split(",")),
            "std": lambda text: tuple(_number(part, "--std") for part in text.split(",")),
        }
        said = {name: getattr(self, name) for name in read}
        changes = {name: read[name](text) for name, text in said.items() if text is not None}
        changes |= {"resize": "squash"} if self.squash else {}
        return changes if self.resize_to is None else {**changes, "resize_to": self.resize_to}


def unsaid_pixels(model: Model) -> InputError:
    """Nobody said which numbers a network of pictures was trained on, and it does not carry them."""
    from coreproof.feeding.picture_values import proposed_numbers

    picture = next((f for f in model.signature.inputs if f.shape is not None and len(f.shape) == 4), None)
    return InputError(
        "how pictures become this model's numbers is not known",
        where=model.name or None,
        expected="the scale, mean and std that it was trained with: (pixel * scale - mean) / std, pixels 0-255",
        found="a model that does not say, and no --scale, --mean or --std",
        fix=f"give them: {proposed_numbers(picture)} is what most PyTorch models take, "
        "--scale 1 the pixels as they are; or let a function return coreproof.Source(module, inputs, feeding=...)",
    )


AS_CARRIED = FeedingOptions()
"""Nothing is said on the command line: every model is fed as it carries it."""


def with_groups(*only: str) -> Callable[[Command], Command]:
    """Gives a command the options of its ``feeding`` (``only`` those named) and the other groups, in their place."""

    def give(command: Command) -> Command:
        own = signature(command, eval_str=True).parameters.values()
        groups = {p.name: _offered(p.default, only) for p in own if p.name in _GROUPS}

        @wraps(command)
        def typed(**given: Any) -> None:
            for name, offered in groups.items():
                said = {option.name: given.pop(option.name) for option in offered}
                given[name] = _GROUPS[name](**said)
            command(**given)

        shown = [o for p in own for o in groups.get(p.name, [p.replace(kind=Parameter.KEYWORD_ONLY)])]
        show_as(typed, shown)
        return typed

    return give


_GROUPS: Mapping[str, type[FeedingOptions | Freezing | Telling | Reporting]] = {
    "feeding": FeedingOptions,
    "freezing": Freezing,
    "telling": Telling,
    "reporting": Reporting,
}


def _offered(group: FeedingOptions | Freezing | Telling | Reporting, only: Sequence[str]) -> list[Parameter]:
    """The fields of a group are the options: one list for both."""
    hints = get_type_hints(type(group), include_extras=True)
    named = only if only and isinstance(group, FeedingOptions) else hints
    return [
        Parameter(f.name, Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])
        for f in fields(group)
        if f.name in named
    ]


def _sides(text: str) -> tuple[int, int]:
    """Width and height from "224" or "320x240"."""
    sides = [_number(side, "--size") for side in text.lower().split("x")]
    if len(sides) > 2 or any(not side.is_integer() or not 1 <= side < 2**24 for side in sides):
        raise InputError("--size takes 224 or 320x240", expected="1 or 2 numbers", found=f"{len(sides)}: {text}")
    return int(sides[0]), int(sides[-1])


def _number(text: str, option: str) -> float:
    """A number or a fraction ("1/255")."""
    try:
        # 1/255 is what people write
        above, *below = [float(p) for p in text.split("/", 1)]
        return above / below[0] if below else above
    except (ValueError, ZeroDivisionError, OverflowError):
        raise InputError(f"{option} takes numbers", found=text) from None


def read_labels(path: Path | None) -> tuple[str, ...] | None:
    """Class labels from a file: one a line, numbered, JSON or CSV. Raises InputError."""
    if path is None:
        return None
    from coreproof.model.files.label_file import read_label_file

    labels = read_label_file(path, InputError.of_file("the label file cannot be read", path))
    if not labels:
        raise InputError("the label file is empty", where=str(path), expected="one label a line")
    return tuple(map(str, labels))
