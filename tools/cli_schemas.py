"""What each command of the command line prints with --json, for docs/cli.md and docs/schemas/."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, TypeAdapter

from imagegen.cli import documents
from imagegen.http import responses
from imagegen.http.responses.base import Answer
from imagegen.http.responses.jobs import Job, ListedImage
from imagegen.http.responses.status import ServiceStatus
from imagegen.models.entry import Entry
from imagegen.models.weights import Upscaler


class Pictures(Answer):
    """job: as the service returns it. files: the written files, one for each picture of the job."""

    job: Job
    files: list[str]


class DeploymentState(Answer):
    """service: the service's own state, as GET /api/status returns it."""

    container: str
    state: str
    started_at: str
    ready: bool
    service: ServiceStatus


class Error(Answer):
    """Why a command failed. code: one of the service's (docs/http.md) or of docs/cli.md."""

    code: str
    detail: str
    exit_code: int


class Failed(Answer):
    """What every command prints in place of its own document if it fails."""

    error: Error


def _model(kind: type[BaseModel]) -> dict[str, Any]:
    """An entry of the catalog as `imagegen models` shows it: with its folder, and the state of its files."""
    schema = TypeAdapter(kind).json_schema(mode="serialization")
    properties = schema["properties"]
    properties.pop("folder", None)
    properties.pop("own_folder", None)
    file = schema["$defs"]["ModelFile"]
    file["properties"] |= {"place": {"type": "string"}, "there": {"type": "boolean"}}
    more: dict[str, Any] = {"folder": {"type": "string"}, "installed": {"type": "boolean"}}
    if kind is Entry:
        needs = TypeAdapter(list[responses.models.MemoryNeed]).json_schema(mode="serialization")
        schema["$defs"] |= needs.pop("$defs")
        more |= {
            "lacking_packages": {"type": "array", "items": {"type": "string"}},
            "negative_inert": {"type": "boolean"},
            "memory_needs": needs,
        }
    properties |= more
    for one in (schema, file):
        one["required"] = sorted(one["properties"])
        one["additionalProperties"] = False
    return schema


def _either(*schemas: dict[str, Any]) -> dict[str, Any]:
    definitions: dict[str, Any] = {}
    for schema in schemas:
        definitions |= schema.pop("$defs", {})
    return {"anyOf": list(schemas), "$defs": definitions}


def _many(schema: dict[str, Any]) -> dict[str, Any]:
    definitions = schema.pop("$defs")
    return {"type": "array", "items": schema, "$defs": definitions}


def _of(kind: Any) -> dict[str, Any]:
    """The schema of a document. A dataclass has no further fields."""
    schema = TypeAdapter(kind).json_schema(mode="serialization")
    for one in [schema, *schema.get("$defs", {}).values()]:
        if one.get("type") == "object" and "properties" in one:
            one.setdefault("additionalProperties", False)
    return schema


def _models() -> dict[str, Any]:
    return _either(_model(Entry), _model(Upscaler))


COMMANDS: dict[str, str] = {
    "batch": "cli_batch",
    "cancel": "cli_jobs",
    "compare": "cli_comparison",
    "config show": "cli_configuration",
    "database copy": "cli_database_copied",
    "database status": "cli_database_state",
    "database upgrade": "cli_database_upgraded",
    "deploy": "cli_deployed",
    "deploy build": "cli_image_built",
    "deploy down": "cli_deployment_removed",
    "deploy status": "cli_deployment_state",
    "doctor": "cli_findings",
    "draw": "cli_pictures",
    "edit": "cli_pictures",
    "engine build": "cli_engine_file",
    "engine export": "cli_engine_file",
    "engine import": "cli_engine_file",
    "engine path": "cli_engine_file",
    "images get": "cli_saved_image",
    "images keep": "image",
    "images list": "cli_images",
    "images rm": "cli_images_removed",
    "images unkeep": "image",
    "inspect": "inspection",
    "jobs": "cli_jobs",
    "loras add": "cli_lora",
    "loras list": "cli_loras",
    "loras remove": "cli_lora_removed",
    "models add": "cli_model_added",
    "models check": "cli_model_checked",
    "models fetch": "cli_model_folder",
    "models list": "cli_models",
    "models make": "cli_model_folder",
    "models remove": "cli_model_removed",
    "models show": "cli_model",
    "status": "status",
    "tls renew": "cli_certificate",
    "tls show": "cli_certificate",
    "token new": "cli_new_token",
    "unload": "status",
    "upscale": "cli_pictures",
    "vary": "cli_pictures",
    "verify": "provenance",
    "warm": "status",
}
"""The schema of each command's document, a file of docs/schemas/."""
WITHOUT = {"serve", "deploy logs", "watch", "completion"}
"""Commands that become another program, fill a terminal, or print a script of a shell."""


def schemas() -> dict[str, dict[str, Any]]:
    """The schemas that only the command line has, by file name. Those of the service are its own."""
    return {
        "cli_error": _of(Failed),
        "cli_pictures": _of(Pictures),
        "cli_jobs": _of(list[Job]),
        "cli_images": _of(list[ListedImage]),
        "cli_images_removed": _of(documents.ImagesRemoved),
        "cli_configuration": _of(documents.Configuration),
        "cli_batch": _of(documents.Batch),
        "cli_saved_image": _of(documents.SavedImage),
        "cli_comparison": _of(documents.Comparison),
        "cli_engine_file": _of(documents.EngineFile),
        "cli_model": _models(),
        "cli_models": _many(_models()),
        "cli_model_folder": _of(documents.ModelFolder),
        "cli_model_added": _of(documents.ModelAdded),
        "cli_model_removed": _of(documents.ModelRemoved),
        "cli_model_checked": _of(documents.ModelChecked),
        "cli_lora": _of(documents.Lora),
        "cli_loras": _of(list[documents.Lora]),
        "cli_lora_removed": _of(documents.LoraRemoved),
        "cli_certificate": _of(documents.Certificate),
        "cli_new_token": _of(documents.NewToken),
        "cli_findings": _of(documents.Findings),
        "cli_database_copied": _of(documents.DatabaseCopied),
        "cli_database_state": _of(documents.DatabaseState),
        "cli_database_upgraded": _of(documents.DatabaseUpgraded),
        "cli_deployed": _of(documents.Deployed),
        "cli_image_built": _of(documents.ImageBuilt),
        "cli_deployment_state": _of(DeploymentState),
        "cli_deployment_removed": _of(documents.DeploymentRemoved),
    }


def table() -> str:
    """The commands and their schemas in Markdown."""
    lines = ["| command | schema |", "|---|---|"]
    for command, schema in COMMANDS.items():
        lines.append(f"| `imagegen {command}` | [`{schema}`](schemas/{schema}.json) |")
    lines.append("| any, if it fails | [`cli_error`](schemas/cli_error.json) |")
    return "\n".join(lines)
