"""A .pt2 that a stranger made, opened without running anything in it.

``torch.export.load`` unpickles sample inputs, weights and constants, evaluates expressions and guards, runs compiled
libraries and resolves operators by name: a .pt2 is as dangerous to it as a pickle. So it is not called here. The archive is
read once; its program, which is JSON, is judged by ``schema``; its weights are raw bytes, taken as tensors; its sample
inputs and older weights go through ``pickled``; and only what was judged is handed to PyTorch's deserialiser. All else is
refused with what was found.

Two layouts: since PyTorch 2.7 ``NAME/models/model.json`` with ``data/weights``, ``data/constants`` and ``data/sample_inputs``;
before, a flat archive with ``serialized_exported_program.json`` and three pickles.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from coreproof.errors import TooLargeError, UnreadableModelError, UnsafeModelError
from coreproof.model.budget import afford, size_in_bytes
from coreproof.model.files.arrays import DAMAGE
from coreproof.model.files.paths import regular_file
from coreproof.model.torch.pickled import TRUST, archive_members, first_line, read_pickled
from coreproof.model.torch.schema import NODES, TooMany, is_attribute_path, judge

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

_JSON = 32 * 2**20
"""Bytes of a program without its weights; in memory it takes ten times as much."""
_TEXT = 1024
_PIECE = 2**24
_FORMATS = ("pt2",)
_VERSIONS = ("0",)
_OLDER = {
    "program": "serialized_exported_program.json",
    "weights": "serialized_state_dict",
    "constants": "serialized_constants",
    "inputs": "serialized_example_inputs.pt",
}
# torch._export.serde.schema.ScalarType
_DTYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64",
    9: "complex32", 10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16", 28: "uint16",
    29: "float8_e4m3fn", 30: "float8_e5m2", 31: "float8_e4m3fnuz", 32: "float8_e5m2fnuz", 33: "float8_e8m0fnu",
    34: "uint32", 35: "uint64",
}  # fmt: skip
_STRIDED = 7


def read_program(path: Path) -> ExportedProgram:
    """The torch.export.ExportedProgram of a .pt2, of which nothing was executed.

    Raises UnsafeModelError for an archive that asks for more than data, UnreadableModelError for a damaged one,
    TooLargeError for tensors that are larger than what is stored.
    """
    regular_file(path, what="the program")
    with contextlib.ExitStack() as opened:
        try:
            file = opened.enter_context(path.open("rb"))
            # the end, as no header can say it
            size = file.seek(0, 2)
            file.seek(0)
            # the opcode PROTO, with which pickles since version 2 begin
            if file.read(1) == b"\x80":
                raise _refusal(path, "it is a pickle", "an archive of torch.export.save")
            archive = opened.enter_context(zipfile.ZipFile(file))
        except DAMAGE as error:
            raise damaged(path, error) from None
        if (kind := _other_kind(archive.namelist())) is not None:
            raise _refusal(path, kind, "an archive of torch.export.save")
        members = archive_members(archive, size, str(path))
        if _OLDER["program"] in members:
            return _older(_Members(archive, members, path))
        # since PyTorch 2.7 all of it stands in one folder, which is called after the file
        folders = {name.split("/")[0] for name in members}
        top = f"{folders.pop()}/" if len(folders) == 1 else ""
        return _current_document(
            _Members(archive, {name.removeprefix(top): info for name, info in members.items()}, path)
        )


def damaged(path: Path, error: BaseException) -> UnreadableModelError:
    """What is said of a file that PyTorch, or its archive's reader, cannot make sense of."""
    return UnreadableModelError(
        "the file is not a program of torch.export, or it is damaged",
        where=str(path),
        found=first_line(error),
        fix="write it again with torch.export.save, with this version of PyTorch",
    )


def callable_module(program: ExportedProgram, where: Path) -> object:
    """The program as a module. The guards, which PyTorch would write as Python source and run, are left out.

    Raises TooLargeError for a value that it would compute beyond the memory budget.
    """
    guarded = "check_guards" in inspect.signature(program.module).parameters
    module = program.module(check_guards=False) if guarded else program.module()
    if program.example_inputs:
        _afford_values(program, where)
    return module


