"""LoadWatch: reports the progress of a load, which the libraries do not report."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import psutil
import torch

from imagegen.engines.glm.server import lines

LOOK_EVERY_S = 0.5


class LoadWatch:
    """Reports the bytes loaded: the file sizes of the finished parts, and the growth of memory for the current part.

    A context manager around the load. Parts are loaded in the order of `parts`, each a folder in `folder`; call
    `finished` after each.
    """

    def __init__(self, folder: Path, parts: list[str], say: Callable[[str], None]) -> None:
        self._sizes = {part: sum(f.stat().st_size for f in (folder / part).rglob("*.safetensors")) for part in parts}
        self.total_bytes = max(1, sum(self._sizes.values()))
        self._say, self._process = say, psutil.Process()
        self._lock, self._left = threading.Lock(), threading.Event()
        self._waiting = list(parts)
        self._done_bytes, self._before_bytes, self._told_bytes = 0, self._memory_bytes(), -1
        self._thread = threading.Thread(target=self._look, name="load-watch", daemon=True)

    def __enter__(self) -> LoadWatch:
        self._tell()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._left.set()
        self._thread.join()

    def finished(self, part: str) -> None:
        """Record that `part` is loaded."""
        with self._lock:
            self._waiting.remove(part)
            self._done_bytes += self._sizes[part]
            self._before_bytes = self._memory_bytes()
        self._tell()

    def _look(self) -> None:
        while not self._left.wait(LOOK_EVERY_S):
            self._tell()

    def _tell(self) -> None:
        with self._lock:
            at_work = self._sizes[self._waiting[0]] if self._waiting else 0
            grown = min(at_work, max(0, self._memory_bytes() - self._before_bytes))
            done = min(self.total_bytes, self._done_bytes + grown)
            if done > self._told_bytes:  # no report without progress: the service detects a stall by silence
                self._told_bytes = done
                self._say(lines.loading(done, self.total_bytes))

    def _memory_bytes(self) -> int:
        on_card = torch.cuda.memory_allocated() if torch.cuda.is_available() else 0
        return int(self._process.memory_info().rss) + on_card
