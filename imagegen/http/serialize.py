"""Builds the response models of `responses` from the app's state."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pydantic import BaseModel
from starlette.responses import JSONResponse

from imagegen import __version__
from imagegen.app import App
from imagegen.hardware import compatibility, gpu, memory_fit
from imagegen.hardware.memory_mode import MemoryPlan
from imagegen.http import responses
from imagegen.jobs.previews import StoredPreview
from imagegen.jobs.values import NewJob
from imagegen.models.download.plan import Plan
from imagegen.models.download.progress import Fetching
from imagegen.models.entry import Entry
from imagegen.models.licences import question
from imagegen.models.packages import lacking, usable
from imagegen.models.removal import Removal
from imagegen.models.synthetic.make import things
from imagegen.models.vocabulary import CANNOT_DRAW
from imagegen.models.weights import Upscaler, Weights
from imagegen.schemas import Job, ListedImage, Params, StoredImage, WebhookState, timestamp
from imagegen.security.proxies import public_url
from imagegen.settings import Settings
from imagegen.worker.lifecycle import EngineView


def answer(shape: BaseModel, status_code: int = 200) -> JSONResponse:
    """A JSON response with `shape`."""
    return JSONResponse(shape.model_dump(mode="json"), status_code)


def _when(at: float | None) -> str | None:
    return None if at is None else timestamp(at)


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def image_url(image_id: str, base: str) -> str:
    return f"{base}/images/{image_id}.png"


def image(stored: StoredImage, base: str) -> responses.jobs.Image:
    return responses.jobs.Image(
        id=stored.id,
        url=image_url(stored.id, base),
        width=stored.width,
        height=stored.height,
        bytes=stored.bytes,
        sha256=stored.sha256,
        seed=stored.seed,
        format=stored.format,
        job_id=stored.job_id,
        created_at=timestamp(stored.created_at),
        expires_at=_when(stored.expires_at),
        kept_at=_when(stored.kept_at),
        board=stored.board,
        note=stored.note,
        warnings=list(stored.warnings),
    )


def listed_image(stored: ListedImage, base: str) -> responses.jobs.ListedImage:
    job = {"kind": stored.kind, "model": stored.model, "prompt": stored.prompt}
    return responses.jobs.ListedImage.model_validate(image(stored, base).model_dump() | job)


def preview(newest: StoredPreview, base: str) -> responses.jobs.JobPreview:
    """The URL of a running job's newest preview, and its step."""
    query = f"image={newest.image}&step={newest.step}"
    return responses.jobs.JobPreview(
        url=f"{base}/api/jobs/{newest.job_id}/preview?{query}",
        image=newest.image,
        step=newest.step,
        steps=newest.steps,
    )


def job(app: App, row: Job, base: str) -> responses.jobs.Job:
    """The job as docs/http.md describes it, with its current position and ETA."""
    images = [image(stored, base) for stored in row.images]
    newest = app.jobs.previews.get(row.id)
    return responses.jobs.Job(
        job_id=row.id,
        kind=row.kind,
        status=row.status,
        position=app.jobs.position(row),
        progress=None if row.progress is None or row.status.ended else responses.jobs.JobProgress.of(row.progress),
        preview=None if newest is None else preview(newest, base),
        eta_s=_seconds(app.estimator.eta_s(row)),
        model=row.model,
        params=responses.jobs.UpscaleParams.of(row.params) if row.params.upscales else row.params,
        prompt=row.prompt,
        url=images[0].url if images else None,
        images=images,
        references=row.references,
        mask=row.mask,
        draft=row.draft,
        webhook=None if row.webhook is None else webhook(row.webhook),
        warnings=row.warnings,
        error=row.error,
        policy=row.policy,
        created_at=timestamp(row.created_at),
        started_at=_when(row.started_at),
        finished_at=_when(row.finished_at),
        expires_at=_when(row.expires_at),
        attempts=row.attempts,
        revision=row.revision,
    )


