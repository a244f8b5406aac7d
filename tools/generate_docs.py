"""Generate the tables and schemas in docs/ from the code: `python tools/generate_docs.py [--check]`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

import versions
from cli_schemas import schemas as cli_schemas
from cli_schemas import table as cli_table
from man_page import man_page
from model_tables import tables, things_of_sketch
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from imagegen.http import asgi, openapi, responses
from imagegen.http.openai import responses as openai_responses
from imagegen.http.operations import OPERATIONS
from imagegen.http.responses.base import Problem
from imagegen.http.routes import metrics, page, tasks
from imagegen.http.routes.model_files import FetchRequest
from imagegen.http.sdapi import responses as sdapi_responses
from imagegen.models.catalog import Catalog
from imagegen.prompts.guardrails import PolicyView
from imagegen.requests import CheckRequest, EditRequest, GenerateRequest, VariationRequest
from imagegen.settings import PREFIX, Settings
from imagegen.settings.access import Access, Webhooks
from imagegen.settings.engine import Engine
from imagegen.settings.limits import Limits
from imagegen.settings.network import Network
from imagegen.settings.pictures import Provenance, Retention
from imagegen.settings.prompts import Prompts
from imagegen.settings.state import State

FOLDER = Path(__file__).parents[1] / "docs"
BEGIN = "<!-- made by `python tools/generate_docs.py` from the code: change that -->"
END = "<!-- end of what is made -->"

SECTIONS: dict[type[BaseModel], str] = {
    State: "Folders and database",
    Network: "Network",
    Engine: "Engine and model",
    Limits: "Limits of requests",
    Retention: "Retention",
    Provenance: "Provenance",
    Prompts: "Policy and templates",
    Access: "Access",
    Webhooks: "Webhooks",
    Settings: "Log",
}
"""The groups of settings and their titles. Settings itself has what is in no group."""

OF_THE_USER = {"home": "`~/.local/share/imagegen`", "cache": "`~/.cache/imagegen`"}
"""The defaults on Linux of settings that depend on the user. XDG_DATA_HOME and XDG_CACHE_HOME change them."""


def settings_tables() -> str:
    """All settings of the service in Markdown: variable, default, allowed values, description."""
    lines: list[str] = []
    listed: set[str] = set()
    for group, title in SECTIONS.items():
        lines += ["", f"## {title}", "", "| variable | default | allowed | |", "| --- | --- | --- | --- |"]
        for name, field in group.model_fields.items():
            if name in listed:
                continue
            listed.add(name)
            cells = (f"`{PREFIX}{name.upper()}`", _default(name, field), _allowed(field), field.description or "")
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines).strip()


def _default(name: str, field: FieldInfo) -> str:
    if name in OF_THE_USER:
        return OF_THE_USER[name]
    if field.default is None or field.default == "":
        return "unset"
    value = field.default
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    return f"`{value}`"


def _allowed(field: FieldInfo) -> str:
    types = _types(field.annotation)
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(field.annotation))
    if bool in types:
        return "0 or 1"
    if Path in types:
        return "a path"
    limits = [_limit(constraint) for constraint in field.metadata]
    kind = "a whole number" if int in types else "a number" if float in types else "a text"
    return " ".join([kind, *filter(None, limits)])


def _types(annotation: Any) -> set[Any]:
    inner = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    return {one for one in inner if one is not NoneType}


def _limit(constraint: object) -> str:
    for name, word in (("ge", "from"), ("gt", "above"), ("le", "to"), ("lt", "below")):
        if hasattr(constraint, name):
            return f"{word} {getattr(constraint, name)}"
    return ""


ENDPOINTS_BESIDE_OPENAPI = {
    tasks.blocking: ("BentoML: a picture in one call", "200"),
    tasks.submit: ("BentoML: submit a task", "200"),
    tasks.status: ("BentoML: the state of a task", "200"),
    tasks.get: ("BentoML: the result of a task", "200"),
    tasks.retry: ("BentoML: the same task again", "200"),
    tasks.cancel: ("BentoML: cancel a task", "200"),
    openapi.openapi: ("This API as OpenAPI 3.1", "200"),
    metrics.metrics: ("Counters for Prometheus", "200"),
    page.page: ("The page", "200"),
}
"""Purpose and success code of the routes that /api/openapi.json does not describe, by handler."""
PAGE_FILES = (page.icon, page.static)
"""Handlers of the page's own files. The table omits them, since no client calls them by name."""
PROBES = (
    "| GET | `/readyz` | BentoML: the service accepts jobs | 200 |",
    "| GET | `/livez`, `/healthz` | BentoML: the process answers | 200 |",
)


