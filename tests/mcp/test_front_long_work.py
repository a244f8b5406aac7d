"""Long work: handing back, polling on, cancelling, dropping, and cold starts."""

from __future__ import annotations

import asyncio
import os
import sys

import psutil
import pytest
from fronts import (
    SMALL,
    call,
    environment,
    job_id_of,
    run,
    saved_path_of,
    stdio,
    text_of,
    until_async,
    within,
)
from held_engine import HeldEngine
from served import ENDLESS, until

RUNNING = {"queued", "running"}
SHORT_LEASE_S = 5  # the shortest that the service takes
SHORT_LEASE = f"from mcp_front import cli, drawing; drawing.LEASE_S = {SHORT_LEASE_S}; cli.main()"


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("output")


def newest(service):
    jobs = service.http.get("/api/jobs", params={"limit": 1}).json()["items"]
    return jobs[0] if jobs else {"job_id": None, "status": None}


async def begun(service, before):
    """The job that a call has just caused, once the engine is at it."""
    await until_async(
        lambda: (job := newest(service))["job_id"] != before and job["status"] == "running", "the job runs"
    )
    return newest(service)["job_id"]


async def lapsed(service):
    """Wait for the newest job's end by listing jobs, which renews no lease."""
    await until_async(lambda: newest(service)["status"] not in RUNNING, "the lease lapses")


def test_a_call_that_may_not_wait_hands_back_the_job_without_its_lease(service, output, monkeypatch):
    monkeypatch.setattr("mcp_front.drawing.LEASE_S", SHORT_LEASE_S)

    async def story():
        async with within(service.url, output_dir=output, mcp_wait_s=1) as client:
            with service.engine_suspended():
                result = await call(client, "generate_image", prompt="takes longer", **SMALL)
                assert not result.is_error, text_of(result)
                job_id = job_id_of(result)
                assert "Do not ask for the same picture again" in text_of(result)
                assert [part.type for part in result.content] == ["text"]
                await asyncio.sleep(SHORT_LEASE_S + 2)
        # Listing jobs renews no lease, so a job that still had one would have lapsed.
        await until_async(lambda: newest(service)["status"] not in RUNNING, "the job ends", 150)
        assert newest(service)["job_id"] == job_id and newest(service)["status"] == "complete"
        async with within(service.url, output_dir=output) as client:
            assert saved_path_of(await call(client, "get_job_result", job_id=job_id)).is_file()

    run(story())


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_cancelled_call_cancels_the_job(service, output, mode):
    async def story():
        before = newest(service)["job_id"]
        async with stdio(service.url, output_dir=output, client={"mode": mode}) as client:
            calling = asyncio.create_task(call(client, "generate_image", prompt="unwanted", **ENDLESS))
            job_id = await begun(service, before)
            calling.cancel()
            await until_async(lambda: service.job(job_id)["status"] not in RUNNING, "the job ends")
        job = service.job(job_id)
        assert job["status"] == "cancelled" and "error" not in job

    run(story())


def test_a_killed_front_leaves_the_job_to_its_lease(service, output):
    async def story():
        before = newest(service)["job_id"]
        client = stdio(service.url, code=SHORT_LEASE, output_dir=output)
        await client.__aenter__()
        calling = asyncio.create_task(call(client, "generate_image", prompt="left behind", **ENDLESS))
        job_id = await begun(service, before)
        fronts = [p for p in psutil.Process().children(recursive=True) if SHORT_LEASE in p.cmdline()]
        assert len(fronts) == 1
        fronts[0].kill()
        fronts[0].wait(10)
        assert newest(service)["status"] == "running"
        await asyncio.gather(calling, return_exceptions=True)
        await lapsed(service)
        assert service.job(job_id)["error"]["code"] == "lease_expired"
        await asyncio.gather(client.__aexit__(None, None, None), return_exceptions=True)

    run(story())


def test_a_closed_connection_leaves_the_job_to_its_lease(service, output):
    async def story():
        before = newest(service)["job_id"]
        front = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", SHORT_LEASE),
            env=environment(service.url, output_dir=output),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        for line in WIRE:
            front.stdin.write(line.encode() + b"\n")
        await front.stdin.drain()
        job_id = await begun(service, before)
        front.stdin.close()
        await asyncio.wait_for(front.wait(), 20)
        await lapsed(service)
        assert service.job(job_id)["error"]["code"] == "lease_expired"

    run(story())


WIRE = (
    '{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},'
    '"clientInfo":{"name":"wire","version":"0"}}}',
    '{"jsonrpc":"2.0","method":"notifications/initialized"}',
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"generate_image","arguments":'
    '{"prompt":"left behind","width":256,"height":256,"steps":100,"n":4}}}',
)
"""What a client writes that goes away without a word, in the protocol of 2025."""


def test_a_cold_start_is_waited_for_with_progress_or_handed_back(serve, sd_server, tmp_path, output):
    engine = HeldEngine(tmp_path / "engine", sd_server)
    service = serve(sd_server=engine.path)
    engine.hold()

    async def story():
        told = []

        async def on_progress(_progress, _total, message):
            told.append(message)

        async with within(service.url, output_dir=output, mcp_wait_s=1) as client:
            handed_back = await call(client, "generate_image", prompt="cold", **SMALL)
            assert "Do not ask for the same picture again" in text_of(handed_back)
            status = await client.call_tool(
                "get_job_status", {"job_id": job_id_of(handed_back)}, progress_handler=on_progress
            )
        assert any("loading the model" in words for words in told) or "loading the model" in text_of(status)
        engine.let_go()
        async with within(service.url, output_dir=output) as client:
            result = await client.call_tool("generate_image", {"prompt": "warm", **SMALL}, progress_handler=on_progress)
        assert saved_path_of(result).is_file()
        assert service.ended(job_id_of(handed_back))["status"] == "complete"

    run(story())


def test_a_restart_during_a_call_is_waited_for(serve, output):
    service = serve(idle_timeout="never")

    async def story():
        async with within(service.url, output_dir=output) as client:
            with service.engine_suspended():
                before = newest(service)["job_id"]
                calling = asyncio.create_task(call(client, "generate_image", prompt="patience", **SMALL))
                await begun(service, before)
                await asyncio.to_thread(service.kill)
            await asyncio.to_thread(service.restart)
            result = await calling
        assert not result.is_error, text_of(result)
        assert saved_path_of(result).is_file()

    run(story())


def test_nothing_of_this_leaves_a_process(service):
    """Each front above ended with its client."""
    mine = psutil.Process(os.getpid()).children(recursive=True)
    until(lambda: not [p for p in mine if p.is_running() and "mcp_front" in " ".join(p.cmdline())], "all ended")
