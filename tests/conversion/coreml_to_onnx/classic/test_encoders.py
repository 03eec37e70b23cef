"""One-hot encoders, categorical mappings and dictionary vectorizers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.errors import ConversionError, InputError, RunError
from coreproof.runtime.open import session
from tests.build import classic


def run(model: Any, value: Any) -> Any:
    with session(model) as running:
        return running.run({"x": value})["y"]


def encoder(source: Any, target: Any, **fields: Any) -> Any:
    return classic("oneHotEncoder", {"x": source}, {"y": target}, **fields)


def test_a_category_is_a_one_at_its_place() -> None:
    texts = encoder("string", [3], stringCategories={"vector": ["a", "b", "c"]})
    whole = encoder("int64", [3], int64Categories={"vector": [9, -4, 0]})
    assert run(texts, "b").tolist() == [0, 1, 0]
    assert run(whole, -4).tolist() == [0, 1, 0]
    assert run(whole, 0).dtype == np.float64


def test_an_unknown_category_is_an_error_or_all_zeros_as_the_file_says() -> None:
    categories = {"vector": ["a", "b"]}
    assert run(encoder("string", [2], stringCategories=categories, handleUnknown="IgnoreUnknown"), "z").tolist() == [
        0,
        0,
    ]
    with pytest.raises(RunError, match="none of the categories"):
        run(encoder("string", [2], stringCategories=categories), "z")


def test_a_sparse_encoder_gives_the_one_entry() -> None:
    model = encoder("int64", "dictionary int64", int64Categories={"vector": [5, 6]}, outputSparse=True,
                    handleUnknown="IgnoreUnknown")  # fmt: skip
    assert run(model, 6) == {1: 1.0}
    assert run(model, 7) == {}


def test_a_mapping_goes_both_ways_and_knows_what_the_unknown_become() -> None:
    to_number = classic("categoricalMapping", {"x": "string"}, {"y": "int64"},
                        stringToInt64Map={"map": {"a": 1, "b": 2}}, int64Value=-1)  # fmt: skip
    to_text = classic("categoricalMapping", {"x": "int64"}, {"y": "string"},
                      int64ToStringMap={"map": {1: "a", 2: "b"}}, strValue="?")  # fmt: skip
    assert [run(to_number, x) for x in ("b", "z")] == [2, -1]
    assert [run(to_text, x) for x in (1, 7)] == ["a", "?"]


def test_a_text_is_held_against_that_of_the_onnx_model_made_of_it() -> None:
    model = classic("categoricalMapping", {"x": "int64"}, {"y": "string"},
                    int64ToStringMap={"map": {1: "a", 2: "b"}}, strValue="?")  # fmt: skip
    made = cp.convert(model, "onnx")
    assert made.notes[-1].startswith("checked: ran once")
    assert cp.verify(model, made, [{"x": 1}, {"x": 2}, {"x": 7}])
    other = classic("categoricalMapping", {"x": "int64"}, {"y": "string"},
                    int64ToStringMap={"map": {1: "a", 2: "c"}}, strValue="?")  # fmt: skip
    assert not cp.verify(other, made, [{"x": 1}, {"x": 2}, {"x": 7}])


def test_a_mapping_without_such_a_value_fails_on_the_unknown() -> None:
    model = classic("categoricalMapping", {"x": "string"}, {"y": "int64"}, stringToInt64Map={"map": {"a": 0}})
    assert run(model, "a") == 0
    with pytest.raises(RunError, match="not in the mapping"):
        run(model, "z")


def test_a_mapping_of_a_sequence_maps_each_element() -> None:
    model = classic("categoricalMapping", {"x": "sequence string"}, {"y": "sequence int64"},
                    stringToInt64Map={"map": {"a": 1, "b": 2}})  # fmt: skip
    assert run(model, ["b", "a", "b"]) == [2, 1, 2]
    assert run(model, []) == []
    with pytest.raises(RunError, match="not in the mapping"):
        run(model, ["b", "z"])


def test_a_dictionary_becomes_an_array_in_the_order_of_its_keys_in_the_file() -> None:
    model = classic("dictVectorizer", {"x": "dictionary string"}, {"y": [4]}, stringToIndex={"vector": list("acbz")})
    assert run(model, {"a": 4, "c": 8}).tolist() == [4, 8, 0, 0]
    assert run(model, {}).tolist() == [0, 0, 0, 0]
    assert run(model, {"z": 0.1, "unknown": 3}).tolist() == [0, 0, 0, 0.1]


def test_the_keys_that_have_a_place_say_of_which_type_they_are() -> None:
    # as coremltools declares the dictionaries of every DictVectorizer
    model = classic("dictVectorizer", {"x": "dictionary string"}, {"y": [2]}, int64ToIndex={"vector": [7, 3]})
    assert run(model, {3: 0.5}).tolist() == [0, 0.5]
    with pytest.raises(InputError, match="keys of type int"):
        run(model, {"3": 0.5})


def test_a_dictionary_becomes_one_by_place() -> None:
    model = classic(
        "dictVectorizer", {"x": "dictionary int64"}, {"y": "dictionary int64"}, int64ToIndex={"vector": [7, 3]}
    )
    assert run(model, {3: 1e-300, 7: 2}) == {0: 2.0, 1: 1e-300}


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (encoder("string", [2]), "no categories"),
        (encoder("string", [2], int64Categories={"vector": [1, 2]}), "another type"),
        (encoder("string", [3], stringCategories={"vector": ["a", "b"]}), "knows 2 categories"),
        (encoder("string", [2], stringCategories={"vector": ["a", "a"]}), "2 times"),
        (classic("categoricalMapping", {"x": "string"}, {"y": "int64"}), "maps nothing"),
        (classic("categoricalMapping", {"x": "int64"}, {"y": "int64"}, stringToInt64Map={"map": {"a": 1}}), "another type"),
        (classic("categoricalMapping", {"x": "string"}, {"y": "int64"}, stringToInt64Map={"map": {"a": 1}},
                 strValue="b"), "another type"),
        (classic("dictVectorizer", {"x": "double"}, {"y": [1]}, stringToIndex={"vector": ["a"]}), "reads a dictionary"),
        (classic("dictVectorizer", {"x": "dictionary int64"}, {"y": [1]}), "knows no keys"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(model: Any, said: str) -> None:
    with pytest.raises(ConversionError, match=said):
        session(model)
