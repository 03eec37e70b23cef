"""Opens pages in headless Chromium, light, dark, wide, narrow, printed: nothing in the console, nothing asked of the network.

    python -m conformance.browser PAGE... [--axe axe.min.js] [--screenshots FOLDER] [--out FILE]

PAGE: an HTML file that coreproof wrote. Needs Chromium and axe-core: a copy of axe.min.js, or the package axe-core-python.
Ends with 1 where a page logs an error, asks the network for anything, is wider than the screen, has a control that the Tab key
does not reach or that does not show the focus, or where axe-core finds something serious or critical.
Writes conformance/results/browser.json.
"""

from __future__ import annotations

import argparse
import base64
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console

HERE = Path(__file__).resolve().parent
SCREENS = {"wide": (1280, 900), "tablet": (768, 1024), "phone": (390, 844), "print": (794, 1123)}
SCHEMES = ("light", "dark")
GRAVE = ("serious", "critical")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "microsoft-edge")


class Chromium:
    """A headless browser, spoken to over pipes in the words of the DevTools protocol."""

    def __init__(self, program: str) -> None:
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        self._profile = tempfile.mkdtemp(prefix="coreproof-browser-")

        def pipes() -> None:
            ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_browser, from_browser)]  # 3 and 4 may be taken
            for place, end in enumerate(ends, start=3):
                os.dup2(end, place)

        self._process = subprocess.Popen(
            [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
             f"--user-data-dir={self._profile}", "--no-first-run", "--hide-scrollbars", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=pipes, close_fds=False,
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        self._rest = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Calls a method and waits for its answer; events that come before it are kept."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if not method.startswith("Target."):
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def wait(self, event: str) -> None:
        """Waits for an event."""
        while not any(known.get("method") == event for known in self.events):
            self.events.append(self._next())

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, awaited."""
        answer = self.ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True,
                          includeCommandLineAPI=True)  # fmt: skip
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"].get("exception", {}).get("description", "script failed"))
        return answer["result"].get("value")

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            piece = os.read(self._read, 1 << 20)
            if not piece:
                raise RuntimeError("the browser ended")
            self._rest += piece
        message, self._rest = self._rest.split(b"\0", 1)
        answer: dict[str, Any] = json.loads(message)
        return answer

    def close(self) -> None:
        """Ends the browser."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._profile, ignore_errors=True)


def look(browser: Chromium, page: Path, screen: str, scheme: str, axe: str, screenshot: Path | None) -> dict[str, Any]:
    """Opens one page on one screen, and reports everything that is not as it should be."""
    return {**look_at(browser, page.resolve().as_uri(), screen, scheme, axe, screenshot), "page": page.name}


def look_at(
    browser: Chromium, address: str, screen: str, scheme: str, axe: str, screenshot: Path | None
) -> dict[str, Any]:
    """The same of what an address gives."""
    width, height = SCREENS[screen]
    browser.ask(
        "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=screen == "phone"
    )
    features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}  # the focus is there at once
    media = "print" if screen == "print" else "screen"
    browser.ask(
        "Emulation.setEmulatedMedia", media=media, features=[{"name": n, "value": v} for n, v in features.items()]
    )
    browser.events.clear()
    browser.ask("Page.navigate", url=address)
    browser.wait("Page.loadEventFired")
    opened = browser.evaluate(
        "new Promise(done => requestAnimationFrame(() => setTimeout(() => "
        "done(performance.getEntriesByType('navigation')[0].loadEventEnd), 300)))"
    )
    wider = browser.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if screenshot is not None:
        whole = browser.evaluate("document.documentElement.scrollHeight")
        clip = {"x": 0, "y": 0, "width": width, "height": min(whole, 12_000), "scale": 1}
        picture = browser.ask("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        screenshot.write_bytes(base64.b64decode(picture["data"]))
    keyboard = by_keyboard(browser)
    console = [*map(_logged, browser.events)]
    asked = [e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent"]
    browser.evaluate(axe)
    found = browser.evaluate("axe.run().then(found => found.violations.map(v => ({id: v.id, impact: v.impact, help: v.help, "
                             "nodes: v.nodes.slice(0, 3).map(n => n.html.slice(0, 160)), count: v.nodes.length})))")  # fmt: skip
    return {
        "screen": f"{width}x{height} {scheme}",
        "opened_ms": round(opened),
        "console": [text for text in console if text],
        "requests": [url for url in asked if not url.startswith(("file:", "data:", "blob:"))],
        "wider_by": wider,
        "keyboard": keyboard,
        "axe": found,
    }


TABBED = 400
"""Presses of the Tab key on a page."""
REACHABLE = """window.reachable = [...document.querySelectorAll('*')].filter(e => e.checkVisibility({visibilityProperty: true})
    && e.tabIndex >= 0 && !e.disabled && (e.type !== 'radio' || e.checked) && e.getClientRects().length)"""
CLICKABLE = """[...document.querySelectorAll('body *')].filter(e => (getEventListeners(e).click || e.onclick)
    && e.tabIndex < 0 && !e.closest('label, [role=tablist], [role=radiogroup], [hidden]')
    && ![...e.querySelectorAll('*')].some(inner => inner.tabIndex >= 0))"""
FOCUSED = """(() => {
    const e = document.activeElement, style = getComputedStyle(e), whole = e.getBoundingClientRect()
    const within = whole.bottom > 0 && whole.top < innerHeight && whole.right > 0 && whole.left < innerWidth
    const seen = style.outlineStyle !== 'none' || style.boxShadow !== 'none'
    return {place: reachable.indexOf(e), said: e.outerHTML.slice(0, 160), seen: seen && within}
})()"""


def by_keyboard(browser: Chromium) -> list[str]:
    """Walks a page with the Tab key: what is passed by, and what does not show that it has the focus."""
    words = [f"takes clicks and no keys: {html}" for html in _texts(browser, CLICKABLE)]
    count = browser.evaluate(f"{REACHABLE}; document.activeElement.blur(); scrollTo(0, 0); reachable.length")
    reached: set[int] = set()
    for _ in range(min(count, TABBED)):
        for kind in ("rawKeyDown", "keyUp"):
            browser.ask("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        now = browser.evaluate(FOCUSED)
        reached.add(now["place"])
        if not now["seen"]:
            words.append(f"has the focus and does not show it: {now['said']}")
    if count <= TABBED:
        missed = sorted(set(range(count)) - reached)
        words += [
            f"not reached with the keyboard: {html}" for html in _texts(browser, f"{missed}.map(k => reachable[k])")
        ]
    return words


def _texts(browser: Chromium, elements: str) -> list[str]:
    found: list[str] = browser.evaluate(f"{elements}.map(e => e.outerHTML.slice(0, 160))")
    return found


def _logged(event: dict[str, Any]) -> str:
    parameters = event.get("params", {})
    if event.get("method") == "Runtime.exceptionThrown":
        details = parameters["exceptionDetails"]
        return str(details.get("exception", {}).get("description") or details["text"])
    if event.get("method") == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
        return " ".join(str(a.get("value", a.get("description", ""))) for a in parameters["args"])
    if event.get("method") == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
        return str(parameters["entry"]["text"])
    return ""


def faults(seen: dict[str, Any]) -> list[str]:
    """What is wrong with a page, in words."""
    words = [f"console: {text}" for text in seen["console"]]
    words += [f"asks the network for {url}" for url in seen["requests"]]
    words += [f"{seen['wider_by']} pixels wider than the screen"] if seen["wider_by"] > 0 else []
    words += seen["keyboard"]
    words += [
        f"axe-core, {v['impact']}: {v['help']} ({v['count']}x, {v['nodes'][0]})"
        for v in seen["axe"]
        if v["impact"] in GRAVE
    ]
    return words


def axe_source(given: Path | None) -> str:
    """The text of axe-core."""
    if given is not None:
        return given.read_text(encoding="utf-8")
    for package in ("axe_core_python", "axe_playwright_python"):
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            return (Path(spec.origin).parent / "axe.min.js").read_text(encoding="utf-8")
    raise SystemExit("axe-core is missing: pip install axe-core-python, or say --axe axe.min.js")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--axe", type=Path)
    parser.add_argument("--screenshots", type=Path)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "browser.json")
    options = parser.parse_args()
    if missing := [str(page) for page in options.pages if not page.is_file()]:
        raise SystemExit(f"there is no page: {', '.join(missing)}")
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        raise SystemExit(f"no Chromium on this machine: looked for {', '.join(BROWSERS)}")
    axe, console = axe_source(options.axe), Console()
    if options.screenshots is not None:
        options.screenshots.mkdir(parents=True, exist_ok=True)
    results, wrong = [], 0
    browser = Chromium(program)
    try:
        for page in options.pages:
            for screen in SCREENS:
                for scheme in SCHEMES:
                    folder = options.screenshots
                    picture = (
                        None if folder is None else folder / f"{page.parent.name}-{page.stem}-{screen}-{scheme}.png"
                    )
                    seen = look(browser, page, screen, scheme, axe, picture)
                    results.append({**seen, "faults": faults(seen)})
                    wrong += len(results[-1]["faults"])
                    mark = "[red]✗[/]" if results[-1]["faults"] else "[green]✓[/]"
                    console.print(
                        f"{mark} {page.parent.name}/{page.name} {seen['screen']}, open in {seen['opened_ms']} ms"
                    )
                    for fault in results[-1]["faults"]:
                        console.print(f"    {fault}", markup=False)
    finally:
        browser.close()
    minor = sorted({f"{v['impact']}: {v['help']}" for seen in results for v in seen["axe"] if v["impact"] not in GRAVE})
    document = {
        "command": "python -m conformance.browser " + " ".join(page.name for page in options.pages),
        "axe_core": axe[:40].split("axe v")[-1].split("\n")[0].split()[0],
        "faults": wrong,
        "minor": minor,
        "pages": results,
    }
    options.out.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    console.print(f"{len(results)} views, {wrong} faults; lesser findings of axe-core: {'; '.join(minor) or 'none'}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
