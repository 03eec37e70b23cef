"""Every command and code block of the documentation and the README is run, on small stand-ins for what it names.

Pages run in a folder of their own, block after block. What cannot run here is held against the real thing: recorded output of
real models (console blocks) against verbs and options, `make` against the Makefile, `pip install` against the extras.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import tree_sitter
import tree_sitter_swift

from coreproof.cli.main import app
from coreproof.cli.main import main as coreproof
from coreproof.doctor.rules import rules
from coreproof.handover.package import CALLS
from tests.docs.stand_ins import copy_for, export_from_device, lay_out

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
PAGES = {p.relative_to(DOCS).as_posix(): p for p in sorted(DOCS.rglob("*.md"))} | {
    "README.md": REPOSITORY / "README.md"
}
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)?(?P<title>[^\n]*)\n(?P<text>.*?)^(?P=indent)```[ ]*$", re.M | re.S
)
LANGUAGES = {"sh", "python", "toml", "json", "yaml", "console", "text", "swift"}

EXITS = {
    "coreproof doctor broken.mlmodel": 1,
}
"""How a command starts -> its documented exit code, where it is not 0."""

SUBSTITUTES = {
    "torchvision:resnet50": "tiny.py:network",
    "torchvision:mobilenet_v3_small": "tiny.py:imagenet",
    "coreml": "auto",
}
"""What is run in the place of networks that take long to export, and of the engine that is on a Mac only."""


@dataclass(frozen=True)
class Block:
    """A fenced block; ``title`` is the file that the reader is told to save it as."""

    page: str
    line: int
    language: str
    title: str | None
    text: str

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    text = PAGES[page].read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        title = re.search(r'title="([^"]+)"', match["title"])
        inner = re.sub(rf"^{match['indent']}", "", match["text"], flags=re.M)
        line = text[: match.start()].count("\n") + 1
        found.append(Block(page, line, match["language"] or "", title[1] if title else None, inner))
    return found


def commands(block: Block) -> list[list[str]]:
    """The commands of a shell block, word by word; a console's are its lines that start with $."""
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.language == "console":
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    if block.language == "yaml":
        lines = [line.split("run:", 1)[1].strip() for line in lines if "run:" in line]
        lines = [line for line in lines if line.startswith("coreproof")]
    parts = [part for line in lines for part in line.split(" && ")]
    return [words for part in parts if (words := shlex.split(part, comments=True))]


ALL = [block for page in PAGES for block in blocks(page)]
RUN = [page for page in PAGES if any(b.language in ("sh", "python", "yaml") for b in blocks(page))]
LONG = {
    "README.md", "ci-on-linux.md", "pytorch-to-iphone.md", "states.md", "clusters.md", "compression.md", "many-photos.md",
    "notebooks.md",
}  # fmt: skip
"""Pages whose commands take longest to run: together three times as long as all others."""


def test_every_block_says_what_it_is() -> None:
    assert len(ALL) > 40
    assert [b.where for b in ALL if b.language not in LANGUAGES] == []
    assert set(RUN) >= {"README.md", "index.md", "doctor.md", "ci-on-linux.md", "pytorch-to-iphone.md"}


@pytest.mark.parametrize("block", [b for b in ALL if b.language in ("toml", "json")], ids=lambda b: b.where)
def test_data_parses(block: Block) -> None:
    assert tomllib.loads(block.text) if block.language == "toml" else json.loads(block.text)


@cache
def verbs() -> dict[str, Any]:
    """The command line as typer makes it, which takes a tenth of a second."""
    from typer.main import get_command

    return dict(get_command(app).commands)  # type: ignore[attr-defined]


def verb(name: str) -> Any:
    known = verbs()
    assert name in known, f"coreproof has no verb {name}"
    return known[name]


def options_of(name: str) -> set[str]:
    return {"--help", *(o for p in verb(name).params for o in (*p.opts, *p.secondary_opts))}


def check_words(words: list[str]) -> None:
    """Parses a command as the command line would, without running it."""
    assert words[0] == "coreproof"
    verb(words[1]).make_context(words[1], words[2:])


