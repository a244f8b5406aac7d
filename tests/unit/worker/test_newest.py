"""NewestWriter: which reports it writes, and what a failure of its task leaves."""

from __future__ import annotations

import asyncio

import pytest

from imagegen.worker.newest import NewestWriter


class Written(NewestWriter[int]):
    """Collects what it writes; fails at a negative number."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: list[int] = []
        self.turn = asyncio.Event()

    async def _write(self) -> None:
        while True:
            number = await self._next()
            if number < 0:
                raise LookupError("a negative number")
            self.numbers.append(number)
            self.turn.set()


def test_reports_between_two_writes_are_replaced_by_the_newest() -> None:
    async def scenario() -> None:
        async with Written() as writer:
            for group in ([1, 2, 3], [4, 5]):
                for number in group:
                    writer.put(number)
                await writer.turn.wait()
                writer.turn.clear()
        assert writer.numbers == [3, 5]

    asyncio.run(scenario())


def test_a_writers_failure_is_logged_and_ends_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with Written() as writer:
            writer.put(-1)
            await asyncio.sleep(0)
            writer.put(1)
        assert writer.numbers == []

    asyncio.run(scenario())
    (record,) = caplog.records
    assert record.exc_info is not None and isinstance(record.exc_info[1], LookupError)
