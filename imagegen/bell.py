"""In-process wake-ups: who waits for a change of a row is woken when it is written (D-04).

The row is the truth; a ring only says "look again". Listen before you read, so that no change falls between.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

ANY = "*"
"""The key that every ring reaches."""


class Bell:
    """Wakes listeners by key. All calls from one event loop."""

    def __init__(self) -> None:
        self._listeners: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def ring(self, key: str) -> None:
        for listened in {key, ANY}:
            for event in self._listeners.get(listened, ()):
                event.set()

    @contextmanager
    def listen(self, key: str) -> Iterator[asyncio.Event]:
        """An event that is set at every ring of `key` from now on; clear it before you read again."""
        event = asyncio.Event()
        self._listeners[key].add(event)
        try:
            yield event
        finally:
            self._listeners[key].discard(event)
            if not self._listeners[key]:
                del self._listeners[key]

    def ring_all(self) -> None:
        """Wake everybody, whatever they wait for (the service is stopping)."""
        for events in self._listeners.values():
            for event in events:
                event.set()
