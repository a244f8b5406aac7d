"""Resolve a path or a file: URL as an agent writes it. The name on the disk may be spelled differently.

macOS writes a narrow no-break space (U+202F) into the names of screenshots and decomposed letters (NFD) into
other names. An agent writes plain spaces and composed letters, quotes or a shell's backslashes. Other spellings are
tried only if the exact path does not exist.
"""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

_QUOTES = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"'})
_QUOTED = re.compile(r"""\s*(["'`])(.*)\1\s*""", re.DOTALL)
_NAMED_MAX = 5


class BadReference(Exception):
    """A reference that cannot be used. The message is a sentence for a person."""


def local_path(reference: str) -> Path:
    """The path of an existing file, or the path as written if no file matches it.

    Raises BadReference for other URLs, for text that cannot be a path, and if several files match.
    """
    written = _as_written(reference)
    try:
        if os.path.lexists(written):
            return written
        unquoted = _QUOTED.fullmatch(reference.translate(_QUOTES))
        wanted = _as_written(unquoted[2]) if unquoted else written
        return _on_disk(wanted) or wanted
    except OSError:  # a parent folder may not be readable: opening the file reports it
        return written


def _as_written(reference: str) -> Path:
    if reference.startswith("data:"):
        raise BadReference("A data URL cannot be passed here. Save the picture to a file and pass its path.")
    try:
        address = urlsplit(reference)
    except ValueError:
        raise BadReference(f"{reference[:200]!r} is not an address. Pass the path of the file.") from None
    scheme = address.scheme.lower()
    if len(scheme) > 1 and scheme != "file":  # one letter is a Windows drive
        raise BadReference(
            f"{reference[:200]!r} is not a picture of this service, and other addresses are not fetched. "
            "Download the picture and pass the path of the file."
        )
    if scheme == "file" and address.netloc.lower() not in {"", "localhost"}:
        raise BadReference(f"{reference[:200]!r} is on another machine. Copy the file here and pass its path.")
    path = url2pathname(address.path) if scheme == "file" else reference  # decodes %20, once
    if "\0" in path:
        raise BadReference("A path cannot contain a NUL character.")
    try:
        os.fsencode(path)
        return Path(path).expanduser().absolute()
    except UnicodeEncodeError:  # half of a surrogate pair
        raise BadReference("A path cannot contain characters that no file name can have.") from None
    except RuntimeError:
        raise BadReference(f"{path[:200]!r} begins with an unknown user's folder. Pass the full path.") from None


def _on_disk(wanted: Path) -> Path | None:
    """The existing path whose parts equal those of `wanted` or differ only in spelling. None if no path does."""
    found = Path(wanted.anchor)
    for part in wanted.parts[1:]:
        if os.path.lexists(found / part):
            found /= part
            continue
        if not found.is_dir():
            return None
        spellings = {_spelling(part), _unescaped(part)}
        alike = sorted(entry.name for entry in found.iterdir() if _spelling(entry.name) in spellings)
        if not alike:
            return None
        if len(alike) > 1:
            names = ", ".join(ascii(name) for name in alike[:_NAMED_MAX])
            raise BadReference(
                f"There is no file {found / part}, and {len(alike)} names in that folder are written nearly the "
                f"same: {names}. Pass one of them exactly."
            )
        found /= alike[0]
    return found


def _spelling(name: str) -> str:
    """The name with composed letters, plain spaces and plain quotes."""
    spaced = "".join(" " if unicodedata.category(letter) == "Zs" else letter for letter in name)
    return unicodedata.normalize("NFC", spaced).translate(_QUOTES)


def _unescaped(name: str) -> str:
    """The spelling of the name without a shell's backslashes."""
    return _spelling(re.sub(r"\\(.)", r"\1", name))
