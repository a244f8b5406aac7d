"""The port of an engine's process: nobody else's, or another one. Real engines, tiny models."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import psutil
import pytest
from lives import DEADLINE_S, Ask, Make, both_engines, failure, nobody, run

from imagegen.engines import ports


@pytest.fixture
def stranger() -> Iterator[socket.socket]:
    """Somebody else's listening socket, which does not mind sharing its port."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener


@both_engines
def test_a_port_that_a_stranger_shares_is_given_up_for_another(
    make_adapter: Make, ask: Ask, stranger: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = [stranger.dup()]
    reserve = ports.reserve_port

    async def scenario() -> None:
        adapter = make_adapter()
        monkeypatch.setattr(adapter, "_reserve_port", lambda: offered.pop() if offered else reserve())
        await adapter.start(nobody)
        process = psutil.Process(adapter.pid)
        assert stranger.getsockname()[1] not in {c.laddr.port for c in process.net_connections()}
        assert await adapter.generate(ask(), nobody)
        await adapter.stop()

    run(scenario())


@both_engines
def test_ports_that_are_always_taken_end_the_start(
    make_adapter: Make, stranger: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        adapter = make_adapter()
        monkeypatch.setattr(adapter, "_reserve_port", stranger.dup)
        error = await failure(adapter.start(nobody))
        assert error.code == "load_failed" and "took the engine's port 3 times" in error.detail

    run(scenario())


@both_engines
def test_an_engine_that_cannot_bind_is_started_on_another_port(
    make_adapter: Make, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsharing = socket.socket()
    unsharing.bind(("127.0.0.1", 0))  # without SO_REUSEPORT, and not listening: seen only when the engine binds
    offered = [unsharing]

    async def scenario() -> None:
        adapter = make_adapter()
        monkeypatch.setattr(adapter, "_reserve_port", lambda: offered.pop() if offered else ports.reserve_port())
        await adapter.start(nobody)
        assert not offered
        assert await adapter.generate(ask(), nobody)
        await adapter.stop()

    run(scenario())


def test_a_script_that_does_not_become_the_engine_is_refused_and_ended(
    make_adapter: Make, sd_server: Path, tmp_path: Path
) -> None:
    script = tmp_path / "wrapper"
    script.write_text(f"#!/bin/sh\n'{sd_server}' \"$@\"\nexit $?\n")
    script.chmod(0o755)

    async def scenario() -> None:
        error = await failure(make_adapter(binary=script).start(nobody))
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
