"""Keep pictures beyond their expiry, put them on boards, and delete pictures before it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from imagegen.http import responses, serialize
from imagegen.http.body import read_json
from imagegen.http.context import app_of, base_url
from imagegen.requests import BoardRequest, KeepRequest
from imagegen.schemas import StoredImage


async def keep(request: Request) -> Response:
    """Keep a picture. The body, if there is one, has its board and note."""
    wish = await read_json(request, KeepRequest) if await request.body() else KeepRequest()
    kept = await app_of(request).keeper.keep(request.path_params["image_id"], wish.model_dump(exclude_unset=True))
    return _image(request, kept)


async def release(request: Request) -> Response:
    return _image(request, await app_of(request).keeper.release(request.path_params["image_id"]))


async def delete(request: Request) -> Response:
    await app_of(request).keeper.delete(request.path_params["image_id"])
    return Response(status_code=204)


async def delete_of_job(request: Request) -> Response:
    """Delete the pictures of a job that are not kept."""
    found = await app_of(request).keeper.delete_of_job(request.path_params["job_id"])
    return serialize.answer(responses.jobs.Deleted(deleted=list(found.deleted), kept=list(found.kept)))


async def boards(request: Request) -> Response:
    app, base = app_of(request), base_url(request)
    items = [
        responses.jobs.Board(name=board.name, count=board.count, url=serialize.image_url(board.cover, base))
        for board in await app.boards.list()
    ]
    kept, most = await app.images.kept(), app.settings.keep_max
    return serialize.answer(responses.jobs.Boards(items=items, kept=kept, max=most))


async def rename_board(request: Request) -> Response:
    wish = await read_json(request, BoardRequest)
    await app_of(request).boards.rename(request.path_params["name"], wish.name)
    return await boards(request)


async def delete_board(request: Request) -> Response:
    """Take the pictures off the board; they stay kept."""
    await app_of(request).boards.remove(request.path_params["name"])
    return await boards(request)


def _image(request: Request, image: StoredImage) -> Response:
    return serialize.answer(serialize.image(image, base_url(request)))


ROUTES = [
    Route("/api/images/{image_id}/keep", keep, methods=["POST"]),
    Route("/api/images/{image_id}/keep", release, methods=["DELETE"]),
    Route("/api/images/{image_id}", delete, methods=["DELETE"]),
    Route("/api/jobs/{job_id}/images", delete_of_job, methods=["DELETE"]),
    Route("/api/boards", boards, methods=["GET"]),
    Route("/api/boards/{name}", rename_board, methods=["PATCH"]),
    Route("/api/boards/{name}", delete_board, methods=["DELETE"]),
]
