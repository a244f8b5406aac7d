"""MemoryFit: whether and how a model of the catalog fits into this machine's memory, and what would fit instead."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

from imagegen.hardware.memory_mode import (
    DECODE_BYTES_PER_PX,
    GB,
    MODE_FLAGS,
    TINY_DECODE_BYTES_PER_PX,
    Fitting,
    Known,
    MemoryMode,
    Misfit,
    Room,
    Shape,
    WeightSizes,
)
from imagegen.hardware.memory_needs import CPU, MemoryNeeds, NeedKey
from imagegen.models.entry import Entry
from imagegen.schemas import Kind
from imagegen.settings import Settings

_ONE_RUNNER = {"llm_vision": "llm"}
"""Roles whose weights the engine moves together with those of another role (src/llm.hpp)."""


SMALLER_SHARE = 0.75
"""A picture that does not fit is advised to have at most this share of its pixels: less would hardly help."""


@dataclass(frozen=True)
class Place:
    """The memory for a model: a card with the RAM beside it, or RAM alone (`card` None). flags: see `modes_of`."""

    card: Room | None
    ram_bytes: int
    flags: Collection[str] = ()


class MemoryFit:
    """Decides with the sizes of the models' files and with what was measured on this machine."""

    def __init__(self, settings: Settings, entries: Callable[[], list[Entry]], needs: MemoryNeeds) -> None:
        """entries: the catalog's models, for advice."""
        self._settings, self._entries, self.needs = settings, entries, needs

    def key(self, entry: Entry, kind: Kind, mode: str) -> NeedKey:
        """The key of measurements of `entry`."""
        return NeedKey(entry.name, files_bytes(entry, self._settings), kind, mode)

    def fitting(self, entry: Entry, shape: Shape, flags: Collection[str]) -> Fitting:
        """The inputs of the decision about `entry`. Reads the sizes of its files."""
        weights = weights_of(entry, self._settings)
        modes = modes_of(entry, self._settings, flags)

        def known(mode: MemoryMode) -> Known:
            return self._known(entry, shape, mode, weights)

        forced = entry.adapter == "sdcpp" and self._settings.memory_mode != "auto"
        return Fitting(entry.name, weights, modes, shape, known, forced)

    def too_large(self, entry: Entry, shape: Shape, place: Place) -> str | None:
        """Why a picture cannot be drawn in this memory, and what can be, as sentences; None if it can or may."""
        why = self._misfit(entry, shape, place)
        return None if why is None else f"{why} {self.advice(entry, shape, place)}"

    def _misfit(self, entry: Entry, shape: Shape, place: Place) -> str | None:
        if self._settings.memory_mode != "auto":
            return None  # the operator decides
        if place.card is not None:
            fitting = self.fitting(entry, shape, place.flags)
            for choice in (fitting.decide(place.card), fitting.last_resort(place.card)):
                if not isinstance(choice, Misfit):
                    return None
            return choice.why
        expected = self._known(entry, shape, CPU, weights_of(entry, self._settings)).expected
        if expected is None or expected <= place.ram_bytes:
            return None
        return (
            f"{entry.name} would need about {expected / GB:.1f} GB of RAM for a picture of "
            f"{shape.width}x{shape.height}, and this machine has {place.ram_bytes / GB:.1f} GB."
        )

    def _known(self, entry: Entry, shape: Shape, mode: str, weights: WeightSizes) -> Known:
        key = self.key(entry, shape.kind, mode)
        return self.needs.known(key, shape.pixels_in_all, weights.decode_bytes_per_px)

    def advice(self, entry: Entry, shape: Shape, place: Place) -> str:
        """What to ask for instead of a picture that does not fit, as a sentence."""
        size = next((one for one in _smaller(entry, shape) if self._misfit(entry, one, place) is None), None)
        other = self._smallest(entry, shape.kind, place)
        ways = [] if size is None else [f"ask for at most {size.width}x{size.height}"]
        if other is not None:
            ways.append(f"use the model {other}")
        sentence = " or ".join(ways) or "no model of the catalog is known to fit here"
        return f"{sentence[0].upper()}{sentence[1:]}."

    def _smallest(self, entry: Entry, kind: Kind, place: Place) -> str | None:
        """The smallest model of the catalog, if it is smaller, that does the same and fits at its usual size."""
        found, own_bytes = [], weights_of(entry, self._settings).total_bytes
        for other in self._entries():
            able = other.capabilities.edit if kind is Kind.EDIT else other.capabilities.draw
            size_bytes = weights_of(other, self._settings).total_bytes
            if not able or other.noise or other.made_by is not None or not 0 < size_bytes < own_bytes:
                continue
            if self._misfit(other, usual_shape(other, kind), place) is None:
                found.append((size_bytes, other.name))
        return min(found)[1] if found else None


