"""The service's end of the channel on a real socket pair; the test is the engine's end."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable

import pytest

from imagegen.engines.base import PreviewMode, PreviewPlan
from imagegen.engines.sdcpp.channel import Channel, Hello, Message, PhaseBegun, announcement, stop_order

DEADLINE_S = 60
HELLO = struct.pack("<IBH", 2, 1, 1)
PHASE = struct.pack("<IBIB", 5, 2, 7, 1)
HALF_A_PREVIEW = struct.pack("<IBIIII", 16 + 3 * 64 * 64, 6, 7, 1, 64, 64) + bytes(1000)


class Both:
    """A channel, and the engine's end of it."""

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self.broken: list[str] = []
        self.deaf, self.spoken_to = False, asyncio.Event()
        self.channel = Channel(self._hear, self.broken.append)
        self.engine = socket.socket(fileno=socket.dup(self.channel.descriptor))
        self.engine.settimeout(DEADLINE_S)

    def _hear(self, message: Message) -> None:
        self.spoken_to.set()
        if self.deaf:
            raise LookupError("the listener's own fault")
        self.heard.append(message)

    async def read_to_the_end(self) -> None:
        self.engine.close()
        assert self.channel._reading is not None
        await self.channel._reading


def on_both(scenario: Callable[[Both], Awaitable[None]]) -> None:
    async def limited() -> None:
        both = Both()
        await both.channel.open()
        try:
            await asyncio.wait_for(scenario(both), DEADLINE_S)
        finally:
            await both.channel.close()
            await both.channel.close()
            both.engine.close()

    asyncio.run(limited())


def test_an_engine_that_ends_within_a_preview_reports_no_preview() -> None:
    async def scenario(both: Both) -> None:
        both.engine.sendall(HELLO + HALF_A_PREVIEW)
        await both.read_to_the_end()
        assert both.heard == [Hello(1)] and both.broken == []

    on_both(scenario)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"\xff" * 5, "a frame of 4,294,967,295 bytes"),
        (struct.pack("<IBH", 2, 1, 2), "version 2 of the protocol instead of 1"),
    ],
)
def test_data_that_cannot_be_decoded_is_reported_once(sent: bytes, reason: str) -> None:
    async def scenario(both: Both) -> None:
        both.engine.sendall(sent + HELLO)
        await both.read_to_the_end()
        assert both.heard == [] and both.broken == [reason]

    on_both(scenario)


def test_a_listener_that_fails_misses_only_its_message() -> None:
    async def scenario(both: Both) -> None:
        both.deaf = True
        both.engine.sendall(HELLO)
        await both.spoken_to.wait()
        both.deaf = False
        both.engine.sendall(PHASE)
        await both.read_to_the_end()
        assert [type(message) for message in both.heard] == [PhaseBegun]

    on_both(scenario)


def test_orders_reach_the_engine_in_their_order_until_it_ends() -> None:
    plan = PreviewPlan(PreviewMode.TAE, 2)

    async def scenario(both: Both) -> None:
        await both.channel.announce(1, plan)
        assert both.channel.stop(1)
        await both.channel.announce(2, None)
        sent = announcement(1, plan) + stop_order(1) + announcement(2, None)
        assert await asyncio.to_thread(both.engine.recv, 4096) == sent
        await both.read_to_the_end()
        await both.channel.announce(3, None)  # nothing is raised: the end is noticed elsewhere
        await both.channel.close()
        assert not both.channel.stop(3)

    on_both(scenario)
