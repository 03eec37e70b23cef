"""A .pt2 is opened without running anything in it; what asks for more than data is refused, and says what it asks for."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.errors import CoreproofError, TooLargeError, UnreadableModelError, UnsafeModelError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's own, as it exports


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(4, 3)
        self.tied = self.linear
        self.register_buffer("shift", torch.ones(3))
        self.register_buffer("hidden", torch.ones(3), persistent=False)
        self.constant = torch.arange(3.0)

    def forward(self, x: Any) -> Any:
        return torch.relu(self.linear(x)) + self.shift + self.constant + self.tied(x) + self.hidden


class Sizes(torch.nn.Module):
    """Every way in which a size is computed from a size."""

    def __init__(self, form: Callable[[Any], Any]) -> None:
        super().__init__()
        self.form = form

    def forward(self, x: Any) -> Any:
        return x.sum() + torch.zeros(self.form(x.shape[0])), x * 2


SIZES: dict[str, Callable[[Any], Any]] = {
    "itself": lambda n: n,
    "squared": lambda n: n * n,
    "to the fifth": lambda n: n**5,
    "divided": lambda n: n // 2 + 1,
    "modulo": lambda n: n % 3 + 1,
    "the smaller": lambda n: min(n, 5),
    "the larger": lambda n: max(n, 7),
    "of several": lambda n: (n + 1) * n // 2 + min(n, 5) - n % 4 + max(n, 9) - (n * n - 1) // 3,
    "scaled": lambda n: int(n * 1.5),
}


def exported(module: Any, *inputs: Any, free: bool = False) -> Any:
    dynamic = tuple({0: torch.export.Dim.AUTO} for _ in inputs) if free else None
    return torch.export.export(module.eval(), inputs, dynamic_shapes=dynamic)


def saved(thing: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return buffer.getvalue()


class Writes:
    """A pickle of it creates a file when it is read carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def executed(tmp_path: Path) -> Path:
    """Stands there when something in a file was executed."""
    return tmp_path / "EXECUTED"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "good.pt2"
    torch.export.save(exported(Small(), torch.ones(2, 4), free=True), path)
    return path


def rewritten(
    good: Path, path: Path, change: dict[str, Callable[[bytes], bytes]], add: dict[str, bytes] | None = None
) -> Path:
    """A copy of an archive with some members changed and some added."""
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(path, "w") as new:
        for info in old.infolist():
            top, _, inner = info.filename.partition("/")
            content = old.read(info)
            new.writestr(info.filename, change.get(inner, lambda same: same)(content))
        for name, content in (add or {}).items():
            new.writestr(f"{top}/{name}", content)
    return path


def program(change: Callable[[dict[str, Any]], None]) -> dict[str, Callable[[bytes], bytes]]:
    """A change of the program's JSON."""

    def changed(content: bytes) -> bytes:
        document = json.loads(content)
        change(document)
        return json.dumps(document).encode()

    return {"models/model.json": changed}


def replaced(old: str, new: str) -> dict[str, Callable[[bytes], bytes]]:
    """A change of the program's text, everywhere; ``old`` is a pattern."""

    def changed(content: bytes) -> bytes:
        text, count = re.subn(old, lambda _: new, content.decode())
        assert count
        return text.encode()

    return {"models/model.json": changed}


def weights(kind: str, change: Callable[[dict[str, Any]], None]) -> dict[str, Callable[[bytes], bytes]]:
    def changed(content: bytes) -> bytes:
        document = json.loads(content)
        change(document["config"])
        return json.dumps(document).encode()

    return {f"data/{kind}/model_{kind}_config.json": changed}


def refused(path: Path, executed: Path, match: str = "", error: type[CoreproofError] = UnsafeModelError) -> None:
    """The file is refused, even when it is run, and nothing was executed."""

    def opened() -> None:
        model = cp.load(path)
        model.signature  # noqa: B018 - it runs the program once
        model.graph  # noqa: B018

    with pytest.raises(error, match=match) as raised:
        opened()
    assert not executed.exists()
    if error is UnsafeModelError:
        assert "--trust" in str(raised.value)
        assert raised.value.found
        assert raised.value.where is not None
        assert str(path) in raised.value.where


# what is opened


