"""A Core ML package, or a single model file, in a .zip as people send it around: unpacked into a folder of the run's own.

An archive is a stranger's: no name in it leads out of the folder, no link and no device is made, nothing is expanded beyond
the memory budget or beyond what it says of itself, and what is not part of the one model is left inside.
"""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path, PurePosixPath

from coreproof.errors import CoreproofError, UnreadableModelError, UnsafeModelError
from coreproof.model.budget import afford
from coreproof.model.coreml.model import CoreMLModel, load_coreml
from coreproof.model.files.arrays import DAMAGE
from coreproof.model.files.paths import regular_file, stored_name
from coreproof.model.files.scratch import TemporaryFolder

_MOST_MEMBERS = 10_000
"""A package has three files, or a few dozen with weights of several parts."""
_EXPANDS = 16
"""Times the bytes of the archive up to which its content is believed without asking the memory budget."""
_BLOCK = 1 << 20
_LEFT_OUT = ("__MACOSX", ".DS_Store")
"""What macOS puts into archives for itself."""


def load_zipped(path: Path) -> CoreMLModel:
    """The one Core ML model in an archive, a .mlpackage folder or a .mlmodel file.

    Raises UnreadableModelError for an archive that is damaged or holds none or several, UnsafeModelError for one with names
    that lead elsewhere, links or encrypted members, TooLargeError for one that expands beyond the memory budget.
    """
    regular_file(path, what="the archive")
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, path)
            root = _root(members, path)
            scratch = TemporaryFolder()
            try:
                target = Path(scratch.name) / (root.name if root.name else f"{path.stem}.mlpackage")
                _unpack(archive, members, root, target, path)
                model = load_coreml(target)
            except BaseException:
                scratch.cleanup()
                raise
    except CoreproofError:
        raise
    except DAMAGE as error:
        raise _damaged(path, str(error)) from None
    model.name, model.path = PurePosixPath(target.name).stem, path
    model.keep(scratch)
    return model


def _damaged(path: Path, found: str) -> UnreadableModelError:
    return UnreadableModelError(
        "the archive is damaged", where=str(path), found=found, fix="copy or download it again, as a whole"
    )


def _members(archive: zipfile.ZipFile, path: Path) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """The files inside by their paths, all of which stay below any folder."""
    infos = archive.infolist()
    if len(infos) > _MOST_MEMBERS:
        raise UnsafeModelError(
            "the archive holds more files than a model has",
            where=str(path),
            expected=f"at most {_MOST_MEMBERS}",
            found=f"{len(infos):,}",
            fix="unpack it yourself, and give the .mlpackage folder",
        )
    found: dict[PurePosixPath, zipfile.ZipInfo] = {}
    spelled: set[str] = set()
    for info in infos:
        name = PurePosixPath(stored_name(info.filename, what="a file in the archive", where=path))
        if _LEFT_OUT[0] in name.parts or name.name == _LEFT_OUT[1]:
            continue
        # the upper half holds the Unix mode; archives from Windows have 0 there
        kind = stat.S_IFMT(info.external_attr >> 16)
        wrong = (
            "a link"
            if stat.S_ISLNK(kind)
            else "a device or a pipe"
            if kind and not (stat.S_ISREG(kind) or stat.S_ISDIR(kind))
            else "encrypted"
            if info.flag_bits & 1
            else "twice in it"
            # macOS takes Weight.bin and weight.bin for one file: the second would replace the first
            if str(name).casefold() in spelled and not info.is_dir()
            else None
        )
        if wrong is not None:
            raise UnsafeModelError(
                "the archive holds what is no part of a model",
                where=str(path),
                expected="files, each once",
                found=f"{info.filename!r} is {wrong}",
                fix="unpack it yourself, and give the .mlpackage folder, if you know who made it",
            )
        if not info.is_dir():
            spelled.add(str(name).casefold())
            found[name] = info
    return found


def _root(members: dict[PurePosixPath, zipfile.ZipInfo], path: Path) -> PurePosixPath:
    """The folder of the one package inside, or the one .mlmodel; the empty path where the archive is the package itself."""
    packages = [name.parent for name in members if name.name == "Manifest.json"]
    # a package may hold a package only where it is no model
    outer = [one for one in packages if not any(other != one and one.is_relative_to(other) for other in packages)]
    roots = outer or [name for name in members if name.suffix.lower() == ".mlmodel"]
    if len(roots) != 1:
        raise UnreadableModelError(
            "the archive does not hold one Core ML model",
            where=str(path),
            expected="one .mlpackage folder, or one .mlmodel file",
            found=", ".join(map(str, roots[:5])) or ", ".join(map(str, list(members)[:5])) or "nothing",
            fix="unpack it, and give the model that you mean",
        )
    return PurePosixPath() if roots[0] == PurePosixPath(".") else roots[0]


def _unpack(
    archive: zipfile.ZipFile,
    members: dict[PurePosixPath, zipfile.ZipInfo],
    root: PurePosixPath,
    target: Path,
    path: Path,
) -> None:
    wanted = {name: info for name, info in members.items() if name.is_relative_to(root)}
    size = sum(info.file_size for info in wanted.values())
    # weights hardly compress: what grows so much is zeros, or made to fill the disk
    if size > _EXPANDS * path.stat().st_size:
        afford("the unpacked model", size=size, where=path)
    for name, info in wanted.items():
        place = target / name.relative_to(root) if name != root else target
        place.parent.mkdir(parents=True, exist_ok=True)
        written = 0
        with archive.open(info) as stream, place.open("xb") as out:
            while block := stream.read(_BLOCK):
                written += len(block)
                # the size in the directory is only what the archive says of itself
                if written > info.file_size:
                    raise _damaged(path, f"{info.filename!r} has more bytes than it says")
                out.write(block)
        if written != info.file_size:
            raise _damaged(path, f"{info.filename!r} has {written:,} of {info.file_size:,} bytes")
