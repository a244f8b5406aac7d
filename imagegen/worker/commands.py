"""The queue of commands for the worker, and the shutdown request. Only the worker's loop reads it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from imagegen.schemas import Refused


@dataclass
class Command:
    """A request to load a model early (`warm`) or to end the engine (`unload`).

    The loop sets `done` when it has refused or finished the command. It sets a warm-up's `done` earlier: when the load
    has begun, or when the warm-up waits for the running job.
    """

    what: Literal["warm", "unload"]
    model: str | None = None
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def succeed(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def fail(self, refusal: Refused) -> None:
        if not self.done.done():
            self.done.set_exception(refusal)
            self.done.exception()  # asyncio logs an exception that nothing retrieves, and no caller awaits a warm-up


def stopping() -> Refused:
    """The refusal of commands that arrive while the service stops."""
    return Refused(503, "shutting_down", "The service is stopping.")


class CommandQueue:
    """Commands for the worker, in order of arrival. Any code on the event loop's thread may add one."""

    def __init__(self) -> None:
        self.wakeup = asyncio.Event()
        self._stopping = asyncio.Event()
        self._orders: list[Command] = []
        self.stop_at: float | None = None  # monotonic seconds; not None while the service stops
        self._closed = False

    def ring(self) -> None:
        """Wake the worker."""
        self.wakeup.set()

    def stop(self, grace_s: float) -> None:
        self.stop_at = time.monotonic() + grace_s
        self._stopping.set()
        self.wakeup.set()

    def order(self, order: Command) -> Command:
        """Add a command and wake the worker; return the waiting command if it warms up the same model."""
        if self._closed:
            order.fail(stopping())
            return order
        for waiting in self._orders:
            if order.what == "warm" and (waiting.what, waiting.model) == (order.what, order.model):
                return waiting
        self._orders.append(order)
        self.wakeup.set()
        return order

    # ---- the worker's side --------------------------------------------------------------------

    def next_command(self) -> Command | None:
        """Remove and return the oldest command; None if there is none."""
        return self._orders.pop(0) if self._orders else None

    def put_off(self, order: Command) -> None:
        """Queue a warm-up again, behind the jobs, and set its `done` now, so that its caller need not wait."""
        order.succeed()
        self._orders.append(order)

    def close(self) -> None:
        """Refuse the waiting commands and all later ones. For the end of the worker's loop."""
        self._closed = True
        while (order := self.next_command()) is not None:
            order.fail(stopping())

    def asks_to_unload(self) -> bool:
        return any(order.what == "unload" for order in self._orders)

    def answer_during_warmup(self, model: str) -> None:
        """Answer warm-ups that arrive while `model` is warmed up. An unload stays queued, because it ends the load."""
        orders, self._orders = self._orders, []
        for order in orders:
            if order.what == "unload":
                self._orders.append(order)
            elif order.model == model:
                order.succeed()
            else:
                self.put_off(order)

    def answer_while_busy(self, model: str) -> None:
        """Answer commands that arrive while a job's `model` loads or draws: refuse unloads, put off other warm-ups."""
        self.answer_during_warmup(model)
        for order in self._orders:
            if order.what == "unload":
                detail = "A picture is being drawn or its model is loading. Cancel it, or try again later."
                order.fail(Refused(409, "busy", detail))
        self._orders = [order for order in self._orders if order.what != "unload"]

    async def wait(self, timeout: float | None, others: Iterable[asyncio.Future[Any]] = ()) -> None:
        """Sleep until `wakeup` is set, one of `others` is done, or `timeout` seconds have passed. Clears `wakeup`."""
        changes = asyncio.ensure_future(self.wakeup.wait())
        try:
            await asyncio.wait({changes, *others}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changes.cancel()
            self.wakeup.clear()

    async def rest(self, seconds: float) -> None:
        """Sleep for `seconds` or until the service stops; commands do not end the sleep."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
