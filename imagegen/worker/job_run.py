"""JobRun: one run of a job, with the measurements and warnings that it collects."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from imagegen.engines.base import DrawTimes
from imagegen.hardware.memory_mode import Shape
from imagegen.jobs.durations import Measurement, What, timed_as
from imagegen.models.entry import Entry
from imagegen.schemas import NOT_SIGNED, Job, StoredImage, Warn
from imagegen.worker.lifecycle import Loaded
from imagegen.worker.progress import ProgressWriter

NONE_SKIPPED = Warn(
    code="speed_without_effect",
    detail="Fast left no step out: the engine's cache found that each one changes the picture.",
)


@dataclass
class JobRun:
    """The state of one run of a job. Each start of the job creates a new one.

    began: start in monotonic seconds, without the wait for files or for the GPU.
    """

    job: Job
    report: ProgressWriter
    began: float = field(default_factory=time.monotonic)
    measurements: list[Measurement] = field(default_factory=list)
    found: list[Warn] = field(default_factory=list)

    def warnings(self) -> list[Warn]:
        """The job's warnings about its pictures. Call it after the last picture."""
        return self.found

    def note_picture(self, image: StoredImage) -> None:
        """Repeat the warning of a picture that could not be signed."""
        self.found += [one for one in image.warnings if one.code == NOT_SIGNED and one not in self.found]

    def _measure(self, model: str, what: What, pixels: int, seconds: float | None) -> None:
        if seconds is not None:
            self.measurements.append(Measurement(model, what, pixels, seconds))


@dataclass
class UpscaleRun(JobRun):
    """A run that enlarges a picture; no diffusion model is needed."""

    def note_upscale(self, seconds: float, longest_gap_s: float) -> None:
        """Record how long an upscale took, and the longest time between two of its tiles."""
        self._measure(self.job.model, "step", self.job.params.pixels, seconds)
        self._measure(self.job.model, "gap", self.job.params.pixels, longest_gap_s)


@dataclass
class DrawingRun(JobRun):
    """A run that draws with the model `entry`.

    skipped: sampling steps that the engine's cache left out. loads: of the model for this job.
    """

    entry: Entry = field(kw_only=True)
    skipped: int = 0
    loads: int = 0
    engine_said: list[Warn] = field(default_factory=list)

    def note_load(self, loaded: Loaded) -> None:
        """Record a load. Its time counts; the wait before it does not, unless pictures were drawn before it."""
        if not self.loads:
            self.began = time.monotonic() - loaded.seconds
        self.loads += 1
        self.found += loaded.warnings
        self._measure(self.entry.name, "load", 0, loaded.seconds)

    def note_draw(self, drawn: DrawTimes) -> None:
        """Record the timings and warnings of one drawn picture."""
        self.skipped += drawn.skipped
        self.engine_said += [one for one in drawn.warnings if one not in self.engine_said]
        model, params = self.job.model, self.job.params
        pixels = params.pixels
        step_s = drawn.sample_s / drawn.steps if drawn.sample_s is not None and drawn.steps else None
        self._measure(model, "encode" if drawn.tokens is None else "tokens", pixels, drawn.encode_s)
        self._measure(timed_as(model, params.speed), "step", pixels, step_s)
        self._measure(model, "decode", pixels, drawn.decode_s)
        self._measure(model, "gap", pixels, drawn.longest_gap_s)

    @property
    def shape(self) -> Shape:
        """The size of the job's pictures."""
        params = self.job.params
        return Shape(self.job.kind, params.width, params.height, len(self.job.references))

    def warnings(self) -> list[Warn]:
        none_skipped = [NONE_SKIPPED] if self.job.params.speed == "fast" and not self.skipped else []
        return [*self.found, *none_skipped, *self.engine_said]
