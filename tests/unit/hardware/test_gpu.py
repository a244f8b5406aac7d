"""The GPU as the driver tells of it, and the service's manners on it, with a stand-in for the driver's library."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import psutil
import pynvml
import pytest
from nvml_stand_in import GB, Card, StandIn

from imagegen import engine_build
from imagegen.engine_build import probe, vulkan
from imagegen.engine_build.vulkan import Device, Devices
from imagegen.engines.base import EngineError
from imagegen.hardware import gpu, gpu_sharing
from imagegen.hardware.gpu import TRY_AGAIN_S, Gpu, Holder, Nvml
from imagegen.hardware.gpu_sharing import (
    GROWTH_BYTES,
    GpuContention,
    GpuSharing,
    shortage,
)
from imagegen.hardware.memory_mode import Fitting, MemoryMode, Shape, WeightSizes
from imagegen.models.catalog import Catalog
from imagegen.schemas import Kind
from imagegen.settings import Settings

WANTS_14_GB = Fitting(
    "tiny", WeightSizes(14 * GB, 14 * GB, card_bytes=14 * GB), (MemoryMode.CARD,), Shape(Kind.GENERATE, 512, 512)
)
FIRST = Card(uuid="GPU-aaaa1111-0000")
SECOND = Card(name="NVIDIA Made Up 80GB", uuid="GPU-aabb2222-0000", total_bytes=80 * GB, free_bytes=70 * GB)


def error(code: int) -> pynvml.NVMLError:
    return pynvml.NVMLError(code)


# ---- which card ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("visible", "name"),
    [
        (None, FIRST.name),
        ("0", FIRST.name),
        ("1", SECOND.name),
        ("1,0", SECOND.name),
        ("GPU-aabb2222-0000", SECOND.name),
        ("GPU-aabb", SECOND.name),
    ],
)
def test_the_card_is_the_one_the_engine_sees_first(visible: str | None, name: str) -> None:
    nvml = Nvml(StandIn(FIRST, SECOND), {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})
    card = nvml.look()
    assert card is not None and card.name == name
    assert nvml.problem is None


@pytest.mark.parametrize(
    ("visible", "said"),
    [
        ("", "hides every GPU"),
        ("-1", "hides every GPU"),
        ("-1,0", "hides every GPU"),  # CUDA stops at the first one that is none
        ("2", "has 2"),
        ("GPU-zzzz", "names no GPUs"),
        ("GPU-aa", "names 2 GPUs"),
        ("MIG-1234", "no part of a GPU"),
    ],
)
def test_a_hidden_card_is_no_card_and_it_is_said_why(visible: str, said: str) -> None:
    nvml = Nvml(StandIn(FIRST, SECOND), {"CUDA_VISIBLE_DEVICES": visible})
    assert nvml.look() is None
    assert nvml.problem is not None and said in nvml.problem and repr(visible) in nvml.problem


def test_a_part_of_a_card_is_found_by_its_name() -> None:
    part = Card(name="NVIDIA Made Up MIG 1g.10gb", uuid="MIG-1234", total_bytes=10 * GB)
    card = Nvml(StandIn(FIRST, part), {"CUDA_VISIBLE_DEVICES": "MIG-1234"}).look()
    assert card is not None and card.total_bytes == 10 * GB


def test_another_order_of_different_cards_is_doubted() -> None:
    ordered = {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}
    different, alike = Nvml(StandIn(FIRST, SECOND), ordered), Nvml(StandIn(FIRST, Card(uuid="GPU-b")), ordered)
    assert different.look() is not None and alike.look() is not None
    assert different.problem is not None and "FASTEST_FIRST" in different.problem
    assert alike.problem is None


# ---- a driver that answers, or not --------------------------------------------------------------


def test_the_driver_is_opened_once_however_often_it_is_asked() -> None:
    library = StandIn(FIRST)
    nvml = Nvml(library, {})
    for _ in range(50):
        nvml.look()
    assert (library.opened, library.closed) == (1, 0)


@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED])
def test_no_driver_is_no_card_and_no_fault(code: int) -> None:
    library = StandIn()
    library.failure = error(code)
    nvml = Nvml(library, {})
    assert nvml.look() is None and nvml.problem is None


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "restart the machine"),
        (pynvml.NVML_ERROR_GPU_IS_LOST, "nvidia-smi"),
        (pynvml.NVML_ERROR_UNKNOWN, "nvidia-smi"),
    ],
)
def test_a_driver_that_fails_is_told_left_alone_and_asked_again_later(code: int, said: str) -> None:
    now = [0.0]
    library = StandIn(FIRST)
    nvml = Nvml(library, {}, lambda: now[0])
    assert nvml.look() is not None
    library.failure = error(code)
    assert nvml.look() is None
    assert nvml.problem is not None and said in nvml.problem
    library.failure = None
    assert nvml.look() is None, "not asked at every reading"
    now[0] += TRY_AGAIN_S
    assert nvml.look() is not None and nvml.problem is None
    assert (library.opened, library.closed) == (2, 1)


# ---- what is read -------------------------------------------------------------------------------


def test_who_holds_the_memory_ourselves_apart() -> None:
    me = psutil.Process(os.getpid())
    card = Card(free_bytes=4 * GB, holders=[(7, 2 * GB), (me.pid, 12 * GB), (2**22 + 1, None)], painters=[(7, 2 * GB)])
    seen = Nvml(StandIn(card), {}).look(engine_pid=7)
    assert seen is not None
    assert (seen.total_bytes, seen.free_bytes, seen.ours_bytes) == (24 * GB, 4 * GB, 2 * GB)
    assert seen.others == (
        Holder(me.pid, me.name(), 12 * GB, me.create_time()),
        Holder(2**22 + 1, None, None, None),  # no such process: another container's
    )


def test_a_card_that_shares_the_machines_memory() -> None:
    seen = Nvml(StandIn(Card(shares_memory=True)), {}).look()
    assert seen is not None and seen.total_bytes == psutil.virtual_memory().total


# ---- room ---------------------------------------------------------------------------------------


def card_with(free_gb: float, *others: Holder) -> Gpu:
    return Gpu("Made Up", 24 * GB, int(free_gb * GB), None, others)


def test_a_shortage_is_told_with_who_holds_how_much_since_when() -> None:
    short = shortage(card_with(3.5, Holder(4711, "python", 20 * GB, 0.0), Holder(5, None, None, None)), 14 * GB)
    assert short == (
        "Other programs hold the memory of the GPU (Made Up): the model needs 14.0 GB, and 3.5 of 24.0 GB are free. In "
        "use by python (process 4711): 20.0 GB, running since 1970-01-01T00:00:00.000Z; a program (process 5)."
    )


@pytest.mark.parametrize(
    ("free_gb", "need_gb", "waits"),
    [(14, 14, False), (13.9, 14, True), (13.9, 25, False), (23.5, 23.9, False)],
    ids=["room", "no room", "larger than the card", "nobody there"],
)
def test_waiting_is_only_for_what_somebody_else_holds(free_gb: float, need_gb: float, waits: bool) -> None:
    assert (shortage(card_with(free_gb), int(need_gb * GB)) is not None) is waits


def test_a_rival_is_somebody_who_takes_memory_while_little_is_left() -> None:
    contention = GpuContention()
    assert not contention.look(card_with(20))
    assert not contention.look(card_with(10)), "there is still room for everybody"
    assert contention.look(card_with(2))
    assert contention.look(card_with(2.2)), "it still has it"
    assert not contention.look(card_with(10))


def test_a_full_card_that_nobody_fills_further_has_no_rival() -> None:
    contention = GpuContention()
    assert not contention.look(card_with(1))
    assert not contention.look(card_with(1 - 0.5 * GROWTH_BYTES / GB))
    assert contention.look(card_with(1 - 1.1 * GROWTH_BYTES / GB))


@pytest.mark.parametrize("told", [True, False], ids=["the driver names us", "a container"])
def test_an_engine_that_has_grown_by_drawing_is_no_rival_of_itself(sharing, tmp_path: Path, told: bool) -> None:
    card = Card()
    polite = sharing(card, 300.0)

    async def draw_twice() -> None:
        await polite.wait_for_memory(WANTS_14_GB, entry_of(tmp_path), pytest.fail, wait=True)
        for held_gb in (22.0, 22.5, 23.5):
            card.free_bytes = int((24 - held_gb) * GB)
            card.holders = [(4242, int(held_gb * GB) if told else None)]
            if not told:
                polite.reset_baseline()
            assert not await polite.wanted(4242)
        card.free_bytes -= int(0.4 * GB)  # and somebody else comes
        assert await polite.wanted(4242)

    asyncio.run(draw_twice())


def test_a_driver_that_no_longer_names_us_makes_no_rival() -> None:
    contention = GpuContention()
    assert not contention.look(Gpu("Made Up", 24 * GB, 2 * GB, 20 * GB))
    assert not contention.look(Gpu("Made Up", 24 * GB, 2 * GB, None))
    assert not contention.look(Gpu("Made Up", 24 * GB, 2 * GB, 20 * GB))


# ---- sharing ------------------------------------------------------------------------------------


@pytest.fixture
def sharing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Card, float], GpuSharing]:
    """`sharing(card, gpu_wait_s)`, with an engine that is linked with CUDA."""
    monkeypatch.setattr(gpu_sharing, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(gpu_sharing, "GIVEN_BACK_S", 0.1)
    binary = tmp_path / "sd-server"
    binary.write_bytes(b"\x7fELF libcudart.so.12 ")

    def make(card: Card, gpu_wait_s: float) -> GpuSharing:
        settings = Settings(home=tmp_path, gpu_wait_s=gpu_wait_s)
        return GpuSharing(Nvml(StandIn(card), {}).look, settings, lambda: binary)

    return make


def entry_of(home: Path):
    return Catalog.load(Settings(home=home)).get("tiny")


def test_room_is_waited_for_and_it_is_told_for_whom(sharing, tmp_path: Path) -> None:
    card = Card(free_bytes=2 * GB, holders=[(os.getpid(), 22 * GB)])
    heard: list[str] = []

    def told(whom: str) -> None:
        heard.append(whom)
        if len(heard) == 3:
            card.free_bytes = 24 * GB

    asyncio.run(sharing(card, 300.0).wait_for_memory(WANTS_14_GB, entry_of(tmp_path), told, wait=True))
    assert len(heard) == 3
    assert f"process {os.getpid()}): 22.0 GB" in heard[0]


@pytest.mark.parametrize("wait", [True, False])
def test_who_waits_in_vain_is_told_so(sharing, tmp_path: Path, wait: bool) -> None:
    heard: list[str] = []
    with pytest.raises(EngineError, match=r"2\.0 of 24\.0 GB are free") as busy:
        asyncio.run(
            sharing(Card(free_bytes=2 * GB), 0.05).wait_for_memory(
                WANTS_14_GB, entry_of(tmp_path), heard.append, wait=wait
            )
        )
    assert busy.value.code == "gpu_busy"
    assert ("IMAGEGEN_GPU_WAIT_S" in busy.value.detail) is wait
    assert bool(heard) is wait, "a warm-up does not wait"


def test_an_engine_for_the_cpu_needs_no_room_on_the_card(tmp_path: Path, sd_server: Path) -> None:
    full = Nvml(StandIn(Card(free_bytes=0)), {}).look
    for binary in (None, tmp_path / "missing", *([sd_server] if probe.backend_of(sd_server) == "cpu" else [])):
        polite = GpuSharing(full, Settings(home=tmp_path), lambda binary=binary: binary)
        asyncio.run(polite.wait_for_memory(WANTS_14_GB, entry_of(tmp_path), pytest.fail, wait=True))
        assert not polite.present
        assert asyncio.run(polite.wanted(None)) is False


# ---- a Vulkan engine -----------------------------------------------------------------------------


RADEON = Device(0, "AMD Made Up 16GB", "discrete", total_bytes=16 * GB, free_bytes=2 * GB)


@pytest.mark.parametrize(
    ("backend", "devices", "seen"),
    [
        ("vulkan", (RADEON,), Gpu(RADEON.name, 16 * GB, 2 * GB, None, backend="vulkan")),
        ("vulkan", (replace(RADEON, free_bytes=None),), Gpu(RADEON.name, 16 * GB, None, None, backend="vulkan")),
        (
            "vulkan",
            (replace(RADEON, kind="integrated"),),
            Gpu(RADEON.name, 16 * GB, 2 * GB, None, backend="vulkan", dedicated=False),
        ),
        ("vulkan", (replace(RADEON, kind="cpu"),), None),
        ("cpu", (RADEON,), None),
    ],
)
def test_a_vulkan_device_is_the_card_of_a_vulkan_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, devices: tuple[Device, ...], seen: Gpu | None
) -> None:
    monkeypatch.setattr(engine_build, "backend_here", lambda _settings: backend)
    monkeypatch.setattr(vulkan, "find_devices", lambda *_: Devices(devices))
    monkeypatch.setattr(gpu, "_here", Nvml(StandIn(), {}))
    assert gpu.read(Settings(home=tmp_path)) == seen
    assert gpu.is_card(seen) is (seen is not None and devices[0].kind == "discrete")


def test_a_vulkan_engine_shares_its_card_if_the_driver_reports_memory(tmp_path: Path) -> None:
    binary = tmp_path / "sd-server"
    binary.write_bytes(b"\x7fELF libvulkan.so.1 ")
    for device, busy in ((RADEON, True), (replace(RADEON, free_bytes=None), False)):
        card = gpu.read_vulkan(Devices((device,)))
        polite = GpuSharing(lambda _pid, card=card: card, Settings(home=tmp_path, gpu_wait_s=0.01), lambda: binary)
        waits = polite.wait_for_memory(WANTS_14_GB, entry_of(tmp_path), lambda _: None, wait=False)
        with pytest.raises(EngineError, match=r"2\.0 of 16\.0 GB are free") if busy else nullcontext():
            asyncio.run(waits)
        assert polite.present
        assert asyncio.run(polite.wanted(None)) is False
        asyncio.run(polite.check_memory_released())


# ---- memory that does not come back --------------------------------------------------------------


@pytest.mark.parametrize(
    ("free_after_gb", "others_after_gb", "warned"), [(23.99, 0, False), (20, 4, False), (20, 0, True), (18, 4, True)]
)
def test_memory_that_does_not_come_back_is_logged_with_figures(
    sharing,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    free_after_gb: float,
    others_after_gb: int,
    warned: bool,
) -> None:
    card = Card()
    polite = sharing(card, 300.0)

    async def load_and_unload() -> None:
        await polite.wait_for_memory(WANTS_14_GB, entry_of(tmp_path), pytest.fail, wait=True)
        card.free_bytes = int(free_after_gb * GB)
        card.holders = [(1, others_after_gb * GB)]
        await polite.check_memory_released()

    with caplog.at_level(logging.WARNING, "imagegen.gpu"):
        asyncio.run(load_and_unload())
    assert bool(caplog.records) is warned
    if warned:
        assert "more of the GPU's memory are taken" in caplog.text and "24.0 GB free then" in caplog.text
