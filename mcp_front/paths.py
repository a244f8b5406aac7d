"""Resolve a path or a file: URL as an agent writes it. The name on the disk may be spelled differently."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from imagegen_client import spelling


class BadReference(Exception):
    """A reference that cannot be used. The message is a sentence for a person."""


def local_path(reference: str) -> Path:
    """The path of an existing file, or the path as written if no file matches it.

    Raises BadReference for other URLs, for text that cannot be a path, and if several files match.
    """
    try:
        return spelling.existing(reference, _as_written)
    except spelling.Ambiguous as several:
        raise BadReference(str(several)) from None
    except OSError:  # a parent folder may not be readable: opening the file reports it
        return _as_written(reference)


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
