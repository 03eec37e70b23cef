"""coreproof: carries a model from PyTorch or ONNX to Core ML, and proves that it is still the same model.

Every verb is an attribute of this package and is imported when it is first used, so that ``import coreproof`` is quick.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from coreproof.model import shown
from coreproof.version import __version__ as __version__

if TYPE_CHECKING:
    from coreproof.compare.compare import compare as compare
    from coreproof.errors import CoreproofError as CoreproofError
    from coreproof.model.budget import set_max_pixels as set_max_pixels
    from coreproof.model.budget import set_memory_budget as set_memory_budget
    from coreproof.model.feeding import Feeding as Feeding
    from coreproof.model.feeding import Source as Source
    from coreproof.model.load import load as load
    from coreproof.prove import prove as prove
    from coreproof.report.page import page as page
    from coreproof.run.open import session as session
    from coreproof.run.patch import patch_coremltools as patch_coremltools
    from coreproof.run.predict import predict as predict
    from coreproof.ship.app import app as app
    from coreproof.surgery.diagnose import diagnose as diagnose
    from coreproof.surgery.diagnose import repair as repair
    from coreproof.surgery.difference.diff import diff as diff
    from coreproof.surgery.edit import Edit as Edit
    from coreproof.surgery.edit import edit as edit
    from coreproof.surgery.shrinking.shrink import shrink as shrink
    from coreproof.surgery.verbs.pipelines import join as join
    from coreproof.surgery.verbs.pipelines import split as split
    from coreproof.surgery.verbs.upgrading import upgrade as upgrade
    from coreproof.verify.converted import convert as convert
    from coreproof.verify.recording import record as record
    from coreproof.verify.verify import verify as verify

_HOMES = {
    "app": "coreproof.ship.app",
    "compare": "coreproof.compare.compare",
    "convert": "coreproof.verify.converted",
    "CoreproofError": "coreproof.errors",
    "Feeding": "coreproof.model.feeding",
    "Source": "coreproof.model.feeding",
    "diagnose": "coreproof.surgery.diagnose",
    "Edit": "coreproof.surgery.edit",
    "edit": "coreproof.surgery.edit",
    "diff": "coreproof.surgery.difference.diff",
    "join": "coreproof.surgery.verbs.pipelines",
    "load": "coreproof.model.load",
    "page": "coreproof.report.page",
    "patch_coremltools": "coreproof.run.patch",
    "predict": "coreproof.run.predict",
    "prove": "coreproof.prove",
    "repair": "coreproof.surgery.diagnose",
    "record": "coreproof.verify.recording",
    "session": "coreproof.run.open",
    "set_max_pixels": "coreproof.model.budget",
    "set_memory_budget": "coreproof.model.budget",
    "shrink": "coreproof.surgery.shrinking.shrink",
    "split": "coreproof.surgery.verbs.pipelines",
    "upgrade": "coreproof.surgery.verbs.upgrading",
    "verify": "coreproof.verify.verify",
}
__all__ = sorted(_HOMES)


class _Package(ModuleType):
    """Keeps the verbs callable: importing ``coreproof.verify.align`` must not put the room where the verb was."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'coreproof' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    setattr(sys.modules[__name__], name, value)
    return value


def _view(result: object) -> str:
    from coreproof.report.notebook import html

    return html(result)


shown.view = _view  # results lie below the report; only the front door may name both
