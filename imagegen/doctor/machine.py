"""Checks the machine: GPU and driver, memory, disk, port."""

from __future__ import annotations

import mmap
import shutil
from collections.abc import Iterable
from pathlib import Path

from imagegen.doctor.finding import BLOCKS_START, Finding, Level, fail, ok, warn
from imagegen.engine_build.cards import Cards
from imagegen.engine_build.select import unused_gpu
from imagegen.hardware import compatibility, gpu_sharing, memory_fit, ram
from imagegen.hardware.gpu import Gpu
from imagegen.hardware.memory_mode import GB, MODE_FLAGS, Misfit
from imagegen.hardware.needs_table import read_needs
from imagegen.models.entry import Entry
from imagegen.settings import Settings
from imagegen.startup import port as listening

CUDA13_DRIVER = 580
"""The oldest driver branch for CUDA 13 (NVIDIA's table of toolkit and minimum driver versions)."""
CUDA13_LIBRARY = b"libcudart.so.13"
LEAST_FREE_BYTES, LOW_FREE_BYTES = 200_000_000, 2_000_000_000


def gpus(cards: Cards, used: Gpu | None, problem: str | None, engine_is_cuda13: bool) -> Iterable[Finding]:
    """Check whether the engine can use the cards. used: the card it would use. problem: an error or doubt about it."""
    major = (cards.driver or "").partition(".")[0]
    if engine_is_cuda13 and major.isdigit() and int(major) < CUDA13_DRIVER:
        yield fail(
            "gpu",
            f"The engine is built with CUDA 13, and the driver here is {cards.driver}: it would not see the GPU.",
            f"Update the driver to {CUDA13_DRIVER} or newer, or build the engine with CUDA 12.",
        )
    if problem is not None:
        remedy = "`nvidia-smi`, or for Vulkan `vulkaninfo --summary`, shows what the driver sees."
        yield Finding("gpu", Level.WARN if used else Level.FAIL, problem, remedy)
    elif cards.problem is not None:
        yield fail(
            "gpu",
            f"The NVIDIA driver does not answer: {cards.problem}.",
            "Repair the driver; after an update of it, restart the machine. `nvidia-smi` shows the same fault.",
        )
    elif used is None and (unused := unused_gpu(cards)) is not None:
        yield warn("gpu", unused, "Or build one for the CPU on purpose: `imagegen engine build --backend cpu`.")
    elif used is None:
        yield ok("gpu", "There is no GPU here that the engine can use: it runs on the CPU.")
    elif used.backend == "vulkan":
        yield ok("gpu", f"{used.name}, by Vulkan.")
    elif len(cards.found) > 1:
        what = f"{used.name}, one of {len(cards.found)} (CUDA_VISIBLE_DEVICES chooses), driver {cards.driver}."
        yield ok("gpu", what)
    else:
        yield ok("gpu", f"{used.name}, driver {cards.driver}.")


def is_cuda13(binary: Path | None) -> bool:
    """Whether the binary contains the name of CUDA 13's runtime library."""
    try:
        if binary is None or binary.stat().st_size == 0:
            return False
        with binary.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(CUDA13_LIBRARY) >= 0
    except OSError:
        return False


def memory(
    entry: Entry, settings: Settings, flags: frozenset[str], card: Gpu | None, binary: Path | None
) -> Iterable[Finding]:
    """Check whether the default model fits in memory. With a card: the memory mode of a load now, and the reason."""
    here = ram.read()
    name, total_bytes = (card.name, card.total_bytes) if card else (None, None)
    machine = compatibility.Machine(flags, name, total_bytes, here.total_bytes)
    misfit = compatibility.memory(entry, settings, machine)
    if misfit is not None:
        yield warn("memory", misfit.detail, "Name another model with IMAGEGEN_MODEL.")
        return
    on_card = ""
    if card is not None:
        free = "an unknown part" if card.free_bytes is None else f"{card.free_bytes / GB:.1f}"
        on_card = f", and {free} of {card.total_bytes / GB:.1f} GB on the card"
    yield ok("memory", f"{here.available_bytes / GB:.1f} GB of memory are free{on_card}.")
    if card is not None and gpu_sharing.engine_uses_gpu(entry, binary):
        yield from _memory_mode(entry, settings, flags, card, here.available_bytes)


def _memory_mode(
    entry: Entry, settings: Settings, flags: frozenset[str], card: Gpu, ram_bytes: int
) -> Iterable[Finding]:
    fit = memory_fit.MemoryFit(settings, list, read_needs(settings.database, settings.database_url))
    shape = memory_fit.usual_shape(entry)
    choice = gpu_sharing.choose(fit.fitting(entry, shape, flags), card, ram_bytes)
    if isinstance(choice, str):
        yield warn("memory mode", choice, "Jobs wait until they give it back; end them if they are not needed.")
    elif isinstance(choice, Misfit):
        yield warn("memory mode", choice.why, "Name another model with IMAGEGEN_MODEL (docs/gpu.md).")
    elif lacking := MODE_FLAGS[choice.mode] - flags:
        what = f"{choice.why} This engine does not know {', '.join(sorted(lacking))}, so nothing can be drawn."
        yield warn("memory mode", what, "Unset IMAGEGEN_MEMORY_MODE, or use the engine of `imagegen engine build`.")
    else:
        what = f"{entry.name} at {shape.width}x{shape.height} would be drawn in the mode {choice.mode}"
        yield ok("memory mode", f"{what}. {choice.why}")


def disk(settings: Settings, entry: Entry | None) -> Iterable[Finding]:
    """Check the disk space for pictures and for the default model's missing files."""
    folder = settings.home
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    coming = 0.0
    if entry is not None and entry.download_bytes is not None and entry.missing(settings):
        coming = float(entry.download_bytes.value) - memory_fit.files_bytes(entry, settings)
    if free < LEAST_FREE_BYTES:
        yield fail("disk", f"{free / 1e6:.0f} MB are free in {folder}: pictures cannot be stored.", "Free some space.")
    elif entry is not None and free < coming:
        yield fail(
            "disk",
            f"{entry.name} still needs {coming / GB:.1f} GB, and {free / GB:.1f} GB are free in {folder}.",
            "Free some space, move IMAGEGEN_HOME to a larger disk, or name a smaller model with IMAGEGEN_MODEL.",
        )
    elif free < LOW_FREE_BYTES:
        yield warn("disk", f"Only {free / GB:.1f} GB are free in {folder}.", "Free some space before it fills up.")
    else:
        yield ok("disk", f"{free / GB:.1f} GB are free in {folder}.")


def port(settings: Settings, service_pids: set[int]) -> Iterable[Finding]:
    """Check whether the service's port is free, or held by the service itself (`service_pids`)."""
    where = f"Port {settings.port}"
    if listening.holders(settings.port) & service_pids:
        yield ok("port", f"{where} is the running service's.")
    elif problem := listening.problem_of(settings.host, settings.port):
        yield fail("port", problem, BLOCKS_START)
    else:
        yield ok("port", f"{where} is free.")
