"""A model over photos: batches only where they are proved, softmax decided once, threads that may share a session."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from coreproof.comparison.lineup import LineupEntry
from coreproof.comparison.predictor import BATCH, Calibration, Predictor
from coreproof.errors import InputError
from coreproof.feeding.pictures import open_picture
from coreproof.feeding.predict import softmax
from coreproof.model.onnx.model import OnnxModel
from coreproof.runtime.images import to_tensor
from tests.build import FEEDING, classifier


def free_batch(*, baked: bool) -> OnnxModel:
    """The tiny classifier with a symbolic batch; ``baked``: inside, the batch is 1 all the same."""
    model = classifier(0)
    graph = model.ir.graph
    graph.inputs[0].shape = ir.Shape(["batch", 3, 8, 8])
    graph.outputs[0].shape = ir.Shape(["batch", 6])
    flatten = next(node for node in graph if node.op_type == "Flatten")
    flatten.outputs[0].shape = None
    if baked:
        target = ir.Value(name="target", const_value=ir.Tensor(np.array([1, 192]), name="target"))
        graph.register_initializer(target)
        reshape = ir.Node("", "Reshape", [graph.inputs[0], target], outputs=[ir.Value(name="baked")])
        graph.insert_before(flatten, reshape)
        flatten.replace_input_with(0, reshape.outputs[0])
    return model


def tensors(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.random((1, 3, 8, 8), np.float32) for _ in range(count)]


@pytest.mark.parametrize(("model", "batch"), [(classifier(0), 1), (free_batch(baked=False), BATCH)])
def test_photos_are_answered_in_batches_as_they_are_alone(model: OnnxModel, batch: int) -> None:
    photos = tensors(11)
    with Predictor(LineupEntry("a", model), model, FEEDING) as predictor:
        assert predictor.calibrate(photos[0]).batch == batch
        together, seconds = predictor.probabilities(photos)
        alone = np.concatenate([predictor.probabilities([photo])[0] for photo in photos])
    assert together.shape == (11, 6)
    assert seconds > 0
    np.testing.assert_allclose(together, alone, rtol=1e-6)


def test_a_batch_that_is_symbolic_and_does_not_work_is_not_used() -> None:
    model = free_batch(baked=True)
    photos = tensors(3)
    with Predictor(LineupEntry("a", model), model, FEEDING) as predictor:
        calibration = predictor.calibrate(photos[0])
        assert (calibration.batch, calibration.classes, calibration.softmax) == (1, 6, True)
        assert predictor.probabilities(photos)[0].shape == (3, 6)


def test_what_was_settled_is_kept_as_it_is(photos: Path) -> None:
    model = classifier(0, labels=tuple("abcdef"))
    with Predictor(LineupEntry("a", model), model, FEEDING) as predictor:
        calibration = predictor.calibrate(to_tensor(open_picture(photos / "p00.png"), FEEDING))
    assert Calibration.from_json(calibration.to_json()) == calibration
    assert Calibration.from_json({**calibration.to_json(), "another": 1}) is None
    assert Calibration.from_json({"model": "a"}) is None


def test_threads_share_a_session() -> None:
    model, photos = classifier(0), tensors(64)
    with Predictor(LineupEntry("a", model), model, FEEDING) as predictor:
        predictor.calibrate(photos[0])
        with ThreadPoolExecutor(4) as pool:
            rows = list(pool.map(lambda photo: predictor.probabilities([photo])[0][0], photos))
        weights = np.asarray(model.ir.graph.initializers["w"].const_value.numpy())  # type: ignore[union-attr]
    expected = [softmax(photo.reshape(-1) @ weights) for photo in photos]
    np.testing.assert_allclose(rows, expected, rtol=1e-4)


def test_torch_gives_its_threads_back() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from coreproof.model.feeding import Source
    from coreproof.model.load import load

    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 6)).eval()
    model = load(Source(module, (torch.zeros(1, 3, 8, 8),), FEEDING))
    before = torch.get_num_threads()
    with Predictor(LineupEntry("a", model), model, FEEDING, threads=before + 1) as predictor:
        assert torch.get_num_threads() == before + 1
        assert predictor.calibrate(tensors(1)[0]).batch == 1
    assert torch.get_num_threads() == before


def test_models_that_are_no_classifiers_are_refused() -> None:
    from tests.build import conv_relu_onnx

    model = OnnxModel(conv_relu_onnx(), name="net")
    shape = tuple(d if isinstance(d, int) else 1 for d in model.signature.inputs[0].shape or ())
    with (
        Predictor(LineupEntry("a", model), model, FEEDING) as predictor,
        pytest.raises(InputError, match="no classifier"),
    ):
        predictor.calibrate(np.zeros(shape, np.float32))
