"""Schema 6: the table memory_needs, which `create_all` makes; an older version would draw again what cannot fit."""

from __future__ import annotations

from sqlalchemy import Connection


def upgrade(_connection: Connection) -> None:
    """No existing table changes."""
