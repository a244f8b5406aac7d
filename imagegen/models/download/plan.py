"""Plans a fetch: looks up each missing file on the hub and checks the free disk space."""

from __future__ import annotations

import shutil
from collections import defaultdict
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from imagegen.models.download.file import Item
from imagegen.models.download.hub import Hub, HubError, HubFile, Listing
from imagegen.models.download.progress import size
from imagegen.models.download.retry import FetchError, RetryPolicy
from imagegen.models.entry_tables import ModelFile
from imagegen.models.weights import Weights
from imagegen.settings import Settings

SPARE_BYTES = 64 * 1024 * 1024
"""Free space that a fetch leaves for the queue and its pictures."""
WITHOUT = "The model works without it."
SHOWN = 20


@dataclass
class Plan:
    """The files to fetch, with remarks for the user."""

    items: list[Item] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    licences: dict[str, str] = field(default_factory=dict)  # by repository, as its page states them
    again: str | None = None  # the temporary error for which an optional file was left out

    @property
    def size_bytes(self) -> int:
        return sum(item.size_bytes for item in self.items)

    def leave_out(self, failed: HubError | FetchError) -> None:
        """Note that an optional file cannot be fetched."""
        self.remarks.append(f"{failed} {WITHOUT}")
        self.again = failed.passing or self.again


def plan(entry: Weights, settings: Settings, hub: Hub, retry_policy: RetryPolicy) -> Plan:
    """Look up every missing file, optional ones last. Raises HubError, FetchError, FetchStopped."""
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
    if file.role == "repository":  # last, because the presence of this file means that all are complete
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


def check_disk(items: list[Item]) -> None:
    """Raises FetchError if the remaining bytes do not fit on the disk."""
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
