"""How long a hub in trouble is waited for: one loop of tries, for its listings and for its bytes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event
from typing import TypeVar

from imagegen.models.download.hub import HubError

log = logging.getLogger("imagegen.models")

T = TypeVar("T")

TRIES = 8
"""A hub that answers nothing of use this often in a row is given up: after two minutes, if it names no wait itself."""
LONGEST_WAIT_S = 300.0
"""The hub's rate limit counts in windows of five minutes: no longer is waited between two tries."""


class FetchError(Exception):
    """The files cannot be had: a sentence without paths of this machine.

    passing: why, in a few words, where another try later may succeed; else None.
    """

    def __init__(self, detail: str, passing: str | None = None) -> None:
        super().__init__(detail)
        self.passing = passing


class FetchStopped(Exception):
    """Somebody wanted the download to stop; what has come is kept for the next time."""


class RetryPolicy:
    """Waits between the tries of one download. `told(trouble, seconds)` hears of each wait before it."""

    def __init__(self, told: Callable[[str, float], None], stop: Event) -> None:
        self._told, self._stop, self._in_vain = told, stop, 0

    def wait(self, trouble: HubError, moved: bool = False) -> None:
        """Sleep until another try makes sense; `moved`: the last one brought something.

        Raises `trouble` where none does or after too many in vain, FetchStopped.
        """
        self._in_vain = 0 if moved else self._in_vain + 1
        if trouble.retry_s is None or self._in_vain >= TRIES:
            raise trouble
        seconds = min(LONGEST_WAIT_S, max(trouble.retry_s, 2.0**self._in_vain / 2))
        log.info("%s The next try is in %.0f s.", trouble, seconds)
        self._told(trouble.now, seconds)
        wait(seconds, self._stop)

    def ask(self, question: Callable[[], T]) -> T:
        """What `question` answers, asked as often as makes sense. Raises HubError, FetchStopped."""
        self._in_vain = 0
        while True:
            try:
                return question()
            except HubError as trouble:
                self.wait(trouble)


def wait(seconds: float, stop: Event) -> None:
    """Sleep, unless somebody wants it to stop. Raises FetchStopped."""
    if stop.wait(seconds):
        raise FetchStopped
