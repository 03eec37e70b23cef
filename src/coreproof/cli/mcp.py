"""``coreproof mcp``: the verbs as tools of coding agents, over the Model Context Protocol."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from coreproof.errors import InputError


def command(
    folder: Annotated[Path, typer.Argument(help="The folder whose files an agent may read.")] = Path(),
    allow_write: Annotated[
        bool,
        typer.Option("--allow-write", help="Offer the verbs that write, too: convert, prove, doctor's repairs, ..."),
    ] = False,
    trust: Annotated[
        bool,
        typer.Option(
            "--trust", help="Let an agent name Python code, pickles and addresses, which are run and fetched."
        ),
    ] = False,
) -> None:
    """Serve the verbs to coding agents (MCP over standard input and output): read-only, within one folder.

    An agent's settings name the command: {"command": "coreproof", "args": ["mcp", "path/to/project"]}.
    """
    from coreproof.cli.mcp_server import Server

    if not folder.is_dir():
        raise InputError("there is no such folder", where=str(folder))
    Server(folder, write=allow_write, trust=trust, answers=sys.stdout).serve(sys.stdin)
