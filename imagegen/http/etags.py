"""Conditional requests: whether the caller has the current version already (RFC 9110, 13.1.2)."""

from __future__ import annotations

import re

from starlette.requests import Request

_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


def is_known(request: Request, etag: str) -> bool:
    """Whether If-None-Match names `etag` (a strong tag, quoted).

    The comparison is weak: `W/"x"` and `"x"` match. A proxy that compresses an answer makes its tag weak. `*` matches
    everything that exists. A comma may be part of a tag.
    """
    given = ",".join(request.headers.getlist("if-none-match")).strip()
    return given == "*" or etag in _TAG.findall(given)
