"""The Xcode project file of the app and of its test: explicit references, so that Xcode 16 and later open it.

The model stands in the Sources phase as ``folder.mlpackage`` (or ``file.mlmodel``): there Xcode compiles it; among the
resources it would be copied as it is. (swift-build, Sources/SWBApplePlatform/Specs/CoreML.xcspec.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coreproof.handover.sources import APP_MODULE, PROOF_TESTS

DEPLOYMENT_TARGET = "17.0"
"""What the app's own code needs: observation and the camera's angles of iOS 17."""

CAMERA_PURPOSE = "The model looks at what the camera sees, live, on this device only."
PHOTOS_PURPOSE = "The model looks at the photos that you choose, on this device only."

Plist = str | Mapping[str, "Plist"] | Sequence["Plist"]


@dataclass(frozen=True)
class Project:
    """What goes into the project: file names relative to the app's folder.

    ``minimum`` is the iOS version that the app asks for, at least DEPLOYMENT_TARGET.
    """

    name: str
    identifier: str
    sources: tuple[str, ...]
    model: str
    resources: tuple[str, ...]
    minimum: str = DEPLOYMENT_TARGET

    def pbxproj(self) -> str:
        """The text of project.pbxproj, in sections and with the comments that Xcode itself writes and other tools look for."""
        objects = self._objects()
        said = {identifier: _comment(identifier, objects) for identifier in objects}
        sections = ""
        for kind in sorted({_text(entry, "isa") for entry in objects.values()}):
            members = {i: entry for i, entry in sorted(objects.items()) if _text(entry, "isa") == kind}
            entries = "".join(f"\t\t{i} /* {said[i]} */ = {_write(e, said, 2)};\n" for i, e in members.items())
            sections += f"\n/* Begin {kind} section */\n{entries}/* End {kind} section */\n"
        root = _write(self._id("project"), said)
        return (
            "// !$*UTF8*$!\n{\n\tarchiveVersion = 1;\n\tclasses = {\n\t};\n\tobjectVersion = 56;\n"
            f"\tobjects = {{\n{sections}\t}};\n\trootObject = {root};\n}}\n"
        )

    def _id(self, *parts: str) -> str:
        """24 hexadecimal digits that are the same each time, so that a project made again is the same file."""
        return hashlib.sha256("/".join((self.name, *parts)).encode()).hexdigest()[:24].upper()

    @property
    def tests(self) -> str:
        """The name of the target that tests."""
        return f"{self.name}Tests"

    @property
    def target(self) -> str:
        """The identifier of the app's target."""
        return self._id("target")

    @property
    def test_target(self) -> str:
        """The identifier of the target that tests."""
        return self._id("tests", "target")

    def _objects(self) -> dict[str, Plist]:
        objects = {**self._files(), **self._phases(), **self._groups(), **self._configurations()}
        objects[self._id("product")] = {
            "isa": "PBXFileReference",
            "explicitFileType": "wrapper.application",
            "includeInIndex": "0",
            "path": f"{self.name}.app",
            "sourceTree": "BUILT_PRODUCTS_DIR",
        }
        objects[self._id("tests", "product")] = {
            "isa": "PBXFileReference",
            "explicitFileType": "wrapper.cfbundle",
            "includeInIndex": "0",
            "path": f"{self.tests}.xctest",
            "sourceTree": "BUILT_PRODUCTS_DIR",
        }
        phases = [self._id("phase", p) for p in ("Sources", "Frameworks", "Resources")]
        objects[self.target] = {
            "isa": "PBXNativeTarget",
            "buildConfigurationList": self._id("configurations", "target"),
            "buildPhases": phases,
            "buildRules": [],
            "dependencies": [],
            "name": self.name,
            "productName": self.name,
            "productReference": self._id("product"),
            "productType": "com.apple.product-type.application",
        }
        objects[self.test_target] = {
            "isa": "PBXNativeTarget",
            "buildConfigurationList": self._id("configurations", "tests"),
            "buildPhases": [self._id("tests", "phase")],
            "buildRules": [],
            "dependencies": [self._id("tests", "dependency")],
            "name": self.tests,
            "productName": self.tests,
            "productReference": self._id("tests", "product"),
            "productType": "com.apple.product-type.bundle.unit-test",
        }
        objects[self._id("tests", "dependency")] = {
            "isa": "PBXTargetDependency",
            "target": self.target,
            "targetProxy": self._id("tests", "proxy"),
        }
        objects[self._id("tests", "proxy")] = {
            "isa": "PBXContainerItemProxy",
            "containerPortal": self._id("project"),
            "proxyType": "1",
            "remoteGlobalIDString": self.target,
            "remoteInfo": self.name,
        }
        # the test runs inside the app, which has the model
        within = {self.test_target: {"CreatedOnToolsVersion": "16.0", "TestTargetID": self.target}}
        objects[self._id("project")] = {
            "isa": "PBXProject",
            "attributes": {
                "BuildIndependentTargetsInParallel": "1",
                "LastUpgradeCheck": "1600",
                "TargetAttributes": within,
            },
            "buildConfigurationList": self._id("configurations", "project"),
            "compatibilityVersion": "Xcode 14.0",
            "developmentRegion": "en",
            "hasScannedForEncodings": "0",
            "knownRegions": ["en", "Base"],
            "mainGroup": self._id("group", "main"),
            "productRefGroup": self._id("group", "Products"),
            "projectDirPath": "",
            "projectRoot": "",
            "targets": [self.target, self.test_target],
        }
        return objects

    @property
    def _compiled(self) -> tuple[str, ...]:
        return (*self.sources, self.model)

    def _files(self) -> dict[str, Plist]:
        built = (*self._compiled, *self.resources)
        files: dict[str, Plist] = {}
        for path in (*built, "Info.plist"):
            place = {"path": path, "sourceTree": "<group>"}
            files[self._id("file", path)] = {"isa": "PBXFileReference", "lastKnownFileType": _kind(path), **place}
        files[self._id("file", PROOF_TESTS)] = {
            "isa": "PBXFileReference",
            "lastKnownFileType": _kind(PROOF_TESTS),
            "path": PROOF_TESTS,
            "sourceTree": "<group>",
        }
        for path in (*built, PROOF_TESTS):
            files[self._id("build", path)] = {"isa": "PBXBuildFile", "fileRef": self._id("file", path)}
        return files

    def _phases(self) -> dict[str, Plist]:
        members: list[tuple[str, str, tuple[str, ...]]] = [
            (self._id("phase", "Sources"), "Sources", self._compiled),
            (self._id("phase", "Frameworks"), "Frameworks", ()),
            (self._id("phase", "Resources"), "Resources", self.resources),
            (self._id("tests", "phase"), "Sources", (PROOF_TESTS,)),
        ]
        return {
            identifier: {
                "isa": f"PBX{phase}BuildPhase",
                "buildActionMask": "2147483647",  # 2**31 - 1: for every kind of build
                "files": [self._id("build", path) for path in files],
                "runOnlyForDeploymentPostprocessing": "0",
            }
            for identifier, phase, files in members
        }

    def _groups(self) -> dict[str, Plist]:
        app, tests, products = (self._id("group", name) for name in ("app", "tests", "Products"))
        files = [self._id("file", path) for path in (*self._compiled, *self.resources, "Info.plist")]
        product = [self._id("product"), self._id("tests", "product")]
        tested = [self._id("file", PROOF_TESTS)]
        return {
            app: {"isa": "PBXGroup", "children": files, "path": self.name, "sourceTree": "<group>"},
            tests: {"isa": "PBXGroup", "children": tested, "path": self.tests, "sourceTree": "<group>"},
            products: {"isa": "PBXGroup", "children": product, "sourceTree": "<group>", "name": "Products"},
            self._id("group", "main"): {"isa": "PBXGroup", "children": [app, tests, products], "sourceTree": "<group>"},
        }

    def _configurations(self) -> dict[str, Plist]:
        found: dict[str, Plist] = {}
        levels = {
            "project": self._project_settings(),
            "target": self._target_settings(),
            "tests": self._test_settings(),
        }
        for level, settings in levels.items():
            own = {name: self._id("configuration", level, name) for name in ("Debug", "Release")}
            for name, identifier in own.items():
                found[identifier] = {"isa": "XCBuildConfiguration", "buildSettings": settings[name], "name": name}
            found[self._id("configurations", level)] = {
                "isa": "XCConfigurationList",
                "buildConfigurations": list(own.values()),
                "defaultConfigurationIsVisible": "0",
                "defaultConfigurationName": "Release",
            }
        return found

    def _project_settings(self) -> dict[str, Mapping[str, Plist]]:
        both = {"IPHONEOS_DEPLOYMENT_TARGET": self.minimum, "SDKROOT": "iphoneos", "SWIFT_VERSION": "6.0"}
        return {
            "Debug": {
                **both,
                "ENABLE_TESTABILITY": "YES",
                "ONLY_ACTIVE_ARCH": "YES",
                "SWIFT_OPTIMIZATION_LEVEL": "-Onone",
            },
            "Release": {**both, "SWIFT_COMPILATION_MODE": "wholemodule", "VALIDATE_PRODUCT": "YES"},
        }

    def _target_settings(self) -> dict[str, Mapping[str, Plist]]:
        settings: Mapping[str, Plist] = {
            "ASSETCATALOG_COMPILER_APPICON_NAME": "AppIcon",
            "ASSETCATALOG_COMPILER_GLOBAL_ACCENT_COLOR_NAME": "AccentColor",
            "CODE_SIGN_STYLE": "Automatic",
            # the app loads the compiled model by name; a class named after the model could clash with the app's own
            "COREML_CODEGEN_LANGUAGE": "None",
            "CURRENT_PROJECT_VERSION": "1",
            # the purposes of camera and photos stand in a file of our own
            "GENERATE_INFOPLIST_FILE": "NO",
            "INFOPLIST_FILE": f"{self.name}/Info.plist",
            "LD_RUNPATH_SEARCH_PATHS": ["$(inherited)", "@executable_path/Frameworks"],
            "MARKETING_VERSION": "1.0",
            "PRODUCT_BUNDLE_IDENTIFIER": self.identifier,
            "PRODUCT_MODULE_NAME": APP_MODULE,
            "PRODUCT_NAME": "$(TARGET_NAME)",
            "SUPPORTED_PLATFORMS": "iphoneos iphonesimulator",
            "TARGETED_DEVICE_FAMILY": "1,2",
        }
        return {"Debug": settings, "Release": settings}

    def _test_settings(self) -> dict[str, Mapping[str, Plist]]:
        settings: Mapping[str, Plist] = {
            "BUNDLE_LOADER": "$(TEST_HOST)",
            "CODE_SIGN_STYLE": "Automatic",
            "CURRENT_PROJECT_VERSION": "1",
            "GENERATE_INFOPLIST_FILE": "YES",
            "MARKETING_VERSION": "1.0",
            "PRODUCT_BUNDLE_IDENTIFIER": f"{self.identifier}.tests",
            "PRODUCT_NAME": "$(TARGET_NAME)",
            "SUPPORTED_PLATFORMS": "iphoneos iphonesimulator",
            "TARGETED_DEVICE_FAMILY": "1,2",
            "TEST_HOST": f"$(BUILT_PRODUCTS_DIR)/{self.name}.app/$(BUNDLE_EXECUTABLE_FOLDER_PATH)/{self.name}",
        }
        return {"Debug": settings, "Release": settings}


