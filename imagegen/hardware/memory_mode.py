"""Memory modes: where an engine keeps a model's weights, what that needs, and which mode to use. Pure.

Facts about sd-server, from the source that this project builds (src/ggml_extend.hpp, src/ggml_graph_cut.cpp):

- By default all weights stay on the card.
- With `--offload-to-cpu` they stay in RAM. One part at a time (text encoder, diffusion model, decoder) is copied to the
  card before it computes.
- `--max-vram N` (GiB) also cuts the graphs of text encoder and diffusion model into segments that need at most N with
  their weights. It does nothing unless the weights are offloaded. The decoder is never cut.
- On the CPU backend both flags are accepted and do nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from imagegen.schemas import Kind

GB = 1e9
GIB = 1024**3
MARGIN_BYTES = 1024**3
"""What an engine takes of the card besides weights and the buffers counted here: the driver's context, its pools."""
STEP_BYTES_PER_PX = 450
"""The diffusion model's buffer: sd-server -v with qwen-tiny reports 9.45 MB at 128x128 and 30.47 MB at 256x256."""
DECODE_BYTES_PER_PX = 7600
"""An untiled decoder's buffer: sd-server -v with qwen-tiny reports 469.19 MB at 256x256 for Wan's. Others take less
(leejet/stable-diffusion.cpp#1621: 14978.25 MB for FLUX's at 1536x1536)."""
TINY_DECODE_BYTES_PER_PX = 1950
"""A tiny autoencoder's buffer: sd-server -v with tiny reports 120.13 MB at 256x256."""
STREAM_LEAST_BYTES = 1024**3
"""The smallest budget that is worth a try: a segment is at least one block, which the engine does not cut."""
STREAM_SHARE = 0.7
"""The part of the free memory that `--max-vram` gets. The engine's budget leaves out what it keeps between segments."""
RAM_RESERVE_BYTES = 1024**3
"""RAM that offloaded weights leave to the rest of the machine."""


class MemoryMode(StrEnum):
    """Where the weights are, from the fastest mode to the one that needs least of the card."""

    CARD = "card"  # all of them on the card
    OFFLOAD = "offload"  # in RAM; the part that computes is copied to the card
    STREAM = "stream"  # in RAM; the part that computes is copied in segments of a limited size

    @property
    def words(self) -> str:
        return _WORDS[self]


_WORDS = {
    MemoryMode.CARD: "with all weights on the card",
    MemoryMode.OFFLOAD: "with the weights in RAM, one part of the model on the card at a time",
    MemoryMode.STREAM: "with the weights in RAM, a few blocks of the model on the card at a time",
}
MODE_FLAGS = {
    MemoryMode.CARD: frozenset[str](),
    MemoryMode.OFFLOAD: frozenset({"--offload-to-cpu"}),
    MemoryMode.STREAM: frozenset({"--offload-to-cpu", "--max-vram"}),
}
"""The flags of sd-server that a mode needs."""


@dataclass(frozen=True)
class WeightSizes:
    """Bytes of a model's weights: all, the largest part, the decoder; and the decoder's buffer per pixel.

    card_bytes: the catalog's figure for the whole model on the card, with its buffers; None if it has none.
    """

    total_bytes: int
    largest_bytes: int
    decoder_bytes: int = 0
    decode_bytes_per_px: int = DECODE_BYTES_PER_PX
    card_bytes: int | None = None


@dataclass(frozen=True)
class Room:
    """Bytes of a card, and the RAM that offloaded weights may take."""

    name: str
    total_bytes: int
    free_bytes: int
    ram_bytes: int


@dataclass(frozen=True)
class Shape:
    """The size of a picture, in pixels, and the number of its reference pictures."""

    kind: Kind
    width: int
    height: int
    references: int = 0

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @property
    def pixels_in_all(self) -> int:
        """With the references, which are fitted to the picture's size."""
        return self.pixels * (1 + self.references)


@dataclass(frozen=True)
class Known:
    """Measurements of a picture in one mode, in bytes.

    expected: what it takes, None if unknown. at_least: it is proven to take more than this; 0 if nothing is.
    """

    expected: int | None = None
    at_least: int = 0


@dataclass(frozen=True)
class MemoryPlan:
    """The mode for a load. need_bytes: its expected use of the card. budget_gib: the value of `--max-vram`."""

    mode: MemoryMode
    need_bytes: int
    why: str
    budget_gib: float | None = None

    def argv_beside(self, argv: Sequence[str]) -> list[str]:
        """The arguments of sd-server for this mode that `argv` does not have already."""
        wanted = {} if self.mode is MemoryMode.CARD else {"--offload-to-cpu": list[str]()}
        if self.budget_gib is not None:
            wanted["--max-vram"] = [f"{self.budget_gib:g}"]
        return [word for flag, values in wanted.items() if flag not in argv for word in (flag, *values)]


@dataclass(frozen=True)
class Misfit:
    """No mode fits. need_bytes: the least that a mode needs of the card. short_of_ram: the card would suffice."""

    need_bytes: int
    short_of_ram: bool
    why: str


