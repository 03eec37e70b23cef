"""What lets a Mac in CI run the proof: the shared scheme of an Xcode project, and a GitHub workflow."""

from __future__ import annotations

from typing import Literal
from xml.sax.saxutils import quoteattr

WORKFLOW = ".github/workflows/proof.yml"
"""Where GitHub looks for it, below the root of a repository."""


def scheme(project: str, target: str, tests: str, identifiers: tuple[str, str]) -> str:
    """The scheme that runs the app and tests it; ``identifiers`` are those of the two targets in the project file."""
    app = _reference(project, target, f"{target}.app", identifiers[0])
    bundle = _reference(project, tests, f"{tests}.xctest", identifiers[1])
    runnable = f'      <BuildableProductRunnable runnableDebuggingMode = "0">{app}\n      </BuildableProductRunnable>\n'
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<Scheme LastUpgradeVersion = "1600" version = "1.7">
   <BuildAction parallelizeBuildables = "YES" buildImplicitDependencies = "YES">
      <BuildActionEntries>
         <BuildActionEntry buildForTesting = "YES" buildForRunning = "YES" buildForProfiling = "YES" \
buildForArchiving = "YES" buildForAnalyzing = "YES">{app}
         </BuildActionEntry>
      </BuildActionEntries>
   </BuildAction>
   <TestAction buildConfiguration = "Debug" selectedDebuggerIdentifier = "Xcode.DebuggerFoundation.Debugger.LLDB" \
selectedLauncherIdentifier = "Xcode.DebuggerFoundation.Launcher.LLDB" shouldUseLaunchSchemeArgsEnv = "YES">
      <Testables>
         <TestableReference skipped = "NO">{bundle}
         </TestableReference>
      </Testables>
   </TestAction>
   <LaunchAction buildConfiguration = "Debug" selectedDebuggerIdentifier = "Xcode.DebuggerFoundation.Debugger.LLDB" \
selectedLauncherIdentifier = "Xcode.DebuggerFoundation.Launcher.LLDB" launchStyle = "0">
{runnable}   </LaunchAction>
   <ProfileAction buildConfiguration = "Release" shouldUseLaunchSchemeArgsEnv = "YES">
{runnable}   </ProfileAction>
   <AnalyzeAction buildConfiguration = "Debug"/>
   <ArchiveAction buildConfiguration = "Release" revealArchiveInOrganizer = "YES"/>
</Scheme>
"""


def _reference(project: str, target: str, product: str, identifier: str) -> str:
    names = f"BuildableName = {quoteattr(product)} BlueprintName = {quoteattr(target)}"
    return (
        f'\n         <BuildableReference BuildableIdentifier = "primary" BlueprintIdentifier = "{identifier}" '
        f'{names} ReferencedContainer = "container:{project}.xcodeproj"/>'
    )


def workflow(name: str, form: Literal["xcode", "package"]) -> str:
    """A GitHub workflow that runs the proof on a Mac and keeps device.json; ``name`` is the scheme's."""
    if form == "package":
        # a Mac runs the package itself
        choose, where = "", f"-scheme {name} -destination platform=macOS"
    else:
        where = f'-project {name}.xcodeproj -scheme {name} -destination "id=$SIMULATOR"'
        choose = """      - name: Take the newest iPhone that can be simulated
        run: |
          id=$(xcrun simctl list devices available --json | jq -r '[.devices | to_entries[] | select(.key | contains("iOS"))
            | .value[] | select(.name | startswith("iPhone"))] | last | .udid')
          echo "SIMULATOR=$id" >> "$GITHUB_ENV"
"""
    return f"""# Runs the proof on a Mac and keeps device.json. The folder that holds this one has to be the repository's root.
# A virtual Mac or a simulator has no Neural Engine: for that, run the same test on a device.
name: proof
on: [push, pull_request]
permissions:
  contents: read
jobs:
  proof:
    runs-on: macos-15
    timeout-minutes: 30
    steps:
      - uses: actions/checkout@v4
{choose}      - name: Run the proof
        env:
          TEST_RUNNER_COREPROOF_REQUIRE: "1"  # the share of samples that has to get the expected class
        run: xcodebuild test {where} -resultBundlePath build/proof.xcresult
      - name: Take device.json out of the result
        if: always()
        run: xcrun xcresulttool export attachments --path build/proof.xcresult --output-path build/proof
      - uses: actions/upload-artifact@v4
        if: always()
        with:
          name: proof
          path: build/proof
"""
