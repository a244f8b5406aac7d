"""Picture routes: upload, fetch (converted and scaled down on request)."""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from imagegen.http import etags, serialize
from imagegen.http.body import query_int
from imagegen.http.context import app_of, base_url
from imagegen.http.multipart import read_upload
from imagegen.images import convert
from imagegen.schemas import Refused

NAME = re.compile(r"(?P<id>[0-9a-f]{32})\.(?P<format>png|jpg|webp)")
FORMATS: dict[str, convert.Format] = {"png": "png", "jpg": "jpeg", "webp": "webp"}
TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}


async def upload(request: Request) -> Response:
    """Store a picture sent as the body (Content-Type: image/…) or as the form field `image`."""
    app = app_of(request)
    data = await read_upload(request)
    image = await app.admission.upload(data)
    return serialize.answer(serialize.image(image, base_url(request)), 201)


async def fetch(request: Request) -> Response:
    """Return `/images/ID.png`, `.jpg` or `.webp`. `?w=512` limits the width in pixels."""
    app = app_of(request)
    matched = NAME.fullmatch(request.path_params["name"])
    if matched is None:
        raise Refused(404, "image_not_found", "There is no picture here: /images/ID.png, .jpg or .webp.")
    width = query_int(request, "w", 0, 16, 4096) or None
    image = await app.images.get(matched["id"])
    file = await app.conversions.read(image, FORMATS[matched["format"]], width)
    headers = {"etag": file.etag, "cache-control": "private, max-age=3600, immutable"}
    if etags.is_known(request, file.etag):
        return Response(status_code=304, headers=headers)
    return Response(file.data, headers=headers, media_type=TYPES[matched["format"]])


ROUTES = [
    Route("/api/images", upload, methods=["POST"]),
    Route("/images/{name}", fetch, methods=["GET"]),
]
