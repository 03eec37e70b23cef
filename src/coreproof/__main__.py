"""``python -m coreproof`` and the ``coreproof`` script. Ctrl-C is answered from here on, while the rest is being imported."""

from __future__ import annotations

from coreproof.cli import interrupt


def main() -> None:
    """Runs the command line; see ``coreproof.cli.main`` for the exit codes."""
    interrupt.at_start()
    from coreproof.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
