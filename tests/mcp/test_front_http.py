"""The front over HTTP: no files, the caller's own token, a host check, TLS, and nothing kept between calls."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler

import httpx
import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from fronts import (
    SMALL,
    after,
    call,
    environment,
    http_front,
    image_id_of,
    preview_of,
    reply,
    run,
    stand_in,
    text_of,
    until_async,
    within,
)
from served import ENDLESS, free_port, gone, until

from imagegen.startup import signals
from imagegen.startup.port import holders
from mcp_front import listening

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "wire", "version": "0"},
    },
}
ACCEPT = {"Accept": "application/json, text/event-stream"}


@pytest.fixture(scope="module")
def front(service):
    with http_front(service.url) as address:
        yield address


def client_of(address, token=None):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return Client(StreamableHttpTransport(f"{address}/mcp", headers=headers))


def test_the_text_gives_the_command_that_downloads_the_picture(service, front, require, tmp_path):
    require("curl", shutil.which("curl") is not None)

    async def story():
        async with client_of(front) as client:
            return await call(client, "generate_image", prompt="over http", **SMALL)

    result = run(story())
    assert not result.is_error, text_of(result)
    preview_of(result)
    assert "Saved:" not in text_of(result) and "tell the user the download command" in text_of(result)
    subprocess.run(after(text_of(result), "Download command: "), shell=True, cwd=tmp_path, check=True)
    (downloaded,) = tmp_path.iterdir()
    stored = service.http.get(f"/images/{image_id_of(result)}.png").content
    assert downloaded.read_bytes() == stored and "over-http" in downloaded.name


def test_a_local_path_means_nothing_to_a_remote_front(front):
    async def story():
        async with client_of(front) as client:
            result = await call(client, "edit_image", prompt="x", images=["/etc/hostname"])
        assert result.is_error and "does not run on the user's machine" in text_of(result)

    run(story())


def test_edit_by_image_id_and_poll(service, front):
    async def story():
        async with client_of(front) as client:
            first = await call(client, "generate_image", prompt="one", **SMALL)
            result = await call(client, "edit_image", prompt="two", images=[image_id_of(first)], **SMALL)
        assert text_of(result).startswith("Edited 1 picture")

    run(story())


def test_closing_the_stream_cancels_the_job(service, front):
    async def story():
        def newest():
            return service.http.get("/api/jobs", params={"limit": 1}).json()["items"][0]

        async with client_of(front) as client:
            first = service.draw()["job_id"]
            calling = asyncio.create_task(call(client, "generate_image", prompt="unwanted", **ENDLESS))
            await until_async(lambda: newest()["job_id"] != first and newest()["status"] == "running", "the job runs")
            calling.cancel()
            await until_async(lambda: newest()["status"] == "cancelled", "the job is cancelled")
        assert "error" not in newest()

    run(story())


def test_nothing_is_kept_between_calls(service):
    """One front answers the first call and another the second, as after a restart or behind a balancer."""

    async def story():
        with http_front(service.url) as first, http_front(service.url) as second:
            async with client_of(first) as client:
                drawn = await call(client, "generate_image", prompt="one", **SMALL)
            async with client_of(second) as client:
                edited = await call(client, "edit_image", prompt="two", images=[image_id_of(drawn)], **SMALL)
        assert not edited.is_error, text_of(edited)

    run(story())


def test_each_callers_token_is_forwarded_and_none_is_held_or_logged(tmp_path):
    seen = []
    log = tmp_path / "front.log"

    def record(handler):
        seen.append(handler.headers.get("Authorization"))
        reply(handler, 200, "application/json", b'{"items": []}')

    async def story(front):
        for token in ("token-of-ann", "token-of-bob", None):
            async with client_of(front, token) as client:
                await call(client, "list_templates")
                await call(client, "get_job_status", job_id="0")  # an error, which is logged

    with stand_in(record) as service, http_front(service, log=log) as front:
        seen.clear()
        run(story(front))
    assert [one for i, one in enumerate(seen) if i == 0 or seen[i - 1] != one] == [
        "Bearer token-of-ann",
        "Bearer token-of-bob",
        None,
    ]
    assert "get_job_status" in log.read_text() and "token-of" not in log.read_text()


def test_a_front_with_a_token_of_its_own_does_not_start(service):
    ended = subprocess.run(
        [sys.executable, "-m", "mcp_front", "--http"],
        env=environment(service.url, token="mine-alone", mcp_port=free_port()),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 2 and "holds none" in ended.stderr and "mine-alone" not in ended.stderr


def test_other_hosts_and_origins_are_refused(front):
    own = httpx.URL(front)
    ask = {"json": INITIALIZE, "timeout": 30}
    assert httpx.post(f"{front}/mcp", headers=ACCEPT, **ask).status_code == 200
    assert httpx.post(f"{front}/mcp", headers=ACCEPT | {"Host": "evil.example"}, **ask).status_code == 421
    foreign = ACCEPT | {"Origin": "https://evil.example"}
    assert httpx.post(f"{front}/mcp", headers=foreign, **ask).status_code == 403
    assert httpx.get(f"{front}/healthz", headers={"Host": "evil.example"}).status_code == 421
    assert own.host == "127.0.0.1"


def test_only_signals_that_ask_for_a_stop_end_the_front(service):
    with http_front(service.url) as front:
        pid = next(iter(holders(httpx.URL(front).port)))
        for number in (*signals.IGNORED, signal.SIGWINCH, signal.SIGPIPE, signal.SIGCONT):
            os.kill(pid, number)
            assert httpx.get(f"{front}/healthz", timeout=30).status_code == 200, number
        assert {getattr(signal, name) for name in listening.IGNORED} == set(signals.IGNORED)
        os.kill(pid, signal.SIGQUIT)
        until(lambda: gone(pid), "the front has ended")


def test_a_named_host_is_let_in(service):
    with http_front(service.url, mcp_allowed_hosts="pictures.lan") as front:
        named = ACCEPT | {"Host": "pictures.lan"}
        assert httpx.post(f"{front}/mcp", headers=named, json=INITIALIZE, timeout=30).status_code == 200


def test_healthz_tells_the_front_from_the_service(front):
    assert httpx.get(f"{front}/healthz").json() == {"front": "up", "service": "ready"}
    with http_front(f"http://127.0.0.1:{free_port()}") as lonely:
        assert httpx.get(f"{lonely}/healthz").json() == {"front": "up", "service": "not ready"}


def test_a_front_for_other_machines_serves_no_open_service(service):
    async def story():
        async with within(service.url, local=False, mcp_host="0.0.0.0") as client:
            refused = await call(client, "list_templates")
        assert refused.is_error and "asks for no token" in text_of(refused)
        async with within(service.url, local=False, mcp_host="0.0.0.0", allow_anonymous=1) as client:
            assert "asks for no token" not in text_of(await call(client, "list_templates"))

    run(story())


SHUT = {"local": False, "mcp_host": "0.0.0.0"}
"""A front that other machines reach, and that therefore serves no open service."""


class Door:
    """A service that can be started again: `life` is its process's name, whether it asks for tokens, and a status that
    it answers everything with while it starts. It notes what it carried out, and how often it was looked at."""

    def __init__(self, *life: object, first_looks: tuple[tuple[object, ...], ...] = ()) -> None:
        self.life, self.first_looks = life, list(first_looks)
        self.carried_out: list[str] = []
        self.looks = 0

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        meant = handler.headers.get("Imagegen-Instance")
        looks = handler.path == "/api/status" and meant is None
        self.looks += looks
        name, locked, starting = self.first_looks.pop(0) if looks and self.first_looks else self.life
        if starting:
            status, said = 503, {"code": "shutting_down", "detail": "It starts."}
        elif name and meant not in {None, name}:
            status, said = 412, {"code": "instance_changed", "detail": "It was started again."}
        elif locked:
            status, said = 401, {"code": "unauthorized", "detail": "It needs a token."}
        else:
            status, said = 200, {"items": []}
            if handler.path != "/api/status":
                self.carried_out.append(handler.path)
        named = {"Imagegen_Instance": str(name)} if name else {}
        reply(handler, status, "application/json", json.dumps(said).encode(), **named)


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (("a", True, False), ("b", False, False), "asks for no token"),
        (("a", True, False), ("b", True, False), "needs a token"),
        ((None, True, False), (None, False, False), "asks for no token"),
        (("a", True, False), ("b", False, True), "It starts."),
        (("a", False, True), ("a", False, False), "asks for no token"),  # its 503 was no sign of a lock
    ],
    ids=["open", "locked", "without names", "starting", "started"],
)
def test_a_service_that_is_started_again_is_looked_at_again(before, after, says):
    door = Door(*before)

    async def story(url):
        async with within(url, **SHUT) as client:
            assert (await call(client, "list_templates")).is_error
            door.life = after
            for _ in range(2):
                result = await call(client, "list_templates")
                assert result.is_error and says in text_of(result), text_of(result)

    with stand_in(door) as url:
        run(story(url))
    assert door.carried_out == []


def test_a_service_restarted_between_look_and_request_does_nothing():
    door = Door("b", False, False, first_looks=(("a", True, False),))

    async def story(url):
        async with within(url, **SHUT) as client:
            return await call(client, "list_templates")

    with stand_in(door) as url:
        result = run(story(url))
    assert result.is_error and "asks for no token" in text_of(result)
    assert door.carried_out == []


def test_an_older_service_that_ignores_the_name_is_noticed_by_its_answer():
    door = Door("a", True, False)

    async def story(url):
        async with within(url, **SHUT) as client:
            assert (await call(client, "list_templates")).is_error
            door.life = (None, False, False)
            for _ in range(2):
                result = await call(client, "list_templates")
                assert result.is_error and "asks for no token" in text_of(result)

    with stand_in(door) as url:
        run(story(url))
    assert len(door.carried_out) == 1


def test_each_process_is_looked_at_once():
    door = Door("a", True, False)

    async def story(url):
        async with within(url, **SHUT) as client:
            for name in ("a", "a", "b", "b"):
                door.life = (name, True, False)
                assert "needs a token" in text_of(await call(client, "list_templates"))

    with stand_in(door) as url:
        run(story(url))
    assert door.looks == 2


def test_the_real_service_started_again_without_tokens_is_served_to_nobody(serve):
    service = serve(tokens="ann:a-token-of-ann-0", idle_timeout="never")

    async def story():
        async with within(service.url, **SHUT) as client:
            assert "needs a token" in text_of(await call(client, "list_templates"))
            await asyncio.to_thread(service.kill)
            await asyncio.to_thread(service.restart, tokens="")
            refused = await call(client, "generate_image", prompt="of a stranger", **SMALL)
            assert refused.is_error and "asks for no token" in text_of(refused)

    run(story())
    assert service.http.get("/api/jobs").json()["items"] == []