@pytest.mark.parametrize("block", [b for b in ALL if b.language == "swift"], ids=lambda b: b.where)
def test_swift_is_what_a_package_offers(block: Block) -> None:
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_swift.language()))
    assert not parser.parse(block.text.encode()).root_node.has_error
    assert CALLS["classifier"] in block.text


@pytest.mark.parametrize("block", [b for b in ALL if b.language == "console"], ids=lambda b: b.where)
def test_recorded_commands_are_valid(block: Block) -> None:
    found = commands(block)
    assert found
    for words in found:
        check_words(words)


def test_commands_in_running_text_name_real_verbs_and_options() -> None:
    seen = 0
    for page, path in PAGES.items():
        prose = FENCE.sub("", path.read_text(encoding="utf-8"))
        for span in re.findall(r"`coreproof ([^`]+)`", prose):
            words = span.split()
            if words[0].startswith("-"):
                continue
            seen += 1
            unknown = {w.split("=")[0].rstrip(",") for w in words if w.startswith("--")} - options_of(words[0])
            assert not unknown, f"{page}: coreproof {span}: {unknown}"
    assert seen > 20


def test_the_doctors_table_lists_what_findings_are_called() -> None:
    table = PAGES["doctor.md"].read_text().split("## What it knows")[1].split("##")[0]
    listed = {name for row in re.findall(r"^\| (`.*?) \|", table, re.M) for name in re.findall(r"`([\w-]+)`", row)}
    assert listed == {rule.id for rule in rules()}


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stand-ins")
    lay_out(folder)
    return folder


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.thorough if page in LONG else ()) for page in RUN]
)
def test_page(page: str, stand_ins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    copy_for(page, stand_ins, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("COLUMNS", "160")
    offline(monkeypatch)
    namespace: dict[str, Any] = {"__name__": "documentation"}
    for block in blocks(page):
        if block.title is not None:
            (tmp_path / block.title).write_text(block.text, encoding="utf-8")
        if block.language == "python":
            run_python(block, namespace)
        elif block.language in ("sh", "yaml"):
            for words in commands(block):
                run_words(words, block, monkeypatch, capsys)


def run_python(block: Block, namespace: dict[str, Any]) -> None:
    exec(compile("\n" * block.line + block.text, str(PAGES[block.page]), "exec"), namespace)
    for name in [n for n in namespace if n.startswith("test_")]:
        namespace.pop(name)()


def run_words(words: list[str], block: Block, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    line = " ".join(words)
    if words[0] == "coreproof":
        if "device.json" in words:
            export_from_device(Path("PhotoApp"), Path("device.json"))
        check_words(words)
        if "--ray" not in words or find_spec("ray") is not None:
            run_coreproof(words, block, monkeypatch, capsys)
    elif words[0] == "make":
        targets = set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.M))
        assert set(words[1:]) <= targets, f"{block.where}: {line}"
    elif words[:2] == ["pip", "install"]:
        extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        package, _, extra = words[-1].rstrip("]").partition("[")
        assert package == "coreproof", f"{block.where}: {line}"
        assert not extra or extra in extras, f"{block.where}: {line}"
    else:
        assert words[:2] == ["git", "clone"] or words == ["cd", "coreproof"], f"{block.where}: nothing runs {line}"


def run_coreproof(words: list[str], block: Block, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    line = " ".join(words)
    expanded = [
        name
        for word in words
        for name in (sorted(map(str, Path().glob(word))) if "*" in word else [SUBSTITUTES.get(word, word)])
    ]
    monkeypatch.setattr(sys, "argv", expanded)
    code: Any = 0
    try:
        coreproof()
    except SystemExit as stop:
        code = stop.code or 0
    expected = next((exit_code for start, exit_code in EXITS.items() if line.startswith(start)), 0)
    said = capsys.readouterr()
    assert code == expected, f"{block.where}: {line}\nexit {code}, documented {expected}\n{said.out}\n{said.err}"


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained torchvision weights are downloaded: random ones of the same shapes stand in."""
    from coreproof.model.torch.model import import_torchvision

    torchvision = import_torchvision()
    weights = torchvision.models.MobileNet_V3_Small_Weights
    monkeypatch.setattr(
        weights, "get_state_dict", lambda self, *a, **k: torchvision.models.mobilenet_v3_small().state_dict()
    )
