"""When a job will be done: the queue ahead of it, the load before it, and its own drawing."""

from __future__ import annotations

import time

from imagegen.jobs import JobManager
from imagegen.pace import Pace
from imagegen.schemas import EngineState, Job, Status
from imagegen.worker import Worker


class Forecast:
    """Seconds to a result, computed when somebody asks. None as soon as one part is unknown."""

    def __init__(self, jobs: JobManager, pace: Pace, worker: Worker) -> None:
        self._jobs, self._pace, self._worker = jobs, pace, worker

    def eta_s(self, job: Job) -> float | None:
        """Seconds until `job` is complete; None if it has ended or a part was never measured."""
        if job.status.ended:
            return None
        if job.status is Status.RUNNING:
            return self._running_s(job)
        total = self._before_first_s(job.model)
        resident = self._worker.view().model
        for one in self._jobs.active():
            if one.seq > job.seq or total is None:
                break
            drawing = self._pace.job(one.model, one.params)
            if drawing is None:
                return None
            if resident is not None and one.model != resident:
                load = self._pace.expect(one.model, "load")
                if load is None:
                    return None
                drawing += load
            resident = one.model
            if one.running and (progress := one.progress):
                left = self._pace.remaining(one.model, one.params, progress, time.time() - progress.at)
                drawing = drawing if left is None else left
            total += drawing
        return total

    def queue_s(self) -> float | None:
        """Seconds until everything accepted so far is drawn; 0 when nothing waits."""
        active = self._jobs.active()
        if not active:
            return 0.0
        total = self._before_first_s(active[0].model) or 0.0
        for one in active:
            drawing = self._pace.job(one.model, one.params)
            if drawing is None:
                return None
            total += drawing
        return total

    def _running_s(self, job: Job) -> float | None:
        progress = job.progress
        elapsed = 0.0 if progress is None else max(0.0, time.time() - progress.at)
        return self._pace.remaining(job.model, job.params, progress, elapsed)

    def _before_first_s(self, model: str) -> float | None:
        """Seconds until the engine can begin: what is left of a load or of a cancelled picture."""
        engine = self._worker.view()
        match engine.state:
            case EngineState.READY | EngineState.DRAWING:
                return 0.0
            case EngineState.DRAINING:
                return self._worker.draining_s()
            case EngineState.LOADING:
                load = self._pace.expect(engine.model or model, "load")
                if load is None or engine.load_started is None:
                    return None
                return max(0.0, load - (time.time() - engine.load_started))
            case _:
                return self._pace.expect(model, "load")
