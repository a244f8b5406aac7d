"""Time estimates from the measurements of earlier jobs on this machine. Pure arithmetic.

The service reads the `measurements` table once at the start and writes it when jobs end.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Literal

from imagegen.schemas import Params, Phase, Progress, Speed

What = Literal["load", "encode", "tokens", "step", "decode", "gap"]
"""tokens: the encoding of a model that first generates image tokens; their number grows with the size. gap: the time
between two lines of the engine's output."""
KEPT = 20
"""Measurements kept for each model, phase and size: enough for a median, few enough to follow changes."""


@dataclass(frozen=True)
class Measurement:
    """Seconds that the phase `what` took for `model` at `pixels` (0 if the size has no effect)."""

    model: str
    what: What
    pixels: int
    seconds: float


def timed_as(model: str, speed: Speed) -> str:
    """The name under which steps of `model` are measured. Each `speed` has its own, because `fast` steps take less."""
    return model if speed == "quality" else f"{model} ({speed})"


class Durations:
    """Expected seconds, from the medians of recent measurements; None without a measurement."""

    def __init__(self, measured: Iterable[Measurement] = ()) -> None:
        self._kept: defaultdict[tuple[str, What], dict[int, deque[float]]] = defaultdict(dict)
        self._jobs: dict[tuple[str, Speed, int, int, int, int, int], float | None] = {}
        self.revision = 0  # increases with each measurement
        for one in measured:
            self.add(one)

    def add(self, one: Measurement) -> None:
        self._jobs.clear()
        self.revision += 1
        sizes = self._kept[one.model, one.what]
        sizes.setdefault(one.pixels, deque(maxlen=KEPT)).append(one.seconds)

    def expect(self, model: str, what: What, pixels: int = 0) -> float | None:
        """Median seconds. An unmeasured size uses the nearest size's median; steps and decodes scale with the pixels.

        Tokens have a cost that does not depend on the size, so they use the line through the two nearest sizes.
        """
        sizes = self._kept.get((model, what))
        if not sizes:
            return None
        nearest = min(sizes, key=lambda known: abs(known - pixels))
        seconds = median(sizes[nearest])
        if what == "tokens" and len(sizes) > 1:
            other = min(sizes.keys() - {nearest}, key=lambda known: abs(known - pixels))
            slope = (median(sizes[other]) - seconds) / (other - nearest)
            seconds = max(0.0, seconds + max(0.0, slope) * (pixels - nearest))
        if what in {"step", "decode"} and nearest and nearest != pixels:
            seconds *= pixels / nearest
        return seconds

    def slowest(self, model: str, what: What, pixels: int) -> float | None:
        """The longest measurement at this size, in seconds; without one, the nearest size's, scaled up by pixels."""
        sizes = self._kept.get((model, what))
        if not sizes:
            return None
        nearest = min(sizes, key=lambda known: abs(known - pixels))
        return max(sizes[nearest]) * max(1.0, pixels / nearest if nearest else 1.0)

    def picture(self, model: str, params: Params, step_s: float | None = None) -> float | None:
        """Seconds for one picture on a loaded engine: encode + steps + decode. step_s: replaces the measured step."""
        pixels = params.pixels
        step = self._step(model, params) if step_s is None else step_s
        if step is None:
            return None
        decode = self.expect(model, "decode", pixels) or 0.0
        return self._encode(model, pixels) + params.steps_run * step + decode

    def _encode(self, model: str, pixels: int) -> float:
        tokens = self.expect(model, "tokens", pixels)
        return tokens if tokens is not None else self.expect(model, "encode", pixels) or 0.0

    def _step(self, model: str, params: Params) -> float | None:
        """Seconds per step. Before the first fast picture, those of `quality` (an upper bound)."""
        pixels = params.pixels
        timed = self.expect(timed_as(model, params.speed), "step", pixels)
        return self.expect(model, "step", pixels) if timed is None else timed

    def job(self, model: str, params: Params) -> float | None:
        """Seconds for a whole job on a loaded engine; cached until the next measurement."""
        key = (model, params.speed, params.width, params.height, params.steps_run, params.n, params.factor or 1)
        if key not in self._jobs:
            one = self.picture(model, params)
            self._jobs[key] = None if one is None else one * params.n
        return self._jobs[key]

    def remaining(self, model: str, params: Params, progress: Progress | None, phase_elapsed_s: float) -> float | None:
        """Seconds until a running job ends, from its progress and the step time of the running picture.

        `phase_elapsed_s`: seconds since the progress report; a negative value (the clock was set back) counts as 0.
        """
        phase_elapsed_s = max(0.0, phase_elapsed_s)
        step_s = progress.step_s if progress else None
        whole = self.picture(model, params, step_s)
        if whole is None:
            return None
        if progress is None or progress.phase in {Phase.FETCHING, Phase.WAITING_GPU}:
            return None if progress else whole * params.n
        pixels = params.pixels
        decode = self.expect(model, "decode", pixels) or 0.0
        step = (self._step(model, params) or 0.0) if step_s is None else step_s
        later = whole * max(0, params.n - progress.image)
        match progress.phase:
            case Phase.LOADING:
                load = self.expect(model, "load")
                if load is None:
                    return None
                left = load * (1 - (progress.fraction or 0.0))
                return max(0.0, left - phase_elapsed_s) + whole * params.n
            case Phase.ENCODING:
                left = whole - min(1.0, progress.fraction or 0.0) * self._encode(model, pixels)
            case Phase.SAMPLING:
                left = (params.steps_run - (progress.step or 0)) * step + decode
            case Phase.UPSCALING:
                left = whole * (1 - (progress.fraction or 0.0))
            case Phase.DECODING:
                left = decode * (1 - (progress.fraction or 0.0))
            case _:
                left = 0.0
        return max(0.0, left - phase_elapsed_s) + later


def cancel_by_kill(remaining_s: float | None, reload_s: float | None) -> bool:
    """D-05: True (end the engine) if the rest takes longer than a reload; False (drain) if not, or if unknown."""
    return remaining_s is not None and reload_s is not None and remaining_s > reload_s
