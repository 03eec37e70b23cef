"""The head of a classifier: the label of the largest score, and the scores by their labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreproof.model.coreml.model import load_coreml
from coreproof.runtime.open import session
from tests.build import quietly_converted
from tests.conversion.coreml_to_onnx.mlprogram.family import Family

family = Family("classify")


@pytest.mark.sweep(2)
@family.exercises("classify")
@pytest.mark.parametrize("labels", [["cat", "dog", "cow"], [7, 5, 2]])
@pytest.mark.parametrize("scores", [[0.25, 0.5, 0.125], [3, 3, -1], [-np.inf, -2, -1]])
def test_the_label_of_the_first_largest_score_is_the_answer(
    tmp_path: Path, labels: list[Any], scores: list[float]
) -> None:
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb

    @mb.program(input_specs=[mb.TensorSpec((1, 3))], opset_version=ct.target.iOS17)
    def program(x: Any) -> Any:
        return mb.identity(x=x, name="scores")

    config = ct.ClassifierConfig(labels, predicted_probabilities_output="scores")
    path = quietly_converted(
        tmp_path,
        program,
        classifier_config=config,
        minimum_deployment_target=ct.target.iOS17,
        compute_precision=ct.precision.FLOAT32,
    )
    with session(load_coreml(path)) as running:
        given = running.run({"x": np.float32([scores])})
        label, by_label = given[running.signature.predicted_label], given[running.signature.probabilities]
    assert label == labels[int(np.argmax(scores))]
    assert by_label == dict(zip(labels, scores, strict=True))
