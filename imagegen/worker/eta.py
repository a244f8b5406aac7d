"""Estimate when a job completes: the jobs ahead of it, the model loads, and its own drawing."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence

from imagegen.jobs.active import ActiveJob
from imagegen.jobs.durations import Durations
from imagegen.jobs.manager import JobManager
from imagegen.models.download.progress import Fetching
from imagegen.schemas import EngineState, Job, Params, Phase
from imagegen.worker.lifecycle import EngineView
from imagegen.worker.loop import Worker


class EtaEstimator:
    """Seconds until results are complete, computed on each call; None if one part is unknown.

    fetching: returns the progress of the download that a model's load needs; None if no such download runs.
    """

    def __init__(
        self,
        jobs: JobManager,
        durations: Durations,
        worker: Worker,
        fetching: Callable[[str], Fetching | None] = lambda _model: None,
    ) -> None:
        self._jobs, self._durations, self._worker, self._fetching = jobs, durations, worker, fetching
        self._line: tuple[Sequence[ActiveJob], int, str | None, list[float]] | None = None

    def eta_s(self, job: Job) -> float | None:
        """Seconds until `job` is complete; None if it has ended or a part has not been measured."""
        return None if job.status.ended else self._until(job.seq)

    def queue_s(self) -> float | None:
        """Seconds until all accepted jobs are complete; 0 if there is none."""
        active = self._jobs.active()
        return self._until(active[-1].seq) if active else 0.0

    def new_job_s(self, model: str, params: Params) -> float | None:
        """Seconds until a job submitted now would be complete; None if a part has not been measured."""
        drawing = self._durations.job(model, params)
        active = self._jobs.active()
        before = self.queue_s() if active else self._before_first_s(model, params)
        loaded = next((one.model for one in reversed(active) if not one.params.upscales), self._worker.view().model)
        counted = loaded is None and not active  # by `_before_first_s`
        ready = params.upscales or loaded == model or counted
        load = 0.0 if ready else self._durations.expect(model, "load")
        return None if drawing is None or before is None or load is None else before + load + drawing

    def _until(self, seq: int) -> float | None:
        """Seconds until the job `seq` and all jobs before it are complete."""
        active = self._jobs.active()
        count = bisect_right(active, seq, key=lambda one: one.seq)
        whole = self._whole_s(active)
        first = self._before_first_s(active[0].model, active[0].params) if count else None
        if first is None or len(whole) < count:
            return None
        total = first + whole[count - 1]
        if running := next((one for one in active[:count] if one.running), None):
            left = self._drawing_s(running)
            if left is None:
                return None
            total += left - (self._durations.job(running.model, running.params) or 0.0)
        return total

    def _whole_s(self, active: Sequence[ActiveJob]) -> list[float]:
        """Seconds until each job is complete, as if none had begun; the list ends before the first unknown duration.

        Cached until the queue or a measurement changes: each change of the queue makes hundreds of readers ask.
        """
        lifecycle = self._worker.view().model
        if self._line is not None:
            known, revision, model, sums = self._line
            if known is active and revision == self._durations.revision and model == lifecycle:
                return sums
        sums, total, loaded = [], 0.0, lifecycle
        for one in active:
            seconds = self._durations.job(one.model, one.params)
            if seconds is None and one.running:
                seconds = 0.0  # no measurement yet: `_until` adds the estimate from its progress
            counted = loaded is None and one is active[0]  # by `_before_first_s`
            ready = one.params.upscales or loaded == one.model or counted
            load = 0.0 if ready else self._durations.expect(one.model, "load")
            if seconds is None or load is None:
                break
            loaded = loaded if one.params.upscales else one.model
            total += seconds + load
            sums.append(total)
        self._line = active, self._durations.revision, lifecycle, sums
        return sums

    def _drawing_s(self, one: ActiveJob) -> float | None:
        """Seconds that a job still takes on a loaded engine. `_before_first_s` counts its load."""
        progress = one.progress
        if not one.running or progress is None or progress.phase in {Phase.FETCHING, Phase.LOADING}:
            return self._durations.job(one.model, one.params)
        return self._durations.remaining(one.model, one.params, progress, time.time() - progress.at)

    def load_s(self, engine: EngineView, model: str) -> float | None:
        """Seconds until the running load ends: the engine's own estimate, else from earlier loads of the model."""
        if engine.load is not None and (engine.load.waits_for is not None or engine.load.left_s is not None):
            return engine.load.left_s
        load = self._durations.expect(engine.model or model, "load")
        if load is None or engine.load_started is None:
            return None
        return max(0.0, load - max(0.0, time.time() - engine.load_started))

    def _before_first_s(self, model: str, params: Params) -> float | None:
        """Seconds until the engine can begin: the rest of a download, a load or a cancelled picture."""
        engine = self._worker.view()
        if params.upscales and engine.state in {EngineState.COLD, EngineState.READY, EngineState.FAILED}:
            return 0.0
        waits = engine.state not in {EngineState.READY, EngineState.DRAWING, EngineState.DRAINING}
        if waits and engine.load_started is None and (fetching := self._fetching(model)) is not None:
            load = self._durations.expect(model, "load")
            return None if fetching.left_s is None or load is None else fetching.left_s + load
        match engine.state:
            case EngineState.READY | EngineState.DRAWING:
                return 0.0
            case EngineState.DRAINING:
                return self._worker.draining_s()
            case EngineState.LOADING:
                return self.load_s(engine, model)
            case _:
                return self._durations.expect(model, "load")
