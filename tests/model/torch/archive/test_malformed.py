"""Archives (.pt2) that are not as PyTorch writes them: sizes, members, damage; and what trust means."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.errors import CoreproofError, TooLargeError, UnreadableModelError, UnsafeModelError

torch = pytest.importorskip("torch", reason="needs the torch extra")
from tests.model.torch.archive.programs import Small, Writes, exported, program, refused, rewritten, saved, weights  # noqa: E402 - it needs torch

pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's own, as it exports


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


@pytest.mark.thorough
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
    monkeypatch.setattr("coreproof.model.torch.schema.NODES", 3)
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
