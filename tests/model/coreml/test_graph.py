"""The read view of Core ML models without layers of their own."""

from __future__ import annotations

from tests.build import classic, pipeline


def test_a_model_without_layers_shows_what_it_is_set_to() -> None:
    vectors = {"vectors": [{"values": [1.0, 2.0]}] * 20}
    model = classic("supportVectorRegressor", {"x": [2]}, {"y": "double"}, kernel={"rbfKernel": {"gamma": 0.5}}, rho=1.5,
                    denseSupportVectors=vectors, coefficients={"alpha": [0.0] * 20})  # fmt: skip
    (node,) = model.graph.nodes
    assert node.attributes == {
        "kernel.rbfKernel.gamma": 0.5,
        "denseSupportVectors.vectors": "20 of them",
        "coefficients.alpha": "20 of them",
        "rho": 1.5,
    }
    linear = classic("supportVectorRegressor", {"x": [2]}, {"y": "double"}, kernel={"linearKernel": {}})
    whole = pipeline("pipelineRegressor", [linear], {"x": [2]}, {"y": "double"})
    assert whole.graph.nodes[0].attributes == {"kernel.linearKernel": True}
