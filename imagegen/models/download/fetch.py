"""Fetches a model's missing files from the hub: makes a plan, then downloads file by file."""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

from imagegen.models.download.file import Item, download
from imagegen.models.download.hub import Hub, HubError
from imagegen.models.download.plan import Plan, check_disk, plan
from imagegen.models.download.progress import Fetching, Tell
from imagegen.models.download.record import record
from imagegen.models.download.retry import FetchError, RetryPolicy, wait
from imagegen.models.weights import Weights
from imagegen.settings import Settings
from imagegen.storage import permissions

LOCK_LOOK_S = 0.5
LOCK = ".fetch.lock"
"""File in the models folder that a running download locks."""
OTHER_DOWNLOAD = "another download is running; this one waits for it"
MARK_EVERY_S, SPEED_OVER_S = 0.25, 20.0


def fetch(
    entry: Weights,
    settings: Settings,
    hub: Hub,
    tell: Tell,
    stop: Event,
    agree: Callable[[Plan], None] = lambda _plan: None,
) -> Plan:
    """Download the missing files of `entry`, including optional ones. Only one fetch runs per models folder.

    `agree` gets the plan before the download. It may raise FetchError or remove optional items.
    Raises FetchError with a sentence, FetchStopped.
    """
    retry_policy = RetryPolicy(lambda trouble, waits_s: tell(Fetching("", 0, 0, None, trouble, waits_s)), stop)
    try:
        permissions.make_folder(settings.models_dir)
        with _alone(settings.models_dir / LOCK, tell, stop):
            tell(Fetching("", 0, 0))
            todo = plan(entry, settings, hub, retry_policy)
            agree(todo)
            check_disk(todo.items)
            _Fetch(todo, hub, tell, stop).run()
            return todo
    except HubError as refused:
        raise FetchError(f"{entry.name} cannot be fetched. {refused}", refused.passing) from None
    except (FileExistsError, NotADirectoryError) as taken:
        name = Path(str(taken.filename)).name
        raise FetchError(
            f"{entry.name} cannot be fetched: {name} is to be a folder, and is a file. Move it away."
        ) from None
    except OSError as failure:
        raise FetchError(
            f"{entry.name} cannot be fetched: the disk of the models folder fails ({failure.strerror}). "
            "What has come is kept; make room or mend it, then try again."
        ) from None


class _Fetch:
    """Downloads the items one after the other and reports progress."""

    def __init__(self, todo: Plan, hub: Hub, tell: Tell, stop: Event) -> None:
        self._todo, self._hub, self._tell, self._stop = todo, hub, tell, stop
        self._done = self._came = 0  # bytes on the disk; bytes from the network since the start
        self._marks: deque[tuple[float, int]] = deque()  # (monotonic seconds, _came) of the last SPEED_OVER_S

    def run(self) -> None:
        for item in self._todo.items:

            def on_bytes(count: int, came: bool, item: Item = item) -> None:
                self._done += count
                self._came += count if came else 0
                self._say(item)

            def waits(trouble: str, waits_s: float, item: Item = item) -> None:
                self._marks.clear()
                self._tell(self._far(item, None, trouble, waits_s))

            try:
                digest = download(item, self._hub, on_bytes, RetryPolicy(waits, self._stop), self._stop)
            except (HubError, FetchError) as failed:
                if not item.optional:
                    raise
                self._todo.leave_out(failed)
            else:
                record(item, digest)

    def _say(self, item: Item) -> None:
        now = time.monotonic()
        if not self._marks or now - self._marks[-1][0] >= MARK_EVERY_S:
            self._marks.append((now, self._came))
        while now - self._marks[0][0] > SPEED_OVER_S:
            self._marks.popleft()
        since, before = self._marks[0]
        speed = (self._came - before) / (now - since) if now > since and self._came > before else None
        self._tell(self._far(item, speed))

    def _far(
        self, item: Item, speed: float | None, trouble: str | None = None, waits_s: float | None = None
    ) -> Fetching:
        return Fetching(item.target.name, self._done, self._todo.size_bytes, speed, trouble, waits_s)


@contextlib.contextmanager
def _alone(path: Path, tell: Tell, stop: Event) -> Iterator[None]:
    """Hold the lock. Reports through `tell` while waiting for it. The kernel releases it if its holder is killed."""
    with path.open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                tell(Fetching("", 0, 0, trouble=OTHER_DOWNLOAD))
                wait(LOCK_LOOK_S, stop)
        yield
