"""The Xcode project file of the app: explicit references, so that Xcode 15 and later open it.

The model stands in the Sources phase as ``folder.mlpackage`` (or ``file.mlmodel``): there Xcode compiles it; among the
resources it would be copied as it is. (swift-build, Sources/SWBApplePlatform/Specs/CoreML.xcspec.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

DEPLOYMENT_TARGET = "16.0"
"""What the app's own code needs: the photo picker, share sheets and clocks of iOS 16."""

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

    def _objects(self) -> dict[str, Plist]:
        objects = {**self._files(), **self._phases(), **self._groups(), **self._configurations()}
        objects[self._id("product")] = {
            "isa": "PBXFileReference",
            "explicitFileType": "wrapper.application",
            "includeInIndex": "0",
            "path": f"{self.name}.app",
            "sourceTree": "BUILT_PRODUCTS_DIR",
        }
        objects[self._id("target")] = {
            "isa": "PBXNativeTarget",
            "buildConfigurationList": self._id("configurations", "target"),
            "buildPhases": [self._id("phase", p) for p in ("Sources", "Frameworks", "Resources")],
            "buildRules": [],
            "dependencies": [],
            "name": self.name,
            "productName": self.name,
            "productReference": self._id("product"),
            "productType": "com.apple.product-type.application",
        }
        objects[self._id("project")] = {
            "isa": "PBXProject",
            "attributes": {"BuildIndependentTargetsInParallel": "1", "LastUpgradeCheck": "1500"},
            "buildConfigurationList": self._id("configurations", "project"),
            "compatibilityVersion": "Xcode 14.0",
            "developmentRegion": "en",
            "hasScannedForEncodings": "0",
            "knownRegions": ["en", "Base"],
            "mainGroup": self._id("group", "main"),
            "productRefGroup": self._id("group", "Products"),
            "projectDirPath": "",
            "projectRoot": "",
            "targets": [self._id("target")],
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
        for path in built:
            files[self._id("build", path)] = {"isa": "PBXBuildFile", "fileRef": self._id("file", path)}
        return files

    def _phases(self) -> dict[str, Plist]:
        members = {"Sources": self._compiled, "Frameworks": (), "Resources": self.resources}
        return {
            self._id("phase", phase): {
                "isa": f"PBX{phase}BuildPhase",
                "buildActionMask": "2147483647",  # 2**31 - 1: for every kind of build
                "files": [self._id("build", path) for path in files],
                "runOnlyForDeploymentPostprocessing": "0",
            }
            for phase, files in members.items()
        }

    def _groups(self) -> dict[str, Plist]:
        app, products = self._id("group", "app"), self._id("group", "Products")
        files = [self._id("file", path) for path in (*self._compiled, *self.resources, "Info.plist")]
        product = [self._id("product")]
        return {
            app: {"isa": "PBXGroup", "children": files, "path": self.name, "sourceTree": "<group>"},
            products: {"isa": "PBXGroup", "children": product, "sourceTree": "<group>", "name": "Products"},
            self._id("group", "main"): {"isa": "PBXGroup", "children": [app, products], "sourceTree": "<group>"},
        }

    def _configurations(self) -> dict[str, Plist]:
        found: dict[str, Plist] = {}
        for level, settings in (("project", self._project_settings()), ("target", self._target_settings())):
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
        both = {"IPHONEOS_DEPLOYMENT_TARGET": self.minimum, "SDKROOT": "iphoneos", "SWIFT_VERSION": "5.0"}
        return {
            "Debug": {
                **both,
                "ENABLE_TESTABILITY": "YES",
                "ONLY_ACTIVE_ARCH": "YES",
                # per-pixel loops of the app are slow without it
                "SWIFT_OPTIMIZATION_LEVEL": "-O",
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
            # an app that is called CoreML or Vision must not hide Apple's module of that name
            "PRODUCT_MODULE_NAME": "AppModule",
            "PRODUCT_NAME": "$(TARGET_NAME)",
            "SUPPORTED_PLATFORMS": "iphoneos iphonesimulator",
            "TARGETED_DEVICE_FAMILY": "1,2",
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
