"""Networks of one step are fed sequences, as Core ML lets them: against NumPy, step by step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coreproof import testing
from coreproof.errors import InputError
from coreproof.model.coreml.model import CoreMLModel
from coreproof.runtime.open import session
from coreproof.runtime.sequences import SequenceSession
from tests.build import layer, network

TABLE = np.random.default_rng(0).normal(size=(6, 10)).astype(np.float32)


def embedding(shape: tuple[int, ...]) -> CoreMLModel:
    """Six numbers for each of ten indices, and their opposites."""
    layers = [
        layer("embedding", "x", "e", inputDim=10, outputChannels=6, weights=TABLE),
        layer("activation", "e", "y", linear={"alpha": -1.0}),
    ]
    return network(layers, {"x": shape}, {"y": None})


@pytest.mark.parametrize("shape", [(1,), (1, 1, 1)])
def test_a_network_of_one_step_takes_as_many_as_it_is_given(shape: tuple[int, ...]) -> None:
    with session(embedding(shape)) as running:
        for steps, batch in ((1, 1), (5, 1), (3, 2), (5, 1), *((n, 1) for n in range(6, 12))):
            x = (np.arange(steps * batch).reshape(steps, batch, 1, 1, 1) * 7) % 10
            answer = running.run({"x": x}, ["e"])
            wanted = TABLE.T[x.reshape(steps, batch)].reshape(steps, batch, 6, 1, 1)
            np.testing.assert_array_equal(answer["y"], -wanted)
            np.testing.assert_array_equal(answer["e"], wanted)
        np.testing.assert_array_equal(running.run({"x": np.full(shape, 3)})["y"].ravel(), -TABLE[:, 3])
        assert isinstance(running, SequenceSession)
        assert len(running._over) == 4  # what is kept does not grow with the lengths that were seen


@pytest.mark.parametrize("given", [(5, 1, 2, 1, 1), (5, 1, 1, 2, 1), (5, 1, 1, 1), (2,)])
def test_what_is_no_sequence_of_what_is_declared_is_refused(given: tuple[int, ...]) -> None:
    with session(embedding((1,))) as running, pytest.raises(InputError, match="wrong shape"):
        running.run({"x": np.zeros(given)})


def test_a_network_of_exact_shapes_takes_no_sequences() -> None:
    model = network([layer("activation", "x", "y", linear={"alpha": -1.0})], {"x": (1,)}, {"y": None}, exact=True)
    with session(model) as running, pytest.raises(InputError, match="wrong shape"):
        running.run({"x": np.zeros((5, 1, 1, 1, 1))})


def test_a_network_that_makes_sense_over_one_length_alone_is_answered_over_it(tmp_path: Path) -> None:
    """Apple's test_fixed_seq_len: 15 indices through an embedding make the 90 channels of the dense layer."""
    layers = [
        layer("embedding", "x", "e", inputDim=10, outputChannels=6, weights=TABLE),
        layer("permute", "e", "p", axis=[3, 1, 2, 0]),
        layer("flatten", "p", "f"),
        layer("innerProduct", "f", "y", inputChannels=90, outputChannels=2, weights=np.ones((2, 90))),
    ]
    path = str(network(layers, {"x": (1, 1, 1)}, {"y": None}).save(tmp_path / "net.mlmodel"))
    x = np.arange(15, dtype=np.float32).reshape(15, 1, 1, 1, 1) % 10
    y = testing.predict(path, "", {"x": x})["y"]
    np.testing.assert_allclose(np.ravel(y), [TABLE.T[x.ravel().astype(int)].sum(dtype=np.float64)] * 2, rtol=1e-4)
    with pytest.raises(RuntimeError):
        testing.predict(path, "", {"x": x[:14]})
    testing.release(path)
