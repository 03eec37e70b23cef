"""coreproof: carries a model from PyTorch or ONNX to Core ML, and proves that it is still the same model.

Every verb is an attribute of this package and is imported when it is first used, so that ``import coreproof`` is quick.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

from coreproof.model import notebook_view as shown
from coreproof.version import __version__ as __version__

if TYPE_CHECKING:
    from coreproof.comparison.compare import compare as compare
    from coreproof.comparison.over_inputs import compare_inputs as compare_inputs
    from coreproof.conversion.check import check as check
    from coreproof.conversion.coreml_to_onnx.custom import CustomLayer as CustomLayer
    from coreproof.conversion.coreml_to_onnx.custom import register_custom_layer as register_custom_layer
    from coreproof.conversion.onnx_to_coreml.features import ImageInput as ImageInput
    from coreproof.difference.diff import diff as diff
    from coreproof.doctor.diagnose import diagnose as diagnose
    from coreproof.doctor.diagnose import repair as repair
    from coreproof.editing.edit import Edit as Edit
    from coreproof.editing.edit import edit as edit
    from coreproof.editing.verbs.functions import join_functions as join_functions
    from coreproof.editing.verbs.pipelines import join as join
    from coreproof.editing.verbs.pipelines import split as split
    from coreproof.editing.verbs.upgrading import upgrade as upgrade
    from coreproof.errors import CoreproofError as CoreproofError
    from coreproof.feeding.predict import predict as predict
    from coreproof.handover.advice import advise as advise
    from coreproof.handover.app import app as app
    from coreproof.model.budget import set_max_pixels as set_max_pixels
    from coreproof.model.budget import set_memory_budget as set_memory_budget
    from coreproof.model.feeding import Feeding as Feeding
    from coreproof.model.feeding import Source as Source
    from coreproof.model.load import load as load
    from coreproof.precision.converted import convert as convert
    from coreproof.proof.chain import prove as prove
    from coreproof.proof.check import check_proof as check_proof
    from coreproof.proof.difference import compare_proofs as compare_proofs
    from coreproof.proof.migration import migrate as migrate
    from coreproof.reduction.shrink import shrink as shrink
    from coreproof.report.page import page as page
    from coreproof.runtime.open import session as session
    from coreproof.runtime.patch import patch_coremltools as patch_coremltools
    from coreproof.verification.recording import record as record
    from coreproof.verification.verify import verify as verify

_HOMES = {
    "advise": "coreproof.handover.advice",
    "app": "coreproof.handover.app",
    "check": "coreproof.conversion.check",
    "check_proof": "coreproof.proof.check",
    "compare": "coreproof.comparison.compare",
    "compare_inputs": "coreproof.comparison.over_inputs",
    "compare_proofs": "coreproof.proof.difference",
    "convert": "coreproof.precision.converted",
    "CoreproofError": "coreproof.errors",
    "CustomLayer": "coreproof.conversion.coreml_to_onnx.custom",
    "Feeding": "coreproof.model.feeding",
    "ImageInput": "coreproof.conversion.onnx_to_coreml.features",
    "Source": "coreproof.model.feeding",
    "diagnose": "coreproof.doctor.diagnose",
    "Edit": "coreproof.editing.edit",
    "edit": "coreproof.editing.edit",
    "diff": "coreproof.difference.diff",
    "join": "coreproof.editing.verbs.pipelines",
    "join_functions": "coreproof.editing.verbs.functions",
    "load": "coreproof.model.load",
    "migrate": "coreproof.proof.migration",
    "page": "coreproof.report.page",
    "patch_coremltools": "coreproof.runtime.patch",
    "predict": "coreproof.feeding.predict",
    "prove": "coreproof.proof.chain",
    "register_custom_layer": "coreproof.conversion.coreml_to_onnx.custom",
    "repair": "coreproof.doctor.diagnose",
    "record": "coreproof.verification.recording",
    "session": "coreproof.runtime.open",
    "set_max_pixels": "coreproof.model.budget",
    "set_memory_budget": "coreproof.model.budget",
    "shrink": "coreproof.reduction.shrink",
    "split": "coreproof.editing.verbs.pipelines",
    "upgrade": "coreproof.editing.verbs.upgrading",
    "verify": "coreproof.verification.verify",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'coreproof' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    setattr(sys.modules[__name__], name, value)
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def _view(result: object) -> str:
    from coreproof.report.notebook import html

    return html(result)


shown.view = _view  # results lie below the report; only the front door may name both
