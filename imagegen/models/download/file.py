"""Downloads one file of a model: resumes, verifies, and renames it into place only when it is complete."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, BinaryIO

from imagegen.models.download.hub import Hub, HubError
from imagegen.models.download.retry import FetchError, FetchStopped, RetryPolicy

log = logging.getLogger("imagegen.models")

READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Item:
    """A file to fetch: `path` of `repo` at `commit` becomes `target`.

    size_bytes, sha256: from the catalog, else from the hub. git_sha1: git's blob hash, used if `sha256` is None.
    optional: the model works without it.
    """

    repo: str
    commit: str
    path: str
    target: Path
    size_bytes: int
    sha256: str | None
    git_sha1: str | None
    optional: bool = False

    @property
    def checksum(self) -> str:
        return self.sha256 or self.git_sha1 or self.commit

    @property
    def part(self) -> Path:
        """The partial file. Its name contains the checksum, so that a resume never mixes different files."""
        return self.target.with_name(f".{self.target.name}.{self.checksum[:16]}.part")

    def hasher(self) -> Any:
        if self.sha256 is not None:
            return hashlib.sha256()
        return hashlib.sha1(f"blob {self.size_bytes}\0".encode(), usedforsecurity=False)

    def is_whole(self, digest: str) -> bool:
        """Whether `digest` is the file's checksum. Without a known checksum only the size counts."""
        return digest == (self.sha256 or self.git_sha1 or digest)


OnBytes = Callable[[int, bool], None]
"""Called with the change in bytes on the disk (negative if bytes are dropped), and whether the network sent them."""


def download(item: Item, hub: Hub, on_bytes: OnBytes, retry_policy: RetryPolicy, stop: Event) -> str:
    """Fetch `item` and rename it into place. Bytes from an earlier try are reported to `on_bytes` first.

    Returns its checksum: the SHA-256 if `item` has one, else git's SHA-1.

    Raises HubError, FetchError for wrong bytes, FetchStopped, OSError.
    """
    item.part.parent.mkdir(parents=True, exist_ok=True)
    resumed = item.part.exists()
    digest = _grow(item, hub, on_bytes, retry_policy, stop)
    if not item.is_whole(digest) and resumed:
        log.warning("%s: what was there before is damaged; it is fetched anew", item.target.name)
        _drop(item, on_bytes)
        digest = _grow(item, hub, on_bytes, retry_policy, stop)
    if not item.is_whole(digest):
        _drop(item, on_bytes)
        raise FetchError(
            f"{item.path} of {item.repo} came with wrong bytes (checksum {digest[:12]}…, not {item.checksum[:12]}…) "
            "and was thrown away. Try again; if it happens again, the hub or the way to it is broken."
        )
    item.part.replace(item.target)
    for stale in item.target.parent.glob(f".{item.target.name}.*.part"):  # other versions of the file
        stale.unlink(missing_ok=True)
    _sync(item.target.parent)
    return digest


def _grow(item: Item, hub: Hub, on_bytes: OnBytes, retry_policy: RetryPolicy, stop: Event) -> str:
    """Complete the partial file, over several connections if necessary. Returns its checksum."""
    with item.part.open("a+b") as part:
        if part.tell() > item.size_bytes:
            part.truncate(0)
        hasher = item.hasher()
        have = _read_again(part, hasher, on_bytes, stop)
        while have < item.size_bytes:
            before = have
            try:
                with hub.read(item.repo, item.commit, item.path, item.size_bytes, have) as body:
                    if body.offset != have:  # the server ignores ranges: start again
                        on_bytes(-have, False)
                        part.truncate(0)
                        hasher, have = item.hasher(), 0
                    for chunk in body.chunks:
                        _unless_stopped(stop)
                        if not chunk:
                            continue
                        if have + len(chunk) > item.size_bytes:
                            raise FetchError(
                                f"{item.path} of {item.repo} is longer than the hub says. Try again later."
                            )
                        part.write(chunk)
                        hasher.update(chunk)
                        have += len(chunk)
                        on_bytes(len(chunk), True)
                broken = HubError(
                    f"The hub ended {item.path} of {item.repo} early, again and again.",
                    1.0,
                    "the connection ended early",
                )
            except HubError as error:
                broken = error
            if have == item.size_bytes:
                break
            log.info("%s: broken off at byte %d of %d", item.target.name, have, item.size_bytes)
            retry_policy.wait(broken, moved=have > before)
        part.flush()
        os.fsync(part.fileno())
    return str(hasher.hexdigest())


def _read_again(part: BinaryIO, hasher: Any, on_bytes: OnBytes, stop: Event) -> int:
    """Count and hash the bytes from an earlier try."""
    part.seek(0)
    have = 0
    while chunk := part.read(READ_BYTES):
        _unless_stopped(stop)
        hasher.update(chunk)
        have += len(chunk)
        on_bytes(len(chunk), False)
    return have


def _drop(item: Item, on_bytes: OnBytes) -> None:
    on_bytes(-item.part.stat().st_size, False)
    item.part.unlink()


def _unless_stopped(stop: Event) -> None:
    if stop.is_set():
        raise FetchStopped


def _sync(folder: Path) -> None:
    """Make the rename durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
