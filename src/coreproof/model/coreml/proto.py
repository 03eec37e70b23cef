"""The protobuf classes of Core ML, without the seconds that ``import coremltools`` takes.

``coremltools/proto`` holds plain generated code, but importing it runs ``coremltools/__init__``, which imports
torch when it is installed. The generated modules are imported here under a stand-in parent package that is taken away
again at once; a later real ``import coremltools`` finds and shares them.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import TYPE_CHECKING

from coreproof.errors import MissingDependencyError


def _import_without_parent() -> tuple[ModuleType, ...]:
    names = ("Model_pb2", "MIL_pb2", "FeatureTypes_pb2", "NeuralNetwork_pb2")
    if "coremltools" in sys.modules:
        return tuple(importlib.import_module(f"coremltools.proto.{name}") for name in names)
    spec = importlib.util.find_spec("coremltools")
    if spec is None or spec.submodule_search_locations is None:
        raise MissingDependencyError("coremltools is not installed", fix="pip install coremltools")
    parent = ModuleType("coremltools")
    parent.__path__ = list(spec.submodule_search_locations)
    # the import system looks for the parent there and does not run its __init__
    sys.modules["coremltools"] = parent
    try:
        return tuple(importlib.import_module(f"coremltools.proto.{name}") for name in names)
    finally:
        # or the next import of coremltools would find an empty package
        del sys.modules["coremltools"]


if TYPE_CHECKING:  # from the stubs in typings/: the generated classes themselves are made at run time
    from coremltools.proto import FeatureTypes_pb2 as FeatureTypes_pb2
    from coremltools.proto import MIL_pb2 as MIL_pb2
    from coremltools.proto import Model_pb2 as Model_pb2
    from coremltools.proto import NeuralNetwork_pb2 as NeuralNetwork_pb2
else:
    Model_pb2, MIL_pb2, FeatureTypes_pb2, NeuralNetwork_pb2 = _import_without_parent()
