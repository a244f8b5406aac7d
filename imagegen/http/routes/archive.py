"""Several pictures as one ZIP archive, streamed: at most one picture is in memory."""

from __future__ import annotations

import zipfile
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from imagegen.app import App
from imagegen.http.body import read_json
from imagegen.http.context import app_of
from imagegen.requests import ZipRequest
from imagegen.schemas import Refused, StoredImage

MOST_PICTURES = 200
ZIP = "application/zip"


async def archive(request: Request) -> Response:
    """Return the pictures as PNG files in a ZIP archive. A picture that is deleted meanwhile ends the stream early."""
    app = app_of(request)
    ids = list(dict.fromkeys((await read_json(request, ZipRequest)).ids))
    if len(ids) > MOST_PICTURES:
        raise Refused(422, "invalid_request", f"ids must name at most {MOST_PICTURES} pictures.")
    images = [await app.images.get(one) for one in ids]
    headers = {"content-disposition": 'attachment; filename="pictures.zip"', "cache-control": "no-store"}
    return StreamingResponse(_pieces(app, images), media_type=ZIP, headers=headers)


async def _pieces(app: App, images: Sequence[StoredImage]) -> AsyncIterator[bytes]:
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as written:  # type: ignore[call-overload]
        for image in images:
            made = datetime.fromtimestamp(image.created_at, UTC)
            name = zipfile.ZipInfo(f"{made:%Y-%m-%d}-{image.id[:12]}.png", made.timetuple()[:6])
            written.writestr(name, await app.images.read(image.id))
            yield sink.take()
    yield sink.take()


class _Sink:
    """A file that cannot seek, from which what was written is taken."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes) -> int:
        self._written += data
        return len(data)

    def flush(self) -> None:
        """Nothing is buffered elsewhere."""

    def take(self) -> bytes:
        taken, self._written = bytes(self._written), bytearray()
        return taken


ROUTES = [Route("/api/images/zip", archive, methods=["POST"])]
