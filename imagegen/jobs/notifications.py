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


class Changes:
    """Which keys were rung since somebody last took them: each once, however often it rang."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self._keys: set[str] = set()

    def add(self, key: str) -> None:
        self._keys.add(key)
        self.event.set()

    def take(self) -> set[str]:
        self.event.clear()
        keys, self._keys = self._keys, set()
        return keys


class Notifier:
    """Wakes listeners by key. All calls from one event loop."""

    def __init__(self) -> None:
        self._listeners: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._collectors: set[Changes] = set()
        self.version = 0  # so far: what was read at another count may be old

    def notify(self, key: str) -> None:
        self.version += 1
        for listened in {key, ANY}:
            for event in self._listeners.get(listened, ()):
                event.set()
        for heard in self._collectors:
            heard.add(key)

    @contextmanager
    def subscribe(self, key: str, event: asyncio.Event | None = None) -> Iterator[asyncio.Event]:
        """An event (`event`, or a new one) that is set at every ring of `key` from now on; clear it before you read
        again."""
        event = event or asyncio.Event()
        self._listeners[key].add(event)
        try:
            yield event
        finally:
            self._listeners[key].discard(event)
            if not self._listeners[key]:
                del self._listeners[key]

    @contextmanager
    def subscribe_all(self) -> Iterator[Changes]:
        """Every ring from now on, by key; take the keys before you read what they stand for."""
        heard = Changes()
        self._collectors.add(heard)
        try:
            yield heard
        finally:
            self._collectors.discard(heard)

    def notify_all(self) -> None:
        """Wake everybody, whatever they wait for (the service is stopping)."""
        for events in self._listeners.values():
            for event in events:
                event.set()
        for heard in self._collectors:
            heard.event.set()
