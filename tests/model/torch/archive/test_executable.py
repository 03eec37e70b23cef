"""Pickles and code in programs (.pt2): refused, and never executed."""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

import coreproof as cp
from coreproof.errors import UnreadableModelError, UnsafeModelError

torch = pytest.importorskip("torch", reason="needs the torch extra")
from tests.model.torch.archive.programs import (  # noqa: E402 - it needs torch
    Small,
    Writes,
    older,
    program,
    refused,
    replaced,
    rewritten,
    saved,
    weights,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's own, as it exports


# what is refused: pickles


def test_pickled_sample_inputs_are_refused(tmp_path: Path, good: Path, executed: Path) -> None:
    evil = saved(((torch.ones(2, 4),), {"x": Writes(executed)}))
    refused(rewritten(good, tmp_path / "e.pt2", {"data/sample_inputs/model.pt": lambda _: evil}), executed, "mkdir")


@pytest.mark.parametrize("kind", ["weights", "constants"])
def test_pickled_weights_are_refused(tmp_path: Path, good: Path, executed: Path, kind: str) -> None:
    prefix = {"weights": "weight_", "constants": "tensor_"}[kind]

    def change(config: dict[str, Any]) -> None:
        entry = config[next(iter(config))]
        entry["use_pickle"], entry["path_name"] = True, f"{prefix}evil"

    evil = {f"data/{kind}/{prefix}evil": saved({"a": Writes(executed)})}
    refused(rewritten(good, tmp_path / "e.pt2", weights(kind, change), evil), executed, "pickled")


@pytest.mark.parametrize("member", ["opaque_obj_0", "custom_obj_0"])
def test_constants_that_are_objects_are_refused(tmp_path: Path, good: Path, executed: Path, member: str) -> None:
    def change(config: dict[str, Any]) -> None:
        config["evil"] = {"path_name": member, "is_param": False, "use_pickle": True, "tensor_meta": None}

    content = pickle.dumps(Writes(executed))
    path = rewritten(good, tmp_path / "e.pt2", weights("constants", change), {f"data/constants/{member}": content})
    refused(path, executed, member)


@pytest.mark.parametrize("kind", ["weights", "constants"])
def test_older_weights_that_are_objects_are_refused(tmp_path: Path, good: Path, executed: Path, kind: str) -> None:
    evil = {f"data/{kind}/model.pt": saved({"a": Writes(executed)})}
    refused(rewritten(good, tmp_path / "e.pt2", {}, evil), executed, "mkdir")


@pytest.mark.parametrize("member", ["state_dict", "constants", "example_inputs"])
def test_pickles_of_an_older_archive_are_refused(tmp_path: Path, executed: Path, member: str) -> None:
    path = older(tmp_path / "e.pt2", **{f"serialized_{member}": saved({"a": Writes(executed)})})
    refused(path, executed, "mkdir")


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_called_pt2_is_refused(tmp_path: Path, executed: Path, protocol: int) -> None:
    path = tmp_path / "plain.pt2"
    path.write_bytes(pickle.dumps(Writes(executed), protocol=protocol))
    error = UnsafeModelError if protocol >= 2 else UnreadableModelError  # older ones look like text
    refused(path, executed, error=error)


def test_a_pickled_module_and_a_torchscript_program_called_pt2_are_refused_by_their_kind(
    tmp_path: Path, executed: Path
) -> None:
    (tmp_path / "saved.pt2").write_bytes(saved({"a": Writes(executed)}))
    refused(tmp_path / "saved.pt2", executed, r"torch\.save")
    torch.jit.save(torch.jit.trace(Small().eval(), torch.ones(2, 4)), str(tmp_path / "script.pt2"))
    refused(tmp_path / "script.pt2", executed, "TorchScript")


def test_pickles_that_name_things_by_other_opcodes_are_refused(tmp_path: Path, good: Path, executed: Path) -> None:
    """The same import by STACK_GLOBAL, INST and the extension registry, which the listing of globals must not miss."""
    for protocol, content in {
        "stack": b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93\x8c\x01x\x85R.",
        "inst": b"\x80\x02(S'x'\nios\nmkdir\n.",
        "obj": b"\x80\x02(cos\nmkdir\nX\x01\x00\x00\x00xo.",
        "ext": b"\x80\x02\x82\x01.",
    }.items():
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("a/data.pkl", content)
            archive.writestr("a/version", "3")
        name = tmp_path / f"{protocol}.pt2"
        inputs = buffer.getvalue()
        refused(rewritten(good, name, {"data/sample_inputs/model.pt": lambda _, i=inputs: i}), executed)


# what is refused: code in the program


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').mkdir('{}')",
        "Integer(__import__('os').mkdir('{}'))",
        "Symbol('s0', integer=__import__('os').mkdir('{}'))",
        "Add(Symbol('s0'), *[__import__('os').mkdir('{}')])",
        "Integer(2).__class__",
        "(lambda: 3)()",
        "[x for x in ()]",
        "Pow(Integer(9), Integer(99999999))",
        "Pow(Pow(Pow(Symbol('s0'), Integer(8)), Integer(8)), Integer(8))",
        "Integer(" + "9" * 5000 + ")",
        "Add(" * 5000 + "Integer(1)" + ")" * 5000,
        "FloorDiv(Pow(Add({0}), Integer(8)), Add({0}))".replace("{0}", ", ".join(f"Symbol('s{i}')" for i in range(12))),
        "Symbol('s0')**3",
        "9**9**9",
        "factorial(Integer(99999999))",
        "Lambda(Symbol('x'), Integer(1))",
        "Symbol('__import__(1)')",
        "Add(Integer(1)",
        "Integer(1) Integer(2)",
        "",
    ],
    ids=lambda text: text[:40],
)
def test_expressions_are_parsed_and_never_evaluated(
    tmp_path: Path, good: Path, executed: Path, expression: str
) -> None:
    text = json.dumps(expression.replace("{}", str(executed)))
    path = rewritten(good, tmp_path / "e.pt2", replaced(r'"expr_str":\s*"[^"]*"', f'"expr_str": {text}'))
    refused(path, executed, "not opened")


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.mkdir",
        "torch.hub.load",
        "torch.load",
        "torch.ops.load_library",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.save.default",
        "torch.ops.aten._print.default",
        "torch.ops.aten.__class__.__init__",
        "torch.ops.image.write_file.default",
        "torch.ops.somebody.operator.default",
        "torch.ops.higher_order.while_loop",
        "_operator.methodcaller",
        "_operator.attrgetter",
        "_operator.getitem",
        "math.factorial",
        "#evil:operator",
        "builtins.eval",
        "torch.ops.aten.relu.default; import os",
    ],
)
def test_operators_are_those_of_pytorchs_libraries(tmp_path: Path, good: Path, executed: Path, target: str) -> None:
    def change(document: dict[str, Any]) -> None:
        node = next(
            n for n in document["graph_module"]["graph"]["nodes"] if n["target"] == "torch.ops.aten.relu.default"
        )
        node["target"] = target
        node["inputs"] = [{"name": "", "arg": {"as_string": str(executed)}, "kind": 1}]

    refused(rewritten(good, tmp_path / "e.pt2", program(change)), executed, "operator")


