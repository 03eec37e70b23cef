"""The kinds of Core ML models that are lowered: one handler file a family, and one line a kind."""

from __future__ import annotations

from importlib import import_module
from typing import Literal, Protocol

from coreproof.conversion.coreml_to_onnx.lowered_model import LoweredModel
from coreproof.model.coreml.model import CoreMLModel

Precision = Literal["stored", "fp32"]


class Lowerer(Protocol):
    """What lowers the models of one kind; of a kind whose models have one function, it asks for no ``function``."""

    def __call__(self, model: CoreMLModel, precision: Precision, *, function: str | None) -> LoweredModel:
        """The ONNX graph that computes what ``model`` does."""


LOWERERS = {
    "mlProgram": "mlprogram.program:lower_program",
    "neuralNetwork": "neuralnetwork.network:lower_network",
    "neuralNetworkClassifier": "neuralnetwork.network:lower_network",
    "neuralNetworkRegressor": "neuralnetwork.network:lower_network",
    "pipeline": "classic.pipeline:lower_pipeline",
    "pipelineClassifier": "classic.pipeline:lower_pipeline",
    "pipelineRegressor": "classic.pipeline:lower_pipeline",
    "glmRegressor": "classic.linear:lower_regressor",
    "glmClassifier": "classic.linear:lower_classifier",
    "treeEnsembleRegressor": "classic.trees:lower_regressor",
    "treeEnsembleClassifier": "classic.trees:lower_classifier",
    "supportVectorRegressor": "classic.support_vectors:lower_regressor",
    "supportVectorClassifier": "classic.support_vectors:lower_classifier",
    "scaler": "classic.arrays:lower_scaler",
    "imputer": "classic.arrays:lower_imputer",
    "normalizer": "classic.arrays:lower_normalizer",
    "arrayFeatureExtractor": "classic.arrays:lower_extractor",
    "featureVectorizer": "classic.arrays:lower_vectorizer",
    "identity": "classic.arrays:lower_identity",
    "oneHotEncoder": "classic.encoders:lower_one_hot",
    "categoricalMapping": "classic.encoders:lower_mapping",
    "dictVectorizer": "classic.encoders:lower_dict_vectorizer",
    "kNearestNeighborsClassifier": "classic.neighbours:lower_classifier",
    "itemSimilarityRecommender": "classic.recommender:lower_recommender",
    "soundAnalysisPreprocessing": "classic.sound:lower_vggish",
    "classConfidenceThresholding": "classic.arrays:lower_thresholding",
    "customModel": "classic.custom_model:lower_custom_model",
    "linkedModel": "classic.linked:lower_linked",
    "nonMaximumSuppression": "classic.suppression:lower_suppression",
}
"""Kind of Core ML model, by the name of its message -> the module beside this one, and the Lowerer in it."""


def lowerer_of(kind: str) -> Lowerer | None:
    """What lowers the models of this kind; None where nothing does."""
    if kind not in LOWERERS:
        return None
    module, name = LOWERERS[kind].split(":")
    found: Lowerer = getattr(import_module(f"{__package__}.{module}"), name)
    return found