def usual_shape(entry: Entry, kind: Kind = Kind.GENERATE) -> Shape:
    """A picture of the model's default size."""
    return Shape(kind, int(entry.defaults.width.value), int(entry.defaults.height.value))


def files_bytes(entry: Entry, settings: Settings) -> int:
    """Bytes of the model's files on this machine, including LoRAs."""
    return sum(path.stat().st_size for path in entry.paths(settings))


def modes_of(entry: Entry, settings: Settings, flags: Collection[str]) -> tuple[MemoryMode, ...]:
    """The modes that the engine offers for `entry`. flags: those that it knows; empty if they are unknown.

    Flags of the entry itself stay, so an entry with `--offload-to-cpu` is never loaded as a whole, whatever the setting
    says. A mode that the operator has set is the only one, even if the engine lacks its flags. The second engine
    chooses by itself.
    """
    if entry.adapter != "sdcpp":
        return (MemoryMode.CARD,)
    own = MODE_FLAGS[MemoryMode.STREAM].intersection(entry.engine_flags)
    if settings.memory_mode != "auto":
        needed = own | MODE_FLAGS[MemoryMode(settings.memory_mode)]
        return tuple(mode for mode in MemoryMode if needed <= MODE_FLAGS[mode])[:1]
    offered = tuple(mode for mode in MemoryMode if own <= MODE_FLAGS[mode] <= own.union(flags))
    return offered or (MemoryMode.CARD,)


def weights_of(entry: Entry, settings: Settings) -> WeightSizes:
    """The sizes of the model's parts, from its files; for files that are missing, from the catalog."""
    parts: dict[str, int] = {}
    unknown = False
    for file in entry.files:
        size = _size(entry.path_of(file, settings)) or file.size_bytes
        unknown |= size is None and not file.optional
        role = _ONE_RUNNER.get(file.role, file.role)
        parts[role] = parts.get(role, 0) + (size or 0)
    if entry.adapter != "sdcpp":
        return _second_engine(entry, settings)
    total = sum(parts.values())
    if unknown and entry.download_bytes is not None:
        total = max(total, int(entry.download_bytes.value))
    tiny = "tae" in parts and "vae" not in parts
    return WeightSizes(
        total_bytes=total,
        largest_bytes=total if unknown or "model" in parts else max(parts.values(), default=0),
        decoder_bytes=parts.get("vae", 0) or parts.get("tae", 0),
        decode_bytes_per_px=0 if _tiled(entry) else TINY_DECODE_BYTES_PER_PX if tiny else DECODE_BYTES_PER_PX,
        card_bytes=None if entry.memory is None else entry.memory.vram_bytes,
    )


def _second_engine(entry: Entry, settings: Settings) -> WeightSizes:
    """The second engine loads one folder of the repository at a time if the whole model does not fit."""
    folders: dict[Path, int] = {}
    for path in entry.paths(settings):
        folders[path.parent] = folders.get(path.parent, 0) + path.stat().st_size
    largest = max(folders.values(), default=0)
    stated = None if entry.memory is None else entry.memory.vram_bytes
    return WeightSizes(largest, largest, decode_bytes_per_px=0, card_bytes=stated)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _tiled(entry: Entry) -> bool:
    """Whether the entry has the decoder work in tiles, whose buffer does not grow with the picture."""
    tiling = entry.options.get("vae_tiling_params")
    return isinstance(tiling, dict) and bool(tiling.get("enabled"))


def _smaller(entry: Entry, shape: Shape) -> list[Shape]:
    """Smaller pictures of the same shape that the model can draw, the largest first."""
    step, most = entry.size_multiple, shape.pixels * SMALLER_SHARE
    least_w, least_h = entry.side_range("width")[0], entry.side_range("height")[0]
    found = []
    for width in range((shape.width - 1) // step * step, least_w - 1, -step):
        height = max(step, round(shape.height * width / shape.width / step) * step)
        if height >= least_h and width * height <= most:
            found.append(replace(shape, width=width, height=height))
    return found
