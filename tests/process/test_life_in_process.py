"""The model's life where a test has to reach inside: a made-up GPU that others fill, and a clock that jumps.

The engine is the real one, on the CPU; the card is the stand-in of `nvml_stand_in`, since no test machine has one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from engines import SDCPP
from inside import DEADLINE_S, MakeBackend, ended, submit, until, waits_for_gpu
from nvml_stand_in import GB, Card

from imagegen.engines.base import EngineError
from imagegen.engines.sdcpp.adapter import SdcppServerAdapter
from imagegen.hardware import gpu_sharing
from imagegen.hardware.memory_fit import MemoryFit
from imagegen.hardware.memory_mode import Fitting, MemoryMode, Shape, WeightSizes
from imagegen.idle.cold_starts import REMEMBERED
from imagegen.jobs.durations import KEPT, Measurement
from imagegen.models.entry import Entry
from imagegen.requests import GenerateRequest
from imagegen.schemas import EngineState, Job, Refused, Status, StoredImage
from imagegen.worker import loop as worker
from imagegen.worker import watchdog
from imagegen.worker.commands import Command
from imagegen.worker.engine_factory import EngineFactory
from imagegen.worker.model_files import ModelFiles
from imagegen.worker.prefetch import ReadAhead
from imagegen.worker.processor import ImageProcessor


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    """A card of which another program, this one, holds all but 2 GB; the model wants 14."""
    monkeypatch.setattr(gpu_sharing, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(worker, "LOOK_EVERY_S", 0.05)
    wants = WeightSizes(14 * GB, 14 * GB, card_bytes=14 * GB)

    def fitting(_fit: MemoryFit, entry: Entry, shape: Shape, _flags: object) -> Fitting:
        return Fitting(entry.name, wants, (MemoryMode.CARD,), shape)

    monkeypatch.setattr(MemoryFit, "fitting", fitting)
    return Card(free_bytes=2 * GB, holders=[(os.getpid(), 22 * GB)])


class Clock:
    """A monotonic clock of which a test may say that it went on by itself."""

    jumped_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.jumped_s


NIGHT_S = 8 * 3600.0


@pytest.mark.parametrize("runs_on", [False, True], ids=["as on Linux", "a clock that runs on"])
@pytest.mark.parametrize("job_first", [False, True], ids=["nobody there", "a job at once"])
def test_a_machine_that_slept_goes_on_and_books_no_night(
    app: MakeBackend, monkeypatch: pytest.MonkeyPatch, runs_on: bool, job_first: bool
) -> None:
    """The clocks that count sleep jump; the monotonic one does so only where a machine was suspended from without."""
    true_time, clock = time.time, Clock()

    async def scenario() -> None:
        async with app(clock=clock, idle_knob=1000) as service:
            for _ in range(REMEMBERED):
                service.idle.loaded("tiny", 4.0, 0, 1)  # whatever this machine takes
            await ended(service, await submit(service))
            await until(lambda: service.worker.view().state is EngineState.READY, "it is idle")
            before, pid = service.worker.decision(), service.worker.view().pid
            assert before is not None and before.unload_at is not None
            left_s = before.unload_at - time.time()
            assert 60 < left_s < NIGHT_S
            monkeypatch.setattr(time, "time", lambda: true_time() + NIGHT_S)
            clock.jumped_s = NIGHT_S if runs_on else 0.0
            if job_first:
                job = await ended(service, await submit(service))
                assert (job.status, job.attempts) == (Status.COMPLETE, 1)
                assert runs_on or service.worker.view().pid == pid, "it draws on what is loaded"
            else:
                service.worker.commands.ring()
                if runs_on:
                    await until(lambda: service.worker.view().state is EngineState.COLD, "its time is over")
                else:
                    after = service.worker.decision()
                    assert after is not None and after.unload_at is not None
                    assert 0 < after.unload_at - time.time() <= left_s, "the sleep was no idle time"
                    assert service.worker.view().pid == pid
            last = await ended(service, await submit(service))
            assert (last.status, last.attempts) == (Status.COMPLETE, 1)
            ledger = service.idle._evidence.ledger
            assert ledger.j_s <= 3 * ledger.opt_s

    asyncio.run(scenario())


def test_a_job_waits_for_room_says_for_whom_and_can_be_cancelled(app: MakeBackend, card: Card) -> None:
    async def scenario() -> None:
        async with app(card) as service:
            first, second = await submit(service), await submit(service)
            told = await waits_for_gpu(service, first)
            assert f"{psutil.Process().name()} (process {os.getpid()}): 22.0 GB, running since 20" in told
            view = service.worker.view()
            assert (view.state, view.pid) == (EngineState.LOADING, None)
            assert view.load is not None and view.load.waits_for == told
            assert service.estimator.eta_s(await service.jobs.get(first.id)) is None, "nobody knows when it ends"
            assert (await service.jobs.cancel(first.id)).status is Status.CANCELLED
            card.free_bytes, card.holders = 24 * GB, []
            assert (await ended(service, second)).status is Status.COMPLETE
            assert (await service.jobs.get(first.id)).status is Status.CANCELLED

    asyncio.run(scenario())


def test_a_job_that_waits_alone_is_let_go_at_once_when_it_is_cancelled(app: MakeBackend, card: Card) -> None:
    async def scenario() -> None:
        async with app(card) as service:
            job = await submit(service)
            await waits_for_gpu(service, job)
            await service.jobs.cancel(job.id)
            await until(lambda: service.worker.view().state is EngineState.COLD, "nothing is waited for")

    asyncio.run(scenario())


def test_a_job_that_waits_in_vain_fails_and_the_next_one_has_its_own_turn(app: MakeBackend, card: Card) -> None:
    async def scenario() -> None:
        async with app(card, gpu_wait_s=0.2) as service:
            failed = await ended(service, await submit(service))
            assert failed.error is not None
            assert failed.error.code == "gpu_busy"
            assert "2.0 of 24.0 GB are free" in failed.error.detail
            assert "IMAGEGEN_GPU_WAIT_S" in failed.error.detail
            assert service.worker.view().error is None, "the model is not at fault"
            card.free_bytes, card.holders = 24 * GB, []
            assert (await ended(service, await submit(service))).status is Status.COMPLETE

    asyncio.run(scenario())


async def refused(order: Command) -> Refused:
    with pytest.raises(Refused) as refusal:
        await asyncio.wait_for(order.done, DEADLINE_S)
    return refusal.value


def test_a_warm_up_without_room_is_left_out_and_says_why(app: MakeBackend, card: Card) -> None:
    async def scenario() -> None:
        async with app(card) as service:
            busy = await refused(service.worker.warm("tiny"))
            assert (busy.status, busy.code) == (503, "gpu_busy")
            assert "2.0 of 24.0 GB are free" in busy.detail
            assert service.worker.view().state is EngineState.COLD
            card.free_bytes, card.holders = 24 * GB, []
            await service.worker.warm("tiny").done
            await until(lambda: service.worker.view().state is EngineState.READY, "with room it is loaded")
            decision = service.worker.decision()
            assert decision is not None and "warmed up" in decision.reason

    asyncio.run(scenario())


@pytest.mark.parametrize(("others_gb", "room"), [(9, True), (11, False)])
def test_a_warm_up_of_another_model_counts_what_the_loaded_one_gives_back(
    app: MakeBackend, card: Card, others_gb: int, room: bool
) -> None:
    card.free_bytes, card.holders = 24 * GB, []

    async def scenario() -> None:
        async with app(card, idle_timeout="never") as service:
            await ended(service, await submit(service))
            before = service.worker.view()
            assert before.pid is not None
            card.free_bytes = (24 - 8 - others_gb) * GB
            card.holders = [(before.pid, 8 * GB), (os.getpid(), others_gb * GB)]
            order = service.worker.warm("sketch")
            if room:
                await asyncio.wait_for(order.done, DEADLINE_S)
                assert service.worker.view().model == "sketch"
            else:
                assert (await refused(order)).code == "gpu_busy"
                after = service.worker.view()
                assert (after.state, after.model, after.pid) == (EngineState.READY, "tiny", before.pid)

    asyncio.run(scenario())


@pytest.mark.parametrize("warming", [True, False], ids=["a warm-up", "a job"])
def test_a_model_whose_files_are_gone_displaces_nobody(
    app: MakeBackend, monkeypatch: pytest.MonkeyPatch, warming: bool
) -> None:
    """They were there when it was asked for, and are not when its turn comes."""
    prepare = ModelFiles.prepare

    async def gone(files: ModelFiles, entry: Entry, told: Callable[[Any], None]) -> None:
        if entry.name == "sketch":
            raise EngineError("model_missing", "The file is gone.")
        await prepare(files, entry, told)

    monkeypatch.setattr(ModelFiles, "prepare", gone)

    async def scenario() -> None:
        async with app(idle_timeout="never") as service:
            await ended(service, await submit(service))
            before = service.worker.view()
            if warming:
                refusal = await refused(service.worker.warm("sketch"))
                assert (refusal.status, refusal.code) == (503, "model_missing")
                again = await refused(service.worker.warm("sketch"))
                assert again.extra["retry_after_s"] >= 1 and "The file is gone." in again.detail
            else:
                job = await ended(service, await submit(service, "sketch"))
                assert job.error is not None and job.error.code == "model_missing"
            await until(lambda: service.worker.view().state is EngineState.READY, "nothing is done any more")
            after = service.worker.view()
            assert (after.model, after.pid, after.error) == ("tiny", before.pid, None)
            assert (await ended(service, await submit(service))).attempts == 1

    asyncio.run(scenario())


def test_an_announced_request_keeps_a_loaded_model_a_beta_longer(app: MakeBackend) -> None:
    async def scenario() -> None:
        async with app(idle_knob=20) as service:
            for _ in range(REMEMBERED):
                service.idle.loaded("tiny", 4.0, 0, 1)  # whatever this machine takes, beta is 80 s
            await ended(service, await submit(service))
            await until(lambda: service.worker.view().state is EngineState.READY, "it is idle")
            worker, kept = service.worker, []
            alone = worker._idle_tracker.decide(0.0)
            for _ in range(2):
                await worker.warm("tiny").done
                kept.append(worker._idle_tracker.decide(0.0))
            assert alone.unload_at is not None and kept[0].unload_at is not None and kept[1].unload_at is not None
            assert alone.unload_at < kept[0].unload_at <= kept[1].unload_at <= alone.unload_at + service.idle.beta_s
            assert kept[0].reason.endswith("a user is present")

    asyncio.run(scenario())


def test_who_takes_memory_while_we_idle_makes_us_unload_sooner(app: MakeBackend, card: Card) -> None:
    card.free_bytes, card.holders = 24 * GB, []

    async def scenario() -> None:
        async with app(card, idle_knob=1000) as service:
            await ended(service, await submit(service))
            await until(lambda: service.worker.view().state is EngineState.READY, "it is idle")
            await until(lambda: service._gpu_sharing.contention.least_taken_bytes == 0, "the card was looked at")
            before = service.worker.decision()
            assert before is not None and before.unload_at is not None
            assert before.unload_at - time.time() > 30, "left alone it would stay for a while"
            card.free_bytes = 1 * GB
            await until(lambda: service.worker.view().state is EngineState.COLD, "it gives way")

    asyncio.run(scenario())


def test_what_a_larger_picture_takes_is_no_rival(app: MakeBackend, card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container, where the driver names nobody."""
    card.free_bytes, card.holders = 24 * GB, []
    save = ImageProcessor.postprocess

    async def grown(*picture: Any) -> StoredImage:
        card.free_bytes -= 11 * GB  # while it is drawn
        return await save(*picture)

    monkeypatch.setattr(ImageProcessor, "postprocess", grown)

    async def scenario() -> None:
        async with app(card, idle_knob=1000) as service:
            contention = service._gpu_sharing.contention
            for taken in (11 * GB, 22 * GB):
                await ended(service, await submit(service))
                await until(lambda taken=taken: contention.least_taken_bytes == taken, "the card was looked at anew")
                assert not contention.wanted

    asyncio.run(scenario())


