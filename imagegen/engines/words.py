"""The engine's last output, in the form that error messages quote: without folders of this machine."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

KEPT_LINES = 200
LAST_WORDS_LINES = 5
LAST_WORDS_CHARS = 600

_QUOTED_PATH = re.compile(r"'/[^']*/([^'/]*)'")
_BARE_PATH = re.compile(r"(?<![\w.:/])/(?:[^\s/'\":,;()]+/)+([^\s/'\":,;()]*)")


class Words:
    """The last lines of one engine process. readable: removes the parts of a line that are for the engine's developers.

    A complaint is a warning or an error.
    """

    def __init__(self, readable: Callable[[str], str]) -> None:
        self._readable = readable
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._complaints: deque[str] = deque(maxlen=KEPT_LINES)
        self._folders: set[str] = set()

    def begin(self, argv: Iterable[str]) -> None:
        """Reset for a process with these arguments, and note the folders of the files among them: they may contain
        spaces, which the patterns above do not match."""
        self._lines.clear()
        self._complaints.clear()
        self._folders = {f"{Path(word).parent}/" for word in argv if word.startswith("/")}

    def forgive(self) -> None:
        """Drop the complaints of earlier pictures; called when a picture begins."""
        self._complaints.clear()

    def add(self, line: str) -> None:
        self._lines.append(line)

    def complain(self, line: str) -> None:
        self._complaints.append(line)

    @property
    def complaints(self) -> str:
        return "\n".join(self._complaints)

    def last(self) -> str:
        """The complaints, or else the last lines; paths are reduced to the file's name."""
        lines = list(self._complaints) or list(self._lines)
        if len(lines) > LAST_WORDS_LINES:  # the first complaint is the cause, the last ones are consequences
            lines = [lines[0], "…", *lines[1 - LAST_WORDS_LINES :]]
        return self.without_folders(" · ".join(self._readable(line) for line in lines))[:LAST_WORDS_CHARS]

    def without_folders(self, words: str) -> str:
        """`words` with each path reduced to the file's name."""
        for folder in self._folders:
            words = words.replace(folder, "")
        return _BARE_PATH.sub(r"\1", _QUOTED_PATH.sub(r"'\1'", words))

    def as_suffix(self) -> str:
        """The last words as a sentence to append to another; empty if there are none."""
        words = self.last()
        return f" Its last words: {words}" if words else ""
