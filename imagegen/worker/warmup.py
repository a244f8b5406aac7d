"""WarmUp: loads a model before a request for it arrives. Only the worker calls it, and acts on its verdict.

A warm-up never delays a job. It is refused if the model's files or the VRAM are missing. A job for another model or an
unload cancels it. The current model stays loaded until the new one is known to fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from imagegen.engines.base import LoadProgress
from imagegen.idle.tracker import IdleTracker
from imagegen.models.download.progress import Fetching
from imagegen.models.entry import Entry
from imagegen.schemas import Refused
from imagegen.worker.commands import Command, CommandQueue, stopping
from imagegen.worker.lifecycle import Cancelled, LoadFailed, ModelLifecycle, Stopped
from imagegen.worker.load_backoff import LoadBackoff
from imagegen.worker.provider import EngineProvider
from imagegen.worker.schedule import Schedule

BROKEN_OFF = "The warm-up was stopped: a job for another model arrived, or the model was unloaded. Try again later."


@dataclass(frozen=True)
class Warm:
    """The model is loaded. `load_s`: seconds that the load took; None if it was loaded before."""

    load_s: float | None


class WarmUp:
    """Runs one warm-up at a time."""

    def __init__(
        self,
        provider: EngineProvider,
        schedule: Schedule,
        backoff: LoadBackoff,
        commands: CommandQueue,
        lifecycle: ModelLifecycle,
        idle: IdleTracker,
        clock: Callable[[], float],
    ) -> None:
        self._provider, self._schedule, self._backoff = provider, schedule, backoff
        self._commands, self._lifecycle, self._idle, self._clock = commands, lifecycle, idle, clock

    async def run(self, order: Command) -> Warm | Refused | LoadFailed:
        """Load the command's model unless it is refused. Sets the command's `done` when the load begins."""
        try:
            entry = self._provider.find_model(order.model or "")
            if (refusal := self._backoff.refusal(entry.name)) is not None:
                return refusal
            return Warm(None if self._lifecycle.is_loaded(entry) else await self._load(order, entry))
        except (Refused, LoadFailed) as verdict:
            return verdict
        except Cancelled:
            return Refused(409, "busy", BROKEN_OFF)
        except Stopped:
            return stopping()

    async def _load(self, order: Command, entry: Entry) -> float:
        def unwanted() -> bool:
            due, _held_s = self._schedule.next()
            if due is None:
                self._commands.answer_during_warmup(entry.name)
                return self._commands.asks_to_unload()
            self._commands.answer_while_busy(entry.name)
            return due.model != entry.name

        def on_progress(_progress: LoadProgress | Fetching) -> None:
            order.succeed()  # a download or load has begun, and takes longer than a client waits

        await self._lifecycle.prepare(entry, on_progress, unwanted, room=True)
        order.succeed()
        self._idle.arrived(self._clock(), cold=True, warming=True)
        try:
            return (await self._lifecycle.load(entry, on_progress, unwanted, wait_for_room=False)).seconds
        finally:
            self._idle.served(self._clock(), warmed=True, loaded=self._lifecycle.adapter is not None)
