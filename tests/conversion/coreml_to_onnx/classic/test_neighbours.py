"""k nearest neighbours against scikit-learn and against what the proto says of weights, ties and empty models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coreproof.errors import ConversionError
from coreproof.runtime.open import session
from tests.build import classic


def neighbours(samples: Any, labels: Any, k: int, *, inverse: bool = False, tree: bool = False, **fields: Any) -> Any:
    texts = bool(len(labels)) and isinstance(labels[0], str)
    kind = "string" if texts or "defaultStringLabel" in fields else "int64"
    width = len(samples[0]) if len(samples) else 3
    index: dict[str, Any] = {
        "numberOfDimensions": width, "floatSamples": [{"vector": list(map(float, s))} for s in samples],
        "squaredEuclideanDistance": {}, **({"singleKdTreeIndex": {"leafSize": 30}} if tree else {"linearIndex": {}}),
    }  # fmt: skip
    if len(labels):
        fields["stringClassLabels" if texts else "int64ClassLabels"] = {"vector": list(labels)}
    return classic(
        "kNearestNeighborsClassifier", {"x": [width]}, {"label": kind, "chances": f"dictionary {kind}"}, dtype="FLOAT32",
        **{
            "nearestNeighborsIndex": index, "numberOfNeighbors": {"defaultValue": k},
            "inverseDistanceWeighting" if inverse else "uniformWeighting": {}, **fields,
        },
    )  # fmt: skip


@pytest.mark.sweep(2)
@pytest.mark.parametrize("tree", [True, False])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_the_majority_is_the_one_that_scikit_learn_finds(k: int, tree: bool) -> None:
    library = pytest.importorskip("sklearn.neighbors")
    rng = np.random.default_rng(k)
    x = rng.normal(size=(60, 3)).astype(np.float32)
    y = (x[:, 0] > x[:, 1]).astype(int) + (x[:, 2] > 1)
    model = library.KNeighborsClassifier(k).fit(x, y)
    asked = rng.normal(size=(25, 3)).astype(np.float32)
    with session(neighbours(x, [int(v) for v in y], k, tree=tree)) as running:
        for row in asked:
            got = running.run({"x": row})
            assert got["label"] == model.predict(row[None])[0]
            assert got["chances"] == pytest.approx(
                dict(zip(model.classes_, model.predict_proba(row[None])[0], strict=True))
            )


def test_near_neighbours_count_for_more_where_the_file_says_so() -> None:
    samples, labels = [[0.0], [3.0], [3.5]], ["near", "far", "far"]
    even, inverse = neighbours(samples, labels, 3), neighbours(samples, labels, 3, inverse=True)
    for model, wanted in ((even, "far"), (inverse, "near")):
        with session(model) as running:
            assert running.run({"x": [0.5]})["label"] == wanted
    with session(inverse) as running:
        weight = np.array([1 / 2.5**2 + 1 / 3.0**2, 1 / 0.5**2])
        assert list(running.run({"x": [0.5]})["chances"].values()) == pytest.approx(weight / weight.sum())
        assert running.run({"x": [3.0]})["chances"] == {"far": 1.0, "near": 0.0}


def test_a_model_that_has_learned_nothing_gives_its_default() -> None:
    with session(neighbours([], [], 3, defaultStringLabel="???")) as running:
        assert running.run({"x": [1, 2, 3]}) == {"label": "???", "chances": {}}


def test_no_more_neighbours_are_asked_than_there_are() -> None:
    with session(neighbours([[0.0], [1.0]], [4, 5], 9)) as running:
        assert running.run({"x": [0.0]})["chances"] == {4: 0.5, 5: 0.5}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([[0.0]], [1, 2], 1), "1 samples, and 2 labels"),
        (([[0.0], [1.0, 2.0]], [1, 2], 1), "a sample has 2 numbers, and it says 1"),
        (([[0.0]], [1], 0), "asks for 0 neighbours"),
        (([], [], 1), "no samples, and no label"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: Any, said: str) -> None:
    with pytest.raises(ConversionError, match=said):
        session(neighbours(*arguments))
