"""Fetches a model's files into the page cache while something else is waited for: the GPU, or the engine's start."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from imagegen.jobs.manager import JobManager
from imagegen.schemas import Refused

if TYPE_CHECKING:
    from imagegen.worker.provider import EngineProvider  # which names ReadAhead

log = logging.getLogger("imagegen.readahead")

ASK_BYTES = 128 * 1024
"""Linux fetches no more than its own window (`read_ahead_kb`, 128 by default) for one POSIX_FADV_WILLNEED, and says
nothing of the rest."""
STEP_BYTES = 4 * 1024 * 1024
"""As often it is looked whether memory is free, and whether it is still wanted."""
RESERVE_BYTES = 1024**3
"""Memory left alone: the engine's own buffers and everybody else need some while the files come in."""

JOBS_AHEAD = 100
"""So far into the queue another model is looked for."""


class ReadAhead:
    """One thread that has files fetched, in order, no more than memory has room for. It begins at once.

    The kernel fetches what is not there yet and copies nothing, so files that are cached cost next to nothing; and it
    gives pages of the cache away before anything else. Therefore they count as available, read or not, and the bound
    is what was available at the beginning: more would push out what was fetched first. Where the kernel does not know
    POSIX_FADV_WILLNEED, nothing happens.
    """

    def __init__(self, paths: Sequence[Path], available_bytes: Callable[[], int]) -> None:
        self._paths, self._available_bytes = paths, available_bytes
        self._stopped = threading.Event()
        self._left_bytes = 0  # that may still be asked for
        self.from_storage_bytes = 0
        """What it had fetched, once it has ended; 0 where the kernel does not tell."""
        self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Nothing more is fetched after the running step."""
        self._stopped.set()

    def stop(self) -> None:
        """`end`, and wait for that step."""
        self.end()
        self._thread.join()

    def wait(self) -> None:
        """Return when everything is fetched, or memory is short."""
        self._thread.join()

    def _run(self) -> None:
        before = _read_by_this_thread()
        self._left_bytes = self._available_bytes() - RESERVE_BYTES
        for path in self._paths:
            try:
                with path.open("rb", buffering=0) as file:
                    self._fetch(file.fileno())
            except OSError as gone:  # the engine will say so in its own words
                log.debug("%s was not read ahead: %s", path.name, gone.strerror)
        self.from_storage_bytes = _read_by_this_thread() - before

    def _fetch(self, file: int) -> None:
        size = os.fstat(file).st_size
        for at in range(0, size, STEP_BYTES):
            if self._stopped.is_set() or self._left_bytes <= 0 or self._available_bytes() < RESERVE_BYTES:
                self._stopped.set()
                return
            end = min(at + STEP_BYTES, size, at + self._left_bytes)
            for piece in range(at, end, ASK_BYTES):
                os.posix_fadvise(file, piece, min(ASK_BYTES, end - piece), os.POSIX_FADV_WILLNEED)
            self._left_bytes -= end - at


class Prefetcher:
    """Reads ahead for the model that is due after the one that draws."""

    def __init__(self, jobs: JobManager, provider: EngineProvider) -> None:
        self._jobs, self._provider = jobs, provider
        self._model: str | None = None
        self._running: ReadAhead | None = None

    def look(self, drawing: str) -> None:
        """While `drawing` draws: read for the next job of another model; whoever else it was is given up."""
        waiting = islice(self._jobs.queued(), JOBS_AHEAD)
        model = next((one.model for one in waiting if one.model != drawing), None)
        if model != self._model:
            self.end()
            if model is not None:
                with suppress(Refused):  # a model that is no longer known: its job will say so
                    self._running = self._provider.read_ahead(self._provider.find_model(model))
            self._model = model

    def end(self) -> None:
        """Nothing draws any more."""
        if self._running is not None:
            self._running.end()
        self._model = self._running = None


def _read_by_this_thread() -> int:
    """Bytes that were fetched from storage on behalf of this thread (proc(5), /proc/PID/io)."""
    try:
        lines = Path("/proc/thread-self/io").read_text().splitlines()
        return next(int(line.partition(":")[2]) for line in lines if line.startswith("read_bytes:"))
    except (OSError, StopIteration, ValueError):
        return 0
