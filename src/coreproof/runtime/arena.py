"""The memory that ONNX Runtime may take for one model: a kilobyte of ONNX can ask for terabytes while it runs.

What a graph makes is known in general only when it runs (a shape may be computed), so the bound is on the engine's allocator.
ONNX Runtime takes a limit only for an arena that its environment shares, and a session keeps the arena that stood there when it
was opened: so each session gets a fresh one, of which nobody else takes.
"""

from __future__ import annotations

import re
from threading import Lock
from typing import TYPE_CHECKING

from coreproof.errors import CoreproofError, IntegerRangeError, RunError, TooLargeError, UnsupportedModelError
from coreproof.model.budget import memory_budget

if TYPE_CHECKING:
    import onnxruntime as ort

_REPACKED = 3
"""How often the engine may hold the weights besides: packed for its kernels, and copied while it optimises."""

_AS_ASKED = 1
"""The arena grows by what is asked for; left to itself it doubles, which halves what a large value finds there."""

_NOT_AS_STORED = ["ConvMulFusion"]
"""Optimisations that compute something else than the file says: weights times a factor, rounded anew. A convolution of whole
numbers is exact; with weights that are none it lands a step beside where its sum lies at an edge."""

_opening = Lock()
_REFUSED = re.compile(
    r"requested bytes of (\d+)|requested buffer of size (\d+)|require more than (\d+) bytes|(?:std::)?bad_?alloc", re.I
)
_NOT_HERE = re.compile(
    r"NOT_IMPLEMENTED|is not a registered function/op|Unsupported model IR version|official released onnx opset"
)
"""What ONNX Runtime says of a model that it has no kernel, no operator or no reader for, each in its own words."""
_ANOTHER = 'let ONNX\'s own evaluator run an ONNX model: engine="reference", or --reference-engine reference of verify'
_REWRITING = re.compile(r"/core/optimizer/|/core/graph/graph_utils\.cc")
"""Places in ONNX Runtime's source, which it names, where it rewrites a graph."""
_NODE = re.compile(r"while running (\w+) node\. Name:'([^']*)'")


def open_within_budget(message: bytes, options: ort.SessionOptions, weights: int) -> ort.InferenceSession:
    """An ONNX Runtime session on the CPU that takes no more than the memory budget, besides ``weights`` bytes of weights."""
    import onnxruntime as ort

    # the budget is for what is made while it runs; weights whose bytes are in the file have their own share
    limit = memory_budget() + _REPACKED * weights
    options.add_session_config_entry("session.use_env_allocators", "1")
    kind = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    # the registered arena is the process's: between these two calls no other session may take it
    with _opening:
        ort.create_and_register_allocator(kind, ort.OrtArenaCfg({"max_mem": limit, "arena_extend_strategy": _AS_ASKED}))
        return ort.InferenceSession(
            message, options, providers=["CPUExecutionProvider"], disabled_optimizers=_NOT_AS_STORED
        )


def failed_node(error: Exception) -> str | None:
    """The name of the node in which ONNX Runtime says that it failed: of nested ones the innermost."""
    return next((name for _, name in reversed(_NODE.findall(str(error)))), None)


def failed_to_optimise(error: Exception) -> bool:
    """Whether ONNX Runtime failed in its own rewriting: of a model that it runs as it stands.

    It folds a dequantised weight twice where that is an output as well.
    """
    return _REWRITING.search(str(error)) is not None


def lacks_kernel(error: Exception) -> bool:
    """Whether ONNX Runtime has an operator, and no kernel of it for the types that it found there."""
    return "Failed to find kernel" in str(error)


def engine_error(problem: str, error: Exception, where: str, made: str = "") -> Exception:
    """What ONNX Runtime said, as an error of ours.

    TooLargeError where it asked for more than its arena has, UnsupportedModelError where it lacks what the model is made of,
    IntegerRangeError where a guarded value leaves 32 bits, else RunError.
    ``made`` is the value that the failing node makes, where it is known.
    What is said in our words already, as by a custom layer between two parts of the graph, stays as it is.
    """
    from coreproof.conversion.onnx_to_coreml.checked_integers import BEYOND_32_BITS

    if isinstance(error, CoreproofError):
        return error
    text = str(error)
    refused = _REFUSED.search(text)
    node = _NODE.search(text)
    if refused is not None or isinstance(error, MemoryError):
        wanted = next((int(n) for n in refused.groups() if n), None) if refused is not None else None
        place = f", node {node[2]!r} ({node[1]})" if node is not None else ""
        return TooLargeError(
            "a value that the model makes would take more memory than coreproof is allowed to",
            where=f"{where}{place}",
            expected=f"at most {memory_budget():,} bytes for what is made while it runs",
            found=None if wanted is None else f"{wanted:,} bytes more",
            fix="if the model is meant to be so large, raise the budget: --memory-budget 8GB, or coreproof.set_memory_budget",
        )
    beyond = next((kind for name, kind in BEYOND_32_BITS.items() if made.startswith(name)), None)
    if beyond is not None:
        cast = beyond == "cast"
        what = "a float that is cast to a whole number" if cast else f"a {beyond} of whole numbers"
        failure = IntegerRangeError(
            f"{what} does not fit the 32 bits in which Core ML computes it",
            where=where,
            expected=f"{'number' if cast else beyond}s from -2147483648 to 2147483647, where the source has 64 bits",
            fix="feed smaller numbers, or compute it in floats or outside the model",
        )
        failure.value = made
        return failure
    # the engine's own limits say nothing against the model
    found = text.splitlines()[0] if text else type(error).__name__
    if _NOT_HERE.search(text):
        return UnsupportedModelError(problem, where=where, found=found, fix=_ANOTHER)
    return RunError(problem, where=where, found=found)
