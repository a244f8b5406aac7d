"""The service without its transports, in the process of a test, with a stand-in for the GPU."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from nvml_stand_in import Card, StandIn

from imagegen.app import App
from imagegen.hardware.gpu import Nvml
from imagegen.hardware.gpu_sharing import GpuSharing
from imagegen.requests import GenerateRequest
from imagegen.schemas import Job, Phase
from imagegen.settings import Settings

DEADLINE_S = 60.0
MakeBackend = Callable[..., Any]


def backend(home: Path, sd_server: Path, folder: Path) -> MakeBackend:
    """`async with backend(card, **settings)`: the service with the tiny model.

    card: a card, or the whole driver. The engine draws on the CPU; the service takes it for one that uses CUDA.
    """
    linked_with_cuda = folder / "sd-server"
    linked_with_cuda.write_bytes(b"\x7fELF libcudart.so.12 ")

    @asynccontextmanager
    async def run(
        card: Card | StandIn | None = None, clock: Callable[[], float] = time.monotonic, **settings: Any
    ) -> AsyncIterator[App]:
        given = {"home": home, "sd_server": sd_server, "threads": 1, "model": "tiny"}
        chosen = Settings(**(given | settings))
        sharing = None
        if card is not None:
            nvml = Nvml(card if isinstance(card, StandIn) else StandIn(card), {})
            sharing = GpuSharing(nvml.look, chosen, lambda: linked_with_cuda, lambda: nvml.problem)
        running = App(chosen, gpu_sharing=sharing, clock=clock)
        await running.start()
        try:
            yield running
        finally:
            await running.stop()

    return run


async def submit(app: App, model: str = "tiny", side: int | None = None, steps: int = 2) -> Job:
    side = side or (128 if model == "sketch" else 64)  # the least that it draws
    asked = GenerateRequest(prompt="a red circle", width=side, height=side, steps=steps, seed=1, model=model)
    return await app.admission.admit(asked)


async def until(happened: Callable[[], bool | Awaitable[bool]], what: str) -> None:
    deadline = time.perf_counter() + DEADLINE_S
    while True:
        found = happened()
        if found if isinstance(found, bool) else await found:
            return
        assert time.perf_counter() < deadline, f"waited {DEADLINE_S:g} s in vain: {what}"
        await asyncio.sleep(0.02)


async def ended(app: App, job: Job) -> Job:
    async def has_ended() -> bool:
        return (await app.jobs.get(job.id)).status.ended

    await until(has_ended, "the job ends")
    return await app.jobs.get(job.id)


async def waits_for_gpu(app: App, job: Job) -> str:
    async def waits() -> bool:
        progress = (await app.jobs.get(job.id)).progress
        return progress is not None and progress.phase is Phase.WAITING_GPU

    await until(waits, "the job waits for the GPU")
    progress = (await app.jobs.get(job.id)).progress
    assert progress is not None and progress.detail is not None
    return progress.detail