def _kind(path: str) -> str:
    kinds = {
        ".swift": "sourcecode.swift",
        ".mlpackage": "folder.mlpackage",
        ".mlmodel": "file.mlmodel",
        ".json": "text.json",
        ".plist": "text.plist.xml",
        ".xcassets": "folder.assetcatalog",
    }
    return next((kind for suffix, kind in kinds.items() if path.endswith(suffix)), "folder")


def _text(entry: Plist, key: str) -> str:
    value = entry.get(key, "") if isinstance(entry, Mapping) else ""
    return value if isinstance(value, str) else ""


def _comment(identifier: str, objects: Mapping[str, Plist]) -> str:
    """What Xcode writes behind an identifier, for people who read the file."""
    entry = objects[identifier]
    kind = _text(entry, "isa")
    if kind == "PBXBuildFile":
        phases = [e for e in objects.values() if isinstance(e, Mapping) and identifier in e.get("files", ())]
        return f"{_comment(_text(entry, 'fileRef'), objects)} in {_text(phases[0], 'isa')[3:-10]}"
    if kind == "XCConfigurationList":
        owner = next(e for e in objects.values() if _text(e, "buildConfigurationList") == identifier)
        return f"Build configuration list for {_text(owner, 'isa')}"
    if kind.endswith("BuildPhase"):
        return kind[3:-10]
    return "Project object" if kind == "PBXProject" else _text(entry, "name") or _text(entry, "path") or kind