def test_a_program_computes_what_its_module_computes(tmp_path: Path) -> None:
    module = Small().eval()
    x = torch.randn(2, 4)
    torch.export.save(exported(module, x), tmp_path / "a.pt2")
    model = cp.load(tmp_path / "a.pt2")
    with cp.session(model) as session:
        (found,) = session.run({"x": x.numpy()}).values()
    np.testing.assert_array_equal(found, module(x).detach().numpy())


@pytest.mark.parametrize("form", SIZES, ids=str)
@pytest.mark.parametrize("free", [False, True], ids=["static", "free"])
def test_programs_with_computed_sizes_are_opened_without_trust(tmp_path: Path, form: str, free: bool) -> None:
    path = tmp_path / "sizes.pt2"
    torch.export.save(exported(Sizes(SIZES[form]), torch.ones(6, 4), free=free), path)
    assert [f.shape for f in cp.load(path).signature.inputs] == [(6, 4)]


def test_programs_with_free_pictures_and_branches_are_opened_without_trust(tmp_path: Path) -> None:
    class Resized(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            wide = torch.nn.functional.interpolate(x, scale_factor=1.5, mode="bilinear")
            return wide, torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, (x,)), x.nonzero()

    path = tmp_path / "resized.pt2"
    dynamic = ({0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO},)
    torch.export.save(torch.export.export(Resized(), (torch.ones(2, 3, 8, 8),), dynamic_shapes=dynamic), path)
    assert cp.load(path).signature.outputs[0].shape == (2, 3, 12, 12)


