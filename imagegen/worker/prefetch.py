"""Reads a model's files into the page cache during another wait: for the GPU, or for the engine's start."""

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
    from imagegen.worker.provider import EngineProvider  # it imports ReadAhead: a cycle

log = logging.getLogger("imagegen.readahead")

ASK_BYTES = 128 * 1024
"""Bytes per POSIX_FADV_WILLNEED: Linux reads at most its window (`read_ahead_kb`, 128 by default), without an error."""
STEP_BYTES = 4 * 1024 * 1024
"""Check free memory, and whether to stop, once per this many bytes."""
RESERVE_BYTES = 1024**3
"""Memory to leave free for the engine's buffers and other processes."""

JOBS_AHEAD = 100
"""How many queued jobs to scan for the next model."""


class ReadAhead:
    """A thread that reads `paths` into the page cache, in order, as far as memory allows. Starts at once.

    The kernel reads only uncached pages and copies nothing, so cached files cost almost no time. Available memory
    includes the page cache, so it does not shrink as files are read. The bound is therefore the memory available at
    the start: reading more would evict the files read first. Does nothing if the kernel lacks POSIX_FADV_WILLNEED.
    """

    def __init__(self, paths: Sequence[Path], available_bytes: Callable[[], int]) -> None:
        self._paths, self._available_bytes = paths, available_bytes
        self._stopped = threading.Event()
        self._left_bytes = 0  # still allowed to read
        self.from_storage_bytes = 0
        """Bytes read from storage, set at the thread's end; 0 if the kernel does not report it."""
        self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop after the current step; does not wait."""
        self._stopped.set()

    def stop(self) -> None:
        """Stop after the current step, and wait for the thread."""
        self.end()
        self._thread.join()

    def wait(self) -> None:
        """Wait until all files are read or memory is short."""
        self._thread.join()

    def _run(self) -> None:
        before = _read_by_this_thread()
        self._left_bytes = self._available_bytes() - RESERVE_BYTES
        for path in self._paths:
            try:
                with path.open("rb", buffering=0) as file:
                    self._fetch(file.fileno())
            except OSError as gone:  # the engine's load reports the error
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
    """Reads ahead for the next model in the queue while another one draws."""

    def __init__(self, jobs: JobManager, provider: EngineProvider) -> None:
        self._jobs, self._provider = jobs, provider
        self._model: str | None = None
        self._running: ReadAhead | None = None

    def look(self, drawing: str) -> None:
        """While the model `drawing` draws: read ahead for the next queued job of another model.

        Ends the read-ahead of any other model.
        """
        waiting = islice(self._jobs.queued(), JOBS_AHEAD)
        model = next((one.model for one in waiting if one.model != drawing), None)
        if model != self._model:
            self.end()
            if model is not None:
                with suppress(Refused):  # the model left the catalog: its job reports that
                    self._running = self._provider.read_ahead(self._provider.find_model(model))
            self._model = model

    def end(self) -> None:
        """End the current read-ahead."""
        if self._running is not None:
            self._running.end()
        self._model = self._running = None


def _read_by_this_thread() -> int:
    """Bytes that this thread has read from storage (`read_bytes` in proc(5), /proc/PID/io); 0 if unknown."""
    try:
        lines = Path("/proc/thread-self/io").read_text().splitlines()
        return next(int(line.partition(":")[2]) for line in lines if line.startswith("read_bytes:"))
    except (OSError, StopIteration, ValueError):
        return 0