def _afford_values(program: ExportedProgram, where: Path) -> None:
    """Follows the shapes through the program without computing anything, and asks the budget about each.

    A small file can say zeros(10**6, 10**6). Where shapes hang on data, following ends.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: PLC2701 - it has no public name

    class Following(torch.fx.Interpreter):  # type: ignore[misc]
        def run_node(self, node: torch.fx.Node) -> object:
            result = super().run_node(node)
            for value in result if isinstance(result, tuple | list) else (result,):
                if isinstance(value, torch.Tensor):
                    afford(f"the value {node.name!r}", value.shape, value.element_size(), where=where)
            return result

    users = iter(torch.utils._pytree.tree_leaves(program.example_inputs))
    held = {**program.state_dict, **program.constants}
    try:
        with FakeTensorMode(allow_fallback_kernels=False) as mode:
            given = [
                next(users) if spec.kind.name == "USER_INPUT" else held[spec.target]
                for spec in program.graph_signature.input_specs
            ]
            given = [mode.from_tensor(each) if isinstance(each, torch.Tensor) else each for each in given]
            Following(program.graph_module).run(*given)
    except TooLargeError:
        raise
    except Exception:  # what an operator says of shapes that it does not know yet; it will speak again when it is run
        return


class _Members:
    """The members of one open archive."""

    def __init__(self, archive: zipfile.ZipFile, infos: Mapping[str, zipfile.ZipInfo], path: Path) -> None:
        self.archive = archive
        self.infos = infos
        self.path = path
        self.names = set(infos)

    def read(self, name: str, most: int) -> bytes:
        """A member of at most so many bytes."""
        if name not in self.infos:
            raise UnreadableModelError(
                "the program is not whole", where=str(self.path), expected=f"a member {name!r}", found="none"
            )
        if self.infos[name].file_size > most:
            raise UnsafeModelError(
                f"the member {name!r} is too large",
                where=str(self.path),
                expected=f"at most {most:,} bytes",
                found=f"{self.infos[name].file_size:,}",
                fix=TRUST,
            )
        try:
            return self.archive.read(self.infos[name])
        except DAMAGE as error:
            raise damaged(self.path, error) from None

    def array(self, name: str) -> bytearray:
        """A member of any size, in memory that may be written to."""
        content, read = bytearray(self.infos[name].file_size), 0
        try:
            with self.archive.open(self.infos[name]) as stream:
                while piece := stream.read(_PIECE):
                    content[read : read + len(piece)] = piece
                    read += len(piece)
        except DAMAGE as error:
            raise damaged(self.path, error) from None
        if read != len(content):
            raise damaged(self.path, EOFError(f"the member {name!r} breaks off"))
        return content

    def require_text(self, name: str, allowed: tuple[str, ...]) -> None:
        """Raises UnreadableModelError unless a member is one of these texts."""
        found = self.read(name, _TEXT).decode("utf-8", "replace").strip()
        if found not in allowed:
            raise UnreadableModelError(
                f"this kind of .pt2 is not known: {name}",
                where=str(self.path),
                expected=" or ".join(allowed),
                found=repr(found[:40]),
                fix="write it again with torch.export.save, with this version of PyTorch",
            )

    def document(self, name: str) -> dict[str, object]:
        """A JSON table that was judged."""
        try:
            document = json.loads(self.read(name, _JSON))
        except (ValueError, RecursionError) as error:
            raise UnreadableModelError(
                f"the member {name!r} is no JSON", where=str(self.path), found=first_line(error)
            ) from None
        if not isinstance(document, dict):
            raise UnreadableModelError(f"the member {name!r} is no table", where=str(self.path))
        problems: list[str] = []
        for problem in judge(document):
            if isinstance(problem, TooMany) and not problems:
                raise TooLargeError(
                    "the program is larger than those that coreproof opens from strangers",
                    where=str(self.path),
                    expected=f"at most {NODES:,} operators and values: PyTorch takes up to a millisecond for each",
                    found=str(problem),
                    fix=TRUST,
                )
            problems.append(problem)
            # judging goes on as long as it is asked: a file made for it has no end of problems
            if len(problems) == 5:
                break
        if problems:
            raise _refusal(self.path, "; ".join(dict.fromkeys(problems)), "a program as torch.export.save writes it")
        return document


def _refusal(path: Path, found: str, expected: str) -> UnsafeModelError:
    return UnsafeModelError(
        "this .pt2 is not opened: reading it could execute code from the file",
        where=str(path),
        expected=expected,
        found=found,
        fix=f"save it again with torch.export.save, tensors and plain containers only; or {TRUST}",
    )


# since PyTorch 2.7


def _current_document(members: _Members) -> object:
    if not members.names & {"models/model.json", "archive_format"}:
        raise _refusal(members.path, _unknown(sorted(members.names)), "an archive of torch.export.save")
    known = {
        "models/model.json", "archive_format", "archive_version", "byteorder", "version",
        ".data/version", ".data/serialization_id", ".data/alignment", ".format_version", ".storage_alignment",
        "data/sample_inputs/model.pt", "data/weights/model.pt", "data/constants/model.pt",
        "data/weights/model_weights_config.json", "data/constants/model_constants_config.json",
    }  # fmt: skip
    others = ("data/weights/weight_", "data/constants/tensor_", "extra/")
    unknown = sorted(n for n in members.names - known if not n.startswith(others))
    if unknown:
        raise _refusal(members.path, _unknown(unknown), "the program, its weights and its sample inputs")
    members.require_text("archive_format", _FORMATS)
    members.require_text("archive_version", _VERSIONS)
    if "byteorder" in members.names:
        members.require_text("byteorder", ("little",))
    document = members.document("models/model.json")
    sample = members.read("data/sample_inputs/model.pt", 2**31)
    inputs = read_pickled(sample, what="the sample inputs", where=members.path)
    weights, constants = (_tensors(members, kind) for kind in ("weights", "constants"))
    return _deserialized(members.path, document, weights, constants, inputs)


def _other_kind(names: list[str]) -> str | None:
    last = {name.split("/")[-1] for name in names}
    if "constants.pkl" in last:
        return "it is a TorchScript program"
    if "data.pkl" in last:
        return "it is a pickle, as torch.save writes it"
    return None


def _unknown(names: list[str]) -> str:
    special = {
        "data/aotinductor/": "a compiled library",
        "data/constants/custom_obj": "a script object, which is restored by code",
        "data/constants/opaque_obj": "a pickled object",
        "models/": "a second program",
    }
    said = [next((f" ({what})" for start, what in special.items() if n.startswith(start)), "") for n in names[:5]]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return "members " + ", ".join(f"{n!r}{what}" for n, what in zip(names, said, strict=False)) + more


def _tensors(members: _Members, kind: str) -> dict[str, torch.Tensor]:
    """The weights, or the constants, by name: raw bytes as tensors, or an older pickle of them."""
    older = f"data/{kind}/model.pt"
    if older in members.names:
        pickled = members.read(older, members.infos[older].file_size)
        return _named(read_pickled(pickled, what=f"the {kind}", where=members.path), members.path)
    name = f"data/{kind}/model_{kind}_config.json"
    config = members.document(name).get("config")
    if not isinstance(config, dict):
        raise UnreadableModelError(f"the member {name!r} lists nothing", where=str(members.path))
    stored: dict[str, torch.Tensor] = {}
    tensors = {}
    for weight, entry in config.items():
        if not is_attribute_path(weight) or not weight:
            raise _refusal(members.path, f"a weight called {weight[:80]!r}", "names as modules have them")
        tensors[weight] = _tensor(members, f"data/{kind}", weight, entry, stored)
    return tensors


def _tensor(members: _Members, folder: str, name: str, about: object, stored: dict[str, torch.Tensor]) -> torch.Tensor:
    import torch

    where = f"{members.path}: {name}"
    entry = about if isinstance(about, dict) else {}
    member = f"{folder}/{entry.get('path_name')}"
    if entry.get("use_pickle") is not False or not member.startswith(
        ("data/weights/weight_", "data/constants/tensor_")
    ):
        raise _refusal(members.path, f"{name!r} is pickled, or no tensor: {member!r}", "raw tensors")
    if member not in members.names:
        raise UnreadableModelError("a weight is missing", where=where, expected=f"a member {member!r}", found="none")
    meta = entry.get("tensor_meta")
    sizes, strides, (offset,), dtype = _layout(meta, where)
    itemsize = dtype.itemsize
    if member not in stored:
        content = members.array(member)
        # weights may share a member, as tied ones do: it is read once
        stored[member] = torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)
    held = stored[member].numel() // itemsize
    # the place of the last element; as_strided refuses what lies beyond, without a word of file or weight
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if 0 not in sizes and last >= held:
        raise UnreadableModelError(
            "a weight is larger than what is stored of it",
            where=where,
            expected=f"{(last + 1) * itemsize:,} bytes for shape {sizes}",
            found=f"{held * itemsize:,} bytes",
        )
    # strides of 0 repeat what is stored, as expand does: whoever copies the tensor needs it all
    if size_in_bytes(sizes, itemsize) > held * itemsize:
        afford("a weight that repeats what is stored", sizes, itemsize, where=where)
    if 0 in sizes:
        tensor = torch.empty(sizes, dtype=dtype)
    else:
        tensor = stored[member][: held * itemsize].view(dtype).as_strided(sizes, strides, offset)
    if entry.get("is_param"):
        # PyTorch gives no gradients to whole numbers, and raises where they ask for them
        trained = (
            isinstance(meta, dict) and bool(meta.get("requires_grad")) and (dtype.is_floating_point or dtype.is_complex)
        )
        return torch.nn.Parameter(tensor, requires_grad=trained)
    return tensor


def _layout(about: object, where: str) -> tuple[list[int], list[int], list[int], torch.dtype]:
    import torch

    def numbers(values: object) -> list[int]:
        listed = values if isinstance(values, list) else [values]
        held = [v.get("as_int") if isinstance(v, dict) else v for v in listed]
        found = [v for v in held if isinstance(v, int) and 0 <= v < 2**62]
        if len(held) > 64 or len(found) < len(held):
            raise UnreadableModelError("a weight has no shape", where=where, found=str(values)[:100])
        return found

    meta = about if isinstance(about, dict) else {}
    sizes, strides = numbers(meta.get("sizes")), numbers(meta.get("strides"))
    dtype = getattr(torch, _DTYPES.get(meta.get("dtype", 0), "?"), None)
    if dtype is None or meta.get("layout") != _STRIDED or len(sizes) != len(strides):
        raise UnreadableModelError(
            "a weight is stored in an unknown way",
            where=where,
            expected="a dense tensor of a known dtype",
            found=f"dtype {meta.get('dtype')}, layout {meta.get('layout')}",
        )
    return sizes, strides, numbers(meta.get("storage_offset", 0)), dtype


def _named(tensors: object, path: Path) -> dict[str, torch.Tensor]:
    import torch

    if not isinstance(tensors, dict) or not all(
        is_attribute_path(k) and k and isinstance(v, torch.Tensor) for k, v in tensors.items()
    ):
        raise _refusal(path, "weights that are no tensors by name", "tensors by name")
    return dict(tensors)


# before PyTorch 2.7


def _older(members: _Members) -> object:
    def pickled(start: str) -> str:
        return next((f"{start}{end}" for end in (".pt", ".json") if f"{start}{end}" in members.names), f"{start}.pt")

    names = {key: name if "." in name else pickled(name) for key, name in _OLDER.items()}
    unknown = sorted(n for n in members.names - {*names.values(), "version"} if not n.startswith("extra_files/"))
    if unknown:
        raise _refusal(members.path, _unknown(unknown), "the program, its weights and its sample inputs")
    document = members.document(names["program"])
    read = {
        key: read_pickled(members.read(names[key], 2**62), what=f"the {what}", where=members.path)
        for key, what in (("weights", "weights"), ("constants", "constants"), ("inputs", "sample inputs"))
    }
    weights, constants = _named(read["weights"], members.path), _named(read["constants"], members.path)
    return _deserialized(members.path, document, weights, constants, read["inputs"])


# PyTorch's deserialiser


def _deserialized(path: Path, document: object, weights: object, constants: object, inputs: object) -> object:
    """The program, by PyTorch's own deserialiser: it is given tables and tensors, so that it has nothing to unpickle."""
    # PyTorch unpacks these by place
    if inputs and not (isinstance(inputs, tuple) and len(inputs) == 2 and isinstance(inputs[0], tuple)):
        raise UnreadableModelError(
            "the sample inputs are not as torch.export writes them",
            where=str(path),
            expected="(arguments, keywords)",
            found=type(inputs).__name__,
        )
    try:
        from torch._export.serde import schema, serialize  # noqa: PLC2701 - it has no public name

        read, make = serialize._dict_to_dataclass, serialize.ExportedProgramDeserializer
    except (ImportError, AttributeError) as error:
        raise UnreadableModelError(
            "this version of PyTorch keeps its reader of .pt2 elsewhere",
            where=str(path),
            found=first_line(error),
            fix=f"install torch 2.13; or {TRUST}",
        ) from None
    try:
        return make().deserialize(read(schema.ExportedProgram, document), weights, constants, inputs or None)
    except Exception as error:  # PyTorch's deserialiser asserts, indexes and looks up as it goes
        raise damaged(path, error) from error
