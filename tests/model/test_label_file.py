"""Files of labels as people have them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coreproof.errors import InputError
from coreproof.model.files.label_file import read_label_file, repeated

FOUR = ("cat", "dog", "owl", "fox")
FILES: dict[str, bytes] = {
    "plain.txt": b"cat\ndog\nowl\nfox\n",
    "crlf.txt": b"cat\r\ndog\r\nowl\r\nfox\r\n",
    "bom.txt": b"\xef\xbb\xbfcat\ndog\nowl\nfox",
    "utf16.txt": "cat\ndog\nowl\nfox\n".encode("utf-16"),
    "blank_lines.txt": b"\ncat\ndog\n\nowl\nfox\n\n",
    "numbered.txt": b"0: cat\n1: dog\n2: owl\n3: fox\n",
    "from_one.txt": b"1 cat\n2 dog\n3 owl\n4 fox\n",
    "out_of_order.txt": b"2=owl\n0=cat\n3=fox\n1=dog\n",
    "tabs.txt": b"0\tcat\n1\tdog\n2\towl\n3\tfox\n",
    "python.txt": b"{0: 'cat',\n 1: 'dog',\n 2: \"owl\",\n 3: 'fox'}",
    "list.json": json.dumps(FOUR).encode(),
    "by_number.json": json.dumps({"3": "fox", "0": "cat", "1": "dog", "2": "owl"}).encode(),
    "by_name.json": json.dumps({"fox": 3, "cat": 0, "dog": 1, "owl": 2}).encode(),
    "keras.json": json.dumps({str(i): [f"n{i}", name] for i, name in enumerate(FOUR)}).encode(),
    "config.json": json.dumps({"model_type": "vit", "id2label": dict(enumerate(FOUR))}).encode(),
    "no_suffix": json.dumps(FOUR).encode(),
    "ids.csv": b"id,name\n0,cat\n1,dog\n2,owl\n3,fox\n",
    "turned.csv": b"label,class_id\nfox,3\ncat,0\ndog,1\nowl,2\n",
    "without_heading.csv": b"0,cat\n1,dog\n2,owl\n3,fox\n",
    "one_column.csv": b"name\ncat\ndog\nowl\nfox\n",
    "bare.csv": b"cat\ndog\nowl\nfox\n",
    "tabs.tsv": b"index\tsynset\tname\n0\tn0\tcat\n1\tn1\tdog\n2\tn2\towl\n3\tn3\tfox\n",
    "data.yaml": b"path: x\nnames:\n  0: cat\n  1: dog\n  2: owl\n  3: fox\n",
}


def read(path: Path, data: bytes) -> tuple[object, ...]:
    path.write_bytes(data)
    return read_label_file(path, InputError.of_file("the label file cannot be read", path))


@pytest.mark.parametrize("name", FILES)
def test_four_labels_in_every_form(name: str, tmp_path: Path) -> None:
    assert read(tmp_path / name, FILES[name]) == FOUR


def test_what_looks_like_more_is_a_name(tmp_path: Path) -> None:
    assert read(tmp_path / "a.txt", b"tench, Tinca tinca\n7 up\n3 doors down\n") == (
        "tench, Tinca tinca",
        "7 up",
        "3 doors down",
    )
    assert read(tmp_path / "b.txt", b"7 up\n3 doors down\n") == ("7 up", "3 doors down")
    assert read(tmp_path / "c.csv", b'name\n"tench, Tinca tinca"\ndog\n') == ("tench, Tinca tinca", "dog")
    assert read(tmp_path / "d.json", b"[10, 20, -3]") == (10, 20, -3)
    assert read(tmp_path / "e.txt", b"") == ()


@pytest.mark.parametrize(
    ("name", "data", "found"),
    [
        ("latin1.txt", "dog\ncaf\xe9\n".encode("latin-1"), "line 2 is not UTF-8"),
        ("gap.txt", b"0: cat\n1: dog\n3: fox\n", "no label 2"),
        ("twice.json", b'{"cat": 0, "dog": 0}', "0 stands twice"),
        ("gap.json", b'{"0": "cat", "5": "dog"}', "no label 1"),
        ("mixed.json", b'{"0": "cat", "x": "dog"}', "other keys"),
        ("number.json", b"17", "expected"),
        ("nested.json", b'[["a"], {"b": 1}]', "expected a text"),
        ("broken.json", b'["cat", ', "Expecting"),
        ("columns.csv", b"a,b\nx,y\n", "which of 2 columns"),
        ("ragged.csv", b"id,name\n0,cat\n1\n", "another number of columns"),
        ("letters.csv", b"id,name\nzero,cat\n", "'zero'"),
    ],
)
def test_what_is_no_list_of_labels_says_why(name: str, data: bytes, found: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        read(tmp_path / name, data)
    assert found in str(raised.value)
    assert name in str(raised.value)


def test_labels_that_stand_for_several_classes_are_told() -> None:
    assert repeated(["crane", "dog", "crane", "crane"]) == {"crane": [0, 2, 3]}
    assert repeated(FOUR) == {}
