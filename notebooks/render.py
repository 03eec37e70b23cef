"""Runs the notebooks from top to bottom and writes each as a page that loads nothing: `make notebooks`.

python notebooks/render.py [--out FOLDER] [NOTEBOOK...]
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import time
from html import escape
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert.filters.markdown import markdown2html
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from rich.console import Console

HERE = Path(__file__).resolve().parent
LIMIT_SECONDS = 1200
AT_ONCE = 2
LIGHT, DARK = "xcode", "github-dark"
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · coreproof</title>
<style>
:root {{ color-scheme: light dark; --paper: #fbfaf7; --card: #fff; --ink: #1d1c1a; --line: #e5e1d8; --link: #2c5f8a; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --paper: #141517; --card: #1c1e21; --ink: #ecebe8; --line: #313439; --link: #8fbfe8; }}
}}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }}
main {{ max-width: 64rem; margin: 0 auto; padding: 1.5rem clamp(1rem, 4vw, 2.5rem) 4rem; }}
h1, h2 {{ line-height: 1.2; letter-spacing: -.015em; text-wrap: balance; }}
h2 {{ margin-top: 3rem; }}
a {{ color: var(--link); }}
code, pre {{ font: 500 .8125rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }}
p code, li code {{ font-size: .9em; }}
.code, .output {{ margin: .75rem 0; }}
.code {{ background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .75rem 1rem; }}
.code pre {{ margin: 0; }}
.code, .output {{ overflow-x: auto; }}
.output > pre {{ margin: 0; padding-left: 1rem; border-left: 3px solid var(--line); white-space: pre-wrap; }}
.output > pre {{ overflow-wrap: anywhere; }}
.output img {{ max-width: 100%; height: auto; border-radius: 6px; }}
nav {{ display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; font-size: .9375rem; }}
@media (prefers-color-scheme: light) {{ {light} }}
@media (prefers-color-scheme: dark) {{ {dark} }}
.code .highlight, .code .highlight * {{ background: none; }}
</style>
</head>
<body>
<main>
<nav aria-label="Notebooks">{links}</nav>
{body}
</main>
</body>
</html>
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, default=sorted(HERE.glob("*.ipynb")))
    parser.add_argument("--out", type=Path, default=HERE.parent / "build" / "notebooks")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if not asyncio.run(_all(options.notebooks, options.out)):
        sys.exit(1)


async def _all(notebooks: list[Path], out: Path) -> bool:
    """The first one alone, since it makes what the others work on where that is not there; then a core each."""
    console = Console(stderr=True)
    free = asyncio.Semaphore(AT_ONCE)

    async def whole(path: Path) -> bool:
        async with free:
            return await _one(path, notebooks, out, console)

    with console.status(f"{len(notebooks)} notebooks"):
        return await whole(notebooks[0]) and all(await asyncio.gather(*map(whole, notebooks[1:])))


async def _one(path: Path, notebooks: list[Path], out: Path, console: Console) -> bool:
    """Runs a notebook and writes its page; whether no cell failed."""
    started = time.monotonic()
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=LIMIT_SECONDS,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--log-level=ERROR"],
    )
    try:
        await client.async_execute()
    except CellExecutionError as error:
        console.print(f"✗ {path.name}", style="red")
        console.print(str(error), markup=False, highlight=False)
        return False
    page = out / f"{path.stem}.html"
    page.write_text(render(notebook, path, notebooks), encoding="utf-8")
    console.print(f"✓ {page.name} in {time.monotonic() - started:.0f} s")
    return True


def render(notebook: nbformat.NotebookNode, path: Path, all_notebooks: list[Path]) -> str:
    """A notebook that was run, as one page."""
    parts = []
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            parts.append(re.sub(r'<a class="anchor-link".*?</a>', "", markdown2html(cell.source)))
        elif cell.cell_type == "code":
            parts.append(
                f'<div class="code" tabindex="0" role="group" aria-label="Code {number}">{highlighted(cell.source)}</div>'
            )
            parts += [shown(output, cell.source, number) for output in cell.outputs]
    links = (
        f'<b aria-current="page">{escape(title(other))}</b>'
        if other == path
        else f'<a href="{escape(other.stem)}.html">{escape(title(other))}</a>'
        for other in all_notebooks
    )
    return PAGE.format(
        title=escape(title(path)),
        links="\n".join(links),
        body="\n".join(parts),
        light=HtmlFormatter(style=LIGHT).get_style_defs(".highlight"),
        dark=HtmlFormatter(style=DARK).get_style_defs(".highlight"),
    )


def title(path: Path) -> str:
    """A notebook's first heading."""
    return str(nbformat.read(path, as_version=4).cells[0].source.splitlines()[0].lstrip("# "))


def highlighted(code: str) -> str:
    """Python as HTML."""
    return str(highlight(code, PythonLexer(), HtmlFormatter()))


def shown(output: nbformat.NotebookNode, code: str, number: int) -> str:
    """What a cell printed or returned, in the richest form that needs no script."""
    if output.output_type == "stream":
        return "" if output.name != "stdout" else region(f"<pre>{escape(output.text)}</pre>", f"Printed by {number}")
    data = output.data
    if "text/html" in data:
        inner = data["text/html"]
    elif "image/png" in data:
        alternative = escape(f"Plot: {code.strip().splitlines()[-1]}", quote=True)
        inner = f'<img src="data:image/png;base64,{data["image/png"].strip()}" alt="{alternative}">'
    else:
        inner = f"<pre>{escape(data['text/plain'])}</pre>"
    return region(inner, f"Result of {number}")


def region(inner: str, label: str) -> str:
    """What a cell put out, reached and scrolled with the keyboard."""
    return f'<div class="output" tabindex="0" role="group" aria-label="{label}">{inner}</div>'


if __name__ == "__main__":
    main()
