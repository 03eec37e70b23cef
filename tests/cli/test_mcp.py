"""``coreproof mcp`` under the protocol's own client: what is offered, what is answered, and what stays out of reach."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import coreproof as cp
from coreproof.cli.mcp_tools import OUTPUTS, READING, WITHHELD, WRITING, command_line, tools
from coreproof.cli.verbs import VERBS
from coreproof.errors import InputError
from coreproof.model.onnx.model import OnnxModel
from tests.build import conv_relu_onnx

# imported where it is used: it takes seconds, and one worker of several runs these tests
pytestmark = pytest.mark.skipif(
    find_spec("mcp") is None, reason="the protocol's client is not installed: pip install mcp"
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A network as ONNX and converted, in a folder of its own; beside the folder something secret."""
    folder = tmp_path / "project"
    folder.mkdir()
    ir.save(conv_relu_onnx(), folder / "net.onnx")
    cp.convert(OnnxModel(conv_relu_onnx(), name="net"), "mlprogram").save(folder / "net.mlpackage")
    (tmp_path / "secret.onnx").write_bytes((folder / "net.onnx").read_bytes())
    (folder / "way-out.onnx").symlink_to(tmp_path / "secret.onnx")
    return folder


@asynccontextmanager
async def connected(folder: Path, *options: str) -> AsyncIterator[Any]:
    """A client's session with a server of this folder."""
    from mcp import ClientSession
    from mcp.client.stdio import StdioServerParameters, stdio_client

    words = ["-m", "coreproof", "mcp", str(folder), *options]
    async with (
        stdio_client(StdioServerParameters(command=sys.executable, args=words, env=dict(os.environ))) as (read, write),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        yield session


def run(talk: Callable[[], Awaitable[None]]) -> None:
    import anyio

    anyio.run(talk)


def dumped(result: Any) -> dict[str, Any]:
    document: dict[str, Any] = result.model_dump(by_alias=True, mode="json")
    return document


def text_of(result: Any) -> str:
    return "\n".join(part["text"] for part in dumped(result)["content"])


def test_a_client_checks_a_conversion(project: Path) -> None:
    async def talk() -> None:
        async with connected(project) as session:
            listed = {tool["name"]: tool for tool in dumped(await session.list_tools())["tools"]}
            assert set(listed) == {verb.replace("-", "_") for verb in READING}
            assert all(tool["annotations"]["readOnlyHint"] is True for tool in listed.values())
            assert listed["verify"]["inputSchema"]["properties"]["seed"]["type"] == "integer"
            before = sorted(project.rglob("*"))
            done = await session.call_tool("verify", {"reference": "net.onnx", "candidate": "net.mlpackage"})
            assert "values agree" in text_of(done)
            assert dumped(done)["structuredContent"] == {"exit_code": 0}
            document = await session.call_tool(
                "verify", {"reference": "net.onnx", "candidate": "net.mlpackage", "as_json": True}
            )
            told = dumped(document)["structuredContent"]
            assert (told["document"]["format"], told["document"]["agrees"]) == ("coreproof verification", True)
            shown = await session.call_tool("show", {"model": str(project / "net.mlpackage")})
            assert "conv" in text_of(shown)
            assert sorted(project.rglob("*")) == before, "a tool that reads leaves nothing behind"

    run(talk)


@pytest.mark.thorough
def test_a_finding_is_no_error_and_wrong_input_is_one(project: Path) -> None:
    model = ir.load(project / "net.onnx")
    name, value = next(iter(model.graph.initializers.items()))
    assert value.const_value is not None
    model.graph.initializers[name].const_value = ir.tensor(-value.const_value.numpy() + np.float32(1))
    ir.save(model, project / "other.onnx")

    async def talk() -> None:
        async with connected(project) as session:
            found = await session.call_tool("verify", {"reference": "net.onnx", "candidate": "other.onnx"})
            assert (dumped(found)["isError"], dumped(found)["structuredContent"]["exit_code"]) == (False, 1)
            (project / "text.onnx").write_text("no model")
            wrong = await session.call_tool("show", {"model": "text.onnx"})
            assert (dumped(wrong)["isError"], dumped(wrong)["structuredContent"]["exit_code"]) == (True, 2)
            assert text_of(wrong).startswith("error: ")

    run(talk)


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("show", {"model": "../secret.onnx"}, "outside the folder"),
        ("show", {"model": "way-out.onnx"}, "outside the folder"),
        ("show", {"model": "/etc/passwd"}, "outside the folder"),
        ("show", {"model": "missing.onnx"}, "no such file"),
        ("show", {"model": "os.path:join"}, "--trust"),
        ("show", {"model": "https://example.org/net.onnx#sha256=0"}, "--trust"),
        ("show", {"model": "--help"}, "no such file"),
        ("show", {}, "needs model"),
        ("show", {"model": "net.onnx", "head": "ten"}, "another type"),
        ("show", {"model": "net.onnx", "trust": True}, "takes no trust"),
        ("verify", {"reference": "net.onnx", "candidate": "net.mlpackage", "save": "run"}, "--allow-write"),
        ("verify", {"reference": "net.onnx", "candidate": "net.mlpackage", "inputs": "../x.npz"}, "outside the folder"),
        ("doctor", {"model": "net.onnx", "fix": "fixed.onnx"}, "--allow-write"),
        ("predict", {"model": "net.onnx", "photos": ["/etc"]}, "outside the folder"),
    ],
)
def test_what_stays_out_of_reach(tool: str, arguments: dict[str, Any], said: str, project: Path) -> None:
    with pytest.raises(InputError, match=said):
        command_line(tools(write=False)[tool], arguments, project.resolve(), trust=False)


