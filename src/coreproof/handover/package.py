"""The package form: a Swift package that an existing app adds, with the model, its feeding and typed results."""

from __future__ import annotations

from coreproof.handover.playground import swift_string
from coreproof.handover.screen import Kind

CALLS: dict[Kind, str] = {
    "classifier": "let answer = try await Model().classify(image)    // answer.label, answer.probability, answer.classes",
    "detector": "let found = try await Model().detect(image)    // for each: label, confidence, box in shares of the picture",
    "image": "let picture = try await Model().render(image)    // a CGImage",
    "array": 'let outputs = try await Model().predict(["x": Numbers(shape: [1, 3], values: [1, 2, 3])])',
}
"""What a package of each kind is asked; shown in its README."""

_TAKEN = frozenset(
    (
        *("Swift", "Foundation", "CoreGraphics", "CoreML", "CoreVideo", "ImageIO", "UIKit", "XCTest", "Vision"),
        *("Model", "Photo", "Classification", "Detection", "Numbers"),
    )
)
"""Names that a module must not have: those that the package imports, and those of its own types."""

_MACOS = {"17.0": "14.0", "18.0": "15.0", "26.0": "26.0"}
"""The macOS version of the same autumn."""


def module_name(name: str) -> str:
    """``name`` as a module that hides nothing."""
    return f"{name}Kit" if name in _TAKEN else name


def library_manifest(module: str, model_file: str, minimum: str) -> str:
    """The text of Package.swift. ``minimum`` is the iOS version that the model asks for.

    The model is a resource that Xcode compiles; ``swift build`` alone does not, and the first start then does.
    """
    name, tests = swift_string(module), swift_string(f"{module}Tests")
    return f"""// swift-tools-version: 6.0

import PackageDescription

let package = Package(
    name: {name},
    platforms: [.iOS({swift_string(minimum)}), .macOS({swift_string(_MACOS[minimum])})],
    products: [.library(name: {name}, targets: [{name}])],
    targets: [
        .target(name: {name}, resources: [.copy("proof.json"), .process({swift_string(model_file)})]),
        .testTarget(name: {tests}, dependencies: [{name}], resources: [.copy("samples.json"), .copy("Samples")])
    ]
)
"""
