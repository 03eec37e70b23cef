"""Reading an .aimodel: what its document says becomes a program, and what is none is refused in our own words."""

from __future__ import annotations

import json
import random
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import coreproof as cp
from coreproof.errors import ConversionError, CoreproofError, MissingDependencyError, UnreadableModelError
from coreproof.model.coreai.read import program_of
from coreproof.model.files.entries import parse_json
from coreproof.model.layer_weights import all_weights
from tests.aimodels import SMALL, STATEFUL, assembled, needs_coreai


def _refused(found: str) -> UnreadableModelError:
    return UnreadableModelError("no", found=found)


def _document(operations: list[object], arguments: list[object] | None = None) -> str:
    block = {"arguments": [[0, "tensor<2xf32>"]] if arguments is None else arguments, "operations": operations}
    attributes = {"sym_name": '"main"', "arg_attrs": '[{coreai.name = "x"}]', "res_attrs": '[{coreai.name = "y"}]'}
    return json.dumps({"functions": [{"operation": "coreai.graph", "attributes": attributes, "blocks": [block]}]})


def _operation(kind: str, operands: list[int], results: list[object]) -> dict[str, object]:
    return {"operation": kind, "operands": operands, "results": results, "location": "", "attributes": {}, "blocks": []}


OUTPUT = _operation("coreai.output", [1], [])


@pytest.mark.parametrize(
    ("operations", "found"),
    [
        ([], "hands out nothing"),
        ([_operation("coreai.relu", [7], [[1, "tensor<2xf32>"]]), OUTPUT], "7 that nothing makes"),
        ([_operation("coreai.relu", [0], [[0, "tensor<2xf32>"]]), OUTPUT], "made twice"),
        ([_operation("coreai.relu", [0], [[1]]), OUTPUT], "2 entries"),
        ([{**_operation("coreai.constant", [], [[1, "tensor<2xf32>"]]), "constant": ["float32", [2], 0]}, OUTPUT], "8 bytes"),
        ([{**_operation("coreai.constant", [], [[1, "tensor<2xf32>"]]), "constant": ["what", [2], 0]}, OUTPUT], "a dtype"),
    ],
)  # fmt: skip
def test_a_document_that_contradicts_itself_is_refused(operations: list[object], found: str) -> None:
    with pytest.raises(UnreadableModelError, match=found):
        program_of(parse_json(_document(operations), _refused), np.zeros(4, np.uint8), _refused)


def test_an_output_s_name_is_that_of_its_value() -> None:
    relu = _operation("coreai.relu", [0], [[1, "tensor<2xf32>"]])
    program = program_of(parse_json(_document([relu, OUTPUT]), _refused), np.zeros(0, np.uint8), _refused)
    assert program.functions[0].block.operations[0].results == ("y",)
    assert dict(program.functions[0].inputs) == {"x": "x"}


@pytest.mark.parametrize("kind", ["!coreai.token", "tensor<2xf32>"])
def test_what_is_handed_out_under_the_name_of_an_input_is_another_value(kind: str) -> None:
    """coreai-torch hands the token that keeps a state's order out under the state's name: it is no output, and not the state."""
    make = _operation("coreai.what", [0], [[1, kind], [2, "tensor<2xf32>"]])
    document = _document([make, _operation("coreai.output", [1, 2], [])])
    named = document.replace(
        json.dumps('[{coreai.name = "y"}]'), json.dumps('[{coreai.name = "x"}, {coreai.name = "y"}]')
    )
    (function,) = program_of(parse_json(named, _refused), np.zeros(0, np.uint8), _refused).functions
    first, second = function.block.operations[0].results
    assert len({first, second, function.inputs["x"]}) == 3
    assert dict(function.outputs) == {"y": "y"} | ({"x": first} if kind.startswith("tensor") else {})
    assert set(function.types) == {"x", *function.outputs.values()}


TOKEN_FIRST = STATEFUL.replace("-> (tensor<2xf32> {", '-> (!coreai.token {coreai.name = "s"}, tensor<2xf32> {')
TOKEN_FIRST = TOKEN_FIRST.replace(", !coreai.token) {\n    %t0", ") {\n    %t0").replace(
    "coreai.output %new, %t2 : tensor<2xf32>, !coreai.token", "coreai.output %t2, %new : !coreai.token, tensor<2xf32>"
)


@needs_coreai
@pytest.mark.parametrize("engine", ["auto", "coreai"])
def test_a_token_with_the_name_of_its_state_does_not_stand_for_it(tmp_path: Path, engine: str) -> None:
    path, x = assembled(tmp_path / "s.aimodel", TOKEN_FIRST), np.array([1, 2], np.float32)
    with cp.session(path, engine=engine) as session:
        state = session.state()
        for turn in (1, 2, 3):
            np.testing.assert_array_equal(session.run({"x": x}, state=state)["y"], x * turn)


def test_a_path_that_is_no_asset_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.aimodel").write_bytes(b"no")
    (tmp_path / "b.aimodel").mkdir()
    for name in ("a.aimodel", "b.aimodel"):
        with pytest.raises(UnreadableModelError, match=r"main\.mlirb"):
            cp.load(tmp_path / name)


