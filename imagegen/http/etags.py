"""Conditional requests: whether the client already has the current version (RFC 9110, 13.1.2)."""

from __future__ import annotations

import re

from starlette.requests import Request

_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


def is_known(request: Request, etag: str) -> bool:
    """Whether If-None-Match names `etag` (a strong tag, quoted).

    The comparison is weak: `W/"x"` matches `"x"`, because a proxy that compresses a response weakens its tag.
    `*` matches everything that exists. A tag may contain a comma.
    """
    given = ",".join(request.headers.getlist("if-none-match")).strip()
    return given == "*" or etag in _TAG.findall(given)
