"""What the JSON looks like: jobs, pictures, models and the status, from the parts that know them."""

from __future__ import annotations

import asyncio
from typing import Any

from imagegen import __version__
from imagegen.app import App
from imagegen.hardware import gpu
from imagegen.jobs.previews import StoredPreview
from imagegen.models.download.progress import Fetching
from imagegen.models.entry import Entry
from imagegen.models.packages import lacking
from imagegen.schemas import Job, StoredImage, timestamp
from imagegen.settings import Settings


def _when(at: float | None) -> str | None:
    return None if at is None else timestamp(at)


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def image_json(image: StoredImage, base: str) -> dict[str, Any]:
    return {
        "id": image.id,
        "url": f"{base}/images/{image.id}.{image.format}",
        "width": image.width,
        "height": image.height,
        "bytes": image.bytes,
        "sha256": image.sha256,
        "seed": image.seed,
        "format": image.format,
        "job_id": image.job_id,
        "created_at": timestamp(image.created_at),
        "expires_at": _when(image.expires_at),
    }


def preview_json(preview: StoredPreview, base: str) -> dict[str, Any]:
    """Where the newest preview of a running job is, and how far the picture is in it."""
    query = f"image={preview.image}&step={preview.step}"
    return {
        "url": f"{base}/api/jobs/{preview.job_id}/preview?{query}",
        "image": preview.image,
        "step": preview.step,
        "steps": preview.steps,
    }


def job_json(app: App, job: Job, base: str) -> dict[str, Any]:
    """The job as DESIGN writes it; position and ETA are computed now."""
    images = [image_json(image, base) for image in job.images]
    progress = None
    if job.progress is not None and not job.status.ended:
        progress = job.progress.model_dump(mode="json", exclude={"at"})
    preview = app.jobs.previews.get(job.id)
    view: dict[str, Any] = {
        "job_id": job.id,
        "kind": job.kind.value,
        "status": job.status.value,
        "position": app.jobs.position(job),
        "progress": progress,
        "preview": None if preview is None else preview_json(preview, base),
        "eta_s": _seconds(app.estimator.eta_s(job)),
        "model": job.model,
        "params": job.params.model_dump(exclude_none=True),
        "prompt": job.prompt,
        "images": images,
        "references": job.references,
        "draft": job.draft,
        "warnings": [w.model_dump() for w in job.warnings],
        "policy": job.policy.model_dump(),
        "created_at": timestamp(job.created_at),
        "started_at": _when(job.started_at),
        "finished_at": _when(job.finished_at),
        "expires_at": _when(job.expires_at),
        "attempts": job.attempts,
        "revision": job.revision,
    }
    if images:
        view["url"] = images[0]["url"]
    if job.error:
        view["error"] = job.error.model_dump()
    return view


def model_json(app: App, entry: Entry) -> dict[str, Any]:
    """A catalog entry with what is installed of it."""
    missing, packages = entry.missing(app.settings), lacking(entry.adapter)
    return entry.model_dump(
        mode="json",
        include={
            "name", "title", "description", "adapter", "noise", "limits", "licence", "capabilities", "defaults",
            "size_multiple", "size_min_px", "memory", "fast",
        },
    ) | {
        "default": entry.name == app.default_entry.name,
        "installed": not packages and (not missing or entry.made_by is not None),
        "missing": [
            *(f"Python package {name}" for name in packages),
            *(file.file for file in missing if entry.made_by is None),
        ],
        "negative_inert": entry.negative_inert,
    }  # fmt: skip


def caps_json(settings: Settings) -> dict[str, Any]:
    """The most a request may ask for; the names are the settings' (docs/settings.md)."""
    names = {"max_dimension", "max_steps", "max_n", "max_prompt_chars", "max_references", "max_body_bytes", "image_ttl"}
    return settings.model_dump(include=names)


def fetch_json(view: tuple[str, Fetching] | None) -> dict[str, Any] | None:
    """The download that runs, if one does."""
    if view is None:
        return None
    model, now = view
    return {
        "model": model,
        "file": now.file or None,
        "bytes_done": now.done_bytes,
        "bytes_total": now.total_bytes or None,
        "left_s": _seconds(now.left_s),
        "detail": now.words,
    }


async def status_json(app: App) -> dict[str, Any]:
    """The whole state; reading it wakes nothing."""
    view = app.worker.view()
    decision = app.worker.decision()
    load = None
    if view.load_started is not None:
        load = {
            "fraction": view.load.fraction if view.load else 0.0,
            "eta_s": _seconds(app.estimator.load_s(view, view.model or "")),
            "bytes_done": view.load.bytes_done if view.load else None,
            "bytes_total": view.load.bytes_total if view.load else None,
            "waits_for": view.load.waits_for if view.load else None,
        }
    active = app.jobs.active()
    running = sum(one.running for one in active)
    card = await asyncio.to_thread(gpu.read, view.pid) if app.gpu_seen else None
    return {
        "engine": {
            "state": view.state.value,
            "since": timestamp(view.since),
            "model": view.model,
            "pid": view.pid,
            "load": load,
            "fetch": fetch_json(app.fetcher.view(view.model)),
            "error": view.error.model_dump() if view.error else None,
        },
        "idle": {
            "mode": app.settings.idle_timeout,
            "unload_at": _when(decision.unload_at) if decision else None,
            "reason": decision.reason if decision else None,
            "cold_start_s": _seconds(app.idle.cold_start_s),
            "beta_s": _seconds(app.idle.beta_s),
        },
        "queue": {
            "queued": len(active) - running,
            "running": running,
            "max": app.settings.max_queue,
            "eta_s": _seconds(app.estimator.queue_s()),
        },
        "gpu": None
        if card is None
        else {
            "name": card.name,
            "total_bytes": card.total_bytes,
            "free_bytes": card.free_bytes,
            "ours_bytes": card.ours_bytes,
        },
        "model": app.default_entry.model_dump(include={"noise", "limits"}) | {"default": app.default_entry.name},
        "warnings": [w.model_dump() for w in await asyncio.to_thread(app.model_files.troubles)],
        "version": __version__,
    }
