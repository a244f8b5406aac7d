"""BentoML's task wire, spoken by BentoML's own client, across a kill of everything too."""

from __future__ import annotations

import asyncio
import functools
import io
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from bentoml import AsyncHTTPClient
from bentoml.exceptions import BentoMLException
from held_engine import HeldEngine
from PIL import Image
from served import ENDLESS, Service, until

SMALL = {"width": 64, "height": 64, "steps": 2}


@asynccontextmanager
async def connected(service: Service) -> AsyncIterator[Any]:
    async with AsyncHTTPClient(service.url, timeout=60) as client:
        yield client


async def reached(task: Any, *statuses: str) -> str:
    """The task's status, once it is one of `statuses`."""
    return await found(task.get_status, *statuses)


async def found(get_status: Callable[[], Awaitable[Any]], *statuses: str) -> str:
    async with asyncio.timeout(60):
        while (status := (await get_status()).value) not in statuses:  # noqa: ASYNC110 - it can only be asked
            await asyncio.sleep(0.05)
    return status


async def refused(call: Callable[[], Awaitable[Any]], status: int, code: str) -> None:
    with pytest.raises(BentoMLException) as told:
        await call()
    assert told.value.error_code == status
    assert f'"code":"{code}"' in str(told.value)


def run(session: Callable[[Any], Awaitable[None]], service: Service) -> None:
    async def main() -> None:
        async with connected(service) as client:
            await session(client)

    asyncio.run(main())


def test_the_declared_tasks_are_in_bentomls_schema_and_documents(service: Service) -> None:
    routes = {route["name"]: route for route in service.http.get("/schema.json").json()["routes"]}
    assert routes.keys() == {"generate", "edit"}
    assert all(route["is_task"] for route in routes.values())
    fields = routes["edit"]["input"]["properties"]
    assert (fields["cfg_scale"]["type"], fields["images"]["items"]["type"]) == ("number", "string")
    documented = service.http.get("/docs.json").json()["paths"]
    assert {"/generate", "/edit"} <= documented.keys()


def test_a_picture_and_its_edit_awaited_and_submitted(service: Service) -> None:
    async def session(client: Any) -> None:
        drawn = await client.generate(prompt="a red circle", seed=7, **SMALL)
        assert drawn["status"] == "complete"
        picture = Image.open(io.BytesIO(service.http.get(drawn["url"]).content))
        assert picture.size == (64, 64)
        task = await client.edit.submit(prompt="make it blue", images=[drawn["images"][0]["id"]], **SMALL)
        assert await reached(task, "completed", "failed") == "completed"
        for _ in range(2):  # a result is not used up
            edited = await task.get()
            assert (edited["job_id"], edited["kind"]) == (task.id, "edit")
        again = await task.retry()
        assert again.id != task.id
        assert await reached(again, "completed", "failed") == "completed"
        old, new = edited, await again.get()
        assert new["references"] == old["references"]
        assert new["params"] | {"seed": None} == old["params"] | {"seed": None}
        assert new["images"][0]["sha256"] != old["images"][0]["sha256"], "no seed was given, so another one is drawn"

    run(session, service)


def test_tasks_run_one_after_the_other_and_say_where_they_are(service: Service) -> None:
    async def session(client: Any) -> None:
        first = await client.generate.submit(prompt="first", **ENDLESS)
        rest = [await client.generate.submit(prompt=f"later {i}", seed=i, **SMALL) for i in range(3)]
        await reached(first, "in_progress")
        states = [service.http.get("/generate/status", params={"task_id": task.id}).json() for task in (first, *rest)]
        assert [state["position"] for state in states] == [0, 1, 2, 3]
        assert [state["status"] for state in states] == ["in_progress", "pending", "pending", "pending"]
        assert states[0]["progress"]["phase"] in {"loading", "encoding", "sampling"}
        assert states[0].keys() >= {"task_id", "status", "created_at", "executed_at", "eta_s"}
        assert datetime.fromisoformat(states[0]["executed_at"]) >= datetime.fromisoformat(states[0]["created_at"])
        assert states[1]["executed_at"] is None
        await refused(rest[0].get, 400, "not_completed")
        await refused(rest[0].retry, 400, "not_completed")
        await rest[1].cancel()
        await first.cancel()
        assert (await first.get_status()).value == "canceled"
        await refused(first.get, 409, "cancelled")
        for task in (rest[0], rest[2]):
            assert await reached(task, "completed", "failed") == "completed"
        assert (await rest[1].get_status()).value == "canceled", "a cancelled task is not run"
        ended = [(await task.get())["finished_at"] for task in (rest[0], rest[2])]
        assert ended == sorted(ended)

    run(session, service)