@pytest.mark.skipif(find_spec("coreai") is not None, reason="Apple's package is installed")
def test_without_apple_s_package_the_line_that_installs_it_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "a.aimodel"
    folder.mkdir()
    for name in ("main.mlirb", "metadata.json"):
        (folder / name).write_text("{}")
    with pytest.raises(MissingDependencyError, match=r"pip install 'coreproof\[coreai\]'"):
        cp.load(folder)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return assembled(tmp_path_factory.mktemp("aimodel") / "small.aimodel", SMALL)


@needs_coreai
def test_functions_features_layers_and_weights_are_read(small: Path) -> None:
    model = cp.load(small)
    assert model.functions == ("main", "other")
    assert [str(f) for f in (*model.signature.inputs, *model.signature.outputs)] == [
        "x: float32[2x3]",
        "y: float32[2x1]",
    ]
    assert [(n.operator, n.outputs) for n in model.graph.nodes] == [
        ("invoke", ("invoke",)),
        ("mul", ("mul",)),
        ("reduce_sum", ("y",)),
    ]
    assert model.graph.nodes[-1].attributes["axes"] == [1]
    (weights,) = all_weights(model).values()
    np.testing.assert_array_equal(next(iter(weights.values())).read(), [[1, -2, 3], [4, 5, -6]])


@needs_coreai
def test_a_function_is_chosen_by_name(small: Path) -> None:
    assert [str(f) for f in cp.load(f"{small}#other").signature.inputs] == ["a: float16[?]"]
    with pytest.raises(ConversionError, match="main or other"):
        cp.load(small, function="twice")


LITERALS = (
    "dense<[1, 0, 3]> : tensor<3xui4>",
    "dense<[1, -8, 3]> : tensor<3xsi4>",
    "dense<[1.5, 2.0, -3.0]> : tensor<3xbf16>",
    "dense<[1.5, 2.0, -3.0]> : tensor<3xf8E4M3FN>",
    "dense<[true, false, true]> : tensor<3xi1>",
    "dense<[1, 0, 3]> : tensor<3xui2>",
    "dense<[1.5, 2.0, -3.0]> : tensor<3xf16>",
    "dense<[1, 2, -3]> : tensor<3xsi64>",
)


@needs_coreai
def test_constants_of_every_element_type_are_read(tmp_path: Path) -> None:
    kinds = [literal.partition(" : ")[2] for literal in LITERALS]
    handed = ", ".join(f'{kind} {{coreai.name = "y{i}"}}' for i, kind in enumerate(kinds))
    made = "\n".join(f"%{i} = coreai.constant {literal}" for i, literal in enumerate(LITERALS))
    out = f"coreai.output {', '.join(f'%{i}' for i in range(len(kinds)))} : {', '.join(kinds)}"
    program = cp.load(
        assembled(tmp_path / "a.aimodel", f"module {{ coreai.graph @main() -> ({handed}) {{\n{made}\n{out} }} }}")
    ).program
    held = {o.results[0]: o.constant for o in program.functions[0].block.operations if o.constant is not None}
    for i, literal in enumerate(LITERALS):
        said = literal[literal.index("[") + 1 : literal.index("]")].split(", ")
        expected = [float(n == "true") if n in ("true", "false") else float(n) for n in said]
        np.testing.assert_array_equal(held[f"y{i}"].astype(np.float64), expected, err_msg=literal)


@needs_coreai
def test_weights_that_lie_beside_the_graph_are_read(tmp_path: Path) -> None:
    text = """module { coreai.graph @main() -> (tensor<3xf32> {coreai.name = "y"}, tensor<3xui4> {coreai.name = "z"}) {
 %0 = coreai.constant dense_resource<held> : tensor<3xf32>
 %1 = coreai.constant dense_resource<few> : tensor<3xui4>
 coreai.output %0, %1 : tensor<3xf32>, tensor<3xui4> } }
{-# dialect_resources: { builtin: { held: "0x040000000000803F0000004000004040", few: "0x01000000A10F" } } #-}"""
    program = cp.load(assembled(tmp_path / "a.aimodel", text)).program
    operations = program.functions[0].block.operations
    found = {o.results[0]: o.constant.astype(float).tolist() for o in operations if o.constant is not None}
    assert found == {"y": [1.0, 2.0, 3.0], "z": [1.0, 10.0, 15.0]}


@needs_coreai
def test_a_damaged_program_is_refused_whatever_it_does_to_the_reader(small: Path, tmp_path: Path) -> None:
    whole, drawn = (small / "main.mlirb").read_bytes(), random.Random(1)
    said = []
    for number in range(12):
        data = bytearray(whole)
        for _ in range(drawn.randint(1, 4)):
            data[drawn.randrange(len(data))] = drawn.randrange(256)
        data = data[: drawn.randrange(len(data))] if number % 3 == 0 else data
        folder = tmp_path / f"{number}.aimodel"
        folder.mkdir()
        (folder / "main.mlirb").write_bytes(data)
        (folder / "metadata.json").write_bytes((small / "metadata.json").read_bytes())
        try:
            cp.load(folder)
        except CoreproofError as error:
            said.append(str(error))
    assert len(said) >= 4  # those that were cut short, at least
    assert all(".aimodel" in message for message in said)
