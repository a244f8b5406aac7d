"""The second engine's door, with a painter that waits in the real one's place: no torch is needed for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from threading import Event

import httpx
import uvicorn

from imagegen.engines.glm.server.app import Server
from imagegen.engines.glm.server.request import MAX_BODY_BYTES, DrawRequestBody

DEADLINE_S = 300
AS_JSON = {"Content-Type": "application/json"}
ORDER = json.dumps(
    {"prompt": "x", "width": 64, "height": 64, "steps": 1, "guidance_scale": 1.5, "seed": 1}
).encode()  # fmt: skip


class Pipeline:
    """Draws until it is stopped; remembers whether it was."""

    def __init__(self) -> None:
        self.begun, self.stopped = Event(), Event()

    def draw(self, order: DrawRequestBody, stop: Event) -> bytes:
        self.begun.set()
        if not stop.wait(0 if order.prompt == "short" else DEADLINE_S):
            return b"a picture"
        self.stopped.set()
        raise InterruptedError


@asynccontextmanager
async def serving(pipeline: Pipeline) -> AsyncIterator[httpx.AsyncClient]:
    server = uvicorn.Server(
        uvicorn.Config(
            Server(pipeline.draw, lambda failure, _: (409, type(failure).__name__)).app,
            port=0, log_config=None, lifespan="off", timeout_graceful_shutdown=1,
        )
    )  # fmt: skip
    running = asyncio.create_task(server.serve())
    try:
        while not server.started:  # noqa: ASYNC110 - with a deadline, in `run`
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=None, trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        await running


def run(scenario: Callable[[httpx.AsyncClient, Pipeline], Awaitable[None]]) -> None:
    async def limited() -> None:
        pipeline = Pipeline()
        async with serving(pipeline) as client:
            await scenario(client, pipeline)

    asyncio.run(asyncio.wait_for(limited(), DEADLINE_S))


async def draw(client: httpx.AsyncClient, number: int, body: bytes = ORDER) -> httpx.Response:
    return await client.post(f"/draw/{number}", content=body, headers=AS_JSON)


def test_an_interrupt_that_comes_before_its_picture_is_kept_for_it() -> None:
    async def scenario(client: httpx.AsyncClient, pipeline: Pipeline) -> None:
        assert (await client.post("/interrupt/2")).status_code == 202
        assert (await draw(client, 1)).status_code == 409  # an earlier one is not wanted either
        assert (await draw(client, 2)).status_code == 409
        assert (await draw(client, 3, ORDER.replace(b'"x"', b'"short"'))).status_code == 200

    run(scenario)


def test_an_interrupt_that_comes_while_the_order_is_read_is_obeyed() -> None:
    async def scenario(client: httpx.AsyncClient, pipeline: Pipeline) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield ORDER[:20]
            assert (await client.post("/interrupt/1")).status_code == 202
            yield ORDER[20:]

        answer = await client.post("/draw/1", content=body(), headers=AS_JSON)
        assert answer.status_code == 409

    run(scenario)


def test_an_interrupt_breaks_off_what_is_drawn_and_not_what_follows() -> None:
    async def scenario(client: httpx.AsyncClient, pipeline: Pipeline) -> None:
        first = asyncio.create_task(draw(client, 1))
        second = asyncio.create_task(draw(client, 2, ORDER.replace(b'"x"', b'"short"')))
        await asyncio.to_thread(pipeline.begun.wait, DEADLINE_S)
        await client.post("/interrupt/1")
        assert (await first).status_code == 409
        assert (await second).content == b"a picture"
        await client.post("/interrupt/1")  # too late, and no harm
        assert (await draw(client, 3, ORDER.replace(b'"x"', b'"short"'))).status_code == 200

    run(scenario)


def test_a_client_that_leaves_ends_its_picture() -> None:
    async def scenario(client: httpx.AsyncClient, pipeline: Pipeline) -> None:
        left = asyncio.create_task(draw(client, 1))
        await asyncio.to_thread(pipeline.begun.wait, DEADLINE_S)
        left.cancel()  # closes the connection
        assert await asyncio.to_thread(pipeline.stopped.wait, DEADLINE_S / 2)

    run(scenario)


def test_what_is_no_order_and_what_is_too_long_is_refused() -> None:
    async def scenario(client: httpx.AsyncClient, _painter: Pipeline) -> None:
        assert (await draw(client, 1, b'{"steps": 1e9}')).status_code == 422
        assert (await draw(client, 1, bytes(MAX_BODY_BYTES + 1))).status_code == 413

    run(scenario)
