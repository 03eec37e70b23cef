"""Item similarity against the formula of the proto."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coreproof.errors import ConversionError
from coreproof.runtime.open import session
from tests.build import classic

NAMES = ["a", "b", "c", "d"]
TABLE = {0: [(1, 0.5), (2, 0.25)], 1: [(0, 0.5), (3, 2.0)], 3: [(1, 2.0)]}
SHIFT = {1: 0.125, 3: 1.0}


def recommender(source: str, *, names: Any = NAMES, optional: bool = True, **fields: Any) -> Any:
    key = "string" if names and isinstance(names[0], str) else "int64"
    rows = [
        {"itemId": i, "itemScoreAdjustment": SHIFT.get(i, 0.0),
         "similarItemList": [{"itemId": k, "similarityScore": s} for k, s in TABLE.get(i, [])]}
        for i in range(4)
    ]  # fmt: skip
    inputs = {"liked": f"{source} {key}", "count": "int64", "only": f"sequence {key}", "without": f"sequence {key}"}
    if names:
        fields["itemStringIds" if key == "string" else "itemInt64Ids"] = {"vector": names}
    return classic(
        "itemSimilarityRecommender", inputs, {"list": f"sequence {key}", "scores": f"dictionary {key}"},
        optional=["count", "only", "without"] if optional else [], itemItemSimilarities=rows, itemInputFeatureName="liked",
        numRecommendationsInputFeatureName="count", itemRestrictionInputFeatureName="only",
        itemExclusionInputFeatureName="without", recommendedItemListOutputFeatureName="list",
        recommendedItemScoreOutputFeatureName="scores", **fields,
    )  # fmt: skip


def scores(liked: dict[int, float]) -> np.ndarray:
    result = np.zeros(4)
    for i, rows in TABLE.items():
        for k, likeness in rows:
            if i in liked:
                result[k] += likeness * (liked[i] - SHIFT.get(k, 0.0))
    return result


def test_scores_are_the_formulas_and_what_is_liked_is_left_out() -> None:
    wanted = scores({0: 2.0, 1: 0.5})
    with session(recommender("dictionary")) as running:
        got = running.run({"liked": {"a": 2.0, "b": 0.5, "unknown": 9.0}})
    assert got["scores"] == pytest.approx({"c": wanted[2], "d": wanted[3]})
    assert got["list"] == ["c", "d"] if wanted[2] >= wanted[3] else ["d", "c"]


def test_a_list_of_items_counts_each_as_one() -> None:
    wanted = scores({0: 1.0, 3: 1.0})
    with session(recommender("sequence")) as running:
        assert running.run({"liked": ["a", "d"]})["scores"] == pytest.approx({"b": wanted[1], "c": wanted[2]})


def test_a_restriction_an_exclusion_and_a_number_of_recommendations() -> None:
    with session(recommender("sequence")) as running:
        assert running.run({"liked": ["a"], "only": ["c", "d"]})["list"] == ["c", "d"]
        assert set(running.run({"liked": ["a"], "without": ["b"]})["list"]) == {"a", "c", "d"}
        assert running.run({"liked": ["a"], "count": 1})["list"] == ["b"]
        assert running.run({"liked": []})["list"] == NAMES


def test_items_may_be_numbers_or_their_places() -> None:
    with session(recommender("sequence", names=[10, 20, 30, 40])) as running:
        assert running.run({"liked": [10], "count": 2})["list"] == [20, 30]
    with session(recommender("sequence", names=[])) as running:
        assert running.run({"liked": [0], "count": 2})["list"] == [1, 2]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"names": ["a", "b"]}, "item 3, and has 2 items"),
        ({"names": ["a", "a", "b", "c"]}, "one name"),
        ({"itemInt64Ids": {"vector": [1, 2, 3, 4]}}, "texts and by numbers"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConversionError, match=said):
        session(recommender("sequence", **fields))
    with pytest.raises(ConversionError, match="is to be a"):
        session(classic("itemSimilarityRecommender", {"liked": "double"}, {"list": "sequence string"},
                        itemInputFeatureName="liked", recommendedItemListOutputFeatureName="list",
                        itemStringIds={"vector": ["a"]}))  # fmt: skip
