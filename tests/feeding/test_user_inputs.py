"""What a user gives: arrays in a .npz and photos, for both models in the form that each takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from PIL import Image

from coreproof.conversion.convert import convert
from coreproof.conversion.onnx_to_coreml.convert import ImageInput
from coreproof.errors import InputError, PhotoError
from coreproof.feeding.pictures import open_picture
from coreproof.feeding.user_inputs import given_feeds, photo_feeds, read_samples
from coreproof.model.base import Model
from coreproof.model.features import Feature, Signature
from coreproof.model.feeding import Feeding
from coreproof.model.onnx.model import OnnxModel
from coreproof.runtime.images import to_tensor
from coreproof.verification.recording import record
from coreproof.verification.verify import verify
from tests.build import conv_relu_onnx, residual_net

TWO = Signature((Feature("a", dtype="float32", shape=(1, 3)), Feature("b", dtype="int32", shape=(2,))), ())
ROW, PAIR = np.ones((1, 3), np.float32), np.zeros(2, np.int32)


def saved(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "inputs.npz", **{name.replace("__", "/"): array for name, array in arrays.items()})
    return folder / "inputs.npz"


def test_one_sample(tmp_path: Path) -> None:
    (sample,) = read_samples(saved(tmp_path, a=ROW, b=PAIR), TWO)
    assert set(sample) == {"a", "b"}
    assert np.array_equal(sample["a"], ROW)


def test_samples_as_a_list_as_a_batch_and_by_number(tmp_path: Path) -> None:
    listed = read_samples(saved(tmp_path, a=np.stack([ROW, 2 * ROW]), b=np.stack([PAIR, PAIR + 1])), TWO)
    assert [s["a"].shape for s in listed] == [(1, 3), (1, 3)]
    assert [int(s["b"][0]) for s in listed] == [0, 1]
    batched = read_samples(saved(tmp_path, a=np.concatenate([ROW, 2 * ROW]), b=np.stack([PAIR, PAIR + 1])), TWO)
    assert [float(s["a"][0, 0]) for s in batched] == [1, 2]
    many = {f"a__{i}": i * ROW for i in range(12)} | {f"b__{i}": PAIR + i for i in range(12)}
    numbered = read_samples(saved(tmp_path, **many), TWO)
    assert [int(s["b"][0]) for s in numbered] == list(range(12)), "10 follows 9, not 1"


def test_everything_that_does_not_fit_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError) as told:
        read_samples(saved(tmp_path, a=np.ones((1, 4)), c=PAIR), TWO)
    text = str(told.value)
    assert "no input is called c" in text
    assert "nothing is given for b" in text
    assert "a has the shape 1x4, a: float32[1x3] is declared" in text
    assert "a=array, b=array" in text


@pytest.mark.parametrize("dtype", ["U3", "complex64"])
def test_arrays_of_something_else_than_numbers_are_told(tmp_path: Path, dtype: Any) -> None:
    with pytest.raises(InputError, match=r"a holds .*, which is no number; a: float32\[1x3\] is declared"):
        read_samples(saved(tmp_path, a=np.zeros((1, 3), dtype), b=PAIR), TWO)


def test_arrays_of_raw_bytes_are_not_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"an array of \|V4\[1, 3\] is not read"):
        read_samples(saved(tmp_path, a=np.zeros((1, 3), "V4"), b=PAIR), TWO)


def test_unequal_numbers_of_samples_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a 2, b 1"):
        read_samples(saved(tmp_path, a__0=ROW, a__1=ROW, b=PAIR), TWO)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"no zip at all"])
def test_a_file_that_is_no_npz_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "inputs.npz").write_bytes(content)
    with pytest.raises(InputError, match="cannot be read"):
        read_samples(tmp_path / "inputs.npz", TWO)
    with pytest.raises(InputError, match="cannot be read"):
        read_samples(tmp_path / "absent.npz", TWO)


def test_pickles_and_nameless_arrays_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_samples(saved(tmp_path, a=np.array([{}], dtype=object), b=PAIR), TWO)
    np.save(tmp_path / "one.npy", ROW)
    with pytest.raises(InputError, match="without a name"):
        read_samples(tmp_path / "one.npy", TWO)


def test_names_of_either_model_serve(tmp_path: Path) -> None:
    other = Signature((Feature("first", dtype="float32", shape=(3,)), Feature("b", dtype="int32", shape=(2,))), ())
    (sample,) = read_samples(saved(tmp_path, first=np.ones(3, np.float32), b=PAIR), TWO, other)
    assert "first" in sample
    with pytest.raises(InputError, match=r"nothing is given for a \(or first\)"):
        read_samples(saved(tmp_path, b=PAIR), TWO, other)


def test_a_saved_run_gives_its_inputs(tmp_path: Path) -> None:
    run = record(residual_net(), tmp_path / "run.npz")
    given = read_samples(tmp_path / "run.npz", run.signature)
    assert len(given) == len(run.samples) > 1
    for sample, saved in zip(given, run.samples, strict=True):
        assert np.array_equal(sample["x"], saved["x"])


# photos


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(5)
    for i, size in enumerate([(20, 12), (9, 30), (8, 8)]):
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8)).save(tmp_path / f"{i}.png")
    return tmp_path


FEEDING = Feeding(size=(8, 8), scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))


def tensor_model(feeding: Feeding | None = None) -> OnnxModel:
    return OnnxModel(conv_relu_onnx(), name="numbers", feeding=feeding)


def picture_model(feeding: Feeding = FEEDING, **changes: Any) -> Model:
    image = ImageInput(colour=feeding.colour, mean=feeding.mean, std=feeding.std, scale=feeding.scale)
    return convert(tensor_model(), "neuralnetwork", images={"x": image}, **changes)


def test_each_model_is_fed_as_it_declares(photos: Path) -> None:
    source, model = tensor_model(FEEDING), picture_model()
    fed = given_feeds(source, model, photos=photos, limit=2)
    assert fed is not None
    assert len(fed.reference) == len(fed.candidate) == 2
    assert np.array_equal(fed.reference[1]["x"], to_tensor(open_picture(photos / "1.png"), FEEDING))
    pixels = fed.candidate[1]["x"]
    assert np.array_equal(pixels, np.rint(pixels))
    assert pixels.max() > 200
    assert "2 photos" in fed.said
    assert verify(source, model, feeds=(fed.reference, fed.candidate))


@pytest.mark.parametrize("colour", ["RGB", "BGR"])
def test_an_unknown_feeding_is_read_from_the_model_that_takes_pictures(photos: Path, colour: Any) -> None:
    """Neither side says how it is fed; the picture's model holds it, in its own channel order."""
    feeding = Feeding(**{**vars(FEEDING), "colour": colour})
    source, model = tensor_model(), picture_model(feeding)
    for a, b in ((source, model), (model, source)):
        fed = given_feeds(a, b, photos=photos)
        assert fed is not None
        found = verify(a, b, feeds=(fed.reference, fed.candidate))
        assert found, found.summary()


