"""Each route's summary, parameters, request bodies and responses for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from imagegen.http import responses
from imagegen.http.openai import responses as openai_responses
from imagegen.http.openai import routes as openai
from imagegen.http.openai.request import ImagesEditRequest, ImagesRequest, ImagesVariationRequest
from imagegen.http.routes import (
    archive,
    events,
    gallery,
    images,
    inspection,
    jobs,
    keeping,
    loras,
    model_files,
    previews,
    provenance,
    session,
    status,
)
from imagegen.http.sdapi import extras as sdapi_extras
from imagegen.http.sdapi import lists as sdapi_lists
from imagegen.http.sdapi import responses as sdapi_responses
from imagegen.http.sdapi import routes as sdapi
from imagegen.http.sdapi.request import ImageToImage, TextToImage
from imagegen.prompts.guardrails import PolicyView
from imagegen.requests import (
    BoardRequest,
    CheckRequest,
    EditRequest,
    GenerateRequest,
    KeepRequest,
    UpscaleRequest,
    VariationRequest,
    ZipRequest,
)
from imagegen.schemas import PREVIEW_EVERY_MAX
from imagegen.storage.search import MAX_QUERY_CHARS

JSON = "application/json"
EVENTS = "text/event-stream"
PICTURES = ("image/png", "image/jpeg", "image/webp")
FILE: dict[str, Any] = {"type": "string", "format": "binary"}


Body = type[BaseModel] | str


@dataclass(frozen=True)
class Operation:
    """The description of one route handler.

    answers: by status, models for JSON and media types for other content; empty: no body.
    body: by media type, a model or a schema. query, headers: parameters, name to schema. required: those of the query
    that a request must have.
    """

    summary: str
    answers: Mapping[int, tuple[Body, ...]]
    body: Mapping[str, type[BaseModel] | dict[str, Any]] = field(default_factory=dict)
    query: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    headers: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    body_required: bool = True
    required: frozenset[str] = frozenset()


def whole(low: int, high: int, default: int | None = None) -> dict[str, Any]:
    """The schema of an integer from `low` to `high`."""
    schema: dict[str, Any] = {"type": "integer", "minimum": low, "maximum": high}
    return schema if default is None else schema | {"default": default}


def form(required: list[str], **properties: dict[str, Any]) -> dict[str, Any]:
    """The schema of a form. Other fields are forbidden."""
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


TEXT: dict[str, Any] = {"type": "string"}
KEY = {"Idempotency-Key": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]([ -~]*[!-~])?$"}}
LAST_EVENT = {"Last-Event-ID": whole(0, 10**15)}
BEFORE = whole(1, 10**18)
FIND: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("cursor", "before"), BEFORE),
    "q": {"type": "string", "maxLength": MAX_QUERY_CHARS},
    **dict.fromkeys(("model", "board", "from", "to"), TEXT),
    "kind": {"type": "string", "enum": list(gallery.KINDS)},
    "kept": {"type": "string", "enum": ["0", "1"]},
    **dict.fromkeys(("min_size", "max_size"), whole(1, 100_000)),
}
FILES = {"type": "array", "items": FILE, "minItems": 1}
EDIT_FORM = form(
    ["prompt", "image"],
    **dict.fromkeys(("prompt", "negative", "sampler", "model", "loras"), TEXT),
    **{name: {"type": "integer"} for name in ("width", "height", "steps", "seed", "n")},
    **{name: {"type": "number"} for name in ("cfg_scale", "lease_s", "strength")},
    image=FILES,
    mask=FILE,
    fit={"type": "string", "enum": ["contain", "cover", "stretch"]},
    background={"type": "string", "enum": ["opaque", "transparent"]},
    preview={"anyOf": [{"type": "string", "enum": ["off", "auto"]}, whole(1, PREVIEW_EVERY_MAX)]},
    draft={"type": "boolean"},
    **dict.fromkeys(("webhook.url", "webhook.secret"), TEXT),
)
UPLOAD = {
    "multipart/form-data": form(["image"], image=FILE),
    "application/octet-stream": FILE,
    **dict.fromkeys(PICTURES, FILE),
}
"""A picture, as the body or in a form."""
VARIATION_FORM = form(
    [],
    **dict.fromkeys(("job_id", "prompt", "model"), TEXT),
    **{name: {"type": "integer"} for name in ("n", "seed")},
    lease_s={"type": "number"},
    image=FILE,
    preview={"anyOf": [{"type": "string", "enum": ["off", "auto"]}, whole(1, PREVIEW_EVERY_MAX)]},
    **dict.fromkeys(("webhook.url", "webhook.secret"), TEXT),
)
UPSCALE_FORM = form(
    ["image"],
    image=FILE,
    factor={"type": "integer", "enum": [2, 4]},
    model=TEXT,
    lease_s={"type": "number"},
    **dict.fromkeys(("webhook.url", "webhook.secret"), TEXT),
)
OPENAI_FORM = form(
    ["prompt", "image"],
    **dict.fromkeys(("prompt", "model", "size", "quality", "user", "negative", "sampler", "loras"), TEXT),
    **{name: {"type": "integer"} for name in ("n", "width", "height", "steps", "seed", "output_compression")},
    **{name: {"type": "number"} for name in ("cfg_scale", "strength")},
    image=FILES,
    mask=FILE,
    response_format={"type": "string", "enum": ["url", "b64_json"]},
    output_format={"type": "string", "enum": ["png", "jpeg", "webp"]},
    background={"type": "string", "enum": ["auto", "opaque", "transparent"]},
    stream={"type": "boolean"},
    partial_images=whole(0, 3),
    fit={"type": "string", "enum": ["contain", "cover", "stretch"]},
) | {"additionalProperties": True}
OPENAI_VARIATION_FORM = OPENAI_FORM | {"required": ["image"]}

Handler = Callable[..., Any]
OPERATIONS: dict[Handler, Operation] = {
    jobs.generate: Operation(
        "Ask for pictures from words", {202: (responses.jobs.Job,)}, {"application/json": GenerateRequest}, headers=KEY
    ),
    jobs.edit: Operation(
        "Ask for pictures from words and pictures",
        {202: (responses.jobs.Job,)},
        {"application/json": EditRequest, "multipart/form-data": EDIT_FORM},
        headers=KEY,
    ),
    jobs.variations: Operation(
        "Ask for variations of a job or a picture",
        {202: (responses.jobs.Job,)},
        {"application/json": VariationRequest, "multipart/form-data": VARIATION_FORM},
        headers=KEY,
    ),
    jobs.upscale: Operation(
        "Ask for a larger copy of a picture",
        {202: (responses.jobs.Job,)},
        {"application/json": UpscaleRequest, "multipart/form-data": UPSCALE_FORM},
        headers=KEY,
    ),
    jobs.check: Operation(
        "What a request would become, without a job", {200: (responses.jobs.Check,)}, {"application/json": CheckRequest}
    ),
    jobs.recent: Operation(
        "The newest jobs", {200: (responses.jobs.Jobs,)}, query={"limit": whole(1, 200, 20), "before": BEFORE}
    ),
    jobs.read: Operation(
        "A job, at once or at its next change of status",
        {200: (responses.jobs.Job,)},
        query={"wait": whole(0, jobs.MAX_WAIT_S, 0)},
    ),
    jobs.cancel_queued: Operation(
        "Cancel the caller's waiting jobs; the running one goes on",
        {200: (responses.jobs.Jobs,)},
        query={"status": {"type": "string", "enum": ["queued"]}},
        required=frozenset({"status"}),
    ),
    jobs.cancel: Operation("Cancel a job; one that has ended is returned as it is", {200: (responses.jobs.Job,)}),
    jobs.drop_lease: Operation(
        "Remove a job's lease: the job no longer fails when unread", {200: (responses.jobs.Job,)}
    ),
    previews.read: Operation(
        "The newest preview of a running job",
        {200: ("image/jpeg",), 304: ()},
        query={"image": whole(1, 10), "step": whole(1, 100)},
    ),
    previews.keep: Operation("Keep a draft: it becomes a job like any other", {200: (responses.jobs.Job,)}),
    events.of_job: Operation("A job's changes, as they come", {200: (EVENTS,), 204: ()}, headers=LAST_EVENT),
    events.of_everything: Operation(
        "Changes of every job, the queue and the engine, as they come",
        {200: (EVENTS,)},
        query={"presence": whole(0, 1, 0)},
        headers=LAST_EVENT,
    ),
    images.upload: Operation(
        "Upload a picture for edits",
        {201: (responses.jobs.Image,)},
        UPLOAD,
    ),
    provenance.verify: Operation(
        "Who signed a picture, and whether it was changed since",
        {200: (responses.provenance.Provenance,)},
        UPLOAD,
    ),
    inspection.inspect: Operation(
        "How a PNG was made, and what of it is a request here",
        {200: (responses.jobs.Inspection,)},
        UPLOAD,
    ),
    gallery.gallery: Operation(
        "Find pictures, the newest first", {200: (responses.jobs.Images,)}, query=FIND | {"limit": whole(1, 200, 50)}
    ),
    archive.archive: Operation("Several pictures as a ZIP archive", {200: (archive.ZIP,)}, {JSON: ZipRequest}),
    keeping.keep: Operation(
        "Keep a picture beyond its expiry",
        {200: (responses.jobs.Image,)},
        {JSON: KeepRequest},
        body_required=False,
    ),
    keeping.release: Operation("Keep a picture no longer", {200: (responses.jobs.Image,)}),
    keeping.delete: Operation("Delete a picture before its time", {204: ()}),
    keeping.delete_of_job: Operation(
        "Delete the pictures of a job that are not kept", {200: (responses.jobs.Deleted,)}
    ),
    keeping.boards: Operation("The boards of kept pictures", {200: (responses.jobs.Boards,)}),
    keeping.rename_board: Operation("Rename a board", {200: (responses.jobs.Boards,)}, {JSON: BoardRequest}),
    keeping.delete_board: Operation("Delete a board; its pictures stay kept", {200: (responses.jobs.Boards,)}),
    images.fetch: Operation("A picture, converted and reduced", {200: PICTURES, 304: ()}, query={"w": whole(16, 4096)}),
    status.status: Operation("The state of the service", {200: (responses.status.ServiceStatus,)}),
    status.models: Operation("The catalog", {200: (responses.models.Models,)}),
    loras.loras: Operation("LoRAs, and the models that each can be used with", {200: (responses.models.Loras,)}),
    status.policy: Operation(
        "What the operator excludes from every picture", {200: (PolicyView,)}, query={"model": TEXT}
    ),
    status.prompt_templates: Operation("Prompt presets", {200: (responses.status.Templates,)}),
    status.warm: Operation(
        "Load a model before a request needs it; the default one if none is named",
        {202: (responses.status.ServiceStatus,)},
        query={"model": TEXT},
    ),
    status.unload: Operation("Stop an idle engine, or a warm-up", {202: (responses.status.ServiceStatus,)}),
    model_files.plan: Operation("What a download of a model would bring", {200: (responses.models.FetchPlan,)}),
    model_files.fetch: Operation(
        "Begin to download a model's missing files",
        {202: (responses.models.FetchPlan,)},
        {"application/json": model_files.FetchRequest},
    ),
    model_files.stop_fetch: Operation("Stop the download of a model", {200: (responses.status.ServiceStatus,)}),
    model_files.files: Operation(
        "A model's files, and what removing them frees", {200: (responses.models.ModelFiles,)}
    ),
    model_files.remove: Operation("Remove a model's files", {200: (responses.models.ModelFiles,)}),
    session.begin: Operation("Exchange the token for a cookie", {200: (responses.status.Session,)}),
    session.end: Operation("Delete the cookie", {204: ()}),
    openai.generations: Operation(
        "OpenAI: pictures from words",
        {200: (openai_responses.OpenAIImages, EVENTS)},
        {"application/json": ImagesRequest},
        headers=KEY,
    ),
    openai.edits: Operation(
        "OpenAI: pictures from words and pictures",
        {200: (openai_responses.OpenAIImages, EVENTS)},
        {"application/json": ImagesEditRequest, "multipart/form-data": OPENAI_FORM},
        headers=KEY,
    ),
    openai.variations: Operation(
        "OpenAI: variations of a picture",
        {200: (openai_responses.OpenAIImages, EVENTS)},
        {"application/json": ImagesVariationRequest, "multipart/form-data": OPENAI_VARIATION_FORM},
        headers=KEY,
    ),
    openai.models: Operation("OpenAI: the models that can draw now", {200: (openai_responses.OpenAIModels,)}),
    openai.model: Operation("OpenAI: one of them", {200: (openai_responses.OpenAIModel,)}),
    sdapi.txt2img: Operation(
        "AUTOMATIC1111: pictures from words",
        {200: (sdapi_responses.SdapiImages,)},
        {"application/json": TextToImage},
        headers=KEY,
    ),
    sdapi.img2img: Operation(
        "AUTOMATIC1111: pictures from words and a picture",
        {200: (sdapi_responses.SdapiImages,)},
        {"application/json": ImageToImage},
        headers=KEY,
    ),
    sdapi_extras.extra_single_image: Operation(
        "AUTOMATIC1111: a larger copy of a picture",
        {200: (sdapi_responses.SdapiUpscaled,)},
        {"application/json": sdapi_extras.ExtraSingleImage},
        headers=KEY,
    ),
    sdapi_lists.upscalers: Operation(
        "AUTOMATIC1111: how extra-single-image can enlarge", {200: (sdapi_responses.SdapiUpscalers,)}
    ),
    sdapi.progress: Operation(
        "AUTOMATIC1111: how far the caller's own job is",
        {200: (sdapi_responses.SdapiProgress,)},
        query={"skip_current_image": {"type": "boolean"}},
    ),
    sdapi.interrupt: Operation("AUTOMATIC1111: cancel the caller's own job", {200: (sdapi_responses.SdapiNothing,)}),
    sdapi.skip: Operation("AUTOMATIC1111: the same as interrupt", {200: (sdapi_responses.SdapiNothing,)}),
    sdapi_lists.options: Operation("AUTOMATIC1111: options", {200: (sdapi_responses.SdapiOptions,)}),
    sdapi_lists.set_options: Operation(
        "AUTOMATIC1111: choose the model of the caller's next requests",
        {200: (sdapi_responses.SdapiWarnings,)},
        {"application/json": {"type": "object", "properties": {sdapi_lists.CHECKPOINT: TEXT}}},
    ),
    sdapi_lists.sd_models: Operation(
        "AUTOMATIC1111: the models that can draw now", {200: (sdapi_responses.SdapiModels,)}
    ),
    sdapi_lists.samplers: Operation(
        "AUTOMATIC1111: samplers of the chosen model", {200: (sdapi_responses.SdapiSamplers,)}
    ),
    sdapi_lists.schedulers: Operation("AUTOMATIC1111: schedulers", {200: (sdapi_responses.SdapiSchedulers,)}),
    sdapi_lists.loras: Operation("AUTOMATIC1111: LoRAs", {200: (sdapi_responses.SdapiLoras,)}),
    sdapi_lists.png_info: Operation(
        "AUTOMATIC1111: the settings that a PNG carries",
        {200: (sdapi_responses.SdapiPictureInfo,)},
        {"application/json": sdapi_lists.PictureInfo},
    ),
    sdapi_lists.memory: Operation("AUTOMATIC1111: memory", {200: (sdapi_responses.SdapiMemory,)}),
    sdapi_lists.cmd_flags: Operation("AUTOMATIC1111: command line flags", {200: (sdapi_responses.SdapiFlags,)}),
} | {
    handler: Operation(f"AUTOMATIC1111: {name}: an empty list", {200: (sdapi_responses.SdapiEmptyList,)})
    for name, handler in sdapi_lists.EMPTY_LISTS.items()
}
