"""Builds the documentation site with Zensical, the successor of Material for MkDocs, by the same authors.

    python docs/hooks/build.py [FOLDER]

The pages are copied to build/site-source, where the command line's is filled in from the commands themselves: Zensical calls no
hooks. What mkdocs.yml says holds as it stands there. A warning is an error.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from command_line import MARK, reference

REPOSITORY = Path(__file__).resolve().parents[2]


def main() -> int:
    """Builds the site and gives Zensical's exit code."""
    site = Path(sys.argv[1] if len(sys.argv) > 1 else REPOSITORY / "build" / "site").resolve()
    shutil.rmtree(site, ignore_errors=True)
    # a folder of its own, so that two builds at once do not write into each other's pages
    with tempfile.TemporaryDirectory(prefix="coreproof-site-") as name:
        source = Path(name)
        shutil.copytree(REPOSITORY / "docs", source / "docs", ignore=shutil.ignore_patterns("hooks"))
        filled = 0
        for page in source.rglob("*.md"):
            text = page.read_text(encoding="utf-8")
            if MARK in text:
                page.write_text(text.replace(MARK, reference()), encoding="utf-8")
                filled += 1
        assert filled == 1, "one page has the mark of the command line"
        settings = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
        settings = settings.replace("site_dir: build/site", "site_dir: site")
        settings = settings.replace("paths: [src]", f"paths: [{REPOSITORY / 'src'}]")
        (source / "mkdocs.yml").write_text(settings, encoding="utf-8")
        built = subprocess.run(
            [sys.executable, "-m", "zensical", "build", "--strict"], cwd=source, capture_output=True, text=True, check=False
        )
        if built.returncode:
            sys.stderr.write(built.stdout + built.stderr)
            return built.returncode
        shutil.copytree(source / "site", site)
    return 0


if __name__ == "__main__":
    sys.exit(main())