@dataclass(frozen=True)
class Fitting:
    """One model and one picture, for `decide`.

    modes: the modes that the engine offers, the fastest first; at least one. known: the measurements of this picture,
    by mode. forced: the operator chose the only mode; it is used even if it does not fit.
    """

    model: str
    weights: WeightSizes
    modes: Sequence[MemoryMode]
    shape: Shape
    known: Callable[[MemoryMode], Known] = lambda _mode: Known()
    forced: bool = False

    def need_bytes(self, mode: MemoryMode) -> int:
        """Bytes of the card that the model is expected to take in `mode`: as measured, else an estimate."""
        known, need = self.known(mode), estimate(mode, self.weights, self.shape.pixels)
        if known.expected is not None:
            # In the mode stream the engine takes as much as its budget allows, so what it took is no lower bound.
            need = min(need, known.expected) if mode is MemoryMode.STREAM else known.expected
        return max(need, known.at_least, least(mode, self.weights))

    def tighter(self, mode: MemoryMode) -> MemoryMode | None:
        """The next mode that needs less of the card; None if there is none."""
        later = self.modes[self.modes.index(mode) + 1 :] if mode in self.modes else ()
        return later[0] if later else None

    def decide(self, room: Room, at_least: MemoryMode | None = None) -> MemoryPlan | Misfit:
        """The fastest mode that is expected to fit in the free memory of `room`; `at_least` or tighter."""
        return self._choose(room, at_least, self.need_bytes)

    def last_resort(self, room: Room, at_least: MemoryMode | None = None) -> MemoryPlan | Misfit:
        """The tightest mode, unless it is certain that it does not fit: an estimate may be too high."""
        modes = self._from(at_least)
        return self._choose(room, modes[-1], lambda mode: max(least(mode, self.weights), self.known(mode).at_least))

    def _from(self, at_least: MemoryMode | None) -> Sequence[MemoryMode]:
        return self.modes if at_least is None else self.modes[self.modes.index(at_least) :]

    def _choose(
        self, room: Room, at_least: MemoryMode | None, need: Callable[[MemoryMode], int]
    ) -> MemoryPlan | Misfit:
        modes, short_of_ram = self._from(at_least), False
        for mode in modes:
            if not self.forced:
                if need(mode) > room.free_bytes:
                    continue
                if mode is not MemoryMode.CARD and self.ram_bytes > room.ram_bytes:
                    short_of_ram = True
                    continue
            return MemoryPlan(mode, self.need_bytes(mode), self._why(mode, room), _budget_gib(mode, room.free_bytes))
        lowest = min(need(mode) for mode in modes)
        return Misfit(lowest, short_of_ram, self._why_not(lowest, room, short_of_ram))

    @property
    def ram_bytes(self) -> int:
        """Bytes of RAM that offloaded weights take, with a reserve."""
        return self.weights.total_bytes + RAM_RESERVE_BYTES

    def _why(self, mode: MemoryMode, room: Room) -> str:
        free = f"{room.free_bytes / GB:.1f} of {room.total_bytes / GB:.1f} GB of the card ({room.name}) are free"
        if self.forced:
            return f"IMAGEGEN_MEMORY_MODE={mode} is set; {free}."
        why = f"It needs about {self.need_bytes(mode) / GB:.1f} GB {mode.words}, and {free}."
        if mode is not MemoryMode.CARD and MemoryMode.CARD in self.modes:
            why += f" With all weights on the card it would need {self.need_bytes(MemoryMode.CARD) / GB:.1f} GB."
        return why

    def _why_not(self, need: int, room: Room, short_of_ram: bool) -> str:
        if short_of_ram:
            return (
                f"{self.model} does not fit on the card ({room.name}) as a whole, and its weights need "
                f"{self.ram_bytes / GB:.1f} GB of RAM, of which {room.ram_bytes / GB:.1f} GB are available."
            )
        return (
            f"{self.model} needs at least {need / GB:.1f} GB of the card ({room.name}) for a picture of "
            f"{self.shape.width}x{self.shape.height}, and {room.free_bytes / GB:.1f} of {room.total_bytes / GB:.1f} GB "
            "are available."
        )


def least(mode: MemoryMode, weights: WeightSizes) -> int:
    """Bytes of the card that the weights alone take at a time: the model certainly needs more."""
    match mode:
        case MemoryMode.CARD:
            return weights.total_bytes
        case MemoryMode.OFFLOAD:
            return weights.largest_bytes
        case MemoryMode.STREAM:
            return weights.decoder_bytes


def estimate(mode: MemoryMode, weights: WeightSizes, pixels: int) -> int:
    """Bytes of the card for a picture of `pixels`, from the sizes of the files and the engine's own reports."""
    decode = weights.decode_bytes_per_px * pixels
    if mode is MemoryMode.CARD:
        if weights.card_bytes is not None:
            return weights.card_bytes
        return MARGIN_BYTES + weights.total_bytes + max(decode, STEP_BYTES_PER_PX * pixels)
    at_work = weights.largest_bytes + STEP_BYTES_PER_PX * pixels
    if mode is MemoryMode.STREAM:
        at_work = min(at_work, STREAM_LEAST_BYTES + STEP_BYTES_PER_PX * pixels)
    return MARGIN_BYTES + max(at_work, weights.decoder_bytes + decode)


def _budget_gib(mode: MemoryMode, free_bytes: int) -> float | None:
    """The value of `--max-vram` for this much free memory, rounded down; None in the other modes."""
    if mode is not MemoryMode.STREAM:
        return None
    return max(0.1, int(max(0, free_bytes - MARGIN_BYTES) * STREAM_SHARE / GIB * 10) / 10)