def test_half_complex_and_empty_weights_are_read_as_they_are_stored(tmp_path: Path) -> None:
    class Kinds(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, dtype in (
                ("h", "float16"),
                ("b", "bfloat16"),
                ("c", "complex64"),
                ("i", "int8"),
                ("d", "float64"),
            ):
                self.register_buffer(name, torch.ones(2, 3, dtype=getattr(torch, dtype)).T)
            self.register_buffer("empty", torch.ones(0, 3))
            self.register_buffer("scalar", torch.tensor(2.0))
            self.register_buffer("mask", torch.tensor([True, False]))

        def forward(self, x: Any) -> Any:
            total = self.h.float() + self.b.float() + self.c.abs() + self.i + self.d
            return total.sum() + self.empty.sum() + self.scalar + self.mask.sum() + x

    path = tmp_path / "kinds.pt2"
    torch.export.save(exported(Kinds(), torch.zeros(2)), path)
    assert cp.load(path).example_outputs["output"].tolist() == [33.0, 33.0]


def test_dictionaries_and_extra_text_are_opened(tmp_path: Path) -> None:
    class Named(torch.nn.Module):
        def forward(self, target: Any, metadata: Any) -> Any:
            return {"sum": target + metadata, "pair": (target * 2, [metadata])}

    path = tmp_path / "named.pt2"
    torch.export.save(exported(Named(), torch.ones(2), torch.ones(2)), path, extra_files={"labels.txt": "cat\ndog"})
    assert set(cp.load(path).graph.inputs) == {"target", "metadata"}


def older(path: Path, **changes: bytes) -> Path:
    """An archive as PyTorch 2.1 to 2.6 wrote it: flat, with three pickles."""
    from torch._export.serde.serialize import serialize

    artifact = serialize(exported(Small(), torch.ones(2, 4)))
    members = {
        "serialized_exported_program.json": artifact.exported_program,
        "serialized_state_dict.pt": artifact.state_dict,
        "serialized_constants.pt": artifact.constants,
        "serialized_example_inputs.pt": artifact.example_inputs,
        "version": b"8.20",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, changes.get(name.partition(".")[0], content))
    return path


def test_an_archive_of_an_older_pytorch_is_opened(tmp_path: Path) -> None:
    model = cp.load(older(tmp_path / "older.pt2"))
    expected = Small().eval()(torch.ones(2, 4))
    torch.testing.assert_close(model.example_outputs["output"], expected, rtol=0, atol=0)


def test_older_weights_inside_a_newer_archive_are_opened(tmp_path: Path, good: Path) -> None:
    state = exported(Small(), torch.ones(2, 4)).state_dict
    path = rewritten(good, tmp_path / "a.pt2", {}, {"data/weights/model.pt": saved(state)})
    assert cp.load(path).signature.outputs[0].shape == (2, 3)


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


# what is refused: archives that are not as PyTorch writes them


@pytest.mark.parametrize("name", ["../evil", "/evil", "good/../../evil", "C:/evil", "good\\..\\..\\evil"])
def test_members_that_leave_the_archive_are_refused(tmp_path: Path, good: Path, executed: Path, name: str) -> None:
    path = tmp_path / "e.pt2"
    path.write_bytes(good.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(UnsafeModelError, match="this name is not followed"):
        cp.load(path)


def test_a_member_that_stands_twice_is_refused(tmp_path: Path, good: Path, executed: Path) -> None:
    path = tmp_path / "e.pt2"
    path.write_bytes(good.read_bytes())
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("good/models/model.json", b"{}")
    refused(path, executed, "two members")


def test_a_compressed_member_is_refused_before_it_expands(tmp_path: Path, good: Path, executed: Path) -> None:
    path = tmp_path / "e.pt2"
    path.write_bytes(good.read_bytes())
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("good/data/weights/weight_9", bytes(10**7))
    refused(path, executed, "compressed")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(10**7))
    inputs = {"data/sample_inputs/model.pt": lambda _: buffer.getvalue()}
    refused(rewritten(good, path, inputs), executed, "compressed")


def test_weights_are_believed_only_when_their_bytes_are_there(tmp_path: Path, good: Path, executed: Path) -> None:
    def larger(config: dict[str, Any]) -> None:
        meta = config["linear.weight"]["tensor_meta"]
        meta["sizes"] = [{"as_int": 10**6}, {"as_int": 10**6}]

    refused(rewritten(good, tmp_path / "a.pt2", weights("weights", larger)), executed, "larger", UnreadableModelError)

    def repeated(config: dict[str, Any]) -> None:
        larger(config)
        config["linear.weight"]["tensor_meta"]["strides"] = [{"as_int": 0}, {"as_int": 0}]

    refused(rewritten(good, tmp_path / "b.pt2", weights("weights", repeated)), executed, "repeats", TooLargeError)

    def negative(config: dict[str, Any]) -> None:
        config["linear.weight"]["tensor_meta"]["storage_offset"] = {"as_int": -1}

    refused(rewritten(good, tmp_path / "c.pt2", weights("weights", negative)), executed, "", UnreadableModelError)
    empty = {"data/weights/weight_0": lambda _: b"", **weights("weights", larger)}
    refused(rewritten(good, tmp_path / "d.pt2", empty), executed, "larger", UnreadableModelError)


def test_a_value_beyond_the_budget_is_named_before_it_is_computed(tmp_path: Path, executed: Path) -> None:
    class Huge(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.ones(10**6, 10**6).sum() + x

    path = tmp_path / "huge.pt2"
    torch.export.save(exported(Huge(), torch.ones(2)), path)
    refused(path, executed, "ones", TooLargeError)
    sample = saved(((torch.ones(1).expand(10**6, 10**6),), {}))
    torch.export.save(exported(Small(), torch.ones(2, 4)), path)
    wide = rewritten(path, tmp_path / "wide.pt2", {"data/sample_inputs/model.pt": lambda _: sample})
    refused(wide, executed, "sample inputs", TooLargeError)


def test_whole_numbers_that_grow_without_end_are_refused(tmp_path: Path, executed: Path) -> None:
    class Squared(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x + x.shape[0] * x.shape[0]

    good = tmp_path / "squared.pt2"
    torch.export.save(exported(Squared(), torch.ones(3), free=True), good)

    def change(document: dict[str, Any]) -> None:
        nodes = document["graph_module"]["graph"]["nodes"]
        at = next(k for k, n in enumerate(nodes) if n["target"] == "_operator.mul")
        made = nodes[at]["outputs"][0]["as_sym_int"]["as_name"]
        for step in range(60):
            argument = {"as_sym_int": {"as_name": made}}
            made = f"square_{step}"
            inputs = [{"name": n, "arg": argument, "kind": 1} for n in "ab"]
            output = {"as_sym_int": {"as_name": made}}
            at += 1
            nodes.insert(at, {"target": "_operator.mul", "inputs": inputs, "outputs": [output], "metadata": {}})

    refused(rewritten(good, tmp_path / "e.pt2", program(change)), executed, "bits")
    text = program(lambda d: d["graph_module"]["graph"]["nodes"][1].update(
        target="_operator.mul",
        inputs=[{"name": "a", "arg": {"as_string": "a"}, "kind": 1}, {"name": "b", "arg": {"as_int": 10**12}, "kind": 1}],
    ))  # fmt: skip
    refused(rewritten(good, tmp_path / "text.pt2", text), executed, "as_string")


def test_symbols_that_pytorch_would_count_up_to_are_refused(tmp_path: Path, good: Path, executed: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["range_constraints"]["u999999999999"] = {"min_val": 0, "max_val": None}

    refused(rewritten(good, tmp_path / "e.pt2", program(change)), executed, "symbol")


@pytest.mark.parametrize("nesting", ["[" * 100_000, '{"a":' * 100_000])
def test_nested_json_is_refused(tmp_path: Path, good: Path, executed: Path, nesting: str) -> None:
    path = rewritten(good, tmp_path / "e.pt2", {"models/model.json": lambda _: nesting.encode()})
    refused(path, executed, error=UnreadableModelError)


def test_a_damaged_archive_is_said_to_be_damaged(tmp_path: Path, good: Path) -> None:
    content = good.read_bytes()
    for cut in (0, 1, 30, len(content) // 2, len(content) - 1):
        (tmp_path / "cut.pt2").write_bytes(content[:cut])
        with pytest.raises(UnreadableModelError):
            cp.load(tmp_path / "cut.pt2")
    rng = np.random.default_rng(0)
    for _ in range(60):
        changed = bytearray(content)
        for place in rng.integers(0, len(changed), 8):
            changed[place] = rng.integers(256)
        (tmp_path / "flipped.pt2").write_bytes(bytes(changed))
        try:
            cp.load(tmp_path / "flipped.pt2").signature  # noqa: B018
        except CoreproofError:
            continue


def test_every_field_of_a_program_may_be_anything(tmp_path: Path, good: Path, executed: Path) -> None:
    """Each value of the JSON replaced, one at a time, by one of another kind: opened, or refused as one of our errors."""
    with zipfile.ZipFile(good) as archive:
        document = json.loads(archive.read("good/models/model.json"))
    places: list[tuple[Any, Any]] = []
    waiting = [document]
    while waiting:
        each = waiting.pop()
        keys = list(each) if isinstance(each, dict) else range(len(each)) if isinstance(each, list) else ()
        places += [(each, key) for key in keys]
        waiting += [each[key] for key in keys]
    rng = np.random.default_rng(1)
    for number in rng.permutation(len(places))[:150]:
        table, key = places[number]
        kept = table[key]
        table[key] = [None, 3, "text", [], {}, -1.5, [[1]]][number % 7]
        path = rewritten(good, tmp_path / "e.pt2", {"models/model.json": lambda _: json.dumps(document).encode()})
        table[key] = kept
        try:
            model = cp.load(path)
            model.signature  # noqa: B018
        except CoreproofError:
            continue


def test_a_program_that_is_only_large_is_not_said_to_execute_code(
    good: Path, executed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coreproof.model.torch_schema.NODES", 3)
    with pytest.raises(TooLargeError, match="larger than those that coreproof opens") as refused:
        cp.load(good)
    assert "--trust" in str(refused.value)
    assert "execute" not in str(refused.value)
    assert cp.load(good, trust=True).graph.nodes
    assert not executed.exists()


def test_with_trust_pytorch_reads_the_file_as_it_does(tmp_path: Path, good: Path, executed: Path) -> None:
    assert cp.load(good, trust=True).signature.outputs[0].shape == (2, 3)
    evil = saved(((torch.ones(2, 4),), {"x": Writes(executed)}))
    path = rewritten(good, tmp_path / "e.pt2", {"data/sample_inputs/model.pt": lambda _: evil})
    with pytest.raises(UnreadableModelError):  # the inputs do not fit the program; the pickle was read
        cp.load(path, trust=True)
    assert executed.exists()


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_the_refusal_of_a_pickle_says_that_a_pt2_is_checked(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(saved({}))
    with pytest.raises(UnsafeModelError, match=r"a \.pt2 program: that is checked as it is opened, and refused if"):
        cp.load(path)
