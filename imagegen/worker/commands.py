"""What others want of the worker: orders, and the end of the service. Only the worker's loop reads it."""

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
    """A warm-up or an unload. `done` is set when the loop has refused it, or has done it; of a warm-up: when it has
    begun, or waits for the running job."""

    what: Literal["warm", "unload"]
    model: str | None = None
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def succeed(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def fail(self, refusal: Refused) -> None:
        if not self.done.done():
            self.done.set_exception(refusal)
            self.done.exception()  # a warm-up has nobody who waits for it


def stopping() -> Refused:
    """What an order is told that comes too late."""
    return Refused(503, "shutting_down", "The service is stopping.")


class CommandQueue:
    """Everybody may put something in, from the event loop's thread; the worker wakes and takes it out."""

    def __init__(self) -> None:
        self.bell = asyncio.Event()
        self._stopping = asyncio.Event()
        self._orders: list[Command] = []
        self.stop_at: float | None = None  # monotonic seconds; set: the service is stopping
        self._closed = False

    def ring(self) -> None:
        """There is something new in the queue."""
        self.bell.set()

    def stop(self, grace_s: float) -> None:
        self.stop_at = time.monotonic() + grace_s
        self._stopping.set()
        self.bell.set()

    def order(self, order: Command) -> Command:
        """Leave an order; a warm-up that is already here is not left twice."""
        if self._closed:
            order.fail(stopping())
            return order
        for waiting in self._orders:
            if order.what == "warm" and (waiting.what, waiting.model) == (order.what, order.model):
                return waiting
        self._orders.append(order)
        self.bell.set()
        return order

    # ---- the worker's side --------------------------------------------------------------------

    def next_command(self) -> Command | None:
        """The oldest order, taken out."""
        return self._orders.pop(0) if self._orders else None

    def put_off(self, order: Command) -> None:
        """A warm-up whose turn comes after the jobs; who asked need not wait for that."""
        order.succeed()
        self._orders.append(order)

    def close(self) -> None:
        """Nobody reads this any more: every order is refused."""
        self._closed = True
        while (order := self.next_command()) is not None:
            order.fail(stopping())

    def asks_to_unload(self) -> bool:
        return any(order.what == "unload" for order in self._orders)

    def answer_during_warmup(self, model: str) -> None:
        """Answer the warm-ups that came while `model` is warmed up; an order to unload stays, for it ends that."""
        orders, self._orders = self._orders, []
        for order in orders:
            if order.what == "unload":
                self._orders.append(order)
            elif order.model == model:
                order.succeed()
            else:
                self.put_off(order)

    def answer_while_busy(self, model: str) -> None:
        """Answer the orders that came while a job's `model` loads or draws; a warm-up of another one waits."""
        self.answer_during_warmup(model)
        for order in self._orders:
            if order.what == "unload":
                detail = "A picture is being drawn or its model is loading. Cancel it, or try again later."
                order.fail(Refused(409, "busy", detail))
        self._orders = [order for order in self._orders if order.what != "unload"]

    async def wait(self, timeout: float | None, others: Iterable[asyncio.Future[Any]] = ()) -> None:
        """Sleep until the bell rings, one of `others` is done, or `timeout` seconds have passed."""
        changes = asyncio.ensure_future(self.bell.wait())
        try:
            await asyncio.wait({changes, *others}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changes.cancel()
            self.bell.clear()

    async def rest(self, seconds: float) -> None:
        """Sleep for so long, whatever the bell says, or until the service stops."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
