"""A .mlpackage folder: its manifest, and the file inside that holds the model. Nothing in it leads out of it."""

from __future__ import annotations

from pathlib import Path

from coreproof.errors import UnreadableModelError
from coreproof.model.files.entries import read_json
from coreproof.model.files.paths import inside, regular_file, stored_name


def package_spec(package: Path) -> Path:
    """The file inside a .mlpackage folder that holds the model itself, as its manifest says.

    Raises UnreadableModelError for an incomplete or damaged package, UnsafeModelError for one whose manifest names a place
    outside, or that holds a link to elsewhere where the manifest or the model should be.
    """
    if not (package / "Manifest.json").exists():
        raise UnreadableModelError(
            "this folder is not a Core ML package",
            where=str(package),
            expected="a Manifest.json inside",
            found=", ".join(sorted(p.name for p in package.iterdir())[:5]) or "an empty folder",
            fix="give the .mlpackage folder itself; if it was unpacked from an archive, unpack it again",
        )
    manifest_file = inside(package, "Manifest.json", what="the package's manifest", where=package, copied=package)

    def damaged(found: str) -> UnreadableModelError:
        return UnreadableModelError(
            "the package's Manifest.json is damaged",
            where=str(manifest_file),
            found=found,
            fix="copy the .mlpackage again, as a whole folder",
        )

    manifest = read_json(manifest_file, damaged)
    data = inside(package, "Data", what="the package's Data", where=package, copied=package)
    items = {
        key: stored_name(item["path"].text(), what=f"item {key!r} of the package", where=manifest_file)
        for key, item in manifest["itemInfoEntries"].table().items()
    }
    root = manifest["rootModelIdentifier"].text()
    if root not in items:
        raise damaged(f"rootModelIdentifier names {root!r}, which is no item")
    for key, name in items.items():
        # all items, not the model alone: whoever copies the package follows them too
        inside(data, name, what=f"item {key!r} of the package", where=manifest_file, copied=package)
    spec_file = inside(data, items[root], what="the package's model", where=manifest_file, copied=package)
    if not spec_file.exists():
        raise UnreadableModelError(
            "the package lacks its model",
            where=str(package),
            expected=str(Path("Data") / items[root]),
            found="no such file",
            fix="copy the .mlpackage again, as a whole folder",
        )
    return regular_file(spec_file, what="the package's model")
