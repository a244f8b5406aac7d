"""`/api/openapi.json`: OpenAPI 3.1, generated from the route table, the models and this service's limits."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from imagegen import __version__
from imagegen.http.context import app_of, base_url
from imagegen.http.openai.responses import OpenAIError
from imagegen.http.operations import EVENTS, OPERATIONS, Body, Operation
from imagegen.http.responses.base import Problem
from imagegen.http.sdapi.responses import SdapiError
from imagegen.models.entry_tables import SAMPLERS
from imagegen.schemas import SEED_MAX
from imagegen.settings import Settings

PROBLEM = "application/problem+json"
DESCRIBED = ("/api/", "/images/", "/v1/", "/sdapi/")
PATTERNS = {"/images/{name}": {"name": r"^[0-9a-f]{32}\.(png|jpg|webp)$"}}
EVENT = {
    "type": "object",
    "required": ["data"],
    "properties": {name: {"type": "string"} for name in ("event", "id", "data", "retry")},
}
"""Schema of one server-sent event; its `data` is JSON."""
REFUSALS: dict[str, tuple[type[BaseModel], str]] = {
    "/v1/": (OpenAIError, "application/json"),
    "/sdapi/": (SdapiError, "application/json"),
}
"""Model and media type of an error, by path prefix. Other paths return a problem document."""
TOLERANT = ("ImagesRequest", "ImagesEditRequest", "TextToImage", "ImageToImage")
REQUESTS = ("GenerateRequest", "EditRequest", *TOLERANT)


async def openapi(request: Request) -> Response:
    state = request.app.state
    if getattr(state, "openapi", None) is None:
        state.openapi = document(request.app.routes, app_of(request).settings)
    return JSONResponse(state.openapi | {"servers": [{"url": base_url(request)}]})


def document(routes: Iterable[BaseRoute], settings: Settings) -> dict[str, Any]:
    """The OpenAPI document for `described(routes)`. Omits routes without an operation."""
    ref = "#/components/schemas/{model}"
    models = sorted(_models(), key=lambda model: model.__name__)
    _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=ref)
    schemas: dict[str, Any] = definitions["$defs"]
    _cap(schemas, settings)
    paths: dict[str, Any] = {}
    for route in described(routes):
        operation = OPERATIONS.get(route.endpoint)
        for method in sorted((route.methods or set()) - {"HEAD"}):
            if operation is not None:
                paths.setdefault(route.path, {})[method.lower()] = _operation(route, operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "imagegen", "version": __version__, "description": "Pictures from words, on one GPU."},
        "security": [{"token": []}, {"session": []}, {}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic", "description": "Under /sdapi/ only."},
                "session": {"type": "apiKey", "in": "cookie", "name": "imagegen_session"},
            },
        },
    }


def described(routes: Iterable[BaseRoute]) -> list[Route]:
    """The routes that belong in the document: not the page, its files or `/metrics`."""
    return [
        one for one in routes if isinstance(one, Route) and one.path.startswith(DESCRIBED) and one.endpoint != openapi
    ]


def _models() -> set[type[BaseModel]]:
    found: set[type[BaseModel]] = {Problem, *(shape for shape, _ in REFUSALS.values())}
    for operation in OPERATIONS.values():
        parts = [*operation.body.values(), *(body for bodies in operation.answers.values() for body in bodies)]
        found |= {part for part in parts if isinstance(part, type)}
    return found


def _operation(route: Route, operation: Operation) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"} | _pattern(route.path, name)}
        for name in re.findall(r"{(\w+)", route.path)
    ]
    for where, named in (("query", operation.query), ("header", operation.headers)):
        parameters += [
            {"name": name, "in": where, "schema": schema} | ({"required": True} if name in operation.required else {})
            for name, schema in named.items()
        ]
    described: dict[str, Any] = {
        "operationId": f"{route.endpoint.__module__.rsplit('.', 1)[1]}_{route.endpoint.__name__}",
        "summary": operation.summary,
        "parameters": parameters,
        "responses": {str(status): _answer(bodies) for status, bodies in operation.answers.items()},
    }
    refusals = (shape for start, shape in REFUSALS.items() if route.path.startswith(start))
    refusal, media = next(refusals, (Problem, PROBLEM))
    described["responses"]["default"] = {"description": "A refusal", "content": {media: {"schema": _ref(refusal)}}}
    if route.path.startswith("/sdapi/"):
        described["security"] = [{"token": []}, {"basic": []}, {}]
    if operation.body:
        content = {
            media: {"schema": _ref(body) if isinstance(body, type) else body} for media, body in operation.body.items()
        }
        described["requestBody"] = {"required": operation.body_required, "content": content}
    return described


def _answer(bodies: tuple[Body, ...]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for body in bodies:
        if isinstance(body, str):
            content[body] = {"schema": EVENT if body == EVENTS else {"type": "string"}}
        else:
            content["application/json"] = {"schema": _ref(body)}
    if not content:
        return {"description": "Nothing"}
    about = [body.__name__ if isinstance(body, type) else body for body in bodies]
    return {"description": " or ".join(about), "content": content}


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _pattern(path: str, name: str) -> dict[str, str]:
    pattern = PATTERNS.get(path, {}).get(name)
    return {"pattern": pattern} if pattern else {}


def _cap(schemas: dict[str, Any], settings: Settings) -> None:
    """Add this service's limits to the request schemas: the models define fields; settings and admission, limits."""
    s = settings
    bounds: dict[str, dict[str, Any]] = {
        "prompt": {"minLength": 1, "maxLength": s.max_prompt_chars},
        "negative": {"maxLength": s.max_prompt_chars},
        "width": {"minimum": 1, "maximum": s.max_dimension},
        "height": {"minimum": 1, "maximum": s.max_dimension},
        "steps": {"minimum": 1, "maximum": s.max_steps},
        "n": {"minimum": 1, "maximum": s.max_n},
        "seed": {"minimum": 0, "maximum": SEED_MAX},
        "cfg_scale": {"minimum": 0, "maximum": 30},
        "lease_s": {"minimum": 5, "maximum": 3600},
        "sampler": {"enum": list(SAMPLERS)},
        "images": {"maxItems": s.max_references},
        "loras": {"maxItems": s.max_loras},
        "init_images": {"minItems": 1, "maxItems": s.max_references},
        "negative_prompt": {"maxLength": s.max_prompt_chars},
        "batch_size": {"minimum": 1, "maximum": s.max_n},
        "n_iter": {"minimum": 1, "maximum": s.max_n},
    }
    for name in REQUESTS:
        for field_name, schema in schemas[name]["properties"].items():
            for variant in schema.get("anyOf", [schema]):
                if variant.get("type") != "null":
                    variant |= bounds.get(field_name, {})
                if field_name == "seed" and name in TOLERANT and "minimum" in variant:
                    variant["minimum"] = -1  # a random one


ROUTES = [Route("/api/openapi.json", openapi, methods=["GET"])]
