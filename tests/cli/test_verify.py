"""``coreproof verify`` as a user types it: verdicts, exit codes, what is fed, what is saved and written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from coreproof.conversion.convert import convert
from coreproof.conversion.onnx_to_coreml.convert import ImageInput
from coreproof.model.onnx.model import OnnxModel
from tests.build import conv_relu_onnx, residual_net
from tests.cli.conftest import Ran
from tests.doctor.rules.test_resize_grid import torch_upsample, upsampled

Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """right.onnx, wrong.onnx, right.mlpackage of one network; numbers.onnx and picture.mlmodel of another."""
    folder = tmp_path_factory.mktemp("models")
    residual_net().save(folder / "right.onnx")
    residual_net(fault="no bias").save(folder / "wrong.onnx")
    convert(residual_net(), "mlprogram").save(folder / "right.mlpackage")
    numbers = OnnxModel(conv_relu_onnx(), name="numbers")
    numbers.save(folder / "numbers.onnx")
    image = ImageInput(colour="RGB", mean=(0.5,), std=(0.25,), scale=1 / 255)
    convert(numbers, "neuralnetwork", images={"x": image}).save(folder / "picture.mlmodel")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(4)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (11 + i, 9, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


def test_agreement_is_exit_0_and_said_last(coreproof: Run, models: Path) -> None:
    ran = coreproof("verify", models / "right.onnx", models / "right.mlpackage")
    assert ran.code == 0
    lines = [line for line in ran.out.splitlines() if line.strip()]
    assert "✓" in lines[2]
    verdict = next(i for i, line in enumerate(lines) if "values agree" in line)
    assert all(not line.startswith("✓") for line in lines[verdict:])
    assert "right (reference)" not in ran.out, "two models of one name are told apart"
    assert "right.onnx (reference) and right.mlpackage" in ran.out


def test_a_divergence_is_exit_1_with_the_layer_and_the_tolerance_that_would_pass(coreproof: Run, models: Path) -> None:
    ran = coreproof("verify", models / "right.onnx", models / "wrong.onnx")
    assert ran.code == 1
    assert "▶ conv2" in ran.out
    assert "▲ first divergence: conv2 (Conv)" in ran.out
    assert "would have passed with a tolerance of" in ran.out


def test_the_tolerance_that_would_have_passed_passes(coreproof: Run, models: Path) -> None:
    found = json.loads(coreproof("verify", models / "right.onnx", models / "wrong.onnx", "--json").out)
    needed = max(row["max_relative_error"] for row in found["rows"])
    assert coreproof("verify", models / "right.onnx", models / "wrong.onnx", "--tolerance", 1.01 * needed).code == 0
    assert coreproof("verify", models / "right.onnx", models / "wrong.onnx", "--tolerance", needed / 100).code == 1


def test_json_holds_what_was_found(coreproof: Run, models: Path) -> None:
    ran = coreproof("verify", models / "right.onnx", models / "wrong.onnx", "--json", "--seed", 5)
    found = json.loads(ran.out)
    assert ran.code == 1
    assert found["first_divergence"]["name"] == "conv2"
    assert "random, seed 5" in found["inputs"]


def test_rows_are_limited_or_all_there(coreproof: Run, models: Path) -> None:
    few = coreproof("verify", models / "right.onnx", models / "wrong.onnx", "--rows", 3).out
    every = coreproof("verify", models / "right.onnx", models / "wrong.onnx", "--rows", 0).out
    assert "15 of 18 rows left out" in few
    assert "left out" not in every
    assert sum(line[:1] in "✓✗▶" for line in every.splitlines() if line) == 19


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("right.onnx",), "two sides"),
        ((), "two sides"),
        (("right.onnx", "absent.onnx"), "no such model"),
        (("right.onnx", "wrong.onnx", "--load", "run.npz"), "beside it"),
        (("right.onnx", "wrong.onnx", "--plot", "errors.gif"), ".png, .svg or .pdf"),
        (("right.onnx", "wrong.onnx", "--inputs", "absent.npz"), "cannot be read"),
        (("right.onnx", "wrong.onnx", "--photos", "."), "no photos"),
        (("right.onnx", "wrong.onnx", "--candidate-engine", "abacus"), "--candidate-engine"),
        (("right.onnx", "--save", "run.txt"), ".npz"),
        (("right.onnx", "numbers.onnx"), "another shape"),
    ],
)
def test_what_cannot_be_compared_is_exit_2_with_a_reason(
    coreproof: Run, models: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(models)
    ran = coreproof("verify", *arguments)
    assert ran.code == 2
    assert said in ran.err
    assert "Traceback" not in ran.err


def test_the_grid_that_a_file_leaves_open_is_said(coreproof: Run, tmp_path: Path) -> None:
    upsampled(1).save(tmp_path / "up.mlmodel")
    for producer in ("pytorch", "keras2onnx"):
        source = torch_upsample(producer).save(tmp_path / f"{producer}.onnx")
        ran = coreproof("verify", source, tmp_path / "up.mlmodel")
        assert ran.code == 0, ran.out
        assert ("PyTorch meant half-pixel centres" in ran.out) == (producer == "pytorch")


def test_arrays_are_fed(coreproof: Run, models: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "in.npz", x=rng.standard_normal((3, 1, 16, 12, 12)).astype(np.float32))
    ran = coreproof("verify", models / "right.onnx", models / "right.mlpackage", "--inputs", tmp_path / "in.npz")
    assert ran.code == 0
    assert "3 samples of x" in ran.out
    assert "(of in.npz)" in ran.out


def test_photos_are_fed_to_each_as_it_takes_them(coreproof: Run, models: Path, photos: Path) -> None:
    ran = coreproof("verify", models / "numbers.onnx", models / "picture.mlmodel", "--photos", photos, "--limit", 2)
    assert ran.code == 0, ran.out + ran.err
    assert "2 photos" in ran.out
    wrong = coreproof(
        *("verify", models / "numbers.onnx", models / "picture.mlmodel", "--photos", photos),
        *("--scale", "1/255", "--mean", "0.4", "--std", "0.25"),
    )
    assert wrong.code == 1, "said how the source is fed, the model's other mean is a divergence"


def test_what_is_said_of_the_feeding_counts_without_photos_too(coreproof: Run, models: Path) -> None:
    pair = (models / "numbers.onnx", models / "picture.mlmodel")
    right = coreproof("verify", *pair, "--scale", "1/255", "--mean", "0.5", "--std", "0.25")
    assert right.code == 0, right.out + right.err
    wrong = coreproof("verify", *pair, "--scale", "1/255", "--mean", "0.4", "--std", "0.25")
    assert wrong.code == 1
    assert "(RGB pixel*0.00392157 - 0.4) / 0.25" in wrong.out


def test_geometry_alone_leaves_the_numbers_to_the_model(coreproof: Run, models: Path, photos: Path) -> None:
    pair = (models / "numbers.onnx", models / "picture.mlmodel")
    ran = coreproof("verify", *pair, "--photos", photos, "--squash")
    assert ran.code == 0, ran.out + ran.err
    assert "(RGB pixel - 127.5) / 63.75" in ran.out


def test_a_run_is_saved_and_compared_later(coreproof: Run, models: Path, tmp_path: Path) -> None:
    run = tmp_path / "run.npz"
    saved = coreproof("verify", models / "right.onnx", "--save", run)
    assert saved.code == 0
    assert "18 values of right" in saved.out
    assert coreproof("verify", run, models / "right.mlpackage").code == 0
    again = coreproof("verify", "--load", run, models / "wrong.onnx")
    assert again.code == 1
    assert "conv2" in again.out
    assert "ONNX Runtime, saved" in again.out


def test_a_run_is_saved_while_it_is_compared(coreproof: Run, models: Path, photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run.npz"
    pair = (models / "picture.mlmodel", models / "numbers.onnx")
    ran = coreproof("verify", *pair, "--photos", photos, "--save", run, "--json")
    assert ran.code == 0
    assert json.loads(ran.out)["agrees"]
    assert coreproof("verify", run, models / "numbers.onnx").code == 0
    assert coreproof("verify", run, models / "numbers.onnx", "--photos", photos).code == 0


def test_a_damaged_run_is_exit_2(coreproof: Run, models: Path, tmp_path: Path) -> None:
    run = tmp_path / "run.npz"
    coreproof("verify", models / "right.onnx", "--save", run, "--outputs-only")
    run.write_bytes(run.read_bytes()[:-40])
    ran = coreproof("verify", run, models / "right.onnx")
    assert ran.code == 2
    assert "not a saved run, or it is damaged" in ran.err


def test_plot_and_node_data_are_written(coreproof: Run, models: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'coreproof[notebook]'")
    ran = coreproof(
        *("verify", models / "right.onnx", models / "wrong.onnx"),
        *("--plot", tmp_path / "errors.svg", "--node-data", tmp_path / "errors.json"),
    )
    assert ran.code == 1
    assert "<svg" in (tmp_path / "errors.svg").read_text()
    assert "conv2" in json.loads((tmp_path / "errors.json").read_text())["results"]
    assert ran.out.count("written: ") == 2