def test_an_operator_given_as_an_argument_is_judged_too(tmp_path: Path, good: Path, executed: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        node = document["graph_module"]["graph"]["nodes"][0]
        node["inputs"].append({"name": "f", "arg": {"as_operator": "torch.os.mkdir"}, "kind": 2})

    refused(rewritten(good, tmp_path / "e.pt2", program(change)), executed, "torch.os.mkdir")


CODE = "x=__import__('os').mkdir('{}')"


def test_names_that_would_become_python_source_are_refused(tmp_path: Path, good: Path, executed: Path) -> None:
    """PyTorch writes the names of values, arguments and weights into source that it runs."""
    evil = CODE.format(executed)

    def argument_names(document: dict[str, Any]) -> None:
        document["graph_module"]["module_call_graph"][0]["signature"]["forward_arg_names"] = [evil]

    def keyword(document: dict[str, Any]) -> None:
        document["graph_module"]["graph"]["nodes"][0]["inputs"][0]["name"] = evil

    def weight(document: dict[str, Any]) -> None:
        spec = next(s for s in document["graph_module"]["signature"]["input_specs"] if "parameter" in s)
        spec["parameter"]["parameter_name"] = f'a"), {evil.removeprefix("x=")}, ("'

    for change in (argument_names, keyword, weight):
        refused(rewritten(good, tmp_path / f"{change.__name__}.pt2", program(change)), executed, "mkdir")
    path = rewritten(good, tmp_path / "everywhere.pt2", replaced(r'"name": "x"', f'"name": {json.dumps(evil)}'))
    refused(path, executed, "mkdir")

    def config(entries: dict[str, Any]) -> None:
        entries[evil] = entries[next(iter(entries))]

    refused(rewritten(good, tmp_path / "config.pt2", weights("weights", config)), executed, "mkdir")


@pytest.mark.thorough
def test_guards_and_notes_of_a_program_are_not_run(tmp_path: Path, good: Path, executed: Path) -> None:
    """Guards are Python source in the file; a note with a carriage return would end the comment that PyTorch makes of it."""

    def change(document: dict[str, Any]) -> None:
        document["guards_code"] = [f"__import__('os').mkdir('{executed}') or True"]
        for node in document["graph_module"]["graph"]["nodes"]:
            node["metadata"]["stack_trace"] = f'File "a.py", line 1, in f\n  x\r__import__("os").mkdir("{executed}")'
            node["metadata"]["source_fn_stack"] = "a,torch.os.mkdir"
            node["metadata"]["custom"] = "{"
            node["metadata"]["from_node"] = "{"

    model = cp.load(rewritten(good, tmp_path / "e.pt2", program(change)))
    assert model.signature.outputs[0].shape == (2, 3)
    assert model.graph.nodes
    cp.convert(model, "onnx")
    assert not executed.exists()


@pytest.mark.parametrize(
    ("kind", "context"),
    [
        (
            "collections.defaultdict",
            {"default_factory_module": "evil", "default_factory_name": "f", "dict_context": []},
        ),
        ("collections.namedtuple", "evil.Class"),
        ("builtins.dict", '[{"__enum__": true, "fqn": "evil:Class", "name": "A"}]'),
        ("builtins.dict", json.dumps(["a': __import__('os'), '"])),
        ("transformers.modeling_outputs.ModelOutput", "null"),
    ],
)
def test_containers_that_would_import_something_are_refused(
    tmp_path: Path, good: Path, executed: Path, kind: str, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil.py").write_text(f"import os\nos.mkdir({str(executed)!r})\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def change(document: dict[str, Any]) -> None:
        signature = document["graph_module"]["module_call_graph"][0]["signature"]
        leaf = {"type": None, "context": None, "children_spec": []}
        signature["out_spec"] = json.dumps([1, {"type": kind, "context": context, "children_spec": [leaf]}])

    refused(rewritten(good, tmp_path / "e.pt2", program(change)), executed, "container")


def test_script_objects_and_compiled_libraries_are_refused(tmp_path: Path, good: Path, executed: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["graph_module"]["graph"]["custom_obj_values"] = {"o": {"name": "o", "class_fqn": "__torch__.C"}}

    refused(rewritten(good, tmp_path / "object.pt2", program(change)), executed, "script object")
    for member in ("data/aotinductor/model/m.so", "data/aotinductor/model/m.cpp", "data/executorch/x.pte"):
        refused(rewritten(good, tmp_path / "library.pt2", {}, {member: b"\x7fELF"}), executed, re.escape(member))
    second = json.dumps({}).encode()
    refused(rewritten(good, tmp_path / "second.pt2", {}, {"models/other.json": second}), executed, "second program")
