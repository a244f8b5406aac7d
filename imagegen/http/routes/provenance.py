"""POST /api/verify: who signed a picture, whether it was changed since, and whether this service made it."""

from __future__ import annotations

import asyncio
import hashlib

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from imagegen.http import responses, serialize
from imagegen.http.context import app_of, base_url
from imagegen.http.multipart import read_upload
from imagegen.images import formats
from imagegen.images.provenance.reader import MEDIA_TYPES
from imagegen.images.provenance.report import judge
from imagegen.images.provenance.signer import NotSigned
from imagegen.schemas import Refused


async def verify(request: Request) -> Response:
    """Judge the picture that is sent. It is not stored."""
    app = app_of(request)
    data = await read_upload(request)
    format_ = formats.recognise(data)
    media_type = None if format_ is None else MEDIA_TYPES.get(format_.pillow or "")
    if media_type is None:
        kinds = ", ".join(MEDIA_TYPES)
        raise Refused(422, "bad_image", f"This file is none of {kinds}, in which a manifest can be read.")
    anchors = b""
    if app.signer is not None:
        try:
            anchors = await asyncio.to_thread(app.signer.anchors)
        except NotSigned as trouble:
            raise Refused(503, "keys_unreadable", str(trouble)) from None
    report = judge(await app.provenance.read(data, media_type, anchors))
    digest = await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
    stored = await app.images.by_sha256(digest)
    picture = None if stored is None else serialize.image(stored, base_url(request))
    return serialize.answer(responses.provenance.Provenance.of(report, picture))


ROUTES = [Route("/api/verify", verify, methods=["POST"])]
