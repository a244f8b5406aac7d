"""What the commands of this machine print with --json. docs/schemas/ has their schemas.

Sizes are bytes, paths are absolute unless the user named them. The commands of a service print its own JSON.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Pictures:
    """job: as the service returns it. files: the written files, one for each picture of the job."""

    job: dict[str, Any]
    files: list[str]


@dataclass(frozen=True)
class Failure:
    """Why something failed: one of the service's codes, or one of docs/cli.md, and a sentence."""

    code: str
    detail: str


@dataclass(frozen=True)
class BatchItem:
    """A request of a batch. job_id: null if the service refused it."""

    line: int
    status: Literal["complete", "failed"]
    job_id: str | None
    files: list[str]
    error: Failure | None


@dataclass(frozen=True)
class Batch:
    """A run of a batch: all its requests, those of earlier runs included."""

    total: int
    done: int
    failed: int
    items: list[BatchItem]


@dataclass(frozen=True)
class SavedImage:
    """A picture of the service, and the file that it was written to."""

    image_id: str
    file: str
    bytes: int


@dataclass(frozen=True)
class ImagesRemoved:
    """The ids of the pictures that were deleted."""

    removed: list[str]


@dataclass(frozen=True)
class Compared:
    """One picture of a comparison. seconds: of its job; null if there is no picture, and `failure` says why."""

    model: str
    prompt: str
    seconds: float | None
    failure: str | None


@dataclass(frozen=True)
class Comparison:
    """file: the contact sheet; null if nothing was drawn."""

    file: str | None
    pictures: list[Compared]


@dataclass(frozen=True)
class EngineFile:
    """A binary of the engine, or the file that it was exported to."""

    path: str


@dataclass(frozen=True)
class ModelFolder:
    """A model whose files were made or fetched. absent: optional files that it lacks. fetched: whether any was."""

    model: str
    folder: str
    absent: list[str]
    fetched: bool


@dataclass(frozen=True)
class ModelAdded:
    """A new entry of the catalog. missing: files that it still needs."""

    model: str
    entry: str
    family: str
    missing: list[str]


@dataclass(frozen=True)
class ModelRemoved:
    """kept: files that stay, because another model uses them or they are outside the models folder."""

    model: str
    freed_bytes: int
    removed: list[str]
    kept: list[str]


@dataclass(frozen=True)
class CheckedFile:
    """A file of a model, compared with its checksum. detail: the end of a sentence that begins with the path."""

    path: str
    state: Literal["right", "damaged", "missing", "unknown"]
    detail: str


@dataclass(frozen=True)
class ModelChecked:
    """ok: no file is damaged or missing. A file without a known checksum has the state `unknown`."""

    model: str
    ok: bool
    files: list[CheckedFile]


@dataclass(frozen=True)
class Lora:
    """A LoRA. models: those it can be used with. fault: why it cannot be used, or null."""

    name: str
    bytes: int
    base_model: str | None
    family: str | None
    trigger_words: list[str]
    models: list[str]
    fault: str | None


@dataclass(frozen=True)
class LoraRemoved:
    name: str
    freed_bytes: int


@dataclass(frozen=True)
class Certificate:
    """sha256, key_pin: what clients pin. valid_until: RFC 3339."""

    sha256: str
    key_pin: str
    names: list[str]
    valid_until: str
    file: str


@dataclass(frozen=True)
class NewToken:
    """token: the secret, shown only now. file: it keeps the token's SHA-256."""

    name: str
    token: str
    file: str


@dataclass(frozen=True)
class Finding:
    check: str
    level: Literal["ok", "warn", "fail"]
    what: str
    do: str


@dataclass(frozen=True)
class Findings:
    """ok: nothing has the level `fail`."""

    ok: bool
    findings: list[Finding]


@dataclass(frozen=True)
class Setting:
    """value: null if it is unset, or hidden because it is a secret. line: of the settings file, if it is from there."""

    name: str
    variable: str
    value: str | int | float | bool | None
    source: Literal["default", "file", "environment"]
    line: int | None
    hidden: bool


@dataclass(frozen=True)
class Configuration:
    """file: the settings file; null if there is none."""

    file: str | None
    settings: list[Setting]


@dataclass(frozen=True)
class DatabaseState:
    """schema: of the database; 0 without tables. program_schema: that of this version."""

    database: str
    schema: int
    program_schema: int
    state: Literal["current", "behind", "newer"]
    in_use: bool


@dataclass(frozen=True)
class DatabaseUpgraded:
    """The schema before and after; the same if there was nothing to do."""

    before: int
    schema: int


@dataclass(frozen=True)
class DatabaseCopied:
    """The number of rows by table."""

    rows: dict[str, int]


@dataclass(frozen=True)
class Deployed:
    """A running deployment. token_file: the file with the clients' token. tls_sha256: null for plain HTTP."""

    urls: list[str]
    container: str
    runtime: str
    image: str
    volume: str
    settings: str
    token_file: str
    tls_sha256: str | None


@dataclass(frozen=True)
class ImageBuilt:
    image: str


@dataclass(frozen=True)
class DeploymentState:
    """service: the service's own state, as GET /api/status returns it."""

    container: str
    state: str
    started_at: str
    ready: bool
    service: dict[str, Any]


@dataclass(frozen=True)
class DeploymentRemoved:
    """volume, settings: what stays."""

    container: str
    volume: str
    settings: str
