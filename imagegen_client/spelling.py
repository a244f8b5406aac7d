"""Find a file whose name is spelled differently on the disk.

macOS writes a narrow no-break space (U+202F) into the names of screenshots and decomposed letters (NFD) into other
names. People and agents type plain spaces and composed letters, or paste a path with quotes or a shell's backslashes.
Other spellings are tried only if the exact path does not exist.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

QUOTES = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"'})
QUOTED = re.compile(r"""\s*(["'`])(.*)\1\s*""", re.DOTALL)
NAMED_MAX = 5


class Ambiguous(Exception):
    """Several files match. The message is a sentence that names them."""


def expanded(text: str) -> Path:
    """The path, with ~ expanded if its user is known."""
    path = Path(text)
    try:
        return path.expanduser()
    except RuntimeError:  # ~ with an unknown user
        return path


def existing(written: str, to_path: Callable[[str], Path] = expanded) -> Path:
    """The path as written if it exists, else an existing path that differs only by kind of space, quoting, backslashes
    or normalisation. If there is none, the path as written. `to_path` makes a path of text.

    Raises Ambiguous, OSError, and what `to_path` raises.
    """
    exact = to_path(written)
    if os.path.lexists(exact):
        return exact
    unquoted = QUOTED.fullmatch(written.translate(QUOTES))
    wanted = to_path(unquoted[2]) if unquoted else exact
    return _on_disk(wanted) or wanted


def _on_disk(wanted: Path) -> Path | None:
    """The existing path whose parts equal those of `wanted` or differ only in spelling. None if no path does."""
    found = Path(wanted.anchor)
    for part in wanted.parts[1:] if wanted.anchor else wanted.parts:
        if os.path.lexists(found / part):
            found /= part
            continue
        if not found.is_dir():
            return None
        spellings = {_spelling(part), _spelling(re.sub(r"\\(.)", r"\1", part))}
        alike = sorted(entry.name for entry in found.iterdir() if _spelling(entry.name) in spellings)
        if not alike:
            return None
        if len(alike) > 1:
            names = ", ".join(ascii(name) for name in alike[:NAMED_MAX])
            raise Ambiguous(
                f"There is no file {str(found / part)!r}, and {len(alike)} names in that folder are written nearly the "
                f"same: {names}. Pass one of them exactly."
            )
        found /= alike[0]
    return found


def _spelling(name: str) -> str:
    """The name with composed letters, plain spaces and plain quotes."""
    spaced = "".join(" " if unicodedata.category(letter) == "Zs" else letter for letter in name)
    return unicodedata.normalize("NFC", spaced).translate(QUOTES)
