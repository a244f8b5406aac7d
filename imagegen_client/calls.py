"""Every operation of the service, as a call that either transport runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Required, TypedDict, TypeVar
from uuid import uuid4

from imagegen_client.answers import Check, ImageInfo, Inspection, JobState, Model, Provenance, items, parsed
from imagegen_client.errors import InvalidRequest, NotFound, ServiceError, TooOld
from imagegen_client.pictures import Preview
from imagegen_client.wire import NO_RETRIES, Call, Request, Retries, exchange, read_file, read_json

T = TypeVar("T")

POLL_S = 1
SILENT_POLL_S = 20
"""Seconds of a long poll: with progress, and without. A change of status ends both at once."""


class Webhook(TypedDict, total=False):
    """Where the ended job is sent; with a secret (`whsec_…`) the message is signed."""

    url: str
    secret: str


class Lora(TypedDict, total=False):
    """A LoRA to draw with: its name, as `GET /api/loras` lists it, and its strength (1 if omitted)."""

    name: Required[str]
    strength: float


class DrawOptions(TypedDict, total=False):
    """What a request may say besides the prompt. What is left out is the model's own.

    extra: fields of a newer service that this client does not know, as JSON.
    idempotency_key: repeating a request with the same key returns the same job; default: a new one per request.
    """

    negative: str | None
    width: int | None
    height: int | None
    steps: int | None
    seed: int | None
    cfg_scale: float | None
    sampler: str | None
    model: str | None
    speed: Literal["quality", "fast"] | None
    background: Literal["opaque", "transparent"] | None
    loras: list[Lora] | None
    n: int | None
    lease_s: float | None
    preview: Literal["off", "auto"] | int | None
    draft: bool | None
    webhook: Webhook | None
    extra: Mapping[str, Any] | None
    idempotency_key: str | None


class UpscaleOptions(TypedDict, total=False):
    """What an upscaling may say. `model`: an upscaler, or `lanczos`. What is left out is the service's own."""

    factor: Literal[2, 4] | None
    model: str | None
    lease_s: float | None
    webhook: Webhook | None
    extra: Mapping[str, Any] | None
    idempotency_key: str | None


class VaryOptions(TypedDict, total=False):
    """What a request for variations may say. prompt, model: of a picture that this service did not draw."""

    n: int | None
    seed: int | None
    prompt: str | None
    model: str | None
    lease_s: float | None
    preview: Literal["off", "auto"] | int | None
    webhook: Webhook | None
    extra: Mapping[str, Any] | None
    idempotency_key: str | None


class ImageFilters(TypedDict, total=False):
    """Which pictures to list.

    q: words of the prompt or note. kept: kept ones only (True), or the others. since, until: days or times, such as
    `2027-03-01`. min_size, max_size: pixels of the longer side.
    """

    q: str | None
    model: str | None
    kind: Literal["generate", "edit", "upscale", "upload"] | None
    kept: bool | None
    board: str | None
    since: str | None
    until: str | None
    min_size: int | None
    max_size: int | None


Fit = Literal["contain", "cover", "stretch"]
TOO_OLD = "This image service is too old to {}. Update it on its machine."
NOT_SENT = {"extra", "idempotency_key"}


