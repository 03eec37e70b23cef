"""Tensors that PyTorch saved by pickling, read without running what the pickle says; archives whose members are bounded."""

from __future__ import annotations

import io
import itertools
import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from coreproof.errors import CoreproofError, UnreadableModelError, UnsafeModelError
from coreproof.model.budget import afford
from coreproof.model.files.arrays import DAMAGE
from coreproof.model.files.paths import stored_name

if TYPE_CHECKING:
    import torch

TRUST = "pass --trust (in Python: trust=True) if you know who made it"
MEMBERS = 200_000
PICKLED = 64 * 2**20
"""Bytes of a pickle without its tensors."""
_CONTAINERS = 100_000
"""Places in what a pickle holds: shared parts count each time, because whoever walks them does so each time."""

_STORAGE = re.compile(r"torch \w+Storage")
_DTYPE = re.compile(r"torch (float|bfloat|complex|int|uint|quint|qint)\w*|torch bool|torch (double|half|long|short)")
_PLAIN = frozenset(
    (
        "collections OrderedDict",
        "torch Size",
        "torch device",
        "torch._utils _rebuild_parameter",
        "torch._utils _rebuild_tensor_v2",
        "torch._utils _rebuild_tensor_v3",
        "torch.serialization _get_layout",
        "torch.storage UntypedStorage",
        "torch.storage TypedStorage",
    )
)


def archive_members(archive: zipfile.ZipFile, size: int, where: str) -> dict[str, zipfile.ZipInfo]:
    """The members by name, each once and stored as it is; ``size`` is that of the archive in bytes.

    PyTorch writes its archives without compression. So what is compressed, stands twice, overlaps or is encrypted was made
    by something else, and is refused: nothing expands, and no reader sees another archive than this one.
    """
    infos = archive.infolist()
    if len(infos) > MEMBERS:
        raise UnsafeModelError(
            "the archive has too many members", where=where, expected=f"at most {MEMBERS:,}", found=f"{len(infos):,}"
        )
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        # as it is stored: ``filename`` is cut at a NUL
        name = stored_name(info.orig_filename, what="a member of the archive", where=where)
        if info.is_dir():
            continue
        wrong = (
            "its name stands for two members"
            if name in members
            else "it is encrypted"
            if info.flag_bits & 0x41
            else f"it is compressed, from {info.file_size:,} bytes to {info.compress_size:,}"
            if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size
            else f"it claims {info.file_size:,} bytes of a file of {size:,}"
            if info.file_size > size
            else None
        )
        if wrong is not None:
            raise UnsafeModelError(
                f"the archive is not as PyTorch writes it: member {name!r}",
                where=where,
                expected="members that are stored once and uncompressed",
                found=wrong,
                fix=f"save it again with torch.export.save; or {TRUST}",
            )
        members[name] = info
    if (claimed := sum(info.file_size for info in members.values())) > size:
        raise UnsafeModelError(
            "the members of the archive overlap", where=where, expected=f"at most {size:,} bytes", found=f"{claimed:,}"
        )
    return members


def require_stored(path: Path) -> None:
    """Raises UnsafeModelError for an archive of torch.save whose members would expand; a file of an older kind passes."""
    try:
        with zipfile.ZipFile(path) as archive:
            archive_members(archive, path.stat().st_size, str(path))
    except CoreproofError:
        raise
    except DAMAGE:  # no archive: what reads it says what it is
        return


