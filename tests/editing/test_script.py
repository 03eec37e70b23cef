"""Scripts of edits: what is written is read back, arrays included; mistakes name the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import coreproof.editing.verbs  # noqa: F401 - registers the verbs
from coreproof.editing.edit import Edit
from coreproof.editing.script import parse, read_script, usage, write_script
from coreproof.errors import EditError


def test_a_script_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    edits = [
        Edit("delete", {"layer": '5"01\\', "reconnect": False}),
        Edit("set", {"layer": "fc", "attribute": "W", "value": weight}),
        Edit("set", {"layer": "bn", "attribute": "epsilon", "value": 1e-05}),
        Edit("insert", {"operator": "pad", "name": "é", "after": "x", "amounts": [0, 1], "nested": {"a b": True}}),
    ]
    path = write_script(edits, tmp_path / "fix.toml", "two\nlines")
    assert path.read_text(encoding="utf-8").startswith("# two\n# lines\n")
    back = read_script(path)
    assert [e.verb for e in back] == [e.verb for e in edits]
    np.testing.assert_array_equal(back[1].arguments["value"], weight)
    assert back[0] == edits[0]
    assert back[2:] == edits[2:]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("verb = 'delete'", "holds no edits"),
        ("[[edit]]\nlayer = '1'", "holds no edits"),
        ("[[edit", "cannot be read"),
        ("[[edit]]\nverb = 'set'\nvalue = { npz = 'none.npz', key = 'a' }", "array of the script cannot be read"),
        ("[[edit]]\nverb = 'set'\nvalue = { npz = '../x.npz', key = 'a' }", "arrays: this name is not followed"),
    ],
)
def test_a_bad_script_is_said(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(EditError, match=message):
        read_script(path)


def test_edits_as_they_are_typed() -> None:
    assert parse("delete 501") == Edit("delete", {"layer": "501"})
    assert parse("connect 493 502 input=0") == Edit("connect", {"source": "493", "to": "502", "input": 0})
    assert parse("set conv1 epsilon 1e-5").arguments["value"] == 1e-5
    assert parse("set conv1 pads '[1, 1, 1, 1]'").arguments["value"] == [1, 1, 1, 1]
    assert parse("insert operator=Relu name=r after=5").arguments == {"operator": "Relu", "name": "r", "after": "5"}
    with pytest.raises(EditError, match="no verb"):
        parse("remove 501")
    with pytest.raises(EditError, match="fewer words"):
        parse("rename a b c")


def test_usage_names_the_arguments() -> None:
    assert usage("connect") == "connect SOURCE TO [input=None]"
