"""The notes of a release, from CHANGELOG.md: `python tools/release_notes.py 0.2.0`.

Exit code 1 with a sentence if pyproject.toml has another version, or CHANGELOG.md has no dated section of this one.
"""

from __future__ import annotations

import re
import sys

from versions import ROOT, version


def notes(changelog: str, wanted: str) -> str | None:
    """The section of a version, without its heading; None if there is none with a date."""
    heading = rf"(?m)^## \[{re.escape(wanted)}\] - \d{{4}}-\d{{2}}-\d{{2}}$"
    found = re.search(heading, changelog)
    if found is None:
        return None
    return re.split(r"(?m)^## ", changelog[found.end() :], maxsplit=1)[0].strip() + "\n"


def main(wanted: str) -> str | None:
    """Print the notes. Returns why there are none."""
    if wanted != version():
        return f"pyproject.toml has the version {version()}, not {wanted}."
    found = notes((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), wanted)
    if found is None:
        return f"CHANGELOG.md has no section ## [{wanted}] with a date."
    print(found, end="")
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