def endpoint_table() -> str:
    """All endpoints in Markdown: method, path, purpose, success code. Raises KeyError for a route without a purpose."""
    lines = ["| method | path | purpose | success |", "| --- | --- | --- | --- |"]
    for route in asgi.ROUTES:
        if route.endpoint in PAGE_FILES:
            continue
        operation = OPERATIONS.get(route.endpoint)
        if operation is None:
            purpose, success = ENDPOINTS_BESIDE_OPENAPI[route.endpoint]
        else:
            purpose, success = operation.summary, ", ".join(str(status) for status in operation.answers)
        for method in sorted((route.methods or set()) - {"HEAD"}):
            lines.append(f"| {method} | `{route.path}` | {purpose} | {success} |")
    return "\n".join([*lines, *PROBES])


PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli_table,
    "http.md": endpoint_table,
    "models.md": lambda: tables(Catalog.packaged()),
    "settings.md": settings_tables,
    "sketch.md": things_of_sketch,
}


FILES: dict[str, Callable[[], str]] = {"imagegen.1": man_page}
"""Files in docs/ that are generated as a whole."""


SCHEMAS: dict[str, type[BaseModel]] = {
    "generate_request": GenerateRequest,
    "edit_request": EditRequest,
    "check_request": CheckRequest,
    "variation_request": VariationRequest,
    "check": responses.jobs.Check,
    "job": responses.jobs.Job,
    "jobs": responses.jobs.Jobs,
    "image": responses.jobs.Image,
    "images": responses.jobs.Images,
    "deleted": responses.jobs.Deleted,
    "boards": responses.jobs.Boards,
    "inspection": responses.jobs.Inspection,
    "provenance": responses.provenance.Provenance,
    "status": responses.status.ServiceStatus,
    "models": responses.models.Models,
    "loras": responses.models.Loras,
    "fetch_plan": responses.models.FetchPlan,
    "fetch_request": FetchRequest,
    "model_files": responses.models.ModelFiles,
    "policy": PolicyView,
    "templates": responses.status.Templates,
    "session": responses.status.Session,
    "problem": Problem,
    "openai_images": openai_responses.OpenAIImages,
    "openai_model": openai_responses.OpenAIModel,
    "openai_models": openai_responses.OpenAIModels,
    "openai_error": openai_responses.OpenAIError,
    "sdapi_images": sdapi_responses.SdapiImages,
    "sdapi_progress": sdapi_responses.SdapiProgress,
    "sdapi_nothing": sdapi_responses.SdapiNothing,
    "sdapi_options": sdapi_responses.SdapiOptions,
    "sdapi_warnings": sdapi_responses.SdapiWarnings,
    "sdapi_models": sdapi_responses.SdapiModels,
    "sdapi_samplers": sdapi_responses.SdapiSamplers,
    "sdapi_schedulers": sdapi_responses.SdapiSchedulers,
    "sdapi_loras": sdapi_responses.SdapiLoras,
    "sdapi_upscalers": sdapi_responses.SdapiUpscalers,
    "sdapi_upscaled": sdapi_responses.SdapiUpscaled,
    "sdapi_empty_list": sdapi_responses.SdapiEmptyList,
    "sdapi_picture_info": sdapi_responses.SdapiPictureInfo,
    "sdapi_memory": sdapi_responses.SdapiMemory,
    "sdapi_flags": sdapi_responses.SdapiFlags,
    "sdapi_error": sdapi_responses.SdapiError,
}
"""JSON Schemas in docs/schemas/ by file name. tests/contract checks the service's answers against them."""


def page_with(text: str, generated: str) -> str:
    """`text` with the part between the markers replaced. Raises ValueError if the markers are missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page must have the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{generated}\n\n{END}{after}"


def stale(folder: Path = FOLDER) -> Iterable[tuple[Path, str]]:
    """The pages, files and schemas that differ from the code, with their new content."""
    for name, made in PAGES.items():
        page = folder / name
        text = page.read_text(encoding="utf-8")
        fresh = page_with(text, made())
        if fresh != text:
            yield page, fresh
    for name, written in FILES.items():
        file, fresh = folder / name, written()
        if not file.exists() or file.read_text(encoding="utf-8") != fresh:
            yield file, fresh
    own = {name: model.model_json_schema() for name, model in SCHEMAS.items()}
    for name, schema in (own | cli_schemas()).items():
        file = folder / "schemas" / f"{name}.json"
        fresh = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        if not file.exists() or file.read_text(encoding="utf-8") != fresh:
            yield file, fresh


def main() -> int:
    """Write the pages and the copies of the version; with --check name the stale ones. Exit code 0: none is stale."""
    check = "--check" in sys.argv[1:]
    found = [*stale(), *versions.stale()]
    for file, fresh in found:
        if check:
            print(f"{file} is stale: run python tools/generate_docs.py", file=sys.stderr)
        else:
            file.parent.mkdir(exist_ok=True)
            file.write_text(fresh, encoding="utf-8")
    return 1 if check and found else 0


if __name__ == "__main__":
    sys.exit(main())
