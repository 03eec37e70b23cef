"""The architecture as a test: who may import whom, no circle among files, how a file begins, its length, what starts quickly."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "coreproof"
FILES = sorted(PACKAGE.rglob("*.py"))

# Floor by floor, the ground first. A file may import its own room and the rooms of floors below; rooms of one floor do not know
# each other.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("version", "visible"),
    ("errors",),
    ("model",),
    ("conversion",),
    ("runtime",),
    ("pairing",),
    ("feeding",),
    ("validation", "verification"),
    ("precision", "editing"),
    ("difference", "reduction", "known_faults"),
    ("doctor", "comparison", "handover", "testing"),
    ("report",),
    ("proof",),
    ("cli",),
)
MAY_IMPORT: dict[str, set[str]] = {
    room: {below for lower in FLOORS[:level] for below in lower} for level, floor in enumerate(FLOORS) for room in floor
}
# The front door and `python -m coreproof` hold no logic: they name the rooms' verbs.
DOORS = {"__init__", "__main__"}

LONGEST = 500
LONGER_WITH_A_REASON: dict[str, str] = {}

HEAVY = (
    "torch",
    "torchvision",
    "coremltools",
    "onnxruntime",
    "onnx",
    "onnx_ir",
    "duckdb",
    "pyarrow",
    "sklearn",
    "skimage",
)


def room_of(module: str) -> str:
    """The room of "coreproof.<room>...." """
    return module.split(".")[1] if "." in module else "__init__"


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def names_imported(path: Path) -> list[tuple[str, str]]:
    """(module, name) of every import of coreproof in a file; the name is empty where a module itself is imported."""
    return [(module, name) for _, module, name in imported(path)]


def imports_of(path: Path) -> list[tuple[int, str]]:
    """Every coreproof module that a file imports, inside functions and for types too, with its line."""
    return [(line, f"{module}.{name}" if module == "coreproof" else module) for line, module, name in imported(path)]


@dataclass(frozen=True)
class Said:
    """What is asked of a file: its imports, strings with a point in them, public classes, whether it says what it is for."""

    imports: tuple[tuple[int, str, str], ...]
    words: frozenset[str]
    classes: tuple[str, ...]
    documented: bool


@cache
def said(path: Path) -> Said:
    """A file, read once; its tree is let go: with all of them in memory each collection of garbage would walk through them."""
    package = name_of(path).split(".") if path.name == "__init__.py" else name_of(path).split(".")[:-1]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: list[tuple[int, str, str]] = []
    words: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found += [(node.lineno, module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
            words.add(node.value.partition(":")[0])
    imports = tuple((line, module, name) for line, module, name in found if module.split(".")[0] == "coreproof")
    classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    return Said(imports, frozenset(words), tuple(classes), bool((ast.get_docstring(tree) or "").strip()))


def imported(path: Path) -> tuple[tuple[int, str, str], ...]:
    """(line, module, name) of every import of coreproof in a file."""
    return said(path).imports


NAMES = {name_of(path) for path in FILES}


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def test_no_room_imports_upward() -> None:
    rooms = {path: room for path in FILES if (room := room_of(name_of(path))) not in DOORS}
    new = set(rooms.values()) - MAY_IMPORT.keys()
    assert not new, "a new room: give it a line in this table and in the architecture"
    upward = [
        f"{relative(path)}:{line} imports {module}; {room}/ may import {sorted(MAY_IMPORT[room])} only"
        for path, room in rooms.items()
        for line, module in imports_of(path)
        if room_of(module) not in MAY_IMPORT[room] | {room}
    ]
    assert not upward


def files_needed(path: Path) -> set[str]:
    """The files of coreproof that a file needs: what it imports anywhere, and what it names in a string to import it later."""
    # "from coreproof.model import weights" names a file; "from coreproof.errors import InputError" a name in one
    found = {
        next((m for m in (f"{module}.{name}", module) if m in NAMES), module) for module, name in names_imported(path)
    }
    if room_of(name_of(path)) not in DOORS:
        found |= said(path).words
    return found & NAMES - {name_of(path)}


def in_a_circle(needs: dict[str, set[str]]) -> set[str]:
    """The files that lie in a circle, or between two."""
    while free := {file for file, needed in needs.items() if not needed & needs.keys()}:
        needs = {file: needed for file, needed in needs.items() if file not in free}
    while unread := needs.keys() - set[str]().union(*needs.values()):  # they lead into a circle, and lie in none
        needs = {file: needed for file, needed in needs.items() if file not in unread}
    return set(needs)


def test_no_circle_among_files() -> None:
    circle = in_a_circle({name_of(path): files_needed(path) for path in FILES})
    assert not circle, "these files import each other in a circle; imports for types and inside functions count too"


def test_a_circle_would_be_found() -> None:
    needs = {"door": {"a"}, "a": {"b"}, "b": {"c"}, "c": {"a", "ground"}, "ground": set[str]()}
    assert in_a_circle(needs) == {"a", "b", "c"}
    assert not in_a_circle({**needs, "c": {"ground"}})


def test_no_private_name_is_taken_from_another_file() -> None:
    """ruff's rule on private imports looks at other packages only."""
    private = [
        f"{relative(path)}:{line} imports {name or module}"
        for path in FILES
        for line, module, name in imported(path)
        for part in (*module.split("."), name)
        if part.startswith("_") and not part.endswith("__")
    ]
    assert not private, "give it a public name where it stands"


