"""Fetches a model's files from the hub: what is missing is planned, the disk measured, then file by file it comes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from threading import Event

from imagegen.models.download.file import Item, download
from imagegen.models.download.hub import Hub, HubError, HubFile, Listing
from imagegen.models.download.retry import FetchError, FetchStopped, RetryPolicy, wait
from imagegen.models.entry import Entry, ModelFile
from imagegen.settings import Settings
from imagegen.storage import permissions

SPARE_BYTES = 64 * 1024 * 1024
"""Left free beside the files, for the queue and its pictures."""
LOCK_LOOK_S = 0.5
OTHER_DOWNLOAD = "another download is running; this one waits for it"
WITHOUT = "The model works without it."
MARK_EVERY_S, SPEED_OVER_S, SILENCE_TOLD_S = 0.25, 20.0, 3.0
RECORD = "fetched.json"
SHOWN = 20


def _duration(seconds: float) -> str:
    """Seconds below two minutes, minutes below two hours, then hours: `35 min`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


@dataclass(frozen=True)
class Fetching:
    """How far a fetch was at `at` (monotonic seconds): bytes of all files together.

    trouble: why nothing comes now, in a few words; waits_s: seconds to the next try then, if known; silent_s: for so
    long nothing has come.
    """

    file: str
    done_bytes: int
    total_bytes: int
    bytes_per_s: float | None = None
    trouble: str | None = None
    waits_s: float | None = None
    silent_s: float = 0.0
    at: float = field(default_factory=time.monotonic, compare=False)

    def seen(self, now: float) -> Fetching:
        """What is true of it at `now`: a wait has grown shorter, and a speed is none any more once nothing comes."""
        age_s = max(0.0, now - self.at)
        if self.trouble is not None:
            return replace(self, waits_s=None if self.waits_s is None else max(0.0, self.waits_s - age_s))
        return self if age_s < SILENCE_TOLD_S else replace(self, bytes_per_s=None, silent_s=age_s)

    @property
    def left_s(self) -> float | None:
        """Seconds until all is there; None where nothing comes, or nothing is left but to look at it."""
        left = self.total_bytes - self.done_bytes
        return left / self.bytes_per_s if self.bytes_per_s and left > 0 else None

    @property
    def fraction(self) -> float | None:
        return self.done_bytes / self.total_bytes if self.total_bytes else None

    @property
    def words(self) -> str:
        """All of it, the time that is left too."""
        left_s = self.left_s
        return f"{self}, about {_duration(left_s)} left" if left_s is not None and left_s >= 1 else str(self)

    def __str__(self) -> str:
        far = f"{self.file}: {size(self.done_bytes)} of {size(self.total_bytes)}" if self.total_bytes else ""
        if self.trouble is not None:
            then = "" if self.waits_s is None else f"; the next try is in {self.waits_s:.0f} s"
            then = "; it is tried again now" if self.waits_s == 0 else then
            return f"{far}{', and ' if far else ''}{self.trouble}{then}"
        if not self.total_bytes:
            return "asking the hub what there is"
        if self.silent_s:
            return f"{far}, nothing has come for {self.silent_s:.0f} s"
        return far + (f", {size(self.bytes_per_s)}/s" if self.bytes_per_s else "")


Tell = Callable[[Fetching], None]
"""Hears of every piece that came: it must be quick."""


def size(count_bytes: float) -> str:
    """Bytes as a person reads them."""
    return f"{count_bytes / 1e9:.2f} GB" if count_bytes >= 1e9 else f"{count_bytes / 1e6:.1f} MB"


@dataclass
class Plan:
    """What is to be fetched, and what a person should know about it."""

    items: list[Item] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    licences: dict[str, str] = field(default_factory=dict)  # by repository, as its page states
    again: str | None = None  # an optional file was left out for this trouble, which may pass

    @property
    def size_bytes(self) -> int:
        return sum(item.size_bytes for item in self.items)

    def leave_out(self, failed: HubError | FetchError) -> None:
        """An optional file cannot be had: the others are no worse for it."""
        self.remarks.append(f"{failed} {WITHOUT}")
        self.again = failed.passing or self.again


def fetch(
    entry: Entry,
    settings: Settings,
    hub: Hub,
    tell: Tell,
    stop: Event,
    agree: Callable[[Plan], None] = lambda _plan: None,
) -> Plan:
    """Bring what `entry` lacks, optional files too; one fetch of a state folder at a time, the others wait.

    `agree` sees what is to come before a byte of it does, and may raise FetchError or take optional items out.
    Raises FetchError with a sentence, FetchStopped.
    """
    retry_policy = RetryPolicy(lambda trouble, waits_s: tell(Fetching("", 0, 0, None, trouble, waits_s)), stop)
    try:
        permissions.make_folder(settings.models_dir)
        with _alone(settings.models_dir / ".fetch.lock", tell, stop):
            tell(Fetching("", 0, 0))
            todo = plan(entry, settings, hub, retry_policy)
            agree(todo)
            _check_disk(todo.items)
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


# ---- what is to be fetched --------------------------------------------------------------------


def plan(entry: Entry, settings: Settings, hub: Hub, retry_policy: RetryPolicy) -> Plan:
    """Look up every file that is missing, the optional ones last. Raises HubError, FetchError, FetchStopped."""
    found = Plan()
    listings: dict[str, Listing] = {}
    for file in sorted(entry.files, key=lambda one: one.optional):
        if entry.path_of(file, settings).is_file() and file.role != "repository":
            continue
        if file.repo is None:
            if not file.optional:
                raise FetchError(f"{entry.name}: no hub has {file.file}: put it into its place by hand.")
            continue
        try:
            _add(found, file, _listed(file.repo, listings, hub, retry_policy), entry.path_of(file, settings).parent)
        except (HubError, FetchError) as failed:
            if not file.optional:
                raise
            found.leave_out(failed)
    found.licences = {repo: listing.licence for repo, listing in listings.items() if listing.licence}
    return found


