"""Writes the stubs of Core ML's protobuf classes, so that mypy knows every message and every field: `make stubs`.

coremltools ships its classes without the .proto files; what they were made from is stored in each as a descriptor. The
descriptors go to mypy-protobuf as protoc would send them, under the names by which Python imports the modules.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.protobuf.compiler import plugin_pb2
from google.protobuf.descriptor import FileDescriptor

from coreproof.model.coreml.proto import Model_pb2

HERE = Path(__file__).parent
PACKAGE = "coremltools/proto/"


def described(file: FileDescriptor, found: dict[str, descriptor_pb2.FileDescriptorProto]) -> None:
    """Adds this file to ``found``, behind those that it imports: the order in which a plugin wants them."""
    for imported in file.dependencies:
        described(imported, found)
    if file.name not in found:
        stored = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(stored)
        stored.name = PACKAGE + file.name
        stored.dependency[:] = [PACKAGE + name for name in stored.dependency]
        found[file.name] = stored


def main() -> None:
    """Replaces all stubs."""
    found: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    described(Model_pb2.DESCRIPTOR, found)
    request = plugin_pb2.CodeGeneratorRequest(
        proto_file=found.values(), file_to_generate=[file.name for file in found.values()], parameter="quiet"
    )
    plugin = subprocess.run(
        [sys.executable, "-m", "mypy_protobuf.main"], input=request.SerializeToString(), capture_output=True, check=True
    )
    response = plugin_pb2.CodeGeneratorResponse.FromString(plugin.stdout)
    assert not response.error, response.error
    folder = HERE / PACKAGE
    for stale in folder.glob("*.pyi"):
        stale.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    for file in response.file:
        (HERE / file.name).write_text(file.content, encoding="utf-8")
    print(f"{len(response.file)} stubs in {folder.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
