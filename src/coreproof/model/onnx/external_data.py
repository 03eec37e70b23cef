"""The tensors of an ONNX message whose data lies in a file beside it, wherever in the message they stand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, Message


def stored_elsewhere(message: Message) -> Iterator[onnx.TensorProto]:
    """Every tensor below ``message``, however deep, that says that its data lies in a file."""
    waiting = [message]
    while waiting:
        each = waiting.pop()
        if isinstance(each, onnx.TensorProto):
            if each.data_location == onnx.TensorProto.EXTERNAL:
                yield each
            continue
        for field, value in each.ListFields():
            if field.message_type is not None:
                # without recursion: graphs nest as deep as protobuf reads
                waiting.extend([value] if isinstance(value, Message) else value)


def data_files(path: Path) -> list[str]:
    """What an ONNX file calls the files of its weights; none where it cannot be read, which the reader of the model says."""
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except (DecodeError, ValueError):
        return []
    named = (e.value for t in stored_elsewhere(proto) for e in t.external_data if e.key == "location")
    return list(dict.fromkeys(named))
