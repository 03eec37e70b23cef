"""What a model remembers from one step to the next: pairs of an input and the output that holds it after a run.

A Core ML state and a PyTorch buffer that changes are opened into such pairs; an ONNX file has them as past and present, and
says so in its metadata, or whoever gives it does: ``past_*=present_*``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, MutableMapping, Sequence

from coreproof.errors import InputError
from coreproof.model.features import Signature

PAIRS = "coreproof.states"
"""The key, in ONNX's metadata_props and in Core ML's userDefined metadata; the value is a JSON table of input to output."""


def identifier(name: str) -> str:
    """A name as Core ML takes it: letters, digits and underscores, no digit first."""
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    return f"_{plain}" if plain[:1].isdigit() else plain


def note_pairs(metadata: MutableMapping[str, str], pairs: Mapping[str, str]) -> None:
    """Writes the pairs into a model's metadata; nothing where there are none."""
    if pairs:
        metadata[PAIRS] = json.dumps(dict(pairs), ensure_ascii=False)


def noted_pairs(metadata: Mapping[str, str], signature: Signature) -> dict[str, str]:
    """The pairs that a model's metadata holds, as far as they are still inputs and outputs of it; none for anything else."""
    try:
        stored = json.loads(metadata[PAIRS]) if PAIRS in metadata else {}
    except (ValueError, RecursionError):  # no JSON, or nested without end
        return {}
    inputs, outputs = {f.name for f in signature.inputs}, {f.name for f in signature.outputs}
    if not isinstance(stored, dict):
        return {}
    return {a: b for a, b in stored.items() if isinstance(b, str) and a in inputs and b in outputs}


def read_pairs(patterns: Sequence[str]) -> dict[str, str]:
    """``INPUT=OUTPUT`` as the command line has it, with stars. Raises InputError for a text that is not."""
    found: dict[str, str] = {}
    for pattern in patterns:
        given, equals, made = pattern.partition("=")
        if not equals or not given or not made or given.count("*") != made.count("*"):
            raise InputError(
                "--state takes INPUT=OUTPUT, with as many stars on either side",
                expected="past_*=present_*, or cache=cache_after",
                found=pattern,
            )
        found[given] = made
    return found


def matched_pairs(patterns: Mapping[str, str], signature: Signature, where: str) -> dict[str, str]:
    """The inputs that the patterns name, each with its output. Raises InputError for all that do not fit at once.

    A star stands for any text, the same on both sides, star by star: ``past.*.*`` and ``present.*.*``.
    """
    outputs = {f.name: f for f in signature.outputs}
    pairs: dict[str, str] = {}
    problems: list[str] = []
    for given, made in patterns.items():
        shape = re.compile("(.*)".join(map(re.escape, given.split("*"))))
        found = [(f, match) for f in signature.inputs if (match := shape.fullmatch(f.name)) is not None]
        if not found:
            problems.append(f"no input is called {given}")
        for feature, match in found:
            parts = made.split("*")
            output = "".join(part + text for part, text in zip(parts, (*match.groups(), ""), strict=True))
            if output not in outputs:
                problems.append(f"{feature.name}: no output is called {output}")
            elif output in pairs.values():
                problems.append(f"{feature.name}: output {output} holds another state already")
            elif outputs[output].dtype != feature.dtype:
                problems.append(f"{feature.name} is {feature.dtype}, and {output} {outputs[output].dtype}")
            else:
                pairs[feature.name] = output
    if problems:
        raise InputError(
            "the states are not those of the model",
            where=where,
            expected=f"inputs {', '.join(f.name for f in signature.inputs)}; outputs {', '.join(outputs)}",
            found="; ".join(problems),
        )
    return pairs
