"""A folder of inputs: arrays, sounds and token ids become samples as the model declares them, and nothing is guessed."""

from __future__ import annotations

import json
import struct
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreproof.errors import InputError
from coreproof.feeding.sounds import read_sound
from coreproof.feeding.user_inputs import given_samples, named_samples, read_samples
from coreproof.model.features import Feature, Signature


def one(name: str, dtype: str, *shape: Any) -> Signature:
    return Signature((Feature(name, "tensor", dtype, shape),), ())


TEXT = Signature(
    (
        Feature("input_ids", "tensor", "int64", (1, 6)),
        Feature("attention_mask", "tensor", "int64", (1, 6)),
        Feature("token_type_ids", "tensor", "int64", (1, 6)),
    ),
    (),
)
FREE = Signature((Feature("ids", "tensor", "int64", (1, "length")),), ())


def wav(path: Path, data: bytes, *, channels: int = 1, width: int = 2, rate: int = 16000) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(data)


def test_each_kind_of_file_is_a_sample_or_several(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{"x/0": np.zeros((1, 3)), "x/1": np.ones((1, 3))})
    np.save(tmp_path / "b.npy", np.full(3, 2.0))
    np.save(tmp_path / "c2.npy", np.full((2, 1, 3), 3.0))
    np.save(tmp_path / "c10.npy", np.full((1, 3), 4.0, np.float64))
    (tmp_path / "d.json").write_text("[5, 5, 5]")
    (tmp_path / ".hidden.npy").write_bytes(b"x")
    (tmp_path / "readme.md").write_text("x")
    found = named_samples(tmp_path, one("x", "float32", 1, 3))
    names = ["a.npz/0", "a.npz/1", "b.npy", "c2.npy/0", "c2.npy/1", "c10.npy", "d.json"]
    assert [each.name for each in found] == names
    assert [np.asarray(each.values["x"]).shape for each in found] == [(1, 3)] * 7
    assert [float(np.asarray(each.values["x"]).max()) for each in found] == [0, 1, 2, 3, 3, 4, 5]
    assert len(given_samples(tmp_path, one("x", "float32", 1, 3))) == 7


def test_token_ids_come_as_lists_and_lines(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[101, 7, 102]")
    (tmp_path / "b.json").write_text("[[101, 102], [101, 7, 7, 102]]")
    (tmp_path / "c.txt").write_text("# ids\n101 7 102\n\n[101, 8, 9, 102]\n")
    found = named_samples(tmp_path, FREE)
    assert [each.name for each in found] == ["a.json", "b.json/0", "b.json/1", "c.txt/0", "c.txt/1"]
    assert [np.asarray(each.values["ids"]).shape for each in found] == [(1, 3), (1, 2), (1, 4), (1, 3), (1, 4)]
    assert np.asarray(found[-1].values["ids"]).tolist() == [[101, 8, 9, 102]]


def test_bare_ids_bring_their_mask_and_are_filled_up_behind_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("101 7 102\n")
    (sample,) = read_samples(tmp_path, TEXT)
    assert {name: np.asarray(value).tolist() for name, value in sample.items()} == {
        "input_ids": [[101, 7, 102, 0, 0, 0]],
        "attention_mask": [[1, 1, 1, 0, 0, 0]],
        "token_type_ids": [[0] * 6],
    }


def test_named_inputs_are_taken_as_they_are_named(tmp_path: Path) -> None:
    named = {
        "input_ids": [1, 2, 3, 4, 5, 6],
        "attention_mask": [1, 1, 1, 1, 0, 0],
        "token_type_ids": [0, 0, 1, 1, 1, 1],
    }
    (tmp_path / "a.json").write_text(json.dumps([named, named]))
    folder = tmp_path / "b"
    folder.mkdir()
    for name, values in named.items():
        np.save(folder / f"{name}.npy", np.array([values], np.int32))
    found = named_samples(tmp_path, TEXT)
    assert [each.name for each in found] == ["a.json/0", "a.json/1", "b"]
    for each in found:
        assert {n: np.asarray(v)[0].tolist() for n, v in each.values.items()} == named
        assert all(np.asarray(v).dtype == np.int64 for v in each.values.values())


def test_one_file_serves_as_well_as_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1, 2]")
    assert len(read_samples(tmp_path / "a.json", FREE)) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[1.5, 2]", "not whole"),
        ("[]", "numbers"),
        ('["a"]', "numbers"),
        ("[[1, 2], [3, [4]]]", "numbers"),
        ('{"idz": [1]}', "no input is called idz"),
        ("{", "cannot be read"),
    ],
)
def test_what_is_no_list_of_ids_is_said(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError) as raised:
        read_samples(tmp_path, FREE)
    assert said in str(raised.value)
    assert "a.json" in str(raised.value)


