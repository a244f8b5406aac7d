"""What an engine said it does, and the phases of one picture that follow from it: the same for every engine.

Pure: no I/O and no clock. Each engine's own reader makes these events of its lines (engines/sdcpp/log.py,
engines/glm/server/lines.py) or of its channel (engines/sdcpp/adapter.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from imagegen.engines.base import DrawProgress, DrawTimes
from imagegen.schemas import Phase


class Mark(Enum):
    """A line that says where the engine is."""

    LISTENING = auto()  # printed before bind: not yet ready
    DRAW_BEGUN = auto()
    SAMPLING_BEGUN = auto()
    SAMPLING_DONE = auto()
    DECODING = auto()
    DRAW_DONE = auto()  # printed before the PNG is made: not yet to be fetched
    TROUBLE = auto()  # an error: the job may have failed


@dataclass(frozen=True)
class Bar:
    """A progress bar: `done` of `total`; `bytes_per_s` only while tensors are loaded."""

    done: int
    total: int
    bytes_per_s: float | None


@dataclass(frozen=True)
class Tokens:
    """Before the sampling an autoregressive model writes `done` of `total` tokens (GLM-Image does)."""

    done: int
    total: int


@dataclass(frozen=True)
class Tile:
    """The autoencoder has worked through `done` of `total` tiles of the picture."""

    done: int
    total: int


@dataclass(frozen=True)
class Skipped:
    """The sampler's last word about its cache: how many of the steps it left out."""

    steps: int


Event = Bar | Mark | Tokens | Tile | Skipped | None
"""None: a line that only people read."""


class DrawTracker:
    """Follows one picture through encoding, sampling and decoding; never goes backwards.

    sd-server's decoder prints the same bars as its sampler (one a VAE tile): only those between SAMPLING_BEGUN and
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
        """The progress that a line brings, if any; `now` in seconds of the clock `begun_at` came from."""
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
        if isinstance(event, Tile):  # those of reference pictures, encoded before, begin again with each of them
            if self.phase is not Phase.DECODING or event.done <= self._tile:
                return None
            self._tile = event.done
            return DrawProgress(Phase.DECODING, step_s=self._step_s, tile=event.done, tiles=event.total)
        if isinstance(event, Skipped):  # said at the end of the sampling, and read later where the steps come otherwise
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
        """What was measured, `now` being when the picture had arrived."""
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
