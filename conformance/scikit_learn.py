"""Random scikit-learn models as Core ML files, each against what scikit-learn itself predicts.

    python -m conformance.scikit_learn [--count 500] [--first 0]

Every seed trains one model of a random family on random data (features of very different magnitude, two to five classes with
numbers or texts for labels), writes it as coremltools' converter would, and asks both for eight rows. Numbers have to agree to
1e-7 of themselves, probabilities to 1e-6; the labels too, unless the two best classes are even. Writes
conformance/results/scikit_learn.json.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tests.conversion.coreml_to_onnx.classic import sklearn_models as written

from conformance.origin import origin, write_record
from coreproof.model.coreml.model import CoreMLModel
from coreproof.runtime.open import session

RESULTS = Path(__file__).parent / "results" / "scikit_learn.json"
KERNELS = ("linear", "rbf", "poly", "sigmoid")
ROWS = 8


@dataclass(frozen=True)
class Data:
    """Rows of features (whole float32 numbers, as trees compare them), a class and a number for each, and the draw itself."""

    x: np.ndarray
    labels: np.ndarray
    numbers: np.ndarray
    rng: np.random.Generator

    @property
    def scaled(self) -> np.ndarray:
        """The features in [-1, 1]: what kernels and linear classifiers can be trained on."""
        return self.x / np.abs(self.x).max(0)


@dataclass(frozen=True)
class Trained:
    """A trained model, the same as a Core ML file, and what it is asked for; ``probable``: it gives probabilities."""

    trained: Any
    written: CoreMLModel
    x: np.ndarray
    probable: bool = False


def drawn(seed: int) -> Data:
    """The data of one seed."""
    rng = np.random.default_rng(seed)
    count, features, classes = (int(rng.integers(low, high)) for low, high in ((40, 160), (2, 9), (2, 6)))
    x = (
        (rng.normal(size=(count, features)) * 10.0 ** rng.integers(-2, 3, features))
        .astype(np.float32)
        .astype(np.float64)
    )
    scores = (x / np.abs(x).max(0)) @ rng.normal(size=(features, classes)) + 0.2 * rng.normal(size=(count, classes))
    labels = scores.argmax(1)
    labels[: 3 * classes] = np.repeat(np.arange(classes), 3)  # each class has a few samples
    if rng.random() < 0.4:
        return Data(x, np.array([f"class {c}" for c in labels]), scores[:, 0], rng)
    return Data(x, labels, scores[:, 0], rng)


def _regressor(d: Data) -> Trained:
    from sklearn import linear_model

    several = d.rng.random() < 0.5
    target = np.stack([d.numbers, d.numbers**2], 1) if several else d.numbers
    model = linear_model.Ridge(alpha=float(d.rng.random())).fit(d.x, target)
    return Trained(model, written.linear_regressor(model), d.x)


def _softmax(d: Data) -> Trained:
    from sklearn import linear_model

    model = linear_model.LogisticRegression().fit(d.scaled, d.labels)
    return Trained(model, written.linear_classifier(model, "ReferenceClass"), d.scaled, probable=True)


def _support_regressor(d: Data) -> Trained:
    from sklearn import svm

    kind = d.rng.choice([svm.SVR, svm.NuSVR])
    model = kind(kernel=str(d.rng.choice(KERNELS)), degree=int(d.rng.integers(1, 5))).fit(d.scaled, d.numbers)
    return Trained(model, written.support_vector_regressor(model, sparse=bool(d.rng.random() < 0.5)), d.scaled)


def _support_classifier(d: Data) -> Trained:
    from sklearn import svm

    # two classes have the pair's own probability in Core ML; scikit-learn couples it once more
    probable = len(set(d.labels)) > 2 and bool(d.rng.random() < 0.5)
    model = svm.SVC(kernel=str(d.rng.choice(KERNELS)), probability=probable, random_state=0).fit(d.scaled, d.labels)
    made = written.support_vector_classifier(model, sparse=bool(d.rng.random() < 0.5))
    return Trained(model, made, d.scaled, probable)


def _forest_regressor(d: Data) -> Trained:
    from sklearn import ensemble

    kind = d.rng.choice([ensemble.RandomForestRegressor, ensemble.ExtraTreesRegressor])
    model = kind(int(d.rng.integers(1, 15)), random_state=0).fit(d.x, d.numbers)
    return Trained(model, written.forest_regressor(model), d.x)


def _forest_classifier(d: Data) -> Trained:
    from sklearn import ensemble

    kind = d.rng.choice([ensemble.RandomForestClassifier, ensemble.ExtraTreesClassifier])
    model = kind(int(d.rng.integers(1, 15)), max_depth=6, random_state=0).fit(d.x, d.labels)
    return Trained(model, written.forest_classifier(model), d.x, probable=True)


def _boosted(d: Data) -> Trained:
    from sklearn import ensemble

    model = ensemble.GradientBoostingClassifier(n_estimators=6, init="zero", random_state=0).fit(d.x, d.labels)
    sums = 1 if len(model.classes_) == 2 else len(model.classes_)
    return Trained(model, written.boosted_classifier(model, [0.0] * sums), d.x, probable=True)


FAMILIES: dict[str, Callable[[Data], Trained]] = {
    "linear regressor": _regressor,
    "softmax": _softmax,
    "support vector regressor": _support_regressor,
    "support vector classifier": _support_classifier,
    "forest regressor": _forest_regressor,
    "forest classifier": _forest_classifier,
    "boosted trees": _boosted,
}


def agrees(model: Trained, rows: np.ndarray) -> bool:
    """Whether both give the same for each of the rows."""
    with session(model.written) as running:
        return all(_alike(model, row, running.run({"x": row})) for row in rows)


def _alike(model: Trained, row: np.ndarray, got: dict[str, Any]) -> bool:
    wanted = model.trained.predict(row[None])[0]
    if "y" in got:
        return np.allclose(got["y"], wanted, rtol=1e-7, atol=1e-9)
    if not model.probable:
        return bool(got["label"] == wanted)
    chances = model.trained.predict_proba(row[None])[0]
    best = np.sort(chances)[-2:]
    # a support vector machine's label is Core ML's most probable one, scikit-learn's that with most votes
    wanted = model.trained.classes_[chances.argmax()]
    even = best[1] - best[0] < 1e-9
    close = np.allclose(list(got["chances"].values()), chances, rtol=1e-6, atol=1e-9)
    return bool(close and (even or got["label"] == wanted))


def main() -> int:
    """Runs the seeds, prints and writes the figures; 1 where any model disagrees."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--first", type=int, default=0)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    agreed: Counter[str] = Counter()
    differing: list[str] = []
    for seed in range(chosen.first, chosen.first + chosen.count):
        data = drawn(seed)
        family = list(FAMILIES)[seed % len(FAMILIES)]
        model = FAMILIES[family](data)
        if agrees(model, model.x[data.rng.integers(0, len(model.x), ROWS)]):
            agreed[family] += 1
        else:
            differing.append(f"{family}, seed {seed}")
    print(
        f"{sum(agreed.values())} of {chosen.count} models agree",
        *(f"  {name}: {n}" for name, n in agreed.items()),
        sep="\n",
    )
    print(*(f"differs: {name}" for name in differing), sep="\n")
    figures = {
        **origin("conformance.scikit_learn"),
        "models": chosen.count,
        "agree": dict(sorted(agreed.items())),
        "differ": differing,
    }
    if chosen.first == 0 and chosen.count >= parser.get_default("count"):
        write_record(RESULTS, figures)
    else:
        print(f"a part: {RESULTS.name} keeps what all of them gave")
    return int(bool(differing))


if __name__ == "__main__":
    sys.exit(main())
