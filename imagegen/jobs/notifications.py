"""In-process notifications: wake the readers that wait for a change of a row (D-04).

The row is the source of truth; a notification only means "read again". Subscribe before you read, so that no change is
missed.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

ANY = "*"
"""The key that receives every notification."""


class Changes:
    """The set of keys notified since the last `take`."""

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
    """Wakes listeners by key. All calls must come from one event loop."""

    def __init__(self) -> None:
        self._listeners: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._collectors: set[Changes] = set()
        self.version = 0  # number of notifications; data read at another version may be stale

    def notify(self, key: str) -> None:
        self.version += 1
        for listened in {key, ANY}:
            for event in self._listeners.get(listened, ()):
                event.set()
        for heard in self._collectors:
            heard.add(key)

    @contextmanager
    def subscribe(self, key: str, event: asyncio.Event | None = None) -> Iterator[asyncio.Event]:
        """An event (`event`, or a new one) that each notification of `key` sets. Clear it before you read again."""
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
        """The keys of all notifications from now on. Call `take` before you read the rows."""
        heard = Changes()
        self._collectors.add(heard)
        try:
            yield heard
        finally:
            self._collectors.discard(heard)

    def notify_all(self) -> None:
        """Wake all listeners, for example when the service stops."""
        for events in self._listeners.values():
            for event in events:
                event.set()
        for heard in self._collectors:
            heard.event.set()
