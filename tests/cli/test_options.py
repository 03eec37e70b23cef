"""The feeding options: one mechanism, the same in every verb, and each mistake said."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest

from coreproof.cli import app, convert, doctor, options, predict, prove, verify
from coreproof.cli.options import AS_CARRIED, FeedingOptions, with_groups
from coreproof.errors import InputError
from coreproof.model.features import Feature, Signature
from coreproof.model.feeding import TORCHVISION_FEEDING, Feeding

ALL = ["size", "squash", "resize_to", "interpolation", "colour", "scale", "mean", "std"]


@pytest.mark.parametrize("verb", [predict, prove, app, doctor, verify], ids=lambda m: m.__name__.rpartition(".")[2])
def test_every_verb_that_feeds_photos_has_every_option(verb: Any) -> None:
    parameters = inspect.signature(verb.command).parameters
    assert [name for name in parameters if name in ALL] == ALL
    assert "feeding" not in parameters


def test_convert_has_those_that_can_go_inside_a_model() -> None:
    parameters = inspect.signature(convert.command).parameters
    assert [name for name in parameters if name in ALL] == ["size", "colour", "scale", "mean", "std"]


def test_a_command_is_handed_what_was_said_and_the_rest_as_it_is() -> None:
    seen: dict[str, Any] = {}

    @with_groups()
    def command(model: str, feeding: FeedingOptions = AS_CARRIED, top: int = 5) -> None:
        seen.update(model=model, feeding=feeding, top=top)

    said = dict.fromkeys(ALL) | {"squash": False, "size": "320x240", "std": "2"}
    command(model="a", top=3, **said)
    assert seen == {"model": "a", "feeding": FeedingOptions(size="320x240", std="2"), "top": 3}


def test_what_is_said_changes_what_the_model_carries() -> None:
    model = SimpleNamespace(feeding=TORCHVISION_FEEDING)
    assert AS_CARRIED.resolve(model) == TORCHVISION_FEEDING
    assert AS_CARRIED.resolve(SimpleNamespace(feeding=None)) is None
    changed = FeedingOptions(size="96", squash=True, colour="bgr", scale="1/255", mean="1,2,3").resolve(model)
    assert changed is not None
    assert (changed.size, changed.resize, changed.colour, changed.scale) == ((96, 96), "squash", "BGR", 1 / 255)
    assert (changed.mean, changed.std, changed.resize_to) == ((1.0, 2.0, 3.0), TORCHVISION_FEEDING.std, 256)
    assert FeedingOptions(size="320x240").resolve(None) == Feeding(size=(320, 240))


@pytest.mark.parametrize(
    ("shape", "layout"), [((1, 3, 96, 160), "NCHW"), ((1, 96, 160, 3), "NHWC"), (("n", 3, "h", "w"), "NCHW")]
)
def test_the_size_is_the_one_that_the_model_declares(shape: tuple[Any, ...], layout: str) -> None:
    taken = Signature((Feature("x", dtype="float32", shape=shape),), (Feature("y", dtype="float32", shape=(1, 9)),))
    resolved = FeedingOptions(scale="1/255").resolve(SimpleNamespace(feeding=None, signature=taken, name="m"))
    assert resolved is not None
    assert (resolved.size, resolved.layout) == ((160, 96) if 96 in shape else (224, 224), layout)
    said = FeedingOptions(scale="1/255", size="64").resolve(SimpleNamespace(feeding=None, signature=taken, name="m"))
    assert said is not None
    assert said.size == (64, 64)


def test_whether_the_numbers_are_changed_or_only_the_cut() -> None:
    assert FeedingOptions(mean="1").numbers
    assert not FeedingOptions(size="8", squash=True, interpolation="nearest", resize_to=9).numbers


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"size": "12x"}, "--size takes numbers"),
        ({"size": "1x2x3"}, "--size takes 224 or 320x240"),
        ({"size": "10.5"}, "--size takes 224 or 320x240"),
        ({"size": "0"}, "--size takes 224 or 320x240"),
        ({"size": "inf"}, "--size takes 224 or 320x240"),
        ({"interpolation": "best"}, "--interpolation does not know 'best'"),
        ({"colour": "CMYK"}, "--colour does not know 'CMYK'"),
        ({"scale": "1/0"}, "--scale takes numbers"),
        ({"mean": "a,b"}, "--mean takes numbers"),
        ({"std": "1,0,1"}, "--std divides"),
    ],
)
def test_a_mistake_is_said(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        FeedingOptions(**wrong).resolve(None)


def test_labels_have_to_be_text(tmp_path: Any) -> None:
    (tmp_path / "labels.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read"):
        options.read_labels(tmp_path / "labels.txt")
