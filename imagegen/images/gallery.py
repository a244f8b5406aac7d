"""The list of pictures: which are found, in which order, and how a list is continued."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, select

from imagegen.storage import search
from imagegen.storage.tables import images as table
from imagegen.storage.tables import jobs

UPLOAD = "upload"
"""The kind of a picture that no job drew."""


@dataclass(frozen=True)
class Find:
    """Which pictures to list; None: all. Times are POSIX seconds: `since` inclusive, `until` exclusive.

    words: each begins a word of the prompt or note. min_px, max_px: bounds of the longer side.
    """

    words: str | None = None
    model: str | None = None
    board: str | None = None
    kind: Literal["generate", "edit", "upscale", "upload"] | None = None
    kept: bool | None = None
    since: float | None = None
    until: float | None = None
    min_px: int | None = None
    max_px: int | None = None


ALL = Find()


def listed(find: Find, now: float) -> Select[Any]:
    """Pictures with the kind, model and prompt of their job, newest first: drawn ones, and kept uploads.

    Pictures of drafts are not listed.
    """
    job = (jobs.c.kind.label("kind"), jobs.c.model.label("model"), jobs.c.prompt.label("prompt"))
    query = select(table, *job).select_from(table.outerjoin(jobs, jobs.c.id == table.c.job_id))
    return query.where(*_shown(now), *_found(find)).order_by(table.c.seq.desc())


def _shown(now: float) -> list[ColumnElement[bool]]:
    drawn = table.c.job_id.is_not(None) & ~jobs.c.draft
    in_time = table.c.expires_at.is_(None) | (table.c.expires_at > now)
    return [table.c.expired_at.is_(None), in_time, drawn | table.c.kept_at.is_not(None)]


def _found(find: Find) -> list[ColumnElement[bool]]:
    tests: list[tuple[Any, Callable[[Any], ColumnElement[bool]]]] = [
        (find.words, search.matches),
        (find.model, lambda model: jobs.c.model == model),
        (find.board, lambda board: table.c.board == board),
        (find.kind, lambda kind: table.c.job_id.is_(None) if kind == UPLOAD else jobs.c.kind == kind),
        (find.kept, lambda kept: table.c.kept_at.is_not(None) if kept else table.c.kept_at.is_(None)),
        (find.since, lambda since: table.c.created_at >= since),
        (find.until, lambda until: table.c.created_at < until),
        (find.min_px, lambda side: (table.c.width >= side) | (table.c.height >= side)),
        (find.max_px, lambda side: (table.c.width <= side) & (table.c.height <= side)),
    ]
    return [condition(value) for value, condition in tests if value is not None]