def body_of(options: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """The JSON of a request. Options that are None are left out."""
    given = {name: value for name, value in options.items() if name not in NOT_SENT} | more
    return {name: value for name, value in given.items() if value is not None} | dict(options.get("extra") or {})


def submit(body: Mapping[str, Any], key: str | None = None, retries: Retries = NO_RETRIES) -> Call[JobState]:
    """Submit a job: an edit if `body` has `images`."""
    route = "/api/edit" if "images" in body else "/api/generate"
    return (yield from _new_job(route, body, key, retries))


def upscale(body: Mapping[str, Any], key: str | None = None, retries: Retries = NO_RETRIES) -> Call[JobState]:
    """Submit a job that makes a larger copy of a picture. Raises TooOld."""
    try:
        return (yield from _new_job("/api/upscale", body, key, retries))
    except NotFound as absent:
        raise _too_old(absent, "upscale pictures") from None


def _new_job(route: str, body: Mapping[str, Any], key: str | None, retries: Retries) -> Call[JobState]:
    """The key makes repeating the request safe."""
    headers = {"Idempotency-Key": key or uuid4().hex}
    answer = yield from read_json(Request("POST", route, json=dict(body), headers=headers), retries)
    return parsed(JobState, answer, "job")


def vary(body: Mapping[str, Any], key: str | None = None, retries: Retries = NO_RETRIES) -> Call[JobState]:
    """Submit a job that draws variations of a job (`job_id`) or of a picture (`image`). Raises TooOld."""
    try:
        return (yield from _new_job("/api/variations", body, key, retries))
    except NotFound as absent:
        raise _too_old(absent, "draw variations") from None


def vary_of(
    body: Mapping[str, Any], of: Mapping[str, str | bytes], key: str | None, retries: Retries = NO_RETRIES
) -> Call[JobState]:
    """Submit variations of {"job_id": id} or {"image": id or bytes}, uploading a picture that is not stored yet."""
    [(name, source)] = of.items()
    if not isinstance(source, str):
        source = (yield from upload(source, retries)).id
    return (yield from vary({**body, name: source}, key, retries))


def check(body: Mapping[str, Any], retries: Retries = NO_RETRIES) -> Call[Check]:
    """Check a request without submitting it. Raises what `submit` would, and TooOld."""
    try:
        return parsed(Check, (yield from read_json(Request("POST", "/api/check", json=dict(body)), retries)), "check")
    except NotFound as absent:
        raise _too_old(absent, "check requests") from None


def job(job_id: str, wait_s: float = 0, retries: Retries = NO_RETRIES) -> Call[JobState]:
    """Read a job once its status changes, or after `wait_s` (whole seconds, at most 50)."""
    params = {"wait": str(int(wait_s))} if wait_s >= 1 else None
    answer = yield from read_json(Request("GET", f"/api/jobs/{segment(job_id)}", params=params), retries)
    return parsed(JobState, answer, "job")


def jobs(
    limit: int, before: int | None = None, retries: Retries = NO_RETRIES
) -> Call[tuple[list[JobState], int | None]]:
    """The newest jobs, and the `before` of the next page, None at the end."""
    return (yield from _page("/api/jobs", JobState, "job", limit, before, retries))


def cancel(job_id: str, retries: Retries = NO_RETRIES) -> Call[JobState]:
    """Cancel a job. One that has ended is returned as it is."""
    answer = yield from read_json(Request("DELETE", f"/api/jobs/{segment(job_id)}"), retries)
    return parsed(JobState, answer, "job")


def cancel_queued(retries: Retries = NO_RETRIES) -> Call[list[JobState]]:
    """Cancel the caller's waiting jobs. Returns those that were cancelled. Raises TooOld."""
    request = Request("DELETE", "/api/jobs", params={"status": "queued"})
    try:
        return items(JobState, (yield from read_json(request, retries)), "job")
    except InvalidRequest as absent:
        if absent.status != 405:
            raise
        raise TooOld("too_old", TOO_OLD.format("cancel all jobs at once"), status=405) from None


def drop_lease(job_id: str, retries: Retries = NO_RETRIES) -> Call[None]:
    """Remove the job's lease: it no longer ends when no client reads it."""
    yield from exchange(Request("DELETE", f"/api/jobs/{segment(job_id)}/lease"), retries)


def preview(state: JobState, retries: Retries = NO_RETRIES) -> Call[Preview | None]:
    """The newest preview of a running job; None if there is none any more."""
    newest = state.preview
    if newest is None:
        return None
    try:
        data = yield from read_file(f"/api/jobs/{segment(state.job_id)}/preview", "image/jpeg", None, retries)
    except NotFound:
        return None
    return Preview(newest.image, newest.step, newest.steps, data)


def upload(picture: bytes, retries: Retries = NO_RETRIES) -> Call[ImageInfo]:
    """Store a reference picture in any format that the service reads."""
    headers = {"Content-Type": "application/octet-stream"}
    answer = yield from read_json(Request("POST", "/api/images", content=picture, headers=headers), retries)
    return parsed(ImageInfo, answer, "picture")


def upload_all(pictures: Sequence[str | bytes], retries: Retries = NO_RETRIES) -> Call[list[str]]:
    """The ids of pictures: bytes are uploaded, ids stay."""
    ids = []
    for picture in pictures:
        ids.append(picture if isinstance(picture, str) else (yield from upload(picture, retries)).id)
    return ids


def edit(
    body: Mapping[str, Any],
    images: Sequence[str | bytes],
    mask: str | bytes | None,
    key: str | None = None,
    retries: Retries = NO_RETRIES,
) -> Call[JobState]:
    """Upload what is not stored yet, then submit an edit."""
    return (yield from submit((yield from _with_images(body, images, mask, retries)), key, retries))


def check_edit(
    body: Mapping[str, Any], images: Sequence[str | bytes], mask: str | bytes | None, retries: Retries = NO_RETRIES
) -> Call[Check]:
    """Upload what is not stored yet, then check an edit; without pictures a request for pictures from words."""
    if not images and mask is None:
        return (yield from check(body, retries))
    return (yield from check((yield from _with_images(body, images, mask, retries)), retries))


def _with_images(
    body: Mapping[str, Any], images: Sequence[str | bytes], mask: str | bytes | None, retries: Retries
) -> Call[dict[str, Any]]:
    *ids, last = yield from upload_all([*images, *([] if mask is None else [mask])], retries)
    return {**body, "images": [*ids, last]} if mask is None else {**body, "images": ids, "mask": last}


def upscale_picture(
    body: Mapping[str, Any], picture: str | bytes, key: str | None, retries: Retries = NO_RETRIES
) -> Call[JobState]:
    """Upload the picture if it is not stored yet, then submit its upscaling. Raises TooOld."""
    [image_id] = yield from upload_all([picture], retries)
    return (yield from upscale({**body, "image": image_id}, key, retries))


def images(
    limit: int,
    before: int | None = None,
    retries: Retries = NO_RETRIES,
    *,
    filters: Mapping[str, Any] | None = None,
) -> Call[tuple[list[ImageInfo], int | None]]:
    """The newest pictures that the filters let through, and the `before` of the next page, None at the end."""
    return (yield from _page("/api/images", ImageInfo, "picture", limit, before, retries, query_of(filters or {})))


def query_of(filters: Mapping[str, Any]) -> dict[str, str]:
    """The filters as the query has them."""
    names = {"since": "from", "until": "to"}
    given = {names.get(name, name): value for name, value in filters.items() if value is not None}
    return {name: str(int(value)) if isinstance(value, bool) else str(value) for name, value in given.items()}


def inspect(picture: bytes, retries: Retries = NO_RETRIES) -> Call[Inspection]:
    """Read how a PNG was made. Nothing is stored. Raises TooOld."""
    headers = {"Content-Type": "application/octet-stream"}
    request = Request("POST", "/api/images/inspect", content=picture, headers=headers)
    try:
        return parsed(Inspection, (yield from read_json(request, retries)), "picture's settings")
    except NotFound as absent:
        raise _too_old(absent, "inspect pictures") from None


def verify(picture: bytes, retries: Retries = NO_RETRIES) -> Call[Provenance]:
    """Read who signed a picture, and whether it was changed since. Nothing is stored. Raises TooOld."""
    headers = {"Content-Type": "application/octet-stream"}
    request = Request("POST", "/api/verify", content=picture, headers=headers)
    try:
        return parsed(Provenance, (yield from read_json(request, retries)), "picture's provenance")
    except NotFound as absent:
        raise _too_old(absent, "verify pictures") from None


def _page(
    route: str,
    kind: type[T],
    what: str,
    limit: int,
    before: int | None,
    retries: Retries,
    query: Mapping[str, str] | None = None,
) -> Call[tuple[list[T], int | None]]:
    """A page of a list, and the `before` of the next one, None at the end."""
    params = {"limit": str(limit), **(query or {})} | ({} if before is None else {"before": str(before)})
    answer = yield from read_json(Request("GET", route, params=params), retries)
    found = items(kind, answer, what)
    following = answer.get("next")
    return found, following if isinstance(following, int) else None


def png(image_id: str, retries: Retries = NO_RETRIES) -> Call[bytes]:
    """A picture's PNG file."""
    return (yield from read_file(f"/images/{segment(image_id)}.png", "image/png", None, retries))


def jpeg(image_id: str, width_px: int, retries: Retries = NO_RETRIES) -> Call[bytes]:
    """A picture as JPEG, scaled by the service to at most `width_px`."""
    return (yield from read_file(f"/images/{segment(image_id)}.jpg", "image/jpeg", {"w": str(width_px)}, retries))


def keep(image_id: str, wish: Mapping[str, str | None] | None = None, retries: Retries = NO_RETRIES) -> Call[ImageInfo]:
    """Keep a picture beyond its expiry. wish: its `board` and `note`. Raises TooOld."""
    request = Request("POST", f"/api/images/{segment(image_id)}/keep", json=dict(wish or {}))
    try:
        return parsed(ImageInfo, (yield from read_json(request, retries)), "picture")
    except NotFound as absent:
        raise _too_old(absent, "keep pictures") from None


def unkeep(image_id: str, retries: Retries = NO_RETRIES) -> Call[ImageInfo]:
    """Let a kept picture expire."""
    answer = yield from read_json(Request("DELETE", f"/api/images/{segment(image_id)}/keep"), retries)
    return parsed(ImageInfo, answer, "picture")


def delete_image(image_id: str, retries: Retries = NO_RETRIES) -> Call[None]:
    """Delete a picture before its time."""
    yield from exchange(Request("DELETE", f"/api/images/{segment(image_id)}"), retries)


def models(retries: Retries = NO_RETRIES) -> Call[list[Model]]:
    """The catalog."""
    answer = yield from read_json(Request("GET", "/api/models"), retries)
    return items(Model, answer, "model")


def status(retries: Retries = NO_RETRIES) -> Call[dict[str, Any]]:
    """The state of the service, as docs/http.md describes it."""
    return parsed(dict, (yield from read_json(Request("GET", "/api/status"), retries)), "state")


def warm(model: str | None, retries: Retries = NO_RETRIES) -> Call[dict[str, Any]]:
    """Load a model before a request needs it. Returns the state of the service."""
    params = None if model is None else {"model": model}
    return parsed(dict, (yield from read_json(Request("POST", "/api/warm", params=params), retries)), "state")


def unload(retries: Retries = NO_RETRIES) -> Call[dict[str, Any]]:
    """End an idle engine or a warm-up. Returns the state of the service."""
    return parsed(dict, (yield from read_json(Request("POST", "/api/unload"), retries)), "state")


def segment(identifier: str) -> str:
    """The id as one URL path segment. Raises NotFound for text that is not an id, which could leave the route."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", identifier):
        raise NotFound("not_found", f"{identifier[:80]!r} is not an id of this service.")
    return identifier


def _too_old(absent: NotFound, what: str) -> ServiceError:
    """The error for a route that an older service lacks; the error itself if another thing was not found."""
    if absent.code != "not_found" or absent.status is None:
        return absent
    return TooOld("too_old", TOO_OLD.format(what), status=404)
