"""Warming: loads a model for a request that is only expected. The worker alone calls it.

Nobody waits for a warm-up, so it waits for nothing and displaces no job: it is left out if the files or the room are
not there, and ends when a job for another model comes, or an order to unload. What is loaded stays until that is known.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from imagegen.engines.base import EngineError, LoadProgress
from imagegen.idle.tracker import IdleTracker
from imagegen.jobs.active import ActiveJob
from imagegen.models.download.progress import Fetching
from imagegen.models.entry import Entry
from imagegen.schemas import EngineState, Refused
from imagegen.worker.commands import Command, CommandQueue, stopping
from imagegen.worker.lifecycle import Cancelled, LoadFailed, ModelLifecycle, Stopped
from imagegen.worker.load_backoff import LoadBackoff

log = logging.getLogger("imagegen.worker")

OWN_ERROR = "The service failed at this warm-up by an error of its own; its log says more."
BROKEN_OFF = "The warm-up was broken off: a job for another model came, or somebody unloaded. Ask again later."


class WarmUp:
    """All as the worker has them. due: the job that may be served now, or None, and what else is known of the queue.
    load: loads what `ModelLifecycle.have` has found, and learns from it. not_loaded: tells the jobs of a model so."""

    def __init__(
        self,
        commands: CommandQueue,
        lifecycle: ModelLifecycle,
        backoff: LoadBackoff,
        idle: IdleTracker,
        find_model: Callable[[str], Entry],
        clock: Callable[[], float],
        due: Callable[[], tuple[ActiveJob | None, object]],
        load: Callable[..., Awaitable[float]],
        not_loaded: Callable[[str, EngineError | Refused], Awaitable[None]],
    ) -> None:
        self._commands, self._lifecycle, self._backoff, self._idle = commands, lifecycle, backoff, idle
        self._find_model, self._clock = find_model, clock
        self._due, self._load, self._not_loaded = due, load, not_loaded

    async def obey(self, order: Command) -> None:
        """Load the order's model, if nothing speaks against it; the order is answered when that is known."""
        try:
            entry = self._find_model(order.model or "")
            if (refusal := self._backoff.refusal(entry.name)) is not None:
                raise refusal
            if not self._lifecycle.is_loaded(entry):
                await self._warm_up(order, entry)
            order.succeed()
        except Refused as refusal:
            order.fail(refusal)
        except LoadFailed as failed:
            if failed.error.code == "gpu_busy":  # says nothing of the model
                log.info("not warmed up: %s", failed.error.detail)
            else:
                await self._not_loaded(order.model or "", failed.error)
            order.fail(Refused(503, failed.error.code, f"{order.model} is not loaded: {failed.error.detail}"))
        except Cancelled:
            order.fail(Refused(409, "busy", BROKEN_OFF))
        except Stopped:
            order.fail(stopping())
        finally:
            order.fail(Refused(500, "internal", OWN_ERROR))  # if it has no answer yet

    async def _warm_up(self, order: Command, entry: Entry) -> None:
        def unwanted() -> bool:
            due, _held = self._due()
            if due is None:
                self._commands.answer_during_warmup(entry.name)
                return self._commands.asks_to_unload()
            self._commands.answer_while_busy(entry.name)
            return due.model != entry.name

        def told(_progress: LoadProgress | Fetching) -> None:
            order.succeed()  # its files are fetched first, which takes longer than anybody waits for an answer

        await self._lifecycle.prepare(entry, told, unwanted, room=True)
        order.succeed()
        self._idle.arrived(self._clock(), cold=True, warming=True)
        try:
            await self._load(entry, told, unwanted, wait_for_room=False)
            self._lifecycle.set_state(EngineState.READY)
        finally:
            self._idle.served(self._clock(), warmed=True, loaded=self._lifecycle.adapter is not None)
