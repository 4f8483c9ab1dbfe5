"""What ``pyproject.toml`` cannot say: what the extra ``sim`` installs, and how README looks on a package index."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

COMPANIONS = ("sim", "spec")
PICTURE = re.compile(r"^!\[[^]]*\]\((?!https?://)[^)]*\)\n\n?", re.MULTILINE)
LINK = re.compile(r"\[([^]]*)\]\((?!https?://|#)[^)]*\)")


class Extra(BuildHookInterface[Any]):
    """Lets ``[sim]`` work in a clone, without an index that has the companions (spec/decisions/0007)."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds what the extra requires; an editable install also gets the companions' entry points."""
        folders = [Path(self.root, name) for name in COMPANIONS]
        in_a_clone = all((folder / "pyproject.toml").is_file() for folder in folders)
        if self.target_name == "sdist" or not in_a_clone:
            needed = [f"kashvi-{name}=={self.metadata.version}" for name in COMPANIONS]
        elif version == "editable":  # ``dev-mode-dirs`` makes both importable, where they are edited
            needed = []
            for folder in folders:
                project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
                needed += [one for one in project["dependencies"] if not one.startswith("kashvi")]
                for group, points in project["entry-points"].items():
                    self.metadata.core.entry_points.setdefault(group, {}).update(points)
        else:
            needed = [f"kashvi-{folder.name} @ {folder.as_uri()}" for folder in folders]
        build_data["dependencies"] += [f"{one} ; extra == 'sim'" for one in needed]


class Readme(MetadataHookInterface):
    """Leaves out what only a clone can show."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Pictures in the repository go, and a link into it becomes its text."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": LINK.sub(r"\1", PICTURE.sub("", text))}
