"""LoRA route: the LoRAs that a request may name, and the models that each can be used with."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from imagegen.app import App
from imagegen.http import responses, serialize
from imagegen.http.context import app_of, usable_names
from imagegen.models.loras.folder import LoraFile


async def loras(request: Request) -> Response:
    """The LoRAs of the folder, read at each request: operators add files while the service runs."""
    app = app_of(request)
    return serialize.answer(responses.models.Loras(items=await asyncio.to_thread(_items, app)))


def _items(app: App) -> list[responses.models.ListedLora]:
    return [_item(app, lora) for lora in app.loras.all()]


def _item(app: App, lora: LoraFile) -> responses.models.ListedLora:
    return responses.models.ListedLora(
        name=lora.name,
        bytes=lora.bytes,
        base_model=lora.facts.base_model,
        family=lora.facts.family,
        trigger_words=list(lora.facts.trigger_words),
        models=[name for name in usable_names(app) if app.loras.fits(lora, app.catalog.get(name))],
        fault=None if lora.fault is None else f"The file {lora.fault}.",
    )


ROUTES = [Route("/api/loras", loras, methods=["GET"])]
