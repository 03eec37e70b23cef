"""The Model Context Protocol over standard input and output: JSON-RPC, a message a line, each call a process of its own.

After the specification of 18 June 2025 (modelcontextprotocol.io), of which tools are what is served.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from coreproof.cli.mcp_tools import Tool, command_line, tools
from coreproof.errors import CoreproofError
from coreproof.version import __version__

VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
"""Versions of the protocol, the newest first; for tools over standard input they are the same."""

MOST = 60_000
"""Characters of an answer: what a model reads at once."""

_NO_METHOD, _NO_PARAMETERS, _NO_REQUEST, _NO_JSON = -32601, -32602, -32600, -32700

_INSTRUCTIONS = """\
coreproof checks conversions to Core ML on any operating system. Paths are relative to the folder in which the server was started.
Begin with `show` (what a model takes) and `verify` (two models value by value; the first layer that diverges); where they differ,
`doctor` with `against` names the cause. An exit code of 1 is a finding, no failure of the tool."""


class _Cancelled(Exception):
    """The client wants no answer any more."""


class Server:
    """Answers one client until its input ends. ``root``: the folder that paths have to stay below."""

    def __init__(self, root: Path, *, write: bool, trust: bool, answers: TextIO) -> None:
        self._root = root.resolve()
        self._trust = trust
        self._tools = tools(write=write)
        self._answers = answers
        self._lock = threading.Lock()
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._threads: list[threading.Thread] = []

    def serve(self, messages: TextIO) -> None:
        """Reads messages until there are no more; what still runs then is ended."""
        for line in messages:
            if line.strip():
                self._take(line)
        with self._lock:
            left = list(self._running.values())
        for process in left:
            process.kill()
        for thread in self._threads:
            thread.join()

    def _take(self, line: str) -> None:
        try:
            message = json.loads(line, parse_constant=_no_number)
        except (ValueError, RecursionError):
            self._fail(None, _NO_JSON, "this is no JSON")
            return
        if not isinstance(message, dict) or not isinstance(message.get("method"), str) or not _has_identity(message):
            # an answer to a question that was never asked has no method
            if not (isinstance(message, dict) and ("result" in message or "error" in message)):
                self._fail(None, _NO_REQUEST, "a message is an object with a method")
            return
        parameters = message.get("params")
        given: Mapping[str, object] = parameters if isinstance(parameters, dict) else {}
        if "id" not in message:
            if message["method"] == "notifications/cancelled":
                self._cancel(given.get("requestId"))
            return
        self._answer(message["id"], message["method"], given)

    def _answer(self, identifier: object, method: str, given: Mapping[str, object]) -> None:
        match method:
            case "initialize":
                asked = given.get("protocolVersion")
                self._reply(
                    identifier,
                    {
                        "protocolVersion": asked if asked in VERSIONS else VERSIONS[0],
                        "capabilities": {"tools": {}},
                        "serverInfo": {"name": "coreproof", "version": __version__},
                        "instructions": _INSTRUCTIONS,
                    },
                )
            case "ping":
                self._reply(identifier, {})
            case "tools/list":
                self._reply(identifier, {"tools": [tool.listed() for tool in self._tools.values()]})
            case "tools/call":
                tool = self._tools.get(str(given.get("name")))
                arguments = given.get("arguments") or {}
                if tool is None or not isinstance(arguments, dict):
                    known = ", ".join(self._tools)
                    self._fail(identifier, _NO_PARAMETERS, f"there is no tool {given.get('name')!r}; there are {known}")
                    return
                # a client goes on asking while a model is verified
                thread = threading.Thread(target=self._call, args=(identifier, tool, arguments))
                self._threads = [t for t in self._threads if t.is_alive()] + [thread]
                thread.start()
            case _:
                self._fail(identifier, _NO_METHOD, f"there is no method {method!r}")

    def _call(self, identifier: object, tool: Tool, arguments: Mapping[str, object]) -> None:
        try:
            words = command_line(tool, arguments, self._root, trust=self._trust)
        except CoreproofError as error:
            self._reply(identifier, _result(str(error), None, 2))
            return
        try:
            said, errors, code = self._carried_out(json.dumps(identifier), words)
        except _Cancelled:
            return
        except Exception as error:  # whatever it is, who waits for an answer gets one
            said, errors, code = f"the call could not be carried out: {error}", None, 3
        self._reply(identifier, _result(said, errors, code))

    def _carried_out(self, key: str, words: list[str]) -> tuple[str, str | None, int]:
        """What the command says, its errors and its exit code. Raises _Cancelled."""
        # a process of its own: what a damaged file does to it, the server outlives
        process = subprocess.Popen(
            [sys.executable, "-m", "coreproof", *words],
            cwd=self._root,
            env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        with self._lock:
            self._running[key] = process
        said, errors = process.communicate()
        with self._lock:
            cancelled = self._running.pop(key, None) is None
        if cancelled:
            raise _Cancelled
        return said, errors, process.returncode

    def _cancel(self, identifier: object) -> None:
        with self._lock:
            process = self._running.pop(json.dumps(identifier), None)
        if process is not None:
            process.kill()

    def _reply(self, identifier: object, result: Mapping[str, object]) -> None:
        self._send({"jsonrpc": "2.0", "id": identifier, "result": result})

    def _fail(self, identifier: object, code: int, message: str) -> None:
        self._send({"jsonrpc": "2.0", "id": identifier, "error": {"code": code, "message": message}})

    def _send(self, message: Mapping[str, object]) -> None:
        text = json.dumps(message)
        # a client that has gone reads nothing more
        with self._lock, contextlib.suppress(BrokenPipeError):
            self._answers.write(text + "\n")
            self._answers.flush()


def _no_number(text: str) -> object:
    raise ValueError(f"{text} is no JSON")


def _has_identity(message: Mapping[str, object]) -> bool:
    """Whether it is of this protocol, and its id, if it has one, is a text or a number."""
    identifier = message.get("id", "")
    return (
        message.get("jsonrpc") == "2.0"
        and isinstance(identifier, str | int | float)
        and not isinstance(identifier, bool)
    )


def _result(said: str, errors: str | None, code: int) -> dict[str, object]:
    """A tool's answer: the words, the document where there is one, and the exit code. 1 is a finding, and no error."""
    structured: dict[str, object] = {"exit_code": code}
    try:
        document = json.loads(said)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict | list) and len(said) <= MOST:
        structured["document"] = document
    words = [_cut(part) for part in (said.rstrip(), (errors or "").rstrip()) if part]
    return {
        "content": [{"type": "text", "text": part} for part in words or [f"exit code {code}"]],
        "structuredContent": structured,
        "isError": code not in (0, 1),
    }


def _cut(text: str) -> str:
    """Whole lines of it, as many as fit."""
    if len(text) <= MOST:
        return text
    kept = text[:MOST].rpartition("\n")[0] or text[:MOST]
    left = text.count("\n") - kept.count("\n")
    return f"{kept}\n({left} more lines are left off; ask for less, by a layer, a pattern or a number of rows)"
