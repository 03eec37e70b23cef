"""The stubs of Core ML's protobuf classes (typings/) say what coremltools really holds: every message, field and value."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FileDescriptor

from coreproof.model.coreml.proto import Model_pb2

STUBS = Path(__file__).resolve().parents[3] / "typings" / "coremltools" / "proto"


def _files(file: FileDescriptor) -> dict[str, FileDescriptor]:
    """The file and all that it imports, by name."""
    found = {file.name: file}
    for imported in file.dependencies:
        found |= _files(imported)
    return found


FILES = _files(Model_pb2.DESCRIPTOR)


def _declared(body: list[ast.stmt], place: str = "") -> Iterator[str]:
    """The names that a stub declares, with the classes that hold them: ``Model.description``."""
    for statement in body:
        if isinstance(statement, ast.ClassDef):
            yield place + statement.name
            yield from _declared(statement.body, f"{place}{statement.name}.")
        elif isinstance(statement, ast.FunctionDef):
            yield place + statement.name
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            yield place + statement.target.id


def _stored(messages: Iterator[Descriptor], enums: Iterator[EnumDescriptor], place: str = "") -> Iterator[str]:
    for message in messages:
        if message.GetOptions().map_entry:
            continue
        inside = f"{place}{message.name}."
        yield inside.removesuffix(".")
        yield from (inside + field.name for field in message.fields)
        yield from _stored(iter(message.nested_types), iter(message.enum_types), inside)
    for enum in enums:
        yield place + enum.name
        yield from (place + value.name for value in enum.values)


@pytest.mark.parametrize("name", FILES)
def test_a_stub_declares_every_message_field_and_value(name: str) -> None:
    file = FILES[name]
    stub = STUBS / f"{name.removesuffix('.proto')}_pb2.pyi"
    declared = set(_declared(ast.parse(stub.read_text(encoding="utf-8")).body))
    stored = set(_stored(iter(file.message_types_by_name.values()), iter(file.enum_types_by_name.values())))
    assert stored <= declared, f"run `make stubs`: {sorted(stored - declared)}"


def test_there_is_no_stub_of_a_file_that_coremltools_does_not_have() -> None:
    assert {p.name for p in STUBS.iterdir()} == {f"{name.removesuffix('.proto')}_pb2.pyi" for name in FILES}
