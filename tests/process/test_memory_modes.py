"""Memory that runs out for real, a GPU that disappears, others that take its memory: the job goes on, or says why.

The engine is the real one, on the CPU, where it accepts the flags of each memory mode. Its address space is limited, so
that its allocations fail. The card is the stand-in of `nvml_stand_in`, since no test machine has one.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import psutil
import pynvml
import pytest
from inside import MakeBackend, ended, submit, until, waits_for_gpu
from nvml_stand_in import GB, Card, StandIn

from imagegen.app import App
from imagegen.engines.sdcpp.adapter import SdcppServerAdapter
from imagegen.hardware import gpu, gpu_sharing
from imagegen.images.png import without_manifest
from imagegen.schemas import EngineState, Job, Kind, Refused, Status

MIB = 1024**2


def starve(pid: int | None, spare_bytes: int) -> psutil.Process:
    """Let the engine allocate `spare_bytes` more, and no further byte."""
    engine = psutil.Process(pid)
    engine.rlimit(psutil.RLIMIT_AS, (engine.memory_info().vms + spare_bytes,) * 2)
    return engine


def engine_of(app: App) -> psutil.Process:
    return psutil.Process(app.worker.view().pid)


def mode_of(app: App) -> str | None:
    plan = app.worker.view().plan
    return None if plan is None else str(plan.mode)


def learned(app: App) -> list[tuple[str, int, bool]]:
    """Mode, pixels, and whether it failed, of each measurement of the tiny model."""
    fit = app.model_files.fit
    key = fit.key(app.default_entry, Kind.GENERATE, "card")
    return [(one.key.mode, one.pixels, one.failed) for one in fit.needs.of(key.model, key.files_bytes)]


def warned(job: Job) -> list[str]:
    return [warning.detail for warning in job.warnings if warning.code == "memory_mode"]


def test_a_picture_without_memory_is_drawn_in_the_next_mode(app: MakeBackend) -> None:
    async def scenario() -> None:
        async with app(Card(), idle_timeout="never", png_metadata="off") as service:
            first = await ended(service, await submit(service))
            await until(lambda: service.worker.view().state is EngineState.READY, "it is idle")
            assert (mode_of(service), warned(first)) == ("card", [])
            starved = starve(service.worker.view().pid, 8 * MIB)  # its decoder needs 30 MB for 128x128
            large = await ended(service, await submit(service, side=128))
            assert (large.status, large.attempts) == (Status.COMPLETE, 1), large.error
            (warning,) = warned(large)
            assert "ran out while drawing with all weights on the card. It was done again with the weights" in warning
            assert "--offload-to-cpu" in engine_of(service).cmdline() and not starved.is_running()
            again = await ended(service, await submit(service))
            files = [without_manifest(await service.images.read(job.images[0].id)) for job in (first, again)]
            assert files[0] == files[1], "the mode does not change a picture"
            assert ("card", 128 * 128, True) in learned(service)
        async with app(Card(), idle_timeout="never") as service:
            large = await ended(service, await submit(service, side=128))
            assert (mode_of(service), warned(large)) == ("offload", []), "it is remembered"

    asyncio.run(scenario())


def test_a_picture_that_fits_in_no_mode_fails_and_then_is_refused(
    app: MakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, modes = SdcppServerAdapter.start, []

    async def start_starved(adapter: SdcppServerAdapter, told: Any) -> None:
        await start(adapter, told)
        modes.append([flag for flag in ("--offload-to-cpu", "--max-vram") if flag in adapter.model_argv])
        starve(adapter.pid, 256 * MIB)  # for its threads; the decoder needs 480 MB for 512x512

    monkeypatch.setattr(SdcppServerAdapter, "start", start_starved)

    async def scenario() -> None:
        async with app(Card(), idle_timeout="never") as service:
            failed = await ended(service, await submit(service, side=512, steps=1))
            assert failed.error is not None and failed.error.code == "out_of_vram", failed
            assert failed.error.detail.endswith("Ask for at most 432x432."), failed.error.detail
            assert modes == [[], ["--offload-to-cpu"], ["--offload-to-cpu", "--max-vram"]], "each mode once"
            with pytest.raises(Refused) as refused:
                await submit(service, side=512)
            assert (refused.value.status, refused.value.code) == (422, "job_too_large")
            assert refused.value.detail.endswith("Ask for at most 432x432.")
            monkeypatch.setattr(SdcppServerAdapter, "start", start)
            assert (await ended(service, await submit(service))).status is Status.COMPLETE, "a smaller one may fit"

    asyncio.run(scenario())


def test_a_mode_that_the_operator_has_set_is_the_only_one(app: MakeBackend) -> None:
    async def scenario() -> None:
        async with app(Card(), idle_timeout="never", memory_mode="stream") as service:
            await ended(service, await submit(service))
            await until(lambda: service.worker.view().state is EngineState.READY, "it is idle")
            assert "--max-vram" in engine_of(service).cmdline()
            starve(service.worker.view().pid, 8 * MIB)
            failed = await ended(service, await submit(service, side=128))
            assert failed.error is not None and failed.error.code == "out_of_vram"
            assert "IMAGEGEN_MEMORY_MODE=stream allows no other mode. Ask for at most" in failed.error.detail
            again = await ended(service, await submit(service, side=128))
            assert again.status is Status.COMPLETE, "it is tried each time"

    asyncio.run(scenario())


def limited(folder: Path, sd_server: Path, condition: str) -> Path:
    """The engine with an address space too small for the model's weights, if the shell's `condition` holds."""
    script = folder / "limited-sd-server"
    script.write_text(f'#!/bin/sh\nif {condition}; then ulimit -v 100000; fi\nexec "{sd_server}" "$@"\n')
    script.chmod(0o755)
    return script


@pytest.mark.parametrize("warming", [True, False], ids=["a warm-up", "a job"])
def test_a_load_without_memory_is_done_in_the_next_mode(
    app: MakeBackend, sd_server: Path, tmp_path: Path, warming: bool
) -> None:
    loads_whole = 'case "$*" in *--offload-to-cpu*|*--help*) false;; *) true;; esac'
    script = limited(tmp_path, sd_server, loads_whole)

    async def scenario() -> None:
        async with app(Card(), sd_server=script, idle_timeout="never") as service:
            if warming:
                await service.worker.warm("tiny").done
                await until(lambda: service.worker.view().state is EngineState.READY, "it is loaded")
            else:
                job = await ended(service, await submit(service))
                assert job.status is Status.COMPLETE, job.error
                assert "ran out while loading the model with all weights on the card" in warned(job)[0]
            assert mode_of(service) == "offload"

    asyncio.run(scenario())


def test_memory_that_others_take_after_the_check_is_waited_for(
    app: MakeBackend, sd_server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first load fails; by then another program holds the card. No mode is blamed for it."""
    monkeypatch.setattr(gpu_sharing, "LOOK_EVERY_S", 0.05)
    first, taken, card = tmp_path / "first", tmp_path / "taken", Card()
    first.touch()
    is_first = f'case "$*" in *--help*) false;; *) rm "{first}" 2>/dev/null;; esac'
    waits = f'{is_first} && while [ ! -e "{taken}" ]; do sleep 0.05; done'
    script = limited(tmp_path, sd_server, waits)

    async def scenario() -> None:
        async with app(card, sd_server=script, idle_timeout="never") as service:
            job = await submit(service)
            await until(lambda: not first.exists(), "the load has begun")
            card.free_bytes, card.holders = GB // 2, [(os.getpid(), 23 * GB)]
            taken.touch()
            assert f"process {os.getpid()}): 23.0 GB" in await waits_for_gpu(service, job)
            card.free_bytes, card.holders = 24 * GB, []
            done = await ended(service, job)
            assert (done.status, mode_of(service)) == (Status.COMPLETE, "card"), done.error
            assert len(warned(done)) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("returns", [True, False], ids=["it is back", "it is not"])
