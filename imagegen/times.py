"""Times as people and JSON read them."""

from __future__ import annotations

from datetime import UTC, datetime

from imagegen.schemas import Refused


def timestamp(at: float) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def expired(what: str, at: float) -> Refused:
    """410 for a thing that was kept as long as promised."""
    when = timestamp(at)
    return Refused(410, "expired", f"This {what} expired at {when} and was deleted.", expired_at=when)
