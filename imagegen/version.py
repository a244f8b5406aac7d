"""What runs: the version, and the commit of the repository that it was built from."""

from __future__ import annotations

import subprocess
from pathlib import Path

UNKNOWN = "unknown"
PACKAGE = Path(__file__).parent
BAKED = PACKAGE / "commit.txt"
"""Written by setup.py into wheels and source archives."""


def commit() -> str:
    """The commit: that of the build, else that of the checkout in which this package lies, else `unknown`."""
    try:
        return BAKED.read_text(encoding="ascii").strip()
    except OSError:
        return commit_of(PACKAGE.parent)


def commit_of(root: Path) -> str:
    """The commit of a checkout, with `-dirty` for uncommitted changes; `unknown` for another folder."""
    if not (root / ".git").exists():  # a folder of packages may lie in the checkout of another project
        return UNKNOWN
    try:
        done = subprocess.run(
            ["git", "-C", root, "describe", "--always", "--dirty", "--exclude=*", "--abbrev=40"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
    except OSError:
        return UNKNOWN
    return done.stdout.strip() or UNKNOWN
