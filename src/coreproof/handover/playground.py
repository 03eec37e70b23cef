"""The App Playground form (.swiftpm): a folder that Xcode and Swift Playgrounds open as an app.

After Apple's AppleProductTypes as App Playgrounds use it; it can be built on a Mac or an iPad only.
"""

from __future__ import annotations

from coreproof.handover.xcode import CAMERA_PURPOSE, PHOTOS_PURPOSE


def package_swift(name: str, title: str, identifier: str, *, camera: bool, minimum: str) -> str:
    """The text of Package.swift. ``minimum`` is the iOS version that the app asks for.

    The model and the samples are copied as they are, for Swift Playgrounds on an iPad compiles no models; the app does.
    """
    purposes = [f".photoLibrary(purposeString: {swift_string(PHOTOS_PURPOSE)})"]
    if camera:
        purposes.insert(0, f".camera(purposeString: {swift_string(CAMERA_PURPOSE)})")
    capabilities = ",\n                ".join(purposes)
    return f"""// swift-tools-version: 6.0

import AppleProductTypes
import PackageDescription

let package = Package(
    name: {swift_string(name)},
    platforms: [.iOS({swift_string(minimum)})],
    products: [
        .iOSApplication(
            name: {swift_string(title)},
            targets: ["AppModule"],
            bundleIdentifier: {swift_string(identifier)},
            teamIdentifier: "",
            displayVersion: "1.0",
            bundleVersion: "1",
            appIcon: .asset("AppIcon"),
            accentColor: .asset("AccentColor"),
            supportedDeviceFamilies: [.pad, .phone],
            supportedInterfaceOrientations: [
                .portrait,
                .landscapeLeft,
                .landscapeRight,
                .portraitUpsideDown(.when(deviceFamilies: [.pad]))
            ],
            capabilities: [
                {capabilities}
            ],
            appCategory: .developerTools
        )
    ],
    targets: [
        .executableTarget(
            name: "AppModule",
            path: ".",
            exclude: ["README.md"],
            resources: [.process("Assets.xcassets"), .copy("Resources")]
        )
    ]
)
"""


def swift_string(text: str) -> str:
    """A literal of Swift: a backslash would begin an escape or an interpolation."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() or ord(c) > 0x7F else f"\\u{{{ord(c):x}}}" for c in escaped) + '"'
