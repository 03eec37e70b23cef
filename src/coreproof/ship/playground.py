"""The App Playground form (.swiftpm): a folder that Xcode and Swift Playgrounds open as an app.

After Apple's AppleProductTypes as App Playgrounds use it; it can be built on a Mac or an iPad only.
"""

from __future__ import annotations

import json


def package_swift(name: str, title: str, identifier: str, kind: str) -> str:
    """The text of Package.swift."""
    camera = kind == "classifier"
    purpose = json.dumps("The model looks at what the camera sees, live, on this device only.")
    capabilities = f",\n            capabilities: [.camera(purposeString: {purpose})]" if camera else ""
    return f"""// swift-tools-version: 5.9

import AppleProductTypes
import PackageDescription

let package = Package(
    name: {json.dumps(name)},
    platforms: [.iOS("16.0")],
    products: [
        .iOSApplication(
            name: {json.dumps(title, ensure_ascii=False)},
            targets: ["AppModule"],
            bundleIdentifier: {json.dumps(identifier)},
            teamIdentifier: "",
            displayVersion: "1.0",
            bundleVersion: "1",
            appIcon: .placeholder(icon: .magicWand),
            accentColor: .presetColor(.blue),
            supportedDeviceFamilies: [.pad, .phone],
            supportedInterfaceOrientations: [.portrait, .landscapeLeft, .landscapeRight]{capabilities}
        )
    ],
    targets: [
        .executableTarget(name: "AppModule", path: ".", exclude: ["README.md"], resources: [.copy("Resources")])
    ]
)
"""
