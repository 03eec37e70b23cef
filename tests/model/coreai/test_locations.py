"""What the text of an MLIR location says of an operation's source."""

from coreproof.model.coreai.locations import read_location

ADDMM = (
    '#debuginfo.location<loc("/somewhere/linear.py":134:0) in @main fused with [<loc("net.py":10:0) in @main>] metadata = '
    '[<"sources": [{id = 19 : ui64, identifiers = ["addmm"], name = "torch"}]>, <"op_id": {type = "torch", value = 19 : '
    'ui64}>, <"output_maps": [{source = {id = 19 : ui64, level = "torch", output = 0 : ui32}, target = {level = "coreai", '
    'output = 0 : ui32}}]>, <"call_stack": ["Linear$1", "Net$1"]>]>'
)


def test_a_result_that_is_a_node_s_gets_its_name_and_the_layer_its_module() -> None:
    found = read_location(ADDMM)
    assert dict(found.made) == {0: "addmm"}
    assert found.source == "Linear, addmm, linear.py:134"


def test_a_further_output_of_a_node_has_its_place_in_its_name() -> None:
    second = ADDMM.replace('level = "torch", output = 0', 'level = "torch", output = 1').replace(
        '"coreai", output = 0', '"coreai", output = 2'
    )
    assert dict(read_location(second).made) == {2: "addmm_1"}


def test_a_name_is_a_name_and_no_place() -> None:
    assert dict(read_location('loc("conv1")').made) == {0: "conv1"}
    assert dict(read_location('loc("net.py":3:4)').made) == {}


def test_nothing_is_made_of_nothing() -> None:
    for text in ("loc(unknown)", "", '#debuginfo.location<loc("-":0:0) in unit metadata = []>'):
        assert read_location(text).source is None
        assert not read_location(text).made
