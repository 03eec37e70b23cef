"""What the package's metadata say that stands in no file: where its repository lives, which is the one that builds."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class Addresses(MetadataHookInterface):
    """The project's links, and the README with whole addresses; neither where it is built by hand."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Sets ``urls`` and ``readme`` from what GitHub Actions says of the repository that a workflow runs in."""
        server, repository = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_REPOSITORY")
        readme = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["urls"] = {}
        if server and repository:
            home = f"{server}/{repository}"
            readme = with_whole_addresses(readme, home, os.environ.get("GITHUB_REF_NAME", "main"))
            metadata["urls"] = {
                "Source": home,
                "Issues": f"{home}/issues",
                "Changelog": f"{home}/blob/main/CHANGELOG.md",
                "Security": f"{home}/security/policy",
            }
        metadata["readme"] = {"content-type": "text/markdown", "text": readme}


def with_whole_addresses(readme: str, home: str, at: str) -> str:
    """The README as it reads elsewhere: links to files of the repository as of the tag or branch ``at``, pictures themselves."""

    def whole(link: re.Match[str]) -> str:
        kind = "raw" if link["path"].endswith((".png", ".svg", ".gif")) else "blob"
        return f"]({home}/{kind}/{at}/{link['path']}"

    return re.sub(r"\]\((?P<path>(?![a-z]+:|#|/)[^)#\s]+)", whole, readme)
