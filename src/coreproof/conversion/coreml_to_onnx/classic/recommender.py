"""Item similarity: ItemSimilarityRecommender.proto. What somebody likes, from a table of which items are alike."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.classic.dictionaries import keys_array
from coreproof.conversion.coreml_to_onnx.classic.held import Dictionary, Labels
from coreproof.conversion.coreml_to_onnx.classic.lowerer import lowers_model
from coreproof.conversion.coreml_to_onnx.classic.stage import INT64, Stage, f64, label_array
from coreproof.model.budget import afford
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import Model_pb2
from coreproof.model.features import Feature

_FIRST = np.array([0], np.int64)
_MOST_ITEMS = 2**31


def _items(recommender: Model_pb2.ItemSimilarityRecommender) -> Labels:
    """The names of the items; 0, 1, ... where the file has none."""
    named: Labels = tuple(recommender.itemStringIds.vector) or tuple(recommender.itemInt64Ids.vector)
    return named or tuple(range(_largest(recommender) + 1))


def _largest(recommender: Model_pb2.ItemSimilarityRecommender) -> int:
    # an item may stand in the rows of others and have none of its own
    numbers = [int(row.itemId) for row in recommender.itemItemSimilarities]
    numbers += [int(item.itemId) for row in recommender.itemItemSimilarities for item in row.similarItemList]
    return max(numbers, default=-1)


def _problems(model: CoreMLModel) -> Iterator[str]:
    recommender = model.spec.itemSimilarityRecommender
    texts, numbers = recommender.itemStringIds.vector, recommender.itemInt64Ids.vector
    if texts and numbers:
        yield "its items are named by texts and by numbers"
    names: Labels = tuple(texts) or tuple(numbers)
    if len(set(names)) < len(names):
        yield "two of its items have one name"
    largest = _largest(recommender)
    if names and largest >= len(names):
        yield f"it speaks of item {largest}, and has {len(names)} items"
    elif largest >= _MOST_ITEMS:
        yield f"it speaks of item {largest}"
    if largest < 0 and not names:
        yield "it has no items"
    inputs, outputs = {f.name: f for f in model.signature.inputs}, {f.name: f for f in model.signature.outputs}
    for name, kinds in (
        (_item_input(model), ("dictionary", "sequence", "tensor")),
        (recommender.numRecommendationsInputFeatureName, ("int64",)),
        (recommender.itemRestrictionInputFeatureName, ("sequence", "tensor")),
        (recommender.itemExclusionInputFeatureName, ("sequence", "tensor")),
    ):
        if name:
            yield from _unfit(inputs, name, kinds, "input")
    lists = (
        (recommender.recommendedItemListOutputFeatureName, ("sequence",)),
        (recommender.recommendedItemScoreOutputFeatureName, ("dictionary",)),
    )
    for name, kinds in lists:
        if name:
            yield from _unfit(outputs, name, kinds, "output")
    if not any(name for name, _ in lists):
        yield "it names nothing that it makes"


def _unfit(features: dict[str, Feature], name: str, kinds: tuple[str, ...], role: str) -> Iterator[str]:
    if name not in features:
        yield f"it names {name!r}, which is no {role}"
    elif features[name].kind not in kinds:
        yield f"its {role} {name!r} is to be a {' or a '.join(kinds)}, and is a {features[name].kind}"


def _item_input(model: CoreMLModel) -> str:
    named = str(model.spec.itemSimilarityRecommender.itemInputFeatureName)
    # a model of one input need not name it
    return named or (model.signature.inputs[0].name if len(model.signature.inputs) == 1 else "")


@lowers_model(_problems)
def lower_recommender(stage: Stage) -> None:
    """The score of item k: the sum over the items i that are fed of likeness(k, i) * (score of i - adjustment of k).

    Recommended, by falling score, are all items that are not excluded (those that are fed, where nothing is said), of a
    restriction the ones that it names, and as many as are asked for.
    """
    recommender, b = stage.model.spec.itemSimilarityRecommender, stage.b
    items = _items(recommender)
    count = len(items)
    afford("the scores of all items", [count], 8, where=stage.where)
    fed = _item_input(stage.model)
    places = _places(stage, fed, items)
    held = stage.read(fed)
    # a list of items says that each is liked, as much as any other
    amounts = held.values if isinstance(held, Dictionary) else b.op("Expand", f64(1), b.op("Shape", places))
    seen = _marked(stage, places, count)
    given = _cut(
        stage, b.op("ScatterElements", f64(np.zeros(count + 1)), places, amounts, axis=0, reduction="add"), count
    )
    scores = _scores(stage, recommender, given, _cut(stage, seen, count), count)
    left = _candidates(stage, recommender, items, seen)
    # what may not be recommended comes last, and is cut off behind the others
    ranked = b.op("Where", left, scores, np.array(-np.inf))
    # all of them sorted: how many are asked for is known only when the model runs
    _, order = b.op("TopK", ranked, np.array([count], np.int64), axis=0, outputs=2)
    chosen = b.op("Compress", order, b.op("Gather", left, order), axis=0)
    if recommender.numRecommendationsInputFeatureName in stage.held:
        wanted = stage.cast(stage.numbers(recommender.numRecommendationsInputFeatureName, default=count), INT64)
        chosen = b.op("Slice", chosen, _FIRST, b.op("Reshape", wanted, np.array([1], np.int64)))
    names = b.op("Gather", b.constant(label_array(items), "items"), chosen)
    if recommender.recommendedItemListOutputFeatureName:
        stage.write(recommender.recommendedItemListOutputFeatureName, names)
    if recommender.recommendedItemScoreOutputFeatureName:
        made = Dictionary(names, b.op("Gather", scores, chosen))
        stage.write(recommender.recommendedItemScoreOutputFeatureName, made)


def _places(stage: Stage, name: str, items: Labels) -> ir.Value:
    """The places of the items that an input names; of one that is not known the place behind the last."""
    held = stage.read(name)
    value = keys_array(stage, held) if isinstance(held, Dictionary) else stage.flat(held)
    return stage.positions(value, items)


def _marked(stage: Stage, places: ir.Value, count: int) -> ir.Value:
    ones = stage.b.op("Expand", f64(1), stage.b.op("Shape", places))
    # one place more than there are items: it takes the names that are none, and is cut off
    return stage.b.op("ScatterElements", f64(np.zeros(count + 1)), places, ones, axis=0)


def _cut(stage: Stage, value: ir.Value, count: int) -> ir.Value:
    return stage.b.op("Slice", value, _FIRST, np.array([count], np.int64))


def _scores(
    stage: Stage, recommender: Model_pb2.ItemSimilarityRecommender, given: ir.Value, seen: ir.Value, count: int
) -> ir.Value:
    b = stage.b
    # items without a row of their own are not adjusted
    shift = np.zeros(count)
    sources, targets, likeness = [], [], []
    for row in recommender.itemItemSimilarities:
        shift[row.itemId] = row.itemScoreAdjustment
        for item in row.similarItemList:
            sources.append(int(row.itemId))
            targets.append(int(item.itemId))
            likeness.append(item.similarityScore)
    if not sources:
        # no likeness at all: every item has the score 0
        return b.op("Mul", given, f64(0))
    source, target = np.array(sources, np.int64), np.array(targets, np.int64)
    moved = b.op("Mul", b.op("Gather", seen, source), f64(shift[target]))
    added = b.op("Mul", f64(likeness), b.op("Sub", b.op("Gather", given, source), moved))
    return b.op("ScatterElements", f64(np.zeros(count)), target, added, axis=0, reduction="add")


def _candidates(
    stage: Stage, recommender: Model_pb2.ItemSimilarityRecommender, items: Labels, seen: ir.Value
) -> ir.Value:
    """Which items may be recommended."""
    b, count = stage.b, len(items)
    excluded = seen
    exclusion, restriction = recommender.itemExclusionInputFeatureName, recommender.itemRestrictionInputFeatureName
    if exclusion in stage.held:
        # a list that holds nothing counts as one that is not fed
        own, any_given = _list(stage, exclusion, items)
        excluded = b.op("Where", any_given, own, seen)
    left = b.op("Less", excluded, f64(0.5))
    if restriction in stage.held:
        own, any_given = _list(stage, restriction, items)
        left = b.op("And", left, b.op("Or", b.op("Greater", own, f64(0.5)), b.op("Not", any_given)))
    return _cut(stage, left, count)


def _list(stage: Stage, name: str, items: Labels) -> tuple[ir.Value, ir.Value]:
    """Marks of the items in a list that need not be fed, and whether it holds any."""
    stage.may_be_empty(name)
    places = _places(stage, name, items)
    length = stage.b.op("Size", places)
    return _marked(stage, places, len(items)), stage.b.op("Greater", length, np.array(0, np.int64))
