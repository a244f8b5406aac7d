"""Responses about the service: its state, its prompt presets, and the session of the caller."""

from __future__ import annotations

from typing import Literal

from imagegen.hardware.memory_mode import MemoryMode
from imagegen.http.responses.base import Answer, When
from imagegen.prompts.templates import Template
from imagegen.schemas import EngineState, Failure, Warn


class Load(Answer):
    """Progress of loading a model. `waits_for`: the holder of the GPU's memory, while the load waits for it."""

    fraction: float
    eta_s: float | None
    bytes_done: int | None
    bytes_total: int | None
    waits_for: str | None


class Fetch(Answer):
    """A download by the service: its model, its progress, and a note (an error, the speed)."""

    model: str
    file: str | None
    bytes_done: int
    bytes_total: int | None
    left_s: float | None
    detail: str


class MemoryUse(Answer):
    """How the loaded model is kept in memory. need_bytes: what that is expected to take of the card."""

    mode: MemoryMode
    need_bytes: int
    reason: str


class Engine(Answer):
    """The state of the engine, and the download in progress.

    backend: what the engine of the loaded model, or of the default one, is built for; null if it is not installed.
    memory: how the loaded model is kept in memory; null without a GPU.
    """

    state: EngineState
    since: When
    model: str | None
    backend: Literal["cpu", "cuda", "vulkan"] | None
    pid: int | None
    load: Load | None
    fetch: Fetch | None
    memory: MemoryUse | None
    error: Failure | None


class Idle(Answer):
    """When an idle engine is unloaded, and the reason."""

    mode: str
    unload_at: When | None
    reason: str | None
    cold_start_s: float | None
    beta_s: float | None


class Queue(Answer):
    """The numbers of queued and running jobs."""

    queued: int
    running: int
    max: int
    eta_s: float | None


class Gpu(Answer):
    """The GPU, as NVML or the Vulkan driver (`backend`) reports it. Null: not reported."""

    name: str
    backend: Literal["cuda", "vulkan"]
    total_bytes: int
    free_bytes: int | None
    ours_bytes: int | None


class DefaultModel(Answer):
    """The model of a request that names none. `noise`: its pictures are noise. `limits`: what it cannot draw."""

    default: str
    noise: bool
    limits: str | None


class ServiceStatus(Answer):
    """The state of the service. Reading it does not load a model."""

    engine: Engine
    idle: Idle
    queue: Queue
    gpu: Gpu | None
    model: DefaultModel
    warnings: list[Warn]
    version: str


class Templates(Answer):
    """Prompt presets, and the problems of the operator's own."""

    items: list[Template]
    problems: list[str]


class Session(Answer):
    """The name of the token and the end of the session; null on a service without tokens."""

    name: str | None
    expires_at: When | None
