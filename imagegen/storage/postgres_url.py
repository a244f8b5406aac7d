"""IMAGEGEN_DATABASE_URL for SQLAlchemy, and as messages show it: without user and password; what all engines share."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine import URL, make_url

PATIENCE: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,  # ms; without it a half-open connection hangs for minutes
    "application_name": "imagegen",
}
"""libpq's parameters for a server that vanishes without a word. The URL's own come first."""


def driver_url(text: str) -> URL:
    """The URL for SQLAlchemy's psycopg driver. text: as `setting_values.database_url` returned it."""
    return make_url(text).set(drivername="postgresql+psycopg")


def connect_args(url: URL) -> dict[str, Any]:
    return {name: value for name, value in PATIENCE.items() if name not in url.query}


def shown(url: URL) -> str:
    """HOST:PORT/DATABASE: what messages, logs and documents may say of the URL."""
    host = url.host or url.query.get("host") or "localhost"
    host = host if isinstance(host, str) else ",".join(host)
    return f"{host}{f':{url.port}' if url.port else ''}/{url.database}"


def replace_nul(engine: Engine) -> None:
    """Let the replacement character take the place of NUL in every text: Postgres refuses NUL, SQLite does not."""

    @event.listens_for(engine, "before_cursor_execute", retval=True)
    def replace(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> Any:
        many = isinstance(parameters, list)
        changed = [_without_nul(one) for one in parameters] if many else _without_nul(parameters)
        return statement, changed


def _without_nul(parameters: Any) -> Any:
    if not isinstance(parameters, dict):
        return parameters
    return {key: one.replace("\0", "\ufffd") if isinstance(one, str) else one for key, one in parameters.items()}
