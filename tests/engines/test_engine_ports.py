"""Where an engine listens: a Unix socket, or without the channel a port. Real engines, tiny models."""

from __future__ import annotations

import asyncio
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import psutil
import pytest
from lives import DEADLINE_S, Ask, Make, both_engines, drawing, failure, nobody, run

from imagegen.engines import endpoint
from imagegen.engines.endpoint import TcpEndpoint, UnixEndpoint


@pytest.fixture
def stranger() -> Iterator[socket.socket]:
    """A listening socket of another program, with a port that can be shared."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener


LONG = {"sdcpp": {"steps": 100}, "glm": {"width": 512, "height": 512, "steps": 100}}


def listeners(pid: int | None) -> set[str]:
    """The TCP addresses and Unix paths that the processes of an engine listen on."""
    found = set()
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        for one in process.net_connections("all"):
            if one.status == psutil.CONN_LISTEN or (one.family == socket.AF_UNIX and one.laddr):
                found.add(str(one.laddr))
    return found


@both_engines
def test_no_engine_listens_on_tcp_while_it_draws(engine_name: str, make_adapter: Make, ask: Ask) -> None:
    async def scenario() -> None:
        adapter = make_adapter()
        await adapter.start(nobody)
        picture = await drawing(adapter, ask(**LONG[engine_name]))
        (path,) = listeners(adapter.pid)
        assert modes_of(path) == ["drwx------", "srw-------"]
        picture.cancel()
        await adapter.stop()
        assert modes_of(path) == []

    run(scenario())


def modes_of(path: str) -> list[str]:
    """The modes of a socket's folder and of the socket; empty if they are gone."""
    places = (Path(path).parent, Path(path))
    return [stat.filemode(place.stat().st_mode) for place in places if place.exists()]


@both_engines
def test_an_engine_whose_socket_is_taken_is_started_on_another(
    engine_name: str, make_adapter: Make, ask: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    taken = UnixEndpoint(tmp_path)
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(str(taken.path))
        offered = [taken]

        async def scenario() -> None:
            adapter = make_adapter()
            monkeypatch.setattr(adapter, "_new_endpoint", lambda: offered.pop() if offered else UnixEndpoint(tmp_path))
            await adapter.start(nobody)
            assert str(taken.path) not in listeners(adapter.pid)
            assert await adapter.generate(ask(), nobody)
            await adapter.stop()

        run(scenario())


def test_two_engines_have_sockets_of_their_own(make_adapter: Make, ask: Ask) -> None:
    async def scenario() -> None:
        one, two = make_adapter(), make_adapter()
        await asyncio.gather(one.start(nobody), two.start(nobody))
        assert listeners(one.pid).isdisjoint(listeners(two.pid))
        assert await one.generate(ask(), nobody) == await two.generate(ask(), nobody)
        await one.stop()
        assert await two.generate(ask(seed=2), nobody)
        await two.stop()

    run(scenario())


def test_a_socket_without_a_short_enough_folder_is_refused(
    make_adapter: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    too_long = tmp_path / ("x" * 90)
    too_long.mkdir()
    monkeypatch.setattr(endpoint, "_parents", lambda _fallback: [too_long])

    async def scenario() -> None:
        error = await failure(make_adapter().start(nobody))
        assert error.code == "load_failed" and "at most 107 bytes: set TMPDIR" in error.detail

    run(scenario())


# Without the channel


def test_a_port_that_a_stranger_shares_is_given_up_for_another(
    make_adapter: Make, ask: Ask, stranger: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = [stranger.dup()]

    async def scenario() -> None:
        adapter = make_adapter(channel=False)
        monkeypatch.setattr(adapter, "_new_endpoint", lambda: TcpEndpoint(offered.pop() if offered else None))
        await adapter.start(nobody)
        process = psutil.Process(adapter.pid)
        assert stranger.getsockname()[1] not in {c.laddr.port for c in process.net_connections()}
        assert {address.ip for c in process.net_connections() if (address := c.laddr)} == {"127.0.0.1"}
        assert await adapter.generate(ask(), nobody)
        assert not adapter.interrupt()
        await adapter.stop()

    run(scenario())


def test_ports_that_are_always_taken_end_the_start(
    make_adapter: Make, stranger: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        adapter = make_adapter(channel=False)
        monkeypatch.setattr(adapter, "_new_endpoint", lambda: TcpEndpoint(stranger.dup()))
        error = await failure(adapter.start(nobody))
        assert error.code == "load_failed" and "took the engine's port" in error.detail
        assert "3 times in a row" in error.detail

    run(scenario())


def test_an_engine_that_cannot_bind_is_started_on_another_port(
    make_adapter: Make, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsharing = socket.socket()
    unsharing.bind(("127.0.0.1", 0))  # without SO_REUSEPORT, and not listening: seen only when the engine binds
    offered = [unsharing]

    async def scenario() -> None:
        adapter = make_adapter(channel=False)
        monkeypatch.setattr(adapter, "_new_endpoint", lambda: TcpEndpoint(offered.pop() if offered else None))
        await adapter.start(nobody)
        assert not offered
        assert await adapter.generate(ask(), nobody)
        await adapter.stop()

    run(scenario())


@pytest.mark.parametrize("channel", [True, False])
def test_a_script_that_does_not_become_the_engine_is_refused_and_ended(
    make_adapter: Make, sd_server: Path, tmp_path: Path, channel: bool
) -> None:
    script = tmp_path / "wrapper"
    script.write_text(f"#!/bin/sh\n'{sd_server}' \"$@\"\nexit $?\n")
    script.chmod(0o755)

    async def scenario() -> None:
        error = await failure(make_adapter(binary=script, channel=channel).start(nobody))
        assert error.code == "load_failed" and "wrapper is a script" in error.detail
        await asyncio.to_thread(wait_nothing_runs_in, tmp_path)

    run(scenario())


def wait_nothing_runs_in(folder: Path) -> None:
    until = monotonic() + DEADLINE_S
    while any(runs_in(process, folder) for process in psutil.process_iter()):
        assert monotonic() < until
        sleep(0.01)


def runs_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return Path(process.cwd()).is_relative_to(folder)
    except psutil.Error:
        return False
