"""The Swift files of a project: what every form shares, the app's screens, a package's face, and the test of both."""

from __future__ import annotations

from importlib.resources import files

from coreproof.handover.screen import Kind

APP_MODULE = "AppModule"
"""The app's module: an app that is called CoreML or Vision must not hide Apple's module of that name."""

PROOF_TESTS = "ProofTests.swift"


def swift_sources() -> dict[str, str]:
    """The app's Swift files by name. They are the same for every model: what differs stands in proof.json."""
    return {**_folder("core"), **_folder("app")}


def package_sources(kind: Kind) -> dict[str, str]:
    """A package's Swift files by name: what every model shares, and the one call that fits this kind of answer."""
    face = _folder("package")
    # classifier.Classify.swift is Classify.swift in the packages of classifiers, and in no other
    own = {
        name.removeprefix(f"{kind}."): text
        for name, text in face.items()
        if name.count(".") == 1 or name.startswith(kind)
    }
    return dict(sorted({**_folder("core"), **own}.items()))


def proof_tests(module: str) -> str:
    """The test that runs the proof, of the module ``module``."""
    return _folder("tests")[PROOF_TESTS].replace(f"@testable import {APP_MODULE}", f"@testable import {module}")


def _folder(name: str) -> dict[str, str]:
    folder = files("coreproof.handover") / "swift" / name
    return {
        f.name: f.read_text(encoding="utf-8")
        for f in sorted(folder.iterdir(), key=lambda f: f.name)
        if f.name.endswith(".swift")
    }