def read_pickled(data: bytes, *, what: str, where: str | Path) -> object:
    """Tensors in tuples, lists and dictionaries, from the bytes that ``torch.save`` wrote; {} for no bytes.

    Every global that the pickle names is looked at first, without unpickling; then PyTorch's restricted reader
    (``weights_only=True``) reads it. Raises UnsafeModelError naming what else the pickle asks for, UnreadableModelError
    for a damaged one, TooLargeError for tensors that are larger than what is stored.
    """
    import torch

    place = str(where)
    if not data:
        return {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive_members(archive, len(data), place)
            pickles = [info for name, info in members.items() if name.split("/")[-1] == "data.pkl"]
            if len(pickles) != 1 or pickles[0].file_size > PICKLED:
                raise UnreadableModelError(
                    f"{what} are not as torch.save writes them", where=place, found=f"{len(pickles)} data.pkl"
                )
            found = _globals(archive.read(pickles[0]))
    except zipfile.BadZipFile as error:
        raise UnsafeModelError(
            f"{what} are pickled in a way that is not read",
            where=place,
            expected="an archive of torch.save",
            found=first_line(error),
            fix=f"save the model again with torch.export.save; or {TRUST}",
        ) from None
    except CoreproofError:
        raise
    except DAMAGE as error:
        raise UnreadableModelError(f"{what} are damaged", where=place, found=first_line(error)) from None
    unknown = sorted(g for g in found if not _harmless(g))
    if unknown:
        raise UnsafeModelError(
            f"{what} are pickled and ask for more than tensors: reading them would execute code from the file",
            where=place,
            expected="tensors in tuples, lists and dictionaries",
            found=", ".join(name.replace(" ", ".") for name in unknown[:5]),
            fix=f"save the model again with torch.export.save; or {TRUST}",
        )
    try:
        read = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except Exception as error:  # PyTorch's reader raises what its pickle's opcodes make of it
        raise UnreadableModelError(f"{what} are damaged", where=place, found=first_line(error)) from None
    for tensor in _tensors(read, what, place):
        stored = tensor.untyped_storage().nbytes()
        # strides of 0 let a small storage pose as a large tensor
        if tensor.numel() * tensor.element_size() > stored:
            afford(f"a tensor of {what}", tensor.shape, tensor.element_size(), where=place)
    return read


def only_tensors_by_name(archive: zipfile.ZipFile) -> bool:
    """Whether an archive of torch.save holds a state dict: an (ordered) dictionary of tensors, told without reading it."""
    pickles = [info for info in archive.infolist() if info.filename.split("/")[-1] == "data.pkl"]
    if len(pickles) != 1 or pickles[0].file_size > PICKLED or pickles[0].compress_type != zipfile.ZIP_STORED:
        return False
    content = archive.read(pickles[0])
    found = _globals(content)
    # the first opcode is PROTO; the second one begins what is stored
    begins = [(opcode.name, argument) for opcode, argument, _ in itertools.islice(pickletools.genops(content), 2)][-1]
    table = begins[0] == "EMPTY_DICT" or begins == ("GLOBAL", "collections OrderedDict")
    return table and any(" _rebuild_tensor" in name for name in found) and all(map(_harmless, found))


def _harmless(name: str) -> bool:
    return bool(name in _PLAIN or _STORAGE.fullmatch(name) or _DTYPE.fullmatch(name))


def _globals(pickled: bytes) -> set[str]:
    """What a pickle would import, without reading it; opcodes that name things by other ways are named themselves."""
    found = set()
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name == "GLOBAL":
            found.add(str(argument))
        elif opcode.name in ("STACK_GLOBAL", "INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"):
            found.add(f"pickle opcode {opcode.name}" + (f" {argument}" if isinstance(argument, str) else ""))
    return found


def _tensors(thing: object, what: str, where: str) -> Iterator[torch.Tensor]:
    import torch

    places, waiting = 0, [thing]
    while waiting:
        each = waiting.pop()
        places += 1
        if places + len(waiting) > _CONTAINERS:
            raise UnsafeModelError(
                f"{what} hold too many parts", where=where, expected=f"at most {_CONTAINERS:,}", found="more"
            )
        if isinstance(each, torch.Tensor):
            yield each
        elif isinstance(each, dict):
            waiting += [*each.values()]
        elif isinstance(each, list | tuple):
            waiting += each


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
