"""IMAGEGEN_DATABASE_URL for SQLAlchemy, and as messages show it: without user and password."""

from __future__ import annotations

from typing import Any

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
