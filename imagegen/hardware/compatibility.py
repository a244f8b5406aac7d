"""Checks whether a model fits this machine: the engine's flags and channel, the card and the memory."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from imagegen import engine_build
from imagegen.engine_build import probe
from imagegen.engine_build.plan import Backend
from imagegen.engines.sdcpp import flags as sdcpp_flags
from imagegen.engines.sdcpp.channel import VERSION as CHANNEL_VERSION
from imagegen.hardware import ram
from imagegen.hardware.gpu import Gpu
from imagegen.hardware.memory_fit import modes_of, weights_of
from imagegen.hardware.memory_mode import GB, MemoryMode, WeightSizes, least
from imagegen.models.entry import Entry
from imagegen.models.packages import lacking, torch_uses_cuda
from imagegen.schemas import Warn
from imagegen.settings import Settings

log = logging.getLogger("imagegen")


@dataclass(frozen=True)
class Machine:
    """The engine's flags (empty: unknown) and the memory of this machine in bytes; None without a card.

    torch_uses_cuda: whether the second engine's torch is built for CUDA. has_channel: whether sd-server has the channel
    of this release (docs/engine.md). backend: what sd-server is built for; None without one. binary: sd-server itself.
    engine_release: its release; None: unknown.
    """

    flags: Collection[str]
    card_name: str | None
    card_bytes: int | None
    ram_bytes: int
    torch_uses_cuda: bool = True
    has_channel: bool = True
    backend: Backend | None = None
    binary: Path | None = None
    engine_release: str | None = None


def look_at_machine(settings: Settings, card: Gpu | None) -> Machine:
    """Read the machine's current state. Blocks: it runs the engine's --help unless its output is cached."""
    binary: Path | None
    try:
        binary = engine_build.resolve(settings)
        flags = sdcpp_flags.known_flags(probe.usage(binary))
        has_channel = probe.channel_version(binary) == CHANNEL_VERSION
        backend, release = probe.backend_of(binary), probe.release_of(binary)
    except engine_build.EngineBuildError as missing:  # reported by the load that needs the engine, and by the doctor
        log.debug("the engine's flags are not known: %s", missing)
        binary, flags, has_channel, backend, release = None, frozenset(), True, None, None
    return Machine(
        flags,
        card.name if card else None,
        card.total_bytes if card else None,
        ram.read().total_bytes,
        torch_uses_cuda(),
        has_channel,
        backend,
        binary,
        release,
    )


def backend(entry: Entry, machine: Machine) -> Backend | None:
    """What the engine of `entry` is built for; None if it is not installed."""
    if entry.adapter == "glm":
        return None if lacking(entry.adapter) else "cuda" if machine.torch_uses_cuda else "cpu"
    return machine.backend


def warnings(entry: Entry, settings: Settings, machine: Machine) -> tuple[Warn, ...]:
    """The known problems of `entry` on `machine`, as a job's warnings."""
    found = [
        *engine_misfits(entry, machine),
        unused_card(entry, machine.card_name, machine.torch_uses_cuda),
        memory(entry, settings, machine),
    ]
    return tuple(one for one in found if one is not None)


def engine_misfits(entry: Entry, machine: Machine) -> tuple[Warn | None, Warn | None]:
    """What the engine does not know of the entry's flags and request fields; probed, not read from its release."""
    return lacking_flags(entry, machine.flags), lacking_fields(entry, machine.binary)


def lacking_flags(entry: Entry, flags: Collection[str]) -> Warn | None:
    """`flag_missing`: the entry names flags that the engine does not know; the service omits them."""
    lacking = sdcpp_flags.adapt(entry.engine_flags, flags).lacking if entry.adapter == "sdcpp" else ()
    if not lacking:
        return None
    sources = {flag.flag: flag.source for flag in entry.flags}
    why = "; ".join(f"{flag} ({sources[flag]})" for flag in lacking)
    return Warn(
        code="flag_missing",
        detail=f"This engine does not know what {entry.name} needs and is started without it: {why}. Pictures may be "
        "poor or broken. Use the engine that `imagegen engine build` makes (unset IMAGEGEN_SD_SERVER).",
    )


