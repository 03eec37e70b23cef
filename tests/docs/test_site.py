"""The documentation site builds without a warning, asks no other host for anything, and its reference is complete."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import coreproof

REPOSITORY = Path(__file__).resolve().parents[2]
REQUESTED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio)\b[^>]*\bsrc=["']?(?:https?:)?//[^"'\s>]+"""
    r"""|<link\b(?=[^>]*\brel=["']?(?:stylesheet|preload|preconnect|icon|manifest))[^>]*\bhref=["']?(?:https?:)?//[^"'\s>]+"""
)
IN_STYLES = re.compile(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^)\"']+")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    pytest.importorskip("zensical", reason="the docs extra is not installed")
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "docs/hooks/build.py", str(folder)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.mark.thorough
def test_no_page_asks_another_host(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    assert {p.name: found for p in pages if (found := REQUESTED.findall(p.read_text(encoding="utf-8")))} == {}
    styles = list(site.rglob("*.css"))
    assert {p.name: found for p in styles if (found := IN_STYLES.findall(p.read_text(encoding="utf-8")))} == {}


def test_what_a_request_looks_like() -> None:
    assert REQUESTED.search('<link rel="stylesheet" href="https://fonts.example/css?family=Roboto">')
    assert REQUESTED.search('<script async src="//cdn.example/a.js"></script>')
    assert IN_STYLES.search("@font-face{src:url(https://fonts.example/a.woff2)}")
    assert not REQUESTED.search('<a href="https://github.com/google-ai-edge/model-explorer">')


@pytest.mark.thorough
def test_the_reference_holds_every_public_name(site: Path) -> None:
    anchors = "\n".join(p.read_text(encoding="utf-8") for p in (site / "reference").glob("*.html"))
    missing = [name for name in coreproof.__all__ if not re.search(rf'id="coreproof\.[\w.]*\b{name}"', anchors)]
    assert missing == []


@pytest.mark.thorough
def test_the_command_line_page_holds_every_verb_and_option(site: Path) -> None:
    from typer.main import get_command

    from coreproof.cli.main import app

    page = (site / "reference" / "command-line.html").read_text(encoding="utf-8")
    chapters = {m[1]: m[2] for m in re.finditer(r'<h2 id="([\w-]+)">(.*?)(?=<h2 id=|$)', page, re.S)}
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert set(chapters) == set(commands)
    for verb, command in commands.items():
        for parameter in command.params:
            if parameter.param_type_name == "option":
                name = next(name for name in (*parameter.opts, *parameter.secondary_opts) if name)
                assert f"<code>{name}</code>" in chapters[verb], f"{verb} {name}"