@pytest.mark.thorough
def test_writing_has_to_be_allowed(project: Path) -> None:
    async def talk() -> None:
        async with connected(project) as session:
            with pytest.raises(Exception, match="no tool 'convert'"):
                await session.call_tool("convert", {"model": "net.onnx", "out": "new.mlpackage"})
        async with connected(project, "--allow-write") as session:
            listed = {tool["name"]: tool for tool in dumped(await session.list_tools())["tools"]}
            assert {"convert", "prove", "edit"} <= set(listed)
            assert listed["convert"]["annotations"]["readOnlyHint"] is False
            done = await session.call_tool("convert", {"model": "net.onnx", "out": "new.mlpackage", "check": False})
            assert dumped(done)["isError"] is False, text_of(done)
            assert (project / "new.mlpackage").is_dir()
            out = await session.call_tool("convert", {"model": "net.onnx", "out": "../new.mlpackage"})
            assert dumped(out)["isError"] is True
            assert not (project.parent / "new.mlpackage").exists()

    run(talk)


def test_every_parameter_is_known_for_what_it_is() -> None:
    """A new option that names a file is read or written, and somebody has to say which."""
    assert set(READING) | set(WRITING) | {"view"} == set(VERBS)
    read = {
        *("photos", "inputs", "labels", "truth", "devices", "data", "lineup", "proof", "before", "after"),
    }
    for tool in tools(write=True).values():
        for parameter in tool.parameters:
            if parameter.kind is Path:
                assert parameter.name in OUTPUTS | read or parameter.writes, f"{tool.verb} {parameter.name}"
    everything = {p for verb in VERBS.values() for p in inspect.signature(verb).parameters}
    assert everything >= OUTPUTS | WITHHELD
    for tool in tools(write=True).values():
        # a server that goes on until Ctrl-C, too: nobody could press it
        assert not {p.name for p in tool.parameters} & {*WITHHELD, "serve"}
    for tool in tools(write=False).values():
        assert not any(p.writes or p.name == "overwrite" for p in tool.parameters)


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("predict", {"model": "net.onnx", "photos": ["photos"]}),
        ("compare", {"lineup": "lineup.toml", "photos": "photos", "out": "made"}),
        ("compare", {"lineup": "linked.toml", "photos": "seen", "out": "made"}),
        ("compare", {"lineup": "lineup.toml", "photos": "seen", "out": "made"}),
    ],
)
def test_links_below_what_is_named_lead_nowhere(
    project: Path, tmp_path_factory: pytest.TempPathFactory, verb: str, arguments: dict[str, object]
) -> None:
    root, outside = project.resolve(), tmp_path_factory.mktemp("outside")
    for folder in ("photos", "seen", "made"):
        (root / folder).mkdir(exist_ok=True)
    (outside / "a.png").write_bytes(b"")
    (root / "photos" / "a.png").symlink_to(outside / "a.png")
    (root / "made" / "store").symlink_to(outside)
    (root / "elsewhere").symlink_to(outside)
    (root / "lineup.toml").write_text('[models.a]\nsource = "net.onnx"\n')
    (root / "linked.toml").write_text('[models.a]\nsource = "elsewhere/net.onnx"\n')
    with pytest.raises(InputError, match="leads out of the folder"):
        command_line(tools(write=True)[verb], arguments, root, trust=False)


@pytest.mark.parametrize("model", ["a\0b", "a" * 5000])
def test_what_is_no_path_is_answered(project: Path, model: str) -> None:
    with pytest.raises(InputError, match="is no path"):
        command_line(tools(write=False)["show"], {"model": model}, project.resolve(), trust=False)


def test_values_never_become_options(project: Path) -> None:
    root = project.resolve()
    words = command_line(tools(write=False)["show"], {"model": "net.onnx", "grep": "--trust"}, root, trust=False)
    assert words == ["show", "--grep=--trust", "--", "./net.onnx"]
    words = command_line(
        tools(write=True)["convert"], {"model": "net.onnx", "out": "-x", "check": False}, root, trust=True
    )
    assert words == ["convert", "--trust", "--no-check", "--", "./net.onnx", "./-x"]


def test_wrong_messages_are_answered(project: Path) -> None:
    messages = [
        "no json",
        "[]",
        '{"jsonrpc": "2.0", "id": 1, "method": "resources/list"}',
        '{"jsonrpc": "2.0", "method": "notifications/initialized"}',
        '{"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "rm"}}',
        '{"jsonrpc": "2.0", "id": NaN, "method": "ping"}',
        '{"jsonrpc": "2.0", "id": {}, "method": "ping"}',
        '{"jsonrpc": "1.0", "id": 4, "method": "ping"}',
        '{"jsonrpc": "2.0", "id": 3, "method": "ping"}',
    ]
    done = subprocess.run(
        [sys.executable, "-m", "coreproof", "mcp", project],
        input="\n".join(messages) + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [a.get("error", {}).get("code") for a in answers] == [
        *(-32700, -32600, -32601, -32602, -32700, -32600, -32600, None)
    ]
    assert answers[-1] == {"jsonrpc": "2.0", "id": 3, "result": {}}
    assert (done.returncode, done.stderr) == (0, "")
