"""Retries after hub errors, for listings and for downloads."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event
from typing import TypeVar

from imagegen.models.download.hub import HubError

log = logging.getLogger("imagegen.models")

T = TypeVar("T")

TRIES = 8
"""Give up after this many failed tries in a row. Takes two minutes if the hub names no wait."""
LONGEST_WAIT_S = 300.0
"""Longest wait between two tries: the hub's rate limit has windows of five minutes."""


class FetchError(Exception):
    """The files cannot be fetched. The message is a sentence without local paths.

    passing: the reason in a few words if a later try may succeed, else None.
    """

    def __init__(self, detail: str, passing: str | None = None) -> None:
        super().__init__(detail)
        self.passing = passing


class FetchStopped(Exception):
    """The caller stopped the download. Received bytes are kept for the next time."""


class RetryPolicy:
    """Waits between the tries of one download. Calls `on_wait(trouble, seconds)` before each wait."""

    def __init__(self, on_wait: Callable[[str, float], None], stop: Event, tries: int | None = None) -> None:
        """tries: give up after this many failures in a row; None: after TRIES."""
        self._on_wait, self._stop, self._tries, self._in_vain = on_wait, stop, tries or TRIES, 0

    def wait(self, trouble: HubError, moved: bool = False) -> None:
        """Sleep until a retry makes sense. moved: the last try received bytes.

        Raises `trouble` if no retry makes sense or after `tries` failures, FetchStopped.
        """
        self._in_vain = 0 if moved else self._in_vain + 1
        if trouble.retry_s is None or self._in_vain >= self._tries:
            raise trouble
        seconds = min(LONGEST_WAIT_S, max(trouble.retry_s, 2.0**self._in_vain / 2))
        log.info("%s The next try is in %.0f s.", trouble, seconds)
        self._on_wait(trouble.now, seconds)
        wait(seconds, self._stop)

    def ask(self, question: Callable[[], T]) -> T:
        """Call `question` with retries and return its result. Raises HubError, FetchStopped."""
        self._in_vain = 0
        while True:
            try:
                return question()
            except HubError as trouble:
                self.wait(trouble)


def wait(seconds: float, stop: Event) -> None:
    """Sleep until the time is over or `stop` is set. Raises FetchStopped."""
    if stop.wait(seconds):
        raise FetchStopped
