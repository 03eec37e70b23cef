"""Which value is which: by provenance, by name, by spelling, by structure; and what is left alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coreproof.model.graph import Graph, Node, Value
from coreproof.pairing.align import Pair, ValueIndex, align, canonical

ELEMENTS = 8


def chain(
    *steps: tuple[str, str], origin: dict[str, str] | None = None, sizes: dict[str, int] | None = None
) -> ValueIndex:
    """x -> operator -> operator ...; ``steps`` are (operator, name of its result)."""
    nodes, before = [], "x"
    for operator, name in steps:
        nodes.append(Node(f"n_{name}", operator, (before,), (name,)))
        before = name
    names = [name for _, name in steps]
    values = {name: Value(name, "float32", (ELEMENTS,)) for name in names}
    graph = Graph("chain", tuple(nodes), ("x",), (before,), values)
    return ValueIndex(graph, frozenset(names), dict.fromkeys(names, ELEMENTS) | (sizes or {}), origin or {})


@pytest.mark.parametrize(
    ("name", "bare"),
    [
        ("conv_cast_fp16", "conv"),
        ("x_to_fp16", "x"),
        ("x_cast_fp32_0", "x"),
        ("layer1.0/conv", "layer1_0_conv"),
        ("var_12", "12"),
        ("var_474_quantized", "474_quantized"),
        ("var_339_cast_fp16", "339"),
        ("var_a", "var_a"),
        ("_fp16", "_fp16"),
    ],
)
def test_names_without_the_marks_of_a_format(name: str, bare: str) -> None:
    # a name that is nothing but a mark keeps it
    assert canonical(name) == bare


def test_provenance_goes_before_names() -> None:
    there = chain(("Relu", "a"), ("Relu", "b"))
    here = chain(("relu", "b"), ("relu", "a"), origin={"b": "a", "a": "b"})
    assert align(there, here) == [Pair("a", "b", "provenance"), Pair("b", "a", "provenance")]


def test_provenance_counts_from_a_common_third_and_from_the_reference_alone_as_a_name() -> None:
    """A model of another tool may count its values as the exporter did: that its name was noted there proves nothing."""
    exported = chain(("Conv", "out"), origin={"out": "module.conv"})
    assert align(exported, chain(("conv", "module.conv"))) == [Pair("out", "module.conv", "name")]
    twin = chain(("conv", "final"), origin={"final": "module.conv"})
    assert align(exported, twin) == [Pair("out", "final", "provenance")]


def test_a_converter_that_spells_names_its_own_way_is_understood() -> None:
    there = chain(("Conv", "layer1.0/conv"), ("Sin", "12"))
    here = chain(("conv", "layer1_0_conv_cast_fp16"), ("sin", "var_12_cast_fp16"))
    assert [(p.reference, p.candidate, p.how) for p in align(there, here)] == [
        ("layer1.0/conv", "layer1_0_conv_cast_fp16", "name"),
        ("12", "var_12_cast_fp16", "name"),
    ]


def test_names_that_two_values_share_once_spelled_alike_pair_nothing_by_spelling() -> None:
    there = chain(("Sin", "a.b"), ("Cos", "a/b"))
    assert align(there, chain(("Exp", "a_b"))) == []


def test_the_same_name_with_another_number_of_elements_is_another_value() -> None:
    assert align(chain(("Exp", "v")), chain(("Sin", "v"), sizes={"v": 2 * ELEMENTS})) == []


def test_structure_pairs_what_stands_in_the_same_order_between_known_pairs() -> None:
    there = chain(("Conv", "c1"), ("Relu", "r1"), ("Conv", "same"), ("Sigmoid", "s1"))
    here = chain(("convolution", "k1"), ("relu", "k2"), ("conv", "same"), ("sigmoid", "k3"))
    assert [(p.reference, p.candidate, p.how) for p in align(there, here)] == [
        ("c1", "k1", "structure"),
        ("r1", "k2", "structure"),
        ("same", "same", "name"),
        ("s1", "k3", "structure"),
    ]


def test_a_fused_batch_normalisation_leaves_its_convolution_without_a_partner() -> None:
    there = chain(("aten.conv2d.default", "conv"), ("aten.batch_norm.default", "bn"), ("aten.relu.default", "relu"))
    here = chain(("conv", "fused"), ("relu", "after"))
    assert [(p.reference, p.candidate) for p in align(there, here)] == [("bn", "fused"), ("relu", "after")]


def test_a_value_is_in_one_pair_at_most() -> None:
    there = chain(("Relu", "a"))
    here = chain(("relu", "a"), ("relu", "a_cast_fp16"), ("relu", "other"), origin={"other": "a"})
    pairs = align(there, here)
    assert [(p.reference, p.candidate) for p in pairs] == [("a", "other")]


def test_numbers_that_two_tracings_counted_apart_pair_nothing() -> None:
    # here getitem_3 is the pooling on one side and the second normalisation on the other
    there = chain(
        ("conv2d", "conv"), ("Exp", "getitem"), ("max_pool2d", "getitem_3"), ("Relu", "r"), ("Sin", "getitem_5")
    )
    here = chain(("Conv", "conv"), ("Exp", "getitem"), ("MaxPool", "pool"), ("Relu", "r"), ("Sin", "getitem_3"),
                 ("Abs", "getitem_6"))  # fmt: skip
    wanted = [("conv", "conv"), ("getitem", "getitem"), ("getitem_3", "pool"), ("r", "r"), ("getitem_5", "getitem_3")]
    assert [(p.reference, p.candidate) for p in align(there, here)] == wanted
    noted = ValueIndex(here.graph, here.tappable, here.sizes, {"getitem_3": "getitem_3", "getitem_6": "getitem_6"})
    assert [(p.reference, p.candidate) for p in align(there, noted)] == wanted


def test_provenance_is_believed_of_the_graph_that_it_was_noted_of_alone() -> None:
    """Another source may call other values the same: then the two are paired by their names, as what a file holds is."""
    source = chain(("Relu", "a"), ("Exp", "b"))
    here = replace(
        chain(("relu", "p"), ("exp", "q"), origin={"p": "a", "q": "b"}), made_from=frozenset({source.graph.outline})
    )
    assert align(source, here) == [Pair("a", "p", "provenance"), Pair("b", "q", "provenance")]
    other = chain(("Exp", "b"), ("Relu", "a"))
    assert "provenance" not in {pair.how for pair in align(other, here)}
    # two of one source say the same values of it; of two sources they do not
    twin = replace(chain(("relu", "r"), ("exp", "s"), origin={"r": "a", "s": "b"}), made_from=here.made_from)
    assert align(twin, here) == [Pair("r", "p", "provenance"), Pair("s", "q", "provenance")]
    stranger = replace(twin, made_from=frozenset({other.graph.outline}))
    assert "provenance" not in {pair.how for pair in align(stranger, here)}
