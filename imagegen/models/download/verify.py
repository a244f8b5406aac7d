"""Compares the sizes of existing files with those from the catalog, the fetch record or the hub."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import partial

from imagegen.models.download.hub import Hub, Listing
from imagegen.models.download.record import recorded
from imagegen.models.download.retry import RetryPolicy
from imagegen.models.entry_tables import ModelFile
from imagegen.models.weights import Weights
from imagegen.settings import Settings


def odd_sizes(entry: Weights, settings: Settings, hub: Hub, retry_policy: RetryPolicy) -> list[str]:
    """A sentence for each existing file with an unexpected size.

    Queries the hub only if neither the catalog nor the fetch record has a file's size. Raises HubError.
    """
    odd: list[str] = []
    listings: dict[str, Listing] = {}
    for file in entry.files:
        path = entry.path_of(file, settings)
        if file.role == "repository" or file.repo is None or not path.is_file():
            continue
        here, noted = path.stat().st_size, recorded(path.parent).get(path.name, {}).get("size_bytes")
        known, source = (file.size_bytes, "the catalog") if file.size_bytes else (noted, "the note of its fetch")
        if known is None:
            if file.repo not in listings:
                listings[file.repo] = retry_policy.ask(partial(hub.listing, file.repo))
            known, source = _on_hub(file, listings[file.repo], path.name), "the hub"
        if isinstance(known, int) and here != known:
            odd.append(
                f"{path} has {here:,} bytes, and {known:,} by {source}: it is damaged, or another file. Move it away, "
                f"then fetch again: imagegen models fetch {entry.name}"
            )
    return odd


def _on_hub(file: ModelFile, listing: Listing, name: str) -> int | None:
    """The size of `file` in its repository. For a pattern: of the match called `name`."""
    wanted = file.path or file.file
    hits = [one for one in listing.files if one.path == wanted or fnmatchcase(one.path, wanted)]
    if file.is_pattern:
        hits = [one for one in hits if one.path.rsplit("/", 1)[-1] == name]
    return hits[0].size_bytes if len(hits) == 1 else None