def lacking_fields(entry: Entry, binary: Path | None) -> Warn | None:
    """`flag_missing`: the entry names request fields that the engine does not know, and ignores."""
    if entry.adapter != "sdcpp" or binary is None:
        return None
    lacking = probe.lacking_names(binary, sorted(_field_names(entry.options)))
    if not lacking:
        return None
    words = "; ".join(f"{name} ({sdcpp_flags.RENAMED_FIELDS.get(name, 'options')})" for name in lacking)
    return Warn(
        code="flag_missing",
        detail=f"This engine does not know request fields of {entry.name}'s entry, and ignores them: {words}. "
        "Change the entry's options, or use the engine that `imagegen engine build` makes.",
    )


def _field_names(options: object) -> set[str]:
    """The names of the fields of an object, also of nested ones."""
    if not isinstance(options, dict):
        return set()
    return set(options).union(*map(_field_names, options.values()))


def too_old(entry: Entry, machine: Machine) -> Warn | None:
    """`engine_too_old`: the entry needs a newer release of sd-server. None if a release is not known as numbers."""
    needed, here = _numbers(entry.engine_min), _numbers(machine.engine_release)
    if entry.adapter != "sdcpp" or needed is None or here is None or here >= needed:
        return None
    return Warn(
        code="engine_too_old",
        detail=f"{entry.name} needs release {entry.engine_min} of the engine or newer, and the engine here is release "
        f"{machine.engine_release}. Build a newer one (docs/engine.md, A newer engine), or use another model.",
    )


def _numbers(release: str | None) -> tuple[int, ...] | None:
    """A release of numbers and dots, without zeros at the end; None for any other text."""
    if release is None or re.fullmatch(r"\d+(\.\d+)*", release) is None:
        return None
    numbers = [int(part) for part in release.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def lacking_channel(entry: Entry, has_channel: bool) -> Warn | None:
    """`channel_missing`: the engine has a TCP port and cannot be interrupted. Only for the status, not for jobs."""
    if entry.adapter != "sdcpp" or has_channel:
        return None
    return Warn(
        code="channel_missing",
        detail="This engine has no channel to the service. It listens on a port of 127.0.0.1 where every local program "
        "can use it, makes no previews, and a running picture cannot be stopped. Use the engine that `imagegen engine "
        "build` makes (unset IMAGEGEN_SD_SERVER).",
    )


def unused_card(entry: Entry, card_name: str | None, torch_uses_cuda: bool) -> Warn | None:
    """`gpu_unused`: there is a card, and the torch that draws `entry` is built for the CPU."""
    if entry.adapter != "glm" or card_name is None or torch_uses_cuda or lacking(entry.adapter):
        return None
    return Warn(
        code="gpu_unused",
        detail=f"{entry.name} is drawn on the CPU, very much slower than the GPU here ({card_name}) would: the torch "
        "that is installed where the service is was built for the CPU. Install one for CUDA, as PyTorch's own page "
        "says, then start the service again.",
    )


def memory(entry: Entry, settings: Settings, machine: Machine) -> Warn | None:
    """`does_not_fit`: the model needs more memory than the card has, or than the machine's RAM without a card.

    The need is the catalog's `[memory]`, or if unknown the size of the model's files, which is the minimum that the
    engine holds. With a card, one of the memory modes that the engine offers must be able to hold the weights.
    """
    on_card = machine.card_bytes is not None
    total = machine.ram_bytes if machine.card_bytes is None else machine.card_bytes
    stated = None
    if entry.memory is not None:
        stated = entry.memory.vram_bytes if on_card else entry.memory.ram_bytes
    weights = weights_of(entry, settings)
    need = stated if stated is not None else weights.total_bytes
    if need <= total or (on_card and _offloaded(entry, settings, machine, weights)):
        return None
    place = f"the card ({machine.card_name})" if on_card else "this machine"
    known = f"needs {need / GB:.1f} GB" if stated is not None else f"has {need / GB:.1f} GB of files"
    return Warn(
        code="does_not_fit",
        detail=f"{entry.name} {known}, and {place} has {total / GB:.1f} GB of memory: it may not load, or be very "
        f"slow. Use a smaller quantisation or model: `imagegen models show {entry.name}`.",
    )


def _offloaded(entry: Entry, settings: Settings, machine: Machine, weights: WeightSizes) -> bool:
    """Whether the card can hold what the engine needs of the weights at a time, and the RAM can hold them all."""
    modes = [mode for mode in modes_of(entry, settings, machine.flags) if mode is not MemoryMode.CARD]
    on_card = min((least(mode, weights) for mode in modes), default=None)
    return on_card is not None and on_card <= (machine.card_bytes or 0) and weights.total_bytes <= machine.ram_bytes
