"""`fetched.json` in the models' folders: the origin of each file."""

from __future__ import annotations

import json
from pathlib import Path

from imagegen.models.download.file import Item

RECORD = "fetched.json"


def record(item: Item, digest: str) -> None:
    """Record the origin of a file in `fetched.json` of its folder, by file name. digest: what `download` returned."""
    path = item.target.parent / RECORD
    known = recorded(item.target.parent)
    known[item.target.name] = {
        "repo": item.repo,
        "path": item.path,
        "commit": item.commit,
        "size_bytes": item.size_bytes,
        "sha256": item.sha256,
        "git_sha1": None if item.sha256 else digest,
    }
    _write(path, known)


def forget(path: Path) -> None:
    """Remove the record of the file at `path`, which was deleted."""
    known = recorded(path.parent)
    if known.pop(path.name, None) is not None:
        _write(path.with_name(RECORD), known)


def _write(path: Path, known: dict[str, dict[str, object]]) -> None:
    written = path.with_name(f".{RECORD}.part")
    written.write_text(json.dumps(known, indent=2) + "\n")
    written.replace(path)


def recorded(folder: Path) -> dict[str, dict[str, object]]:
    """The records of the files in `folder`."""
    try:
        known = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
