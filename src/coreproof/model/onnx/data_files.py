"""Where the data files of an edited ONNX model go when it is saved: judged before anything is written."""

from __future__ import annotations

import filecmp
import os
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from coreproof.errors import CoreproofError, OutputExistsError, UnsafeModelError
from coreproof.model.files.paths import inside, stored_name
from coreproof.model.onnx.read import stored_tensors, to_ir


def external_copies(model: ir.Model, target: Path, *, replace: bool = False) -> list[tuple[Path, str]]:
    """(source, stored name) of each data file that has to be brought beside ``target``, under the name that the model stores.

    A destination outside the output folder, or one that is the model file itself, raises UnsafeModelError; a file that stands
    there, holds something else and is no data file of the model that ``target`` replaces, OutputExistsError.
    """
    files = {(Path(t.path), str(t.location)) for t in stored_tensors(model) if isinstance(t, ir.ExternalTensor)}
    copies = []
    for source, location in sorted(files):
        what = "a data file of the model to be written"
        data = inside(target.parent, location, what=what, where=target)
        if data == source.resolve():
            continue
        if data == target.resolve():
            raise UnsafeModelError(
                "the model's weights lie in a file that has the name of the output",
                where=str(target),
                found=location,
                fix="give the output another name",
            )
        # the same bytes need not be written again, whoever they belong to
        if data.is_file() and filecmp.cmp(source, data, shallow=False):
            continue
        check_data_file(data, target, replace=replace)
        copies.append((source, stored_name(location, what=what, where=target)))
    return copies


def data_file(target: Path) -> Path:
    """Where the weights of a model go that one protobuf message cannot hold."""
    return target.with_name(f"{target.name}.data")


def check_data_file(data: Path, target: Path, *, replace: bool) -> None:
    """Raises OutputExistsError where ``data`` would replace what is none of the model's that stands at ``target``."""
    if not os.path.lexists(data) or (data.is_file() and (replace or data.resolve() in _data_files(target))):
        return
    raise OutputExistsError(
        "a data file of the model to be written would replace another file",
        where=str(data),
        expected="nothing there, or the data of the model that is replaced",
        fix="write the model into a folder of its own",
    )


def _data_files(target: Path) -> set[Path]:
    """The files that the model which stands at ``target`` names as its data; none where no model stands there."""
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(target.read_bytes())
        tensors = list(stored_tensors(to_ir(proto, str(target), target.parent)))
    except (OSError, DecodeError, CoreproofError):
        return set()
    return {Path(t.path).resolve() for t in tensors if isinstance(t, ir.ExternalTensor)}
