"""Takes the pictures of the docs from a page that was made here, in headless Chromium.

    python -m conformance.screenshots [PAGE]

PAGE: build/demo/index.html, which ``make demo`` writes. Writes docs/images/page.png, its beginning on a wide screen,
with few colours, so that it stays small.
"""

from __future__ import annotations

import base64
import io
import shutil
import sys
from pathlib import Path

from PIL import Image

from conformance.browser import BROWSERS, SCREENS, Chromium

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
PICTURES = {"page.png": ("wide", "light", 1400)}
COLOURS = 256
LARGEST = 250_000
"""Bytes of a picture that may be committed."""


def screenshot(browser: Chromium, page: Path, screen: str, scheme: str, height: int) -> Image.Image:
    """The first ``height`` pixels of a page, once its fonts and pictures are there."""
    width, shown = SCREENS[screen]
    browser.ask(
        "Emulation.setDeviceMetricsOverride", width=width, height=shown, deviceScaleFactor=1, mobile=screen == "phone"
    )
    browser.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.events.clear()
    browser.ask("Page.navigate", url=page.resolve().as_uri())
    browser.wait("Page.loadEventFired")
    browser.evaluate(
        "document.fonts.ready.then(() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 300))))"
    )
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    taken = browser.ask("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
    return Image.open(io.BytesIO(base64.b64decode(taken["data"]))).convert("RGB")


def main() -> None:
    page = Path(sys.argv[1] if len(sys.argv) > 1 else "build/demo/index.html")
    if not page.is_file():
        raise SystemExit(f"{page} is not there: make demo")
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        raise SystemExit(f"no Chromium on this machine: looked for {', '.join(BROWSERS)}")
    browser = Chromium(program)
    try:
        for name, (screen, scheme, height) in PICTURES.items():
            picture = screenshot(browser, page, screen, scheme, height).quantize(COLOURS, dither=Image.Dither.NONE)
            picture.save(IMAGES / name, optimize=True)
            print(f"{name}: {picture.width}x{picture.height}, {(IMAGES / name).stat().st_size / 1e3:.0f} kB")
            if (IMAGES / name).stat().st_size > LARGEST:
                raise SystemExit(f"{name} is too large to be committed")
    finally:
        browser.close()


if __name__ == "__main__":
    main()
