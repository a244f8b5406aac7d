"""Boards: named collections of kept pictures. A board exists while a picture is on it."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from sqlalchemy import func, select, update

from imagegen.schemas import Refused
from imagegen.storage.database import Database
from imagegen.storage.tables import images as table

MAX_NAME_CHARS = 60
MAX_NOTE_CHARS = 1000
_JOINER = "\u200d"  # part of many emoji


@dataclass(frozen=True)
class Board:
    """A board, the number of its pictures, and the id of the newest of them."""

    name: str
    count: int
    cover: str


class Boards:
    """Reads and renames the boards of the `images` table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self) -> list[Board]:
        """All boards by name."""
        newest = func.max(table.c.seq).label("newest")
        grouped = select(table.c.board, func.count().label("pictures"), newest).where(table.c.board.is_not(None))
        boards = grouped.group_by(table.c.board).subquery()
        query = select(boards, table.c.id).join(table, table.c.seq == boards.c.newest)
        rows = await self._database.fetch(query)
        found = [Board(row.board, row.pictures, row.id) for row in rows]
        return sorted(found, key=lambda board: (board.name.casefold(), board.name))

    async def rename(self, name: str, new_name: str) -> None:
        """Raises Refused 404 `board_not_found`, 409 `board_exists`, 422."""
        new_name = clean_name(new_name)
        async with self._database.writing() as connection:
            there = select(func.count()).where(table.c.board == new_name)
            if new_name != name and (await connection.execute(there)).scalar_one():
                raise Refused(409, "board_exists", "There is a board of this name. Move the pictures to it instead.")
            changed = await connection.execute(update(table).where(table.c.board == name).values(board=new_name))
            if not changed.rowcount:
                raise _absent()

    async def remove(self, name: str) -> None:
        """Take all pictures off the board; they stay kept. Raises Refused 404 `board_not_found`."""
        async with self._database.writing() as connection:
            changed = await connection.execute(update(table).where(table.c.board == name).values(board=None))
            if not changed.rowcount:
                raise _absent()


def _absent() -> Refused:
    return Refused(404, "board_not_found", "There is no board of this name. GET /api/boards lists them.")


def clean_name(name: str) -> str:
    """A board's name without outer spaces, in Unicode's normal form. Raises Refused 422.

    A name is a segment of a URL path, and a label on one line.
    """
    name = unicodedata.normalize("NFC", name).strip()
    if not 1 <= len(name) <= MAX_NAME_CHARS:
        raise _wrong(f"board must have 1 to {MAX_NAME_CHARS} characters.")
    if any(one in "/\\" or not _printable(one) for one in name) or not name.strip("."):
        raise _wrong("board must not have slashes or control characters, and not only dots.")
    return name


def clean_note(note: str) -> str | None:
    """A note without outer spaces, None if nothing is left. Raises Refused 422."""
    note = unicodedata.normalize("NFC", note.replace("\r\n", "\n")).strip()
    if len(note) > MAX_NOTE_CHARS:
        raise _wrong(f"note must have at most {MAX_NOTE_CHARS} characters.")
    if not all(_printable(one) or one in "\n\t" for one in note):
        raise _wrong("note must not have control characters other than line breaks and tabs.")
    return note or None


def _printable(character: str) -> bool:
    """Not a control or formatting character, among them those that reverse the direction of text."""
    return character == _JOINER or unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}


def _wrong(detail: str) -> Refused:
    return Refused(422, "invalid_request", detail)
