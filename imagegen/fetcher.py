"""Fetcher: the service's own downloads. Each runs in a thread; jobs that need its files wait for it and hear of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event
from typing import Literal

from imagegen.adapters.base import EngineError
from imagegen.models.entry import Entry
from imagegen.models.fetch import FetchError, Fetching, FetchStopped, fetch
from imagegen.models.hub import Hub
from imagegen.settings import Settings

log = logging.getLogger("imagegen.fetch")

TELL_EVERY_S, LOG_EVERY_S = 0.25, 30.0
Policy = Literal["auto", "on", "off"]


def may_fetch(entry: Entry, policy: Policy, is_default: bool, has_gpu: bool) -> bool:
    """Whether the service fetches `entry` by itself: `auto` only the default model where there is a GPU.

    Never a model whose licence a person has to read first, or one that no hub has.
    """
    if policy == "off" or (policy == "auto" and not (is_default and has_gpu)):
        return False
    on_hub = all(file.repo is not None for file in entry.files if not file.optional)
    return on_hub and entry.licence.commercial is True


@dataclass
class _Download:
    """One that runs: who listens, and whether it goes on without listeners."""

    task: asyncio.Task[None]
    stop: Event
    kept: bool = False
    listeners: list[Callable[[Fetching], None]] = field(default_factory=list)
    latest: Fetching | None = None
    logged_at: float = 0.0

    def hear(self, name: str, now: Fetching) -> None:
        self.latest = now
        for listener in self.listeners:
            listener(now)
        if time.monotonic() - self.logged_at >= LOG_EVERY_S:
            self.logged_at = time.monotonic()
            log.info("fetching model=%s done=%d total=%d: %s", name, now.done_bytes, now.total_bytes, now)


class Fetcher:
    """Fetches models for the service. Called from the event loop's thread only."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._running: dict[str, _Download] = {}  # by model

    def begin(self, entry: Entry) -> None:
        """Fetch `entry`, whether a job waits for it or not, until it is there or the service stops."""
        self._start(entry).kept = True

    async def have(self, entry: Entry, told: Callable[[Fetching], None]) -> None:
        """Wait until `entry` is fetched; given up by its last listener, a download that nobody began stops.

        Raises EngineError `fetch_failed`.
        """
        while (running := self._running.get(entry.name)) is not None and running.stop.is_set():
            await asyncio.wait([running.task])  # an earlier one that was given up
        running = running or self._start(entry)
        running.listeners.append(told)
        if running.latest is not None:
            told(running.latest)
        try:
            await asyncio.shield(running.task)
        except FetchError as failed:
            raise EngineError("fetch_failed", str(failed)) from None
        finally:
            running.listeners.remove(told)
            if not running.listeners and not running.kept:
                running.stop.set()

    def begin_stop(self) -> None:
        """End all downloads; what has come is kept, and the next start goes on with it."""
        for running in self._running.values():
            running.stop.set()

    async def stop(self) -> None:
        """`begin_stop`, then wait until they have ended."""
        self.begin_stop()
        await asyncio.gather(*(running.task for running in self._running.values()), return_exceptions=True)

    def _start(self, entry: Entry) -> _Download:
        stop = Event()
        running = _Download(asyncio.create_task(self._fetch(entry, stop), name=f"fetch {entry.name}"), stop)
        self._running[entry.name] = running
        running.task.add_done_callback(lambda task: self._ended(entry.name, task))
        return running

    async def _fetch(self, entry: Entry, stop: Event) -> None:
        latest: list[Fetching] = []  # at most one: the thread writes, the loop looks

        def tell(now: Fetching) -> None:
            latest[:] = [now]

        work = asyncio.create_task(asyncio.to_thread(lambda: fetch(entry, self._settings, Hub(), tell, stop)))
        while not work.done():
            await asyncio.wait([work], timeout=TELL_EVERY_S)
            for now in latest:
                self._running[entry.name].hear(entry.name, now)
        todo = work.result()
        for remark in todo.remarks:
            log.warning("model %s: %s", entry.name, remark)

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        del self._running[name]
        failure = None if task.cancelled() else task.exception()
        if failure is None:
            log.info("fetched model=%s", name)
        elif isinstance(failure, FetchStopped):
            log.info("the download of %s was stopped; what has come is kept", name)
        else:
            log.error("model %s was not fetched: %s", name, failure)
