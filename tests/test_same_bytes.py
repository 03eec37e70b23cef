"""The same input gives the same bytes: in another process, another folder, at another time, with another order of hashing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import onnx
import pytest

from tests.cli import test_replacing as replacing
from tests.forked import Commands, commands

made = replacing.made

WRITERS = {
    "ML Program, float32": "convert net.onnx out.mlpackage --precision fp32",
    "ML Program, float16": "convert net.onnx out.mlpackage",
    "picture": "convert net.onnx out.mlpackage --image --scale 0.01",
    "free batch": "convert net.onnx out.mlpackage --batch 1-8",
    "listed batch": "convert net.onnx out.mlpackage --batch 1,4",
    "network": "convert net.onnx out.mlmodel",
    "network to ONNX": "convert net.mlmodel out.onnx",
    "program to ONNX": "convert picture.mlpackage out.onnx",
    "PyTorch to ONNX": "convert tiny.py:model out.onnx",
    "PyTorch to a program": "convert tiny.py:model out.mlpackage",
    "upgrade": "upgrade net.mlmodel out.mlpackage",
    "edit": "edit net.onnx out.onnx --do|rename c d --keep out.toml",
    "edit of a program": "edit picture.mlpackage out.mlpackage --do|rename c d",
    "edit beside data": "edit data.onnx out.onnx --do|rename c d",
    "doctor": "doctor broken.mlmodel --against net.onnx --fix out.mlmodel",
    "split": "split pipeline.mlmodel out",
    "join": "join one.mlmodel two.mlmodel out.mlmodel",
    "shrink": "shrink net.onnx --while|grep -q Relu {} --out out.onnx",
    "saved run": "verify net.onnx net.mlmodel --save out.npz --node-data out.json",
    "plots": "verify net.onnx net.mlmodel --plot out.svg",
    "plot as PDF": "verify net.onnx net.mlmodel --plot out.pdf",
    "app": "app picture.mlpackage --photos photos --out out",
    "compare": "compare lineup.toml --photos photos --out out --workers 1",
    "prove": "prove net.onnx --photos photos --out out --size 8 --scale 0.01",
}
MEASURED = (
    r'"?(seconds|milliseconds)"?: ?[0-9.e+-]+',
    r"[0-9][0-9.,]* ?(s|ms|min)\b",
    r"/tmp/[^ \"<&]*",
)
"""What pages and documents say of the time that a run took."""


TINY = """
import torch

def model():
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 5)
    return torch.nn.Sequential(*layers).eval(), (torch.zeros(1, 3, 8, 8),)
"""


@pytest.fixture(scope="module")
def sources(made: Path) -> Path:
    if not (made / "data.onnx").exists():
        whole = onnx.load(made / "net.onnx")
        onnx.save_model(whole, made / "data.onnx", save_as_external_data=True, location="weights", size_threshold=0)
        (made / "tiny.py").write_text(TINY)
    return made


@pytest.fixture(scope="module")
def seeded() -> Iterator[tuple[Commands, Commands]]:
    """What runs commands with two orders of hashing, in two time zones."""
    heavy = (
        "onnx",
        "onnx_ir",
        "onnxruntime",
        "torch",
        "onnxscript",
        "torch.onnx",
        "torch._dynamo",  # what an export imports, which each command would import anew
        "torch.onnx._internal.exporter._core",
        "coremltools",
        "PIL.Image",
        "matplotlib.figure",
    )
    with ExitStack() as stack:
        one, other = (
            stack.enter_context(commands({"PYTHONHASHSEED": seed, "TZ": f"UTC{seed[:1]}"}, heavy))
            for seed in ("1", "4242")
        )
        yield one, other


def written(command: str, sources: Path, folder: Path, runs: Commands) -> dict[str, bytes]:
    """What a child process of its own writes in ``folder``."""
    folder.mkdir(parents=True)
    for entry in sources.iterdir():
        (folder / entry.name).symlink_to(entry)
    given = {path.name for path in folder.iterdir()}
    words: list[str] = []
    for part in re.split(r"(--\S+\|.*?)(?= --|$)", command):
        option, found, value = part.partition("|")
        words += [option, value] if found else part.split()
    if words[0] == "edit" and words[1] == "data.onnx":
        (folder / "weights").unlink()  # and not a link to where it lies: it is to be written
        given.discard("weights")
        words[1] = str(sources / "data.onnx")
    done = runs.run(*words, folder=folder)
    assert done.code in (0, 1), (done.out + done.err).decode()
    made = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        # what Python compiles of a user's module is no writer's
        if path.is_file() and name.split("/")[0] not in {*given, "__pycache__"} and "store/" not in name:
            made[name] = path.read_bytes()
    assert made
    return made


@pytest.mark.thorough
@pytest.mark.parametrize("writer", WRITERS)
def test_the_same_input_gives_the_same_bytes(
    writer: str, sources: Path, tmp_path: Path, seeded: tuple[Commands, Commands]
) -> None:
    if writer.startswith("PyTorch"):
        pytest.importorskip("torch", reason="needs the torch extra")
    if writer.startswith("plot"):
        pytest.importorskip("matplotlib")
    one = written(WRITERS[writer], sources, tmp_path / "a", seeded[0])
    other = written(WRITERS[writer], sources, tmp_path / "another" / "place", seeded[1])
    assert one.keys() == other.keys()
    for name, content in one.items():
        if name.endswith((".html", "proof.json", "comparison.json")) and writer in ("compare", "prove"):
            assert unmeasured(content) == unmeasured(other[name]), name
        else:
            assert content == other[name], name


def unmeasured(content: bytes) -> str:
    text = content.decode()
    for pattern in MEASURED:
        text = re.sub(pattern, "", text)
    return text
