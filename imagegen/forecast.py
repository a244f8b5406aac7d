"""When a job will be done: the queue ahead of it, the load before it, and its own drawing."""

from __future__ import annotations

import time

from imagegen.jobs import Active, JobManager
from imagegen.pace import Pace
from imagegen.resident import EngineView
from imagegen.schemas import EngineState, Job, Phase
from imagegen.worker import Worker


class Forecast:
    """Seconds to a result, computed when somebody asks. None as soon as one part is unknown."""

    def __init__(self, jobs: JobManager, pace: Pace, worker: Worker) -> None:
        self._jobs, self._pace, self._worker = jobs, pace, worker

    def eta_s(self, job: Job) -> float | None:
        """Seconds until `job` is complete; None if it has ended or a part was never measured."""
        return None if job.status.ended else self._until(job.seq)

    def queue_s(self) -> float | None:
        """Seconds until everything accepted so far is drawn; 0 when nothing waits."""
        active = self._jobs.active()
        return self._until(active[-1].seq) if active else 0.0

    def _until(self, seq: int) -> float | None:
        """Seconds until the job `seq`, and every one before it, is drawn."""
        total: float | None = None
        resident = self._worker.view().model
        for one in self._jobs.active():
            if one.seq > seq:
                break
            seconds = self._drawing_s(one)
            if total is None:
                total = self._before_first_s(one.model)
            if total is None or seconds is None:
                return None
            if resident is not None and one.model != resident:
                load = self._pace.expect(one.model, "load")
                if load is None:
                    return None
                seconds += load
            resident = one.model
            total += seconds
        return total

    def _drawing_s(self, one: Active) -> float | None:
        """Seconds that a job still takes on a loaded engine; its load is counted before the first job."""
        progress = one.progress
        if not one.running or progress is None or progress.phase is Phase.LOADING:
            return self._pace.job(one.model, one.params)
        return self._pace.remaining(one.model, one.params, progress, time.time() - progress.at)

    def load_s(self, engine: EngineView, model: str) -> float | None:
        """Seconds until the running load ends: by the engine's own words, else by what loads of it have taken."""
        if engine.load is not None and (engine.load.waits_for is not None or engine.load.left_s is not None):
            return engine.load.left_s
        load = self._pace.expect(engine.model or model, "load")
        if load is None or engine.load_started is None:
            return None
        return max(0.0, load - max(0.0, time.time() - engine.load_started))

    def _before_first_s(self, model: str) -> float | None:
        """Seconds until the engine can begin: what is left of a load or of a cancelled picture."""
        engine = self._worker.view()
        match engine.state:
            case EngineState.READY | EngineState.DRAWING:
                return 0.0
            case EngineState.DRAINING:
                return self._worker.draining_s()
            case EngineState.LOADING:
                return self.load_s(engine, model)
            case _:
                return self._pace.expect(model, "load")
