"""An argument of another kind than a public verb's signature tells is an error that names it, before anything is done."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from tests.build import conv_relu_onnx


class Nothing:
    """Of no kind that a verb takes."""


_STAND_INS = {"inputs": {}, "edits": [], "still_faulty": callable, "function": callable}
_ASKED_LATER = {
    *("model", "source", "reference", "candidate", "before", "after", "picture", "inputs", "shapes", "example"),
    *("result", "samples", "engine", "precision", "reference_engine", "candidate_engine", "target"),
}
"""Models go to ``load``, which says what is none; arrays and words of a list are looked at beside the model."""


def call(verb: str, **given: Any) -> object:
    """Calls a verb; what it requires besides is of the right kind, and need not be there."""
    required = [p for p in inspect.signature(getattr(cp, verb)).parameters.values() if p.default is p.empty]
    stand_ins = {p.name: _STAND_INS.get(p.name, "missing") for p in required if p.kind is not p.VAR_KEYWORD}
    stand_ins |= {"models": {} if verb == "join_functions" else []} if "models" in stand_ins else {}
    stand_ins |= {n: conv_relu_onnx() for n in ("model", "source", "reference", "candidate") if n in stand_ins}
    return getattr(cp, verb)(**{**stand_ins, **given})


@pytest.mark.parametrize("verb", [name for name in cp.__all__ if name.islower() and name != "patch_coremltools"])
def test_another_kind_is_said_by_the_arguments_name(verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for parameter in inspect.signature(getattr(cp, verb)).parameters.values():
        if parameter.name in _ASKED_LATER or parameter.kind is parameter.VAR_KEYWORD:
            continue
        with pytest.raises(cp.CoreproofError) as caught:
            call(verb, **{parameter.name: Nothing()})
        # "a class is ..." of ``classes``
        assert parameter.name.rstrip("es").replace("_", "") in str(caught.value).replace("_", "").replace("-", "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("verb", "given", "said"),
    [
        ("record", {"path": 3}, "path is a text or a path"),
        ("shrink", {"still_faulty": 3}, "still_faulty is a function"),
        ("compare", {"lineup": 3, "photos": 3}, r"lineup is a coreproof\.Lineup or a text or a path or a dictionary"),
        ("compare", {"lineup": {}, "photos": 3}, r"photos is a coreproof\.Photos or"),
        ("compare", {"lineup": {}, "photos": "p", "workers": "two"}, "workers is a whole number of at least 1"),
        ("compare", {"lineup": {}, "photos": "p", "devices": [3]}, "devices is a list, each a text or a path"),
        ("edit", {"edits": [3]}, r"edits is a list, each a coreproof\.Edit"),
        ("edit", {"edits": "delete"}, r"edits is a list, each a coreproof\.Edit"),
        ("repair", {"foo": 3}, r"repair knows what diagnose does[\s\S]*found: foo"),
        ("repair", {"findings": [3]}, r"findings is a list, each a coreproof\.Finding"),
        ("convert", {"check": "maybe"}, "check is True or False"),
        ("convert", {"states": ["a=b"]}, "states is a dictionary by names"),
        ("convert", {"compress": 8}, "compress is a text or None"),
        ("load", {"source": "net.pt", "trust": "no"}, "trust is True or False"),
        ("join_functions", {"models": ["a.mlpackage"]}, "models is a dictionary by names"),
        ("set_memory_budget", {"size": [3]}, "size is a text or a number"),
        ("app", {"photos": None, "out": "x", "form": "zip"}, "form does not know 'zip'"),
        ("app", {"photos": None, "out": "x", "screen": "movie"}, "screen does not know 'movie'"),
        ("app", {"model": 3, "photos": None, "out": "x"}, "cannot make a model of a builtins.int"),
    ],
)
def test_what_is_said_of_it(verb: str, given: dict[str, Any], said: str) -> None:
    with pytest.raises(cp.CoreproofError, match=said):
        call(verb, **given)


def test_what_is_of_the_kind_in_other_clothes_is_taken(tmp_path: Path) -> None:
    """NumPy's logic and numbers, generators and tuples for lists, paths for texts."""
    net = tmp_path / "net.onnx"
    logic: Any = np.bool_(False)
    cp.convert(conv_relu_onnx(), "onnx").save(net)
    edits = (cp.Edit("rename", {"old": old, "new": new}) for old, new in [("y", "z")])
    assert cp.edit(net, edits, check=logic).model.signature.outputs[0].name == "z"
    assert cp.verify(net, net, tolerance=float(np.float32(0.1)), seed=int(np.int64(3)))
    assert cp.convert(net, keep_fp32=("y",), fold_batchnorm=logic, check=True)
    photos: Any = ()
    assert cp.diagnose(net, photos=photos, progress=None).healthy
    cp.set_memory_budget(2e9)


def test_a_verb_keeps_its_name_and_signature() -> None:
    assert cp.verify.__name__ == "verify"
    assert next(iter(inspect.signature(cp.verify).parameters)) == "reference"
    with pytest.raises(TypeError, match="verb"):
        cp.edit("net.onnx", [], verb=3)  # type: ignore[call-arg]