def _listed(repo: str, listings: dict[str, Listing], hub: Hub, retry_policy: RetryPolicy) -> Listing:
    if repo not in listings:
        listings[repo] = retry_policy.ask(lambda: hub.listing(repo))
    return listings[repo]


def _add(found: Plan, file: ModelFile, listing: Listing, folder: Path) -> None:
    for one in _matches(file, listing, found.remarks):
        item = _item(file, one, listing, folder)
        if not item.target.is_file():
            found.items.append(item)


def _matches(file: ModelFile, listing: Listing, remarks: list[str]) -> list[HubFile]:
    """The files of the repository that `file` names: one, or all of a whole repository."""
    wanted = file.path or file.file
    hits = sorted((f for f in listing.files if f.path == wanted or fnmatchcase(f.path, wanted)), key=lambda f: f.path)
    if file.role == "repository":  # the file that tells that all is there comes last
        return sorted(hits, key=lambda f: f.path == file.file)
    if not hits:
        names = sorted(f.path for f in listing.files)
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        sentence = f"{listing.repo} has no {wanted}. It has: {', '.join(names[:SHOWN]) or 'no files'}{more}."
        raise FetchError(sentence)
    if len(hits) > 1:
        others = ", ".join(f.path for f in hits[1:])
        remarks.append(f"{wanted} of {listing.repo}: {hits[0].path} is taken; it fits {others} too.")
    return hits[:1]


def _item(file: ModelFile, one: HubFile, listing: Listing, folder: Path) -> Item:
    inside = PurePosixPath(one.path)
    if inside.is_absolute() or ".." in inside.parts or not one.path.isprintable():
        raise FetchError(f"{listing.repo} has a file with a name that leads out of the models folder: {one.path!r}.")
    if file.role == "repository":
        target = folder / inside
    else:
        target = folder / (inside.name if file.is_pattern else PurePosixPath(file.file).name)
    if file.is_pattern and not fnmatchcase(target.name, PurePosixPath(file.file).name):
        raise FetchError(f"{one.path} of {listing.repo} does not fit {file.file}: correct the model's entry.")
    size_bytes = one.size_bytes if file.size_bytes is None else file.size_bytes
    if size_bytes is None:
        raise FetchError(f"The hub does not say how large {one.path} of {listing.repo} is; it is not fetched.")
    stated = {"size": (file.size_bytes, one.size_bytes), "sha256": (file.sha256, one.sha256)}
    for what, (ours, theirs) in stated.items():
        if ours is not None and theirs is not None and ours != theirs:
            raise FetchError(
                f"{one.path} of {listing.repo} has another {what} on the hub ({theirs}) than in the catalog ({ours}): "
                "it was changed there. Nothing was fetched; correct the model's entry if the new file is right."
            )
    sha256 = file.sha256 or one.sha256
    return Item(listing.repo, listing.commit, one.path, target, size_bytes, sha256, one.git_sha1, file.optional)


def _check_disk(items: list[Item]) -> None:
    """Raises FetchError if what is still to come does not fit, before a byte of it comes."""
    needs: defaultdict[int, int] = defaultdict(int)
    folders: dict[int, Path] = {}
    for item in items:
        folder = next(parent for parent in item.target.parents if parent.exists())
        device = folder.stat().st_dev
        folders[device] = folder
        here = item.part.stat().st_size if item.part.exists() else 0
        needs[device] += max(0, item.size_bytes - here)
    for device, need in needs.items():
        free = shutil.disk_usage(folders[device]).free
        if need and need + SPARE_BYTES > free:
            raise FetchError(
                f"The disk has {size(free)} free, {size(need)} are to come and {size(SPARE_BYTES)} must stay free. "
                "Make room, or move the models folder to a larger disk."
            )


# ---- fetching it ------------------------------------------------------------------------------


class _Fetch:
    """The items one after the other, and how far they are."""

    def __init__(self, todo: Plan, hub: Hub, tell: Tell, stop: Event) -> None:
        self._todo, self._hub, self._tell, self._stop = todo, hub, tell, stop
        self._done = self._came = 0  # bytes that are there; bytes that came over the network since the start
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
                download(item, self._hub, on_bytes, RetryPolicy(waits, self._stop), self._stop)
            except (HubError, FetchError) as failed:
                if not item.optional:
                    raise
                self._todo.leave_out(failed)
            else:
                record(item)

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


def record(item: Item) -> None:
    """Note beside the file where it came from: `fetched.json`, by file name."""
    path = item.target.parent / RECORD
    known = recorded(item.target.parent)
    known[item.target.name] = {
        "repo": item.repo,
        "path": item.path,
        "commit": item.commit,
        "size_bytes": item.size_bytes,
        "sha256": item.sha256,
        "git_sha1": item.git_sha1,
    }
    written = path.with_name(f".{RECORD}.part")
    written.write_text(json.dumps(known, indent=2) + "\n")
    written.replace(path)


def recorded(folder: Path) -> dict[str, dict[str, object]]:
    """What `record` noted of the files in `folder`."""
    try:
        known = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


@contextlib.contextmanager
def _alone(path: Path, tell: Tell, stop: Event) -> Iterator[None]:
    """Hold the lock; whoever waits for it says so. The kernel frees it if its holder is killed."""
    with path.open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                tell(Fetching("", 0, 0, trouble=OTHER_DOWNLOAD))
                wait(LOCK_LOOK_S, stop)
        yield


__all__ = ["FetchError", "FetchStopped", "Fetching", "Plan", "fetch", "plan", "recorded", "size"]
