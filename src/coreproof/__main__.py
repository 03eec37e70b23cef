"""``python -m coreproof`` is the same as ``coreproof``."""

from coreproof.cli.main import main

main()