def test_options_outrank_what_the_model_carries(photos: Path) -> None:
    other = Feeding(size=(8, 8))
    fed = photo_feeds(tensor_model(FEEDING), tensor_model(FEEDING), [photos / "0.png"], (other, None))
    assert fed.reference[0]["x"].max() > 2 > fed.candidate[0]["x"].max() / 2
    assert np.array_equal(fed.reference[0]["x"], to_tensor(open_picture(photos / "0.png"), other))


def test_one_photo_and_a_picture_in_memory(photos: Path) -> None:
    fed = given_feeds(tensor_model(FEEDING), tensor_model(FEEDING), photos=photos / "2.png")
    assert fed is not None
    assert len(fed.reference) == 1
    again = photo_feeds(tensor_model(FEEDING), tensor_model(FEEDING), [open_picture(photos / "2.png")])
    assert np.array_equal(again.reference[0]["x"], fed.reference[0]["x"])


def test_what_cannot_be_fed_with_photos_is_told(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not known") as told:
        photo_feeds(tensor_model(), tensor_model(), [photos / "0.png"])
    assert "--mean" in str(told.value)
    net = conv_relu_onnx()
    extra = ir.Value(name="z", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1]))
    net.graph.inputs.append(extra)
    with pytest.raises(InputError, match="one input, a picture") as told:
        photo_feeds(OnnxModel(net, name="two"), tensor_model(FEEDING), [photos / "0.png"])
    assert "--inputs" in str(told.value)
    with pytest.raises(InputError, match="not both"):
        given_feeds(tensor_model(), tensor_model(), inputs="a.npz", photos=photos)
    with pytest.raises(PhotoError):
        given_feeds(tensor_model(FEEDING), tensor_model(FEEDING), photos=tmp_path / "absent.png")


def test_squeezenet_of_two_publishers_sees_the_same_photo(shared_data: Path) -> None:
    """One wants BGR minus its mean at 224, says so nowhere; the other holds that mean, at 227."""
    from coreproof.model.load import load

    source = load(shared_data / "onnx" / "MS_SqueezeNet_fp16.onnx")
    model = load(shared_data / "coreml" / "Apple_SqueezeNetInt8LUT.mlmodel")
    fed = given_feeds(source, model, photos=shared_data / "photos", limit=2)
    assert fed is not None
    assert "224x224 BGR pixel - (104, 117, 123)" in fed.said
    assert "227x227 BGR picture" in fed.said
    assert fed.candidate[0]["image"].shape == (1, 3, 227, 227)
    assert -125 < fed.reference[0]["data_0"].min() < fed.reference[0]["data_0"].max() < 152
