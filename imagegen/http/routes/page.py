"""The page and its files, read once at startup: no request path reaches the disk."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from imagegen.http import etags
from imagegen.schemas import Refused

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}
"""Content types by file extension. Other files of the package (licences, Python modules) are not served."""

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types lit-html"
)
"""Only the page's own files run, and no text is parsed as HTML: the only Trusted Types policy allowed is that of the
vendored lit-html, which passes constant templates only."""


class PageFile:
    """A file in memory, plain and gzipped, each with its own ETag."""

    def __init__(self, name: str, content: bytes) -> None:
        digest = hashlib.sha256(content).hexdigest()[:32]
        self._plain, self._zipped = content, gzip.compress(content, mtime=0)
        self._plain_tag, self._zipped_tag = f'"{digest}"', f'"{digest}-gzip"'
        self._headers = {
            "cache-control": "no-cache",  # revalidate each time, so that an upgrade is visible at once
            "content-type": TYPES[name[name.rindex(".") :]],
            "vary": "accept-encoding",
        }
        if name.endswith(".html"):
            self._headers["content-security-policy"] = PAGE_POLICY

    def answer(self, request: Request) -> Response:
        zipped = "gzip" in request.headers.get("accept-encoding", "")
        tag = self._zipped_tag if zipped else self._plain_tag
        headers = self._headers | {"etag": tag} | ({"content-encoding": "gzip"} if zipped else {})
        if etags.is_known(request, tag):
            return Response(status_code=304, headers=headers)
        return Response(self._zipped if zipped else self._plain, headers=headers)


def _read(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, PageFile]]:
    for entry in folder.iterdir():
        name = prefix + entry.name
        if entry.is_dir():
            yield from _read(entry, f"{name}/")
        elif any(name.endswith(ending) for ending in TYPES):
            yield name, PageFile(name, entry.read_bytes())


FILES = dict(_read(files("imagegen.web")))


async def page(request: Request) -> Response:
    return FILES["index.html"].answer(request)


async def static(request: Request) -> Response:
    found = FILES.get(request.path_params["path"])
    if found is None:
        raise Refused(404, "not_found", f"The page has no file {request.path_params['path'][:200]}.")
    return found.answer(request)


async def icon(request: Request) -> Response:
    """Browsers request `/favicon.ico` when a picture is opened in its own tab."""
    return FILES["favicon.svg"].answer(request)


ROUTES = [
    Route("/", page, methods=["GET"]),
    Route("/favicon.ico", icon, methods=["GET"]),
    Route("/static/{path:path}", static, methods=["GET"]),
]