def test_a_file_begins_with_what_it_is_for() -> None:
    unsaid = [
        relative(path)
        for path in FILES
        if not path.read_text(encoding="utf-8").startswith('"""') or not said(path).documented
    ]
    assert not unsaid, "the first line is the docstring that says what the file is for"


def test_a_file_stays_short_or_says_why() -> None:
    lines = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    long = {file: count for file, count in lines.items() if count > LONGEST}
    assert not long.keys() - LONGER_WITH_A_REASON.keys(), "split them by meaning, or list them with the reason"
    assert not LONGER_WITH_A_REASON.keys() - long.keys(), "short again, or gone: take them off the list"


def test_no_class_name_means_two_things() -> None:
    homes: dict[str, list[str]] = {}
    for path in FILES:
        for name in said(path).classes:
            homes.setdefault(name, []).append(relative(path))
    assert not {name: files for name, files in homes.items() if len(files) > 1}


def test_a_family_of_operators_has_its_tests_under_its_own_name() -> None:
    handlers = re.compile(r"^@(lowering|lowers)\(", re.MULTILINE)
    families = [p for p in FILES if p.parent.name == "ops" and handlers.search(p.read_text(encoding="utf-8"))]
    assert len(families) > 60
    tests = PACKAGE.parents[1] / "tests"
    lacking = [
        relative(path)
        for path in families
        if not (tests / path.relative_to(PACKAGE).parent / f"test_{path.name}").is_file()
    ]
    assert not lacking, "a file of tests for each family: the expected values from numpy, PyTorch or the standard"


def test_no_file_is_called_utils() -> None:
    assert not [relative(p) for p in FILES if p.stem in {"utils", "util", "helpers", "misc", "common"}]


def test_no_path_of_a_machine_in_the_package() -> None:
    root = PACKAGE.parent.parent
    shown = [*FILES, *root.glob("*.md"), *(root / "docs").rglob("*.md"), *(root / "examples").rglob("*.py")]
    places = ("/home/", "/root/", "/work/", "/Users/")
    assert not [f"{p}: {place}" for p in shown for place in places if place in p.read_text(encoding="utf-8")]


def loaded_after(code: str) -> set[str]:
    """The top-level packages in memory after ``code`` has run in an interpreter of its own."""
    program = f"{code}\nimport sys\nprint(' '.join(sorted({{m.split('.')[0] for m in sys.modules}})), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    return set(done.stderr.split())


def test_the_front_door_opens_at_once() -> None:
    loaded = loaded_after("import coreproof")
    assert not loaded & {*HEAVY, "numpy", "PIL", "google", "typer", "rich", "jinja2"}


def test_the_help_page_loads_no_engine() -> None:
    code = """
import contextlib, sys
from coreproof.cli.main import main
sys.argv = ["coreproof", "--help"]
with contextlib.suppress(SystemExit):
    main()
"""
    loaded = loaded_after(code)
    assert "typer" in loaded
    assert not loaded & set(HEAVY)


def test_the_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


def test_every_verb_prints_through_the_one_way_that_escapes_names() -> None:
    ways = {"say.py", "terminal.py", "streams.py", "fault.py"}
    printing = re.compile(
        r"\b(typer|click)\.(secho|echo)\(|(?<![\w.])print\(|\bRichConsole\(|(?<![\w.])Console\(|sys\.std(out|err)\.write"
    )
    found = {
        f"{relative(path)}: {match[0]}"
        for path in FILES
        if room_of(name_of(path)) == "cli" and path.name not in ways
        for match in printing.finditer(path.read_text(encoding="utf-8"))
    }
    assert found <= {"cli/main.py: sys.stderr.write"}, (
        "the screen of a fault; all else goes through cli/say.py and cli/terminal.py"
    )


def test_nothing_compares_the_name_of_a_format() -> None:
    """Whoever asks what a model is asks the model: its class, or ``is_network`` and its like in model/base.py."""
    compared = re.compile(r"\.format (==|!=|in|not in) [\"(]")
    found = {
        file.relative_to(PACKAGE).as_posix() for file in FILES if compared.search(file.read_text(encoding="utf-8"))
    }
    # a page has no model, only what a comparison notes of it
    assert found <= {"model/base.py", "report/page.py"}