def test_every_file_that_does_not_fit_is_named_at_once(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((1, 4)))
    np.save(tmp_path / "b.npy", np.zeros((1, 3)))
    np.save(tmp_path / "c.npy", np.zeros((1, 5)))
    with pytest.raises(InputError) as raised:
        read_samples(tmp_path, one("x", "float32", 1, 3))
    said = str(raised.value)
    assert "a.npy: x has the shape 1x4" in said
    assert "c.npy: x has the shape 1x5" in said
    assert "b.npy" not in said
    (tmp_path / "d.txt").write_text("1 x\n")
    (tmp_path / "e.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(InputError) as raised:
        read_samples(tmp_path, one("x", "float32", 1, 3))
    assert "d.txt" in str(raised.value)
    assert "e.npy" in str(raised.value)


def test_what_an_array_is_for_is_not_guessed(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((1, 6), np.int64))
    two = Signature((Feature("left", "tensor", "float32", (1, 6)), Feature("right", "tensor", "float32", (1, 6))), ())
    with pytest.raises(InputError, match=r"what an array without a name is for[\s\S]*NAME\.npy"):
        read_samples(tmp_path, two)


def test_an_empty_folder_says_what_it_may_hold(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match=r"no inputs in this folder[\s\S]*\.wav[\s\S]*photo\.jpg"):
        read_samples(tmp_path, FREE)


def test_pickled_arrays_are_not_read(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="cannot be read"):
        read_samples(tmp_path, FREE)


# sounds


@pytest.mark.parametrize(
    ("width", "data", "expected"),
    [
        (1, bytes([0, 128, 192]), [-1.0, 0.0, 0.5]),
        (2, struct.pack("<3h", -32768, 0, 16384), [-1.0, 0.0, 0.5]),
        (3, b"\x00\x00\x80" + b"\x00\x00\x00" + b"\x00\x00\x40", [-1.0, 0.0, 0.5]),
        (4, struct.pack("<3i", -(2**31), 0, 2**30), [-1.0, 0.0, 0.5]),
    ],
)
def test_sounds_of_every_width_are_numbers(tmp_path: Path, width: int, data: bytes, expected: list[float]) -> None:
    wav(tmp_path / "a.wav", data, width=width)
    sound = read_sound(tmp_path / "a.wav")
    assert sound.rate == 16000
    assert sound.samples.tolist() == [expected]
    assert sound.samples.dtype == np.float32


def test_sounds_of_floats_and_of_several_channels(tmp_path: Path) -> None:
    wav(tmp_path / "two.wav", struct.pack("<4h", 0, 16384, 8192, -32768), channels=2)
    assert read_sound(tmp_path / "two.wav").samples.tolist() == [[0.0, 0.25], [0.5, -1.0]]
    data = struct.pack("<2f", 0.25, -0.5)
    header = b"fmt " + struct.pack("<IHHIIHH", 16, 3, 1, 8000, 32000, 4, 32) + b"LIST" + struct.pack("<I", 3) + b"abc\0"
    body = header + b"data" + struct.pack("<I", len(data)) + data
    (tmp_path / "f.wav").write_bytes(b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body)
    assert read_sound(tmp_path / "f.wav").samples.tolist() == [[0.25, -0.5]]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"RIFF",
        b"RIFF\0\0\0\0WAVE",
        b"RIFF\0\0\0\0WAVEfmt \x02\0\0\0\0\0",
        b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 0, 8000, 0, 0, 16) + b"data\x02\0\0\0\0\0",
        b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<IHHIIHH", 16, 2, 1, 8000, 0, 0, 4) + b"data\x02\0\0\0\0\0",
        b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 0, 2, 16) + b"data\xff\xff\xff\xff",
    ],
)
def test_damaged_sounds_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(InputError, match=r"sound cannot be read[\s\S]*ffmpeg"):
        read_sound(tmp_path / "a.wav")


def test_a_sound_becomes_what_the_model_declares(tmp_path: Path) -> None:
    wav(tmp_path / "a.wav", struct.pack("<4h", 0, 1, 2, 3))
    for shape in ((1, "length"), (1, 4), (1, 1, 4), ("length",)):
        (sample,) = read_samples(tmp_path, one("sound", "float32", *shape))
        assert np.asarray(sample["sound"]).size == 4
        assert np.asarray(sample["sound"]).ndim == len(shape)
    with pytest.raises(InputError, match="1x4"):
        read_samples(tmp_path, one("sound", "float32", 1, 9))


def test_sounds_of_unlike_rates_are_told_apart(tmp_path: Path) -> None:
    wav(tmp_path / "a.wav", b"\0\0\1\0")
    wav(tmp_path / "b.wav", b"\0\0\1\0", rate=8000)
    with pytest.raises(InputError, match="differ in how many samples"):
        read_samples(tmp_path, one("sound", "float32", 1, "length"))


@pytest.mark.parametrize(
    ("before", "after"),
    [(b"(1, 3)", b"(1, 9)"), (b"(1, 3)", b"((1, 3"), (b"'<f4'", b"'<fx'"), (b"'<f4'", b"'|O'"), (b"(1, 3)", b"(1,-3)")],
)
def test_a_damaged_array_is_an_error_that_names_the_file(tmp_path: Path, before: bytes, after: bytes) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 3), np.float32))
    content = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(content.replace(before, after.ljust(len(before))))
    with pytest.raises(InputError, match=r"x\.npy"):
        read_samples(tmp_path, one("x", "float32", 1, 3))


def test_an_array_in_the_other_order_of_bytes_is_fed_in_the_machine_s(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[1, 2, 3]], ">f4"))
    ((sample,), *_) = (read_samples(tmp_path, one("x", "float32", 1, 3)),)
    assert np.asarray(sample["x"]).tolist() == [[1, 2, 3]]
