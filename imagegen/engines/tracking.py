"""Events of an engine, and the phases of one picture derived from them; shared by all engines.

Pure: no I/O and no clock. Each engine's parser makes these events from its log lines (engines/sdcpp/log.py,
engines/glm/server/lines.py) or its channel (engines/sdcpp/adapter.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from imagegen.engines.base import DrawProgress, DrawTimes
from imagegen.schemas import Phase


class Mark(Enum):
    """A change of the engine's state."""

    LISTENING = auto()  # printed before bind: the engine is not ready yet
    DRAW_BEGUN = auto()
    SAMPLING_BEGUN = auto()
    SAMPLING_DONE = auto()
    DECODING = auto()
    DRAW_DONE = auto()  # printed before the PNG is encoded: it cannot be fetched yet
    TROUBLE = auto()  # an error: the job may have failed


@dataclass(frozen=True)
class Bar:
    """A progress bar: `done` of `total`; `bytes_per_s` only while tensors are loaded."""

    done: int
    total: int
    bytes_per_s: float | None


@dataclass(frozen=True)
class Tokens:
    """An autoregressive model (GLM-Image) has generated `done` of `total` tokens, before the sampling."""

    done: int
    total: int


@dataclass(frozen=True)
class Tile:
    """The autoencoder has processed `done` of `total` tiles of the picture."""

    done: int
    total: int


@dataclass(frozen=True)
class Skipped:
    """The number of steps that the sampler's cache skipped; reported at the end of the sampling."""

    steps: int


Event = Bar | Mark | Tokens | Tile | Skipped | None
"""None: a line without meaning for the service."""


class DrawTracker:
    """Tracks one picture through encoding, sampling and decoding; the phase never goes backwards.

    sd-server's decoder prints the same bars as its sampler (one per VAE tile). Only bars between SAMPLING_BEGUN and
    SAMPLING_DONE are steps.
    """

    def __init__(self, begun_at: float) -> None:
        self.phase = Phase.ENCODING
        self.step = self._tile = 0
        self.steps: int | None = None
        self._step_s: float | None = None
        self.skipped = 0
        self.tokens: int | None = None
        self._begun_at = begun_at
        self._at: dict[Phase, float] = {Phase.ENCODING: begun_at}
        self._done_at: float | None = None
        self._heard_at, self._longest_gap_s = begun_at, 0.0

    def feed(self, event: Event, now: float) -> DrawProgress | None:
        """The progress that follows from an event, if any; `now` in seconds, of the same clock as `begun_at`."""
        self._longest_gap_s = max(self._longest_gap_s, now - self._heard_at)
        self._heard_at = now
        if isinstance(event, Tokens):
            if self.phase is not Phase.ENCODING:
                return None
            self.tokens = event.done
            return DrawProgress(Phase.ENCODING, event.done, event.total)
        if isinstance(event, Bar):
            if self.phase is not Phase.SAMPLING or event.bytes_per_s is not None or event.done <= self.step:
                return None
            self.step, self.steps = event.done, event.total
            self._step_s = (now - self._at[Phase.SAMPLING]) / self.step
            return DrawProgress(Phase.SAMPLING, self.step, self.steps, self._step_s)
        if isinstance(event, Tile):  # reference pictures are encoded in tiles too, each counted from 1
            if self.phase is not Phase.DECODING or event.done <= self._tile:
                return None
            self._tile = event.done
            return DrawProgress(Phase.DECODING, step_s=self._step_s, tile=event.done, tiles=event.total)
        if isinstance(event, Skipped):  # printed after sampling; read later if the steps come over the channel
            if self.phase is not Phase.ENCODING:
                self.skipped = min(event.steps, self.steps or 0)
            return None
        if event is Mark.SAMPLING_BEGUN and self.phase is Phase.ENCODING:
            return self._enter(Phase.SAMPLING, now)
        if event in {Mark.SAMPLING_DONE, Mark.DECODING} and self.phase is Phase.SAMPLING:
            return self._enter(Phase.DECODING, now)
        if event is Mark.DRAW_DONE and self.phase is Phase.DECODING:
            self._done_at = now
        return None

    def _enter(self, phase: Phase, now: float) -> DrawProgress:
        self.phase, self._at[phase] = phase, now
        return DrawProgress(phase, step_s=self._step_s)

    def times(self, now: float) -> DrawTimes:
        """The measured times; `now` is when the picture arrived."""
        sampling, decoding = self._at.get(Phase.SAMPLING), self._at.get(Phase.DECODING)
        return DrawTimes(
            encode_s=None if sampling is None else sampling - self._begun_at,
            sample_s=None if sampling is None or decoding is None else decoding - sampling,
            decode_s=None if decoding is None or self._done_at is None else self._done_at - decoding,
            steps=self.steps,
            total_s=now - self._begun_at,
            longest_gap_s=max(self._longest_gap_s, now - self._heard_at),
            skipped=self.skipped,
            tokens=self.tokens,
        )
