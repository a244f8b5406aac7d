"""Schema 5: the table webhooks, which `create_all` makes; an older version would not deliver its rows."""

from __future__ import annotations

from sqlalchemy import Connection


def upgrade(_connection: Connection) -> None:
    """No existing table changes."""