def webhook(state: WebhookState) -> responses.jobs.JobWebhook:
    delivered_at = _when(state.delivered_at)
    return responses.jobs.JobWebhook(
        url=state.url, delivered_at=delivered_at, attempts=state.attempts, error=state.error
    )


def message(app: App, row: Job) -> bytes:
    """The body of a webhook: the job as `GET /api/jobs/{id}` answers it."""
    public = public_url(app.settings.public_url)
    return bytes(answer(job(app, row, public.url if public else app.settings.url)).body)


def check(app: App, checked: NewJob) -> responses.jobs.Check:
    codes = {warning.code for warning in checked.warnings}
    return responses.jobs.Check(
        kind=checked.kind,
        model=checked.model,
        params=checked.params,
        draws_it=not codes & CANNOT_DRAW,
        fits="does_not_fit" not in codes,
        drawing_s=_seconds(app.durations.job(checked.model, checked.params)),
        eta_s=_seconds(app.estimator.new_job_s(checked.model, checked.params)),
        warnings=list(checked.warnings),
    )


def model(app: App, entry: Entry) -> responses.models.Model:
    """A catalog entry with its installed files and this machine's measurements."""
    missing, packages = entry.missing(app.settings), lacking(entry.adapter)
    known = things(entry)
    same = responses.models.Model.model_fields.keys() & Entry.model_fields.keys()
    return responses.models.Model(
        **{name: getattr(entry, name) for name in same},
        default=entry.name == app.default_entry.name,
        installed=usable(entry, app.settings),
        missing=[
            *(f"Python package {name}" for name in packages),
            *(file.file for file in missing if entry.made_by is None),
        ],
        fetching=app.model_manager.is_fetching(entry.name),
        fetch_error=app.model_manager.fetch_error(entry.name),
        negative_inert=entry.negative_inert,
        misfits=list(app.model_files.misfits(entry)),
        picture_s=_seconds(app.durations.picture(entry.name, _usual(entry))),
        memory_needs=_memory_needs(app, entry),
        previews=entry.preview_look.mode != "off",
        knows=None if known is None else [names[0] for names in known],
    )


def _memory_needs(app: App, entry: Entry) -> list[responses.models.MemoryNeed]:
    found = app.model_files.fit.needs.of(entry.name, memory_fit.files_bytes(entry, app.settings))
    return [
        responses.models.MemoryNeed.model_validate(
            {"kind": one.key.kind, "mode": one.key.mode, "pixels": one.pixels, "bytes": one.bytes, "failed": one.failed}
        )
        for one in found
    ]


def _memory(plan: MemoryPlan | None) -> responses.status.MemoryUse | None:
    return (
        None
        if plan is None
        else responses.status.MemoryUse(mode=plan.mode, need_bytes=plan.need_bytes, reason=plan.why)
    )


def _usual(entry: Entry) -> Params:
    """The parameters of a request that sets none: the model's defaults."""
    d = entry.defaults
    return Params(
        width=int(d.width.value),
        height=int(d.height.value),
        steps=int(d.steps.value),
        cfg_scale=float(d.cfg_scale.value),
        sampler=str(d.sampler.value),
        scheduler=None if d.scheduler is None else str(d.scheduler.value),
        seed=0,
    )


def models(app: App) -> responses.models.Models:
    items = [model(app, app.catalog.get(name)) for name in app.catalog.names()]
    upscalers = [upscaler(app, one) for one in app.catalog.upscalers()]
    return responses.models.Models(items=items, upscalers=upscalers, caps=_caps(app.settings))


def upscaler(app: App, entry: Upscaler) -> responses.models.Upscaler:
    missing = [] if entry.made_by is not None else [file.file for file in entry.missing(app.settings)]
    return responses.models.Upscaler(
        name=entry.name,
        title=entry.title,
        description=entry.description,
        licence=entry.licence,
        installed=not missing,
        missing=missing,
        fetching=app.model_manager.is_fetching(entry.name),
        fetch_error=app.model_manager.fetch_error(entry.name),
    )


