"""Adds a LoRA to the folder, from a file or from the hub, and removes one. A file is checked before it has its name."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from threading import Event

from imagegen.models.download.file import Item, download
from imagegen.models.download.hub import Hub, HubFile, Listing
from imagegen.models.download.plan import SHOWN, SPARE_BYTES, check_disk
from imagegen.models.download.progress import Fetching, Tell, size
from imagegen.models.download.retry import RetryPolicy
from imagegen.models.licences import forbids_commercial
from imagegen.models.loras.folder import NAME, SUFFIX, LoraFile, LoraFolder, read_lora
from imagegen.storage import permissions

COPY_BYTES = 4 * 1024 * 1024
PART = ".part"


class CannotAdd(Exception):
    """The LoRA was not added, and the folder is as it was. The message is a sentence."""


def name_of(file_name: str, wanted: str | None) -> str:
    """The name of a LoRA: the wanted one, else that of the file. Raises CannotAdd."""
    name = (wanted or file_name).removesuffix(SUFFIX)
    if not NAME.fullmatch(name):
        raise CannotAdd(
            f"{name!r} cannot be the name of a LoRA: it must be at most 128 characters, must not begin with a dot, and "
            'must have none of / \\ : < > | " * ? in it. Choose one with --name.'
        )
    return name


def add_file(folder: LoraFolder, source: Path, name: str | None, on_bytes: Callable[[int, int], None]) -> LoraFile:
    """Check the file and copy it into the folder. `on_bytes` gets the bytes copied and the bytes in all.

    Raises CannotAdd.
    """
    chosen = name_of(source.name, name)
    with _alone(folder):
        target = _target(folder, chosen)
        part = target.with_name(f".{target.name}{PART}")
        try:
            _check(source)
            _check_room(folder, source.stat().st_size)
            _copy(source, part, on_bytes)
            lora = _check(part)  # the copy, not the file that may have changed meanwhile
            part.replace(target)
        except OSError as failure:
            raise CannotAdd(f"{source.name} cannot be copied: {failure.strerror}. Nothing was added.") from None
        finally:
            part.unlink(missing_ok=True)
    return replace(lora, name=chosen, path=target)


@contextlib.contextmanager
def _alone(folder: LoraFolder) -> Iterator[None]:
    """Make the folder and hold its lock, which the kernel releases at the end of the process. Raises CannotAdd."""
    try:
        permissions.make_folder(folder.path)
        handle = os.open(folder.path, os.O_RDONLY)
    except OSError as failure:
        raise CannotAdd(f"The folder {folder.path} cannot be used: {failure.strerror}.") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise CannotAdd("Another LoRA is being added. Try again when that has ended.") from None
    finally:
        os.close(handle)


def _copy(source: Path, part: Path, on_bytes: Callable[[int, int], None]) -> None:
    total, done = source.stat().st_size, 0
    with source.open("rb") as read, part.open("wb") as write:
        while chunk := read.read(COPY_BYTES):
            done += write.write(chunk)
            on_bytes(done, total)
        write.flush()
        os.fsync(write.fileno())


@dataclass(frozen=True)
class HubLora:
    """A LoRA on the hub, in the repository at one commit."""

    listing: Listing
    file: HubFile

    @property
    def question(self) -> str | None:
        """What a user must agree to before the download; None for a licence that forbids nothing by its name."""
        stated = self.listing.licence
        if stated is None or not forbids_commercial(stated):
            return None
        return f"The licence of {self.listing.repo}, {stated}, does not allow commercial use. Do you accept it?"

    def __str__(self) -> str:
        licence = self.listing.licence or "no licence stated"
        commit, bytes_in_all = self.listing.commit[:10], size(self.file.size_bytes or 0)
        return f"{self.listing.repo} {self.file.path} at {commit}: {bytes_in_all}; {licence}"


def find_on_hub(reference: str, hub: Hub, on_wait: Callable[[str, float], None]) -> HubLora:
    """The LoRA that `OWNER/NAME` or `OWNER/NAME/PATH.safetensors` means; a repository with several needs the path.

    on_wait: gets an error of the hub and the seconds to the next try. Raises CannotAdd, HubError.
    """
    owner, repo_name, *inside = reference.split("/")
    listing = RetryPolicy(on_wait, Event()).ask(lambda: hub.listing(f"{owner}/{repo_name}"))
    return HubLora(listing, _chosen(listing, "/".join(inside)))


def add_from_hub(folder: LoraFolder, found: HubLora, name: str | None, hub: Hub, tell: Tell, stop: Event) -> LoraFile:
    """Download the LoRA with its checksum, check it and add it.

    Raises CannotAdd, FetchError, HubError, FetchStopped.
    """
    retry_policy = RetryPolicy(lambda trouble, waits_s: tell(Fetching("", 0, 0, None, trouble, waits_s)), stop)
    listing, file = found.listing, found.file
    chosen = name_of(PurePosixPath(file.path).name, name)
    done = 0

    def on_bytes(count: int, _came: bool) -> None:
        nonlocal done
        done += count
        tell(Fetching(PurePosixPath(file.path).name, done, file.size_bytes or 0))

    with _alone(folder):
        target = _target(folder, chosen)
        item = _item(listing, file, target.with_name(f".{target.name}{PART}"))
        check_disk([item])
        try:
            download(item, hub, on_bytes, retry_policy, stop)
            lora = _check(item.target)
            item.target.replace(target)
        except OSError as failure:
            raise CannotAdd(f"{item.path} cannot be written: {failure.strerror}. Nothing was added.") from None
        finally:
            item.target.unlink(missing_ok=True)
    return replace(lora, name=chosen, path=target)


def _chosen(listing: Listing, path: str) -> HubFile:
    """The LoRA that the reference means. Raises CannotAdd."""
    found = {one.path: one for one in listing.files if one.path.endswith(SUFFIX)}
    if path in found:
        return found[path]
    names = sorted(found)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    has = f"It has: {', '.join(names[:SHOWN])}{more}." if names else f"It has no file {SUFFIX}."
    if path:
        raise CannotAdd(f"{listing.repo} has no {path}. {has}")
    if len(names) != 1:
        raise CannotAdd(f"Name the file: {listing.repo}/FILE{SUFFIX}. {has}")
    return found[names[0]]


def _item(listing: Listing, file: HubFile, unchecked: Path) -> Item:
    if file.size_bytes is None or not (file.sha256 or file.git_sha1):
        raise CannotAdd(f"The hub does not say the size and the checksum of {file.path}. It is not fetched.")
    return Item(listing.repo, listing.commit, file.path, unchecked, file.size_bytes, file.sha256, file.git_sha1)


def _target(folder: LoraFolder, name: str) -> Path:
    """The place of a new LoRA. Raises CannotAdd if it is taken."""
    target = folder.path / f"{name}{SUFFIX}"
    if os.path.lexists(target):
        raise CannotAdd(f"There is a LoRA {name} already. Remove it first, or choose another name with --name.")
    return target


def _check(file: Path) -> LoraFile:
    """The LoRA in a file. Raises CannotAdd, OSError."""
    lora = read_lora(file, file.name)
    if lora.fault is not None:
        raise CannotAdd(f"{file.name.removeprefix('.').removesuffix(PART)} {lora.fault}. Nothing was added.")
    if not any(mark in name for name in lora.tensors for mark in ("lora", "hada_", "lokr_", ".diff")):
        raise CannotAdd(f"{file.name} is a whole model, or a part of one, and no LoRA. Nothing was added.")
    return lora


def _check_room(folder: LoraFolder, need_bytes: int) -> None:
    free = shutil.disk_usage(folder.path).free
    if need_bytes + SPARE_BYTES > free:
        raise CannotAdd(f"The disk has {size(free)} free, and the LoRA has {size(need_bytes)}. Make room.")


def remove(folder: LoraFolder, name: str) -> int:
    """Delete a LoRA and return its size in bytes. Raises CannotAdd, Refused 422 `unknown_lora`."""
    name = name.removesuffix(SUFFIX)
    if name not in folder.names():
        raise folder.unknown(name)
    file = folder.path / f"{name}{SUFFIX}"
    try:
        size_bytes = file.stat().st_size
        file.unlink()
    except OSError as failure:
        raise CannotAdd(f"{file.name} cannot be removed: {failure.strerror}.") from None
    return size_bytes