def test_wrong_requests_are_refused_when_they_are_submitted(service: Service) -> None:
    async def session(client: Any) -> None:
        await refused(lambda: client.generate.submit(prompt="a", width=9999), 422, "size_out_of_range")
        await refused(lambda: client.generate(prompt="x" * 4001), 422, "prompt_too_long")
        await refused(lambda: client.edit.submit(prompt="a", images=["0" * 32]), 422, "unknown_image")
        unknown = "0123456789abcdef0123456789abcdef"
        for call in (client.generate.get_status, client.generate.get, client.generate.cancel, client.edit.retry):
            await refused(lambda call=call: call(unknown), 404, "job_not_found")

    before = service.http.get("/api/jobs").json()["items"]
    run(session, service)
    assert service.http.get("/api/jobs").json()["items"] == before, "a refused request leaves no job"
    wrong = [
        service.http.get("/generate/status"),
        service.http.get("/generate"),
        service.http.post("/generate/cancel", params={"task_id": "x"}),
        service.http.post("/edit/submit", content=b"{", headers={"Content-Type": "application/json"}),
    ]
    assert [answer.status_code for answer in wrong] == [400, 405, 405, 400]
    assert {answer.headers["content-type"] for answer in wrong} == {"application/problem+json"}


def test_tasks_survive_a_kill_of_everything(serve, sd_server: Path, tmp_path: Path) -> None:
    engine = HeldEngine(tmp_path / "engine", sd_server)
    service = serve(sd_server=engine.path, idle_timeout="never")

    async def before(client: Any) -> list[str]:
        done = await client.generate.submit(prompt="done", **SMALL)
        assert await reached(done, "completed", "failed") == "completed"
        service.http.post("/api/unload")
        engine.hold()  # the running one runs, and is no further than the load
        running = await client.generate.submit(prompt="running", seed=3, **SMALL)
        waiting = await client.generate.submit(prompt="waiting", seed=4, **SMALL)
        unwanted = await client.generate.submit(prompt="unwanted", seed=5, **SMALL)
        await unwanted.cancel()
        await reached(running, "in_progress")
        return [done.id, running.id, waiting.id, unwanted.id]

    async def after(client: Any) -> None:
        done, running, waiting, unwanted = ids
        assert (await client.generate.get(done))["prompt"] == "done"
        assert (await client.generate.get_status(unwanted)).value == "canceled"
        results = []
        for task_id in (running, waiting):
            await found(functools.partial(client.generate.get_status, task_id), "completed", "failed")
            results.append(await client.generate.get(task_id))
        assert [result["prompt"] for result in results] == ["running", "waiting"]
        assert results[0]["attempts"] == 2
        assert results[0]["finished_at"] < results[1]["finished_at"]

    ids: list[str] = []

    async def first(client: Any) -> None:
        ids.extend(await before(client))

    run(first, service)
    service.kill()
    engine.let_go()
    service.restart()
    run(after, service)


def test_a_stop_finishes_the_running_picture_and_refuses_the_queued_one(serve) -> None:
    service = serve(idle_timeout="never")
    answers: dict[str, httpx.Response] = {}

    def wait_for(prompt: str) -> None:
        with httpx.Client(base_url=service.url, timeout=60, trust_env=False) as http:
            answers[prompt] = http.post("/generate", json={"prompt": prompt} | SMALL)

    waiting = [threading.Thread(target=wait_for, args=[prompt]) for prompt in ("running", "queued")]
    with service.engine_suspended():  # and loaded: a load would not be waited for
        waiting[0].start()
        until(lambda: states(service).get("running") == "running", "one is at work")
        waiting[1].start()
        until(lambda: states(service).get("queued") == "queued", "one waits")
        service.terminate()
        until(lambda: "stopping" in service.tail(), "the signal has arrived")
    for thread in waiting:
        thread.join(60)
    assert service.wait() == 0, service.tail()
    assert (answers["running"].status_code, answers["running"].json()["status"]) == (200, "complete")
    assert (answers["queued"].status_code, answers["queued"].json()["code"]) == (503, "shutting_down")
    assert "retry-after" in answers["queued"].headers


def states(service: Service) -> dict[str, str]:
    return {item["prompt"]: item["status"] for item in service.http.get("/api/jobs").json()["items"]}