def _write(value: Plist, said: Mapping[str, str], depth: int = 0) -> str:
    """A value as an old-style property list; identifiers with their comments."""
    tabs = "\t" * (depth + 1)
    if isinstance(value, str):
        return f"{value} /* {said[value]} */" if value in said else _quoted(value)
    if isinstance(value, Mapping):
        lines = [f"{tabs}{_quoted(key)} = {_write(item, said, depth + 1)};\n" for key, item in value.items()]
        return "{\n" + "".join(lines) + "\t" * depth + "}"
    return "(\n" + "".join(f"{tabs}{_write(item, said, depth + 1)},\n" for item in value) + "\t" * depth + ")"


def _quoted(text: str) -> str:
    # old property lists quote whatever is no plain word
    plain = text and all(c.isascii() and (c.isalnum() or c in "_./") for c in text)
    if plain:
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def info_plist(title: str, camera: bool) -> dict[str, object]:
    """Info.plist of the app: what it is, and why it asks for camera and photos."""
    sides = ["Portrait", "LandscapeLeft", "LandscapeRight"]
    document: dict[str, object] = {
        "CFBundleDevelopmentRegion": "$(DEVELOPMENT_LANGUAGE)",
        # Xcode would put a build setting in the place of $(NAME) or ${NAME}
        "CFBundleDisplayName": title.replace("$(", "$ (").replace("${", "$ {"),
        "CFBundleExecutable": "$(EXECUTABLE_NAME)",
        "CFBundleIdentifier": "$(PRODUCT_BUNDLE_IDENTIFIER)",
        "CFBundleInfoDictionaryVersion": "6.0",
        "CFBundleName": "$(PRODUCT_NAME)",
        "CFBundlePackageType": "APPL",
        "CFBundleShortVersionString": "$(MARKETING_VERSION)",
        "CFBundleVersion": "$(CURRENT_PROJECT_VERSION)",
        "LSRequiresIPhoneOS": True,
        "NSPhotoLibraryUsageDescription": PHOTOS_PURPOSE,
        "UIApplicationSceneManifest": {"UIApplicationSupportsMultipleScenes": False},
        "UILaunchScreen": {},
        "UISupportedInterfaceOrientations": [f"UIInterfaceOrientation{side}" for side in sides],
        "UISupportedInterfaceOrientations~ipad": [
            f"UIInterfaceOrientation{side}" for side in [*sides, "PortraitUpsideDown"]
        ],
    }
    if camera:
        document["NSCameraUsageDescription"] = CAMERA_PURPOSE
    return document