def test_a_gpu_that_is_lost_while_drawing_is_waited_for(
    app: MakeBackend, monkeypatch: pytest.MonkeyPatch, returns: bool
) -> None:
    monkeypatch.setattr(gpu_sharing, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(gpu, "LOST_TRY_AGAIN_S", 0.0)
    driver = StandIn(Card())

    async def scenario() -> None:
        async with app(driver, gpu_wait_s=300 if returns else 0.3, idle_timeout="never") as service:
            await ended(service, await submit(service))
            engine_of(service).suspend()  # so that it does not finish the next picture
            job = await submit(service, side=128)
            await until(lambda: service.worker.view().state is EngineState.DRAWING, "it draws")
            driver.failure = pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
            engine_of(service).kill()  # CUDA's error ends it
            if returns:
                assert "The NVIDIA driver does not answer (GPU is lost)" in await waits_for_gpu(service, job)
                driver.failure = None
                assert (await ended(service, job)).status is Status.COMPLETE
            else:
                failed = await ended(service, job)
                assert failed.error is not None and failed.error.code == "gpu_lost"
                assert "GPU is lost" in failed.error.detail and "IMAGEGEN_GPU_WAIT_S" in failed.error.detail
                assert service.worker.view().error is None, "the model is not at fault"

    asyncio.run(scenario())


def test_what_a_picture_takes_of_the_ram_is_measured_without_a_card(app: MakeBackend) -> None:
    async def scenario() -> None:
        async with app(idle_timeout="never") as service:
            await ended(service, await submit(service))
            await until(lambda: service.worker.view().state is EngineState.READY, "it is idle")
            key = service.model_files.fit.key(service.default_entry, Kind.GENERATE, "cpu")
            (need,) = service.model_files.fit.needs.of("tiny", key.files_bytes)
            assert (need.key, need.pixels) == (key, 64 * 64)
            assert engine_of(service).memory_info().rss <= need.bytes < 2 * GB

    asyncio.run(scenario())
