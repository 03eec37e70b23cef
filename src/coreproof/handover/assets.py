"""The app's asset catalogue: its icon, drawn here, and its accent colour for light and dark."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image, ImageDraw

SIDE = 1024
"""What Xcode asks of an icon; every other size is made from it."""

_BACKGROUND = (18, 52, 86)
_LINES = (120, 180, 220)
_LIGHT = {"red": "0x00", "green": "0x66", "blue": "0xCC", "alpha": "1.000"}
_DARK = {"red": "0x4D", "green": "0xA6", "blue": "0xFF", "alpha": "1.000"}


def write_assets(folder: Path) -> None:
    """Writes Assets.xcassets."""
    icon, accent = folder / "AppIcon.appiconset", folder / "AccentColor.colorset"
    icon.mkdir(parents=True)
    accent.mkdir()
    app_icon().save(icon / "AppIcon.png")
    image = {"filename": "AppIcon.png", "idiom": "universal", "platform": "ios", "size": f"{SIDE}x{SIDE}"}
    _contents(folder)
    _contents(icon, images=[image])
    dark = [{"appearance": "luminosity", "value": "dark"}]
    _contents(accent, colors=[_colour(_LIGHT), {"appearances": dark, **_colour(_DARK)}])


def app_icon() -> Image.Image:
    """A small network whose answer is ticked, [1024, 1024] RGB: an icon has no transparency."""
    # drawn at twice the size: Pillow's lines have hard edges, and shrinking smooths them
    scale = 2
    picture = Image.new("RGB", (SIDE * scale, SIDE * scale), _BACKGROUND)
    draw = ImageDraw.Draw(picture)

    def at(x: float, y: float) -> tuple[float, float]:
        return x * SIDE * scale, y * SIDE * scale

    first, second, answer = [(0.2, y) for y in (0.25, 0.5, 0.75)], [(0.45, y) for y in (0.35, 0.65)], (0.74, 0.5)
    for ahead, behind in ((first, second), (second, [answer])):
        for a in ahead:
            for b in behind:
                draw.line([at(*a), at(*b)], fill=_LINES, width=12 * scale)
    # dots over the ends of the lines
    for x, y in first + second:
        draw.ellipse([at(x - 0.055, y - 0.055), at(x + 0.055, y + 0.055)], fill="white")
    x, y = answer
    draw.ellipse([at(x - 0.16, y - 0.16), at(x + 0.16, y + 0.16)], fill=(52, 168, 83))
    tick = [at(x - 0.08, y), at(x - 0.02, y + 0.06), at(x + 0.085, y - 0.065)]
    draw.line(tick, fill="white", width=40 * scale, joint="curve")
    return picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _contents(folder: Path, **entries: object) -> None:
    document = {**entries, "info": {"author": "xcode", "version": 1}}
    (folder / "Contents.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _colour(components: dict[str, str]) -> dict[str, object]:
    return {"color": {"color-space": "srgb", "components": components}, "idiom": "universal"}
