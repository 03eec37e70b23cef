"""The tensors of an ONNX message whose data lies in a file beside it, wherever in the message they stand."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from google.protobuf.message import Message


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