def fetch_plan(entry: Weights, plan: Plan) -> responses.models.FetchPlan:
    return responses.models.FetchPlan(
        model=entry.name,
        files=[
            responses.models.FetchFile(repo=item.repo, path=item.path, bytes=item.size_bytes, optional=item.optional)
            for item in plan.items
        ],
        bytes_total=plan.size_bytes,
        licence=entry.licence,
        licences=plan.licences,
        licence_question=question(entry, plan.licences) if plan.items else None,
        remarks=plan.remarks,
    )


def model_files(settings: Settings, removal: Removal, freed_bytes: int) -> responses.models.ModelFiles:
    """Paths outside the models folder are reduced to the file's name."""
    files = [
        responses.models.ModelFile(file=_shown(file.path, settings.models_dir), bytes=file.disk_bytes, kept=file.kept)
        for file in removal.files
    ]
    return responses.models.ModelFiles(model=removal.model, files=files, freed_bytes=freed_bytes)


def _shown(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def _caps(settings: Settings) -> dict[str, int | float]:
    """The limits of a request, by setting name (docs/settings.md)."""
    names = {"max_dimension", "max_steps", "max_n", "max_prompt_chars", "max_references", "max_body_bytes", "image_ttl"}
    names |= {"keep_max"}
    return settings.model_dump(include=names | {"max_loras", "max_upscaled_px"})


async def status(app: App) -> responses.status.ServiceStatus:
    """The service's state. Reading it does not wake the engine."""
    view = app.worker.view()
    card = await asyncio.to_thread(gpu.read, app.settings, view.pid) if app.gpu_seen else None
    default = app.default_entry
    return responses.status.ServiceStatus(
        engine=responses.status.Engine(
            state=view.state,
            since=timestamp(view.since),
            model=view.model,
            backend=compatibility.backend(
                app.catalog.get(view.model) if view.model else default, app.model_files.machine
            ),
            pid=view.pid,
            load=_load(app, view),
            fetch=_fetch(app.fetcher.view(view.model)),
            memory=_memory(view.plan),
            error=view.error,
        ),
        idle=_idle(app),
        queue=_queue(app),
        gpu=None if card is None else responses.status.Gpu.model_validate(card, from_attributes=True),
        model=responses.status.DefaultModel(default=default.name, noise=default.noise, limits=default.limits),
        warnings=list(await asyncio.to_thread(app.model_files.troubles)),
        version=__version__,
    )


def _load(app: App, view: EngineView) -> responses.status.Load | None:
    if view.load_started is None:
        return None
    return responses.status.Load(
        fraction=view.load.fraction if view.load else 0.0,
        eta_s=_seconds(app.estimator.load_s(view, view.model or "")),
        bytes_done=view.load.bytes_done if view.load else None,
        bytes_total=view.load.bytes_total if view.load else None,
        waits_for=view.load.waits_for if view.load else None,
    )


def _fetch(running: tuple[str, Fetching] | None) -> responses.status.Fetch | None:
    if running is None:
        return None
    name, now = running
    return responses.status.Fetch(
        model=name,
        file=now.file or None,
        bytes_done=now.done_bytes,
        bytes_total=now.total_bytes or None,
        left_s=_seconds(now.left_s),
        detail=now.words,
    )


def _idle(app: App) -> responses.status.Idle:
    decision = app.worker.decision()
    return responses.status.Idle(
        mode=app.settings.idle_timeout,
        unload_at=_when(decision.unload_at) if decision else None,
        reason=decision.reason if decision else None,
        cold_start_s=_seconds(app.idle.cold_start_s),
        beta_s=_seconds(app.idle.beta_s),
    )


def _queue(app: App) -> responses.status.Queue:
    active = app.jobs.active()
    running = sum(one.running for one in active)
    return responses.status.Queue(
        queued=len(active) - running,
        running=running,
        max=app.settings.max_queue,
        eta_s=_seconds(app.estimator.queue_s()),
    )