@pytest.mark.parametrize("asked", ["before", "meanwhile"])
def test_the_next_model_is_read_ahead_while_the_present_one_draws(
    app: MakeBackend, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    happened: list[str] = []
    read_ahead, generate = EngineFactory.read_ahead, SdcppServerAdapter.generate

    def read(factory: EngineFactory, entry: Entry) -> ReadAhead:
        happened.append(f"read {entry.name}")
        return read_ahead(factory, entry)

    monkeypatch.setattr(EngineFactory, "read_ahead", read)

    async def scenario() -> None:
        async with app() as service:
            others: list[Job] = []

            async def draw(adapter: SdcppServerAdapter, *picture: Any) -> bytes:
                happened.append("draw")
                if not others:
                    others.append(await submit(service, "sketch"))
                await until(lambda: "read sketch" in happened, "it is read ahead")
                png = await generate(adapter, *picture)
                happened.append("drawn")
                return png

            monkeypatch.setattr(SdcppServerAdapter, "generate", draw)
            first = await submit(service)
            if asked == "before":
                others.append(await submit(service, "sketch"))
            for job in (await ended(service, first), await ended(service, *others)):
                assert job.status is Status.COMPLETE
        assert set(happened[1:3]) == {"draw", "read sketch"}
        assert happened == ["read tiny", *happened[1:3], "drawn", "read sketch", "draw", "drawn"]

    asyncio.run(scenario())


@pytest.mark.parametrize("jump_s", [86_400.0, -86_400.0], ids=["a day on", "a day back"])
def test_a_clock_that_is_set_changes_nothing_of_the_models_life(
    app: MakeBackend, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    true_time = time.time

    async def scenario() -> None:
        async with app(idle_timeout="3") as service:
            service.worker.warm("tiny")
            await until(lambda: service.worker.view().state is EngineState.READY, "it is loaded")
            monkeypatch.setattr(time, "time", lambda: true_time() + jump_s)
            service.worker.commands.ring()
            decision = service.worker.decision()
            assert decision is not None and decision.unload_at is not None
            assert 0 < decision.unload_at - time.time() <= 3
            await until(lambda: service.worker.view().state is EngineState.COLD, "its time comes all the same")
            assert (await ended(service, await submit(service))).status is Status.COMPLETE

    asyncio.run(scenario())


def test_an_engine_that_ignores_an_interrupt_is_ended_after_a_time(
    app: MakeBackend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(watchdog, "LEAST_OBEY_S", 0.1)

    async def scenario() -> None:
        async with app(idle_timeout="never", max_job_s=86_400) as service:
            assert (await ended(service, await submit(service))).status is Status.COMPLETE
            for _ in range(KEPT):
                service.durations.add(Measurement("tiny", "load", 0, 0.0))  # whatever this machine takes
            job = await service.admission.admit(GenerateRequest(prompt="a red circle", model="tiny", **SDCPP.endless))

            def is_drawn() -> bool:
                progress = service.jobs.active()[0].progress
                return progress is not None and bool(progress.step)

            await until(is_drawn, "it is drawn")
            pid = service.worker.view().pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            await service.jobs.cancel(job.id)
            await until(lambda: service.worker.view().state is EngineState.COLD, "the engine is ended")
            assert not psutil.pid_exists(pid)
            assert "engine draining" in caplog.messages
            assert "engine unloaded reason='a running job was cancelled'" in caplog.messages
            after = await ended(service, await submit(service))
            assert (after.status, after.attempts) == (Status.COMPLETE, 1)

    asyncio.run(scenario())
