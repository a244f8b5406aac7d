"""The version, from one place: `project.version` of pyproject.toml. `generate_docs.py` writes it into the others."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
_PROJECT = r'(?m)^(version = ")[^"]+'
_MODULE = r'(?m)^(__version__ = ")[^"]+'
_JSON = r'("version": ")[^"]+'
PLACES = {
    "imagegen_client/pyproject.toml": _PROJECT,
    "imagegen_client/__init__.py": _MODULE,
    "mcp_front/pyproject.toml": _PROJECT,
    "mcp_front/__init__.py": _MODULE,
    "mcp_front/server.json": _JSON,
    "mcp_front/bundle/manifest.json": _JSON,
    "plugin/.claude-plugin/plugin.json": _JSON,
}
"""Files with the version, and what precedes it there."""


def version(root: Path = ROOT) -> str:
    """The version of service, client, front, bundle and plugin."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


def stale(root: Path = ROOT) -> Iterable[tuple[Path, str]]:
    """The files with another version, and their new content. Raises ValueError for a file that has none."""
    current = version(root)
    for name, pattern in PLACES.items():
        file = root / name
        text = file.read_text(encoding="utf-8")
        fresh, count = re.subn(pattern, rf"\g<1>{current}", text)
        if not count:
            raise ValueError(f"{file} has no version")
        if fresh != text:
            yield file, fresh
