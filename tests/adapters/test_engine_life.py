"""The engine's process: how it starts, fails, dies and is ended. Real engines, tiny models."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psutil
import pytest

from imagegen.adapters import ports
from imagegen.adapters.base import DrawProgress, DrawRequest, EngineError, LoadProgress
from imagegen.adapters.subprocess_http import HttpSubprocessAdapter

Make = Callable[..., HttpSubprocessAdapter]
Ask = Callable[..., DrawRequest]
Gone = Callable[[int], bool]

DEADLINE_S = 600

both_engines = pytest.mark.parametrize("engine_name", ["sdcpp", "glm"], indirect=True)
"""For what every adapter promises. The second engine is dear to start: what is the base class's alone runs on one."""


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """Run a scenario, which has to end by itself, and see that it leaves no process."""

    async def limited() -> None:
        await asyncio.wait_for(scenario, DEADLINE_S)

    before = set(psutil.Process().children(recursive=True))
    asyncio.run(limited())
    assert set(psutil.Process().children(recursive=True)) <= before


def nobody(_: object) -> None:
    """Hears progress that a test does not look at."""


async def failure(work: Awaitable[object]) -> EngineError:
    with pytest.raises(EngineError) as raised:
        await work
    assert not re.search(r"(^|[\s'\"])/\w", raised.value.detail), "a path of the host in an error message"
    return raised.value


def wait_stopped(pid: int) -> None:
    until = monotonic() + DEADLINE_S
    while psutil.Process(pid).status() != psutil.STATUS_STOPPED:
        assert monotonic() < until
        sleep(0.01)


class Heard:
    """A progress listener, which can be waited for."""

    def __init__(self) -> None:
        self.loading, self.sampling = asyncio.Event(), asyncio.Event()

    def __call__(self, progress: DrawProgress | LoadProgress) -> None:
        if isinstance(progress, LoadProgress):
            self.loading.set()
        elif progress.step:
            self.sampling.set()


async def drawing(adapter: HttpSubprocessAdapter, request: DrawRequest) -> asyncio.Task[bytes]:
    """A picture that has reached its first step."""
    heard = Heard()
    task = asyncio.create_task(adapter.generate(request, heard))
    await heard.sampling.wait()
    return task


@both_engines
def test_a_load_tells_its_progress_and_stop_frees_everything(make_adapter: Make, ask: Ask) -> None:
    async def scenario() -> None:
        adapter = make_adapter()
        heard: list[LoadProgress] = []
        assert adapter.pid is None
        await adapter.wait_died()  # there is none: at once
        await adapter.stop()
        await adapter.start(heard.append)
        fractions = [progress.fraction for progress in heard]
        assert fractions == sorted(fractions) and fractions[-1] == 1.0 and fractions[0] < 1.0
        assert any(progress.bytes_per_s and progress.bytes_per_s > 0 for progress in heard)
        with pytest.raises(RuntimeError):
            await adapter.start(nobody)
        pid = adapter.pid
        assert pid is not None and psutil.pid_exists(pid)
        await adapter.stop()
        assert adapter.pid is None and not psutil.pid_exists(pid)
        assert (await failure(adapter.generate(ask(), nobody))).code == "engine_died"
        await adapter.start(nobody)  # a new process
        assert await adapter.generate(ask(), nobody)
        await adapter.stop()

    run(scenario())


@both_engines
def test_the_process_is_shielded_and_is_told_no_secret(
    make_adapter: Make, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("IMAGEGEN_TOKENS", "HF_TOKEN", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    async def scenario() -> None:
        adapter = make_adapter()
        await adapter.start(nobody)
        process = psutil.Process(adapter.pid)
        environment = process.environ()
        assert not {"IMAGEGEN_TOKENS", "HF_TOKEN", "http_proxy"} & set(environment)
        assert environment["GGML_NO_BACKTRACE"] == "1"
        assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)
        assert os.getsid(process.pid) == process.pid
        listening = [c.laddr for c in process.net_connections() if c.status == psutil.CONN_LISTEN]
        assert [address.ip for address in listening] == ["127.0.0.1"]
        for polite in (signal.SIGTERM, signal.SIGINT):  # as the supervisor sends them
            process.send_signal(polite)
        assert await adapter.generate(ask(), nobody)
        await adapter.stop()

    run(scenario())


def test_sd_server_gets_its_threads_and_an_empty_folder_of_loras(make_adapter: Make) -> None:
    async def scenario() -> None:
        adapter = make_adapter()
        await adapter.start(nobody)
        words = psutil.Process(adapter.pid).cmdline()
        assert words[words.index("-t") + 1] == "1" and not {"-v", "--verbose"} & set(words)
        assert list(os.scandir(words[words.index("--lora-model-dir") + 1])) == []
        await adapter.stop()

    run(scenario())


def test_flags_that_print_prompts_are_refused(make_adapter: Make, tiny_argv: list[str]) -> None:
    with pytest.raises(ValueError, match="makes the engine print prompts"):
        make_adapter(model_argv=[*tiny_argv, "-v"])


# Loads that fail


@pytest.fixture
def own_argv(tiny_argv: list[str], tmp_path: Path) -> list[str]:
    """The tiny model's flags, with files of the test's own."""
    folder = tmp_path / "a model"
    folder.mkdir()
    files = [Path(word) for word in tiny_argv if word.startswith("/")]
    return [str(shutil.copy(word, folder)) if Path(word) in files else word for word in tiny_argv]


@pytest.mark.parametrize("damage", ["truncated", "emptied", "garbage"])
def test_a_damaged_model_says_so_in_the_engines_words(make_adapter: Make, own_argv: list[str], damage: str) -> None:
    file = Path(own_argv[own_argv.index("--diffusion-model") + 1])
    whole = file.read_bytes()
    file.write_bytes({"truncated": whole[: len(whole) // 2], "emptied": b"", "garbage": b"\x00\xff" * 4096}[damage])

    async def scenario() -> None:
        adapter = make_adapter(model_argv=own_argv)
        error = await failure(adapter.start(nobody))
        assert error.code == "load_failed"
        assert "exit status 1" in error.detail and file.name in error.detail
        assert adapter.pid is None

    run(scenario())


def test_a_missing_file_is_named_before_anything_is_started(make_adapter: Make, own_argv: list[str]) -> None:
    file = Path(own_argv[own_argv.index("--llm") + 1])
    file.unlink()

    async def scenario() -> None:
        error = await failure(make_adapter(model_argv=own_argv).start(nobody))
        assert error.code == "model_missing" and file.name in error.detail

    run(scenario())


@both_engines
def test_a_missing_engine_is_an_error_that_says_so(make_adapter: Make, tmp_path: Path) -> None:
    async def scenario() -> None:
        error = await failure(make_adapter(binary=tmp_path / "no-server").start(nobody))
        assert error.code == "load_failed" and "no-server" in error.detail

    run(scenario())


def test_a_program_that_cannot_be_run_is_told_in_the_systems_words(make_adapter: Make, tmp_path: Path) -> None:
    program = tmp_path / "sd-server"
    program.write_text("not executable")

    async def scenario() -> None:
        error = await failure(make_adapter(binary=program).start(nobody))
        assert error.code == "load_failed" and "sd-server cannot be run: Permission denied" in error.detail

    run(scenario())


def test_wrong_flags_end_the_start_with_the_engines_complaint(make_adapter: Make, tiny_argv: list[str]) -> None:
    async def scenario() -> None:
        error = await failure(make_adapter(model_argv=[*tiny_argv, "--no-such-flag"]).start(nobody))
        assert error.code == "load_failed" and "unknown argument: --no-such-flag" in error.detail

    run(scenario())


def test_a_load_that_stands_still_is_given_up(make_adapter: Make) -> None:
    async def scenario() -> None:
        adapter = make_adapter(load_stall_s=1.0)

        def stop_it(_: LoadProgress) -> None:
            if adapter.pid is not None:
                os.kill(adapter.pid, signal.SIGSTOP)

        error = await failure(adapter.start(stop_it))
        assert error.code == "load_failed" and "stood still at" in error.detail
        assert adapter.pid is None

    run(scenario())


@pytest.mark.parametrize("moment", ["at once", "while it loads"])
def test_a_cancelled_start_leaves_no_process(make_adapter: Make, moment: str) -> None:
    async def scenario() -> None:
        adapter, heard = make_adapter(), Heard()
        start = asyncio.create_task(adapter.start(heard))
        await (asyncio.sleep(0) if moment == "at once" else heard.loading.wait())
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        assert adapter.pid is None

    run(scenario())


@both_engines
def test_an_engine_killed_while_it_loads_is_no_broken_model(make_adapter: Make) -> None:
    async def scenario() -> None:
        adapter = make_adapter()

        def kill(_: LoadProgress) -> None:
            if adapter.pid is not None:
                os.kill(adapter.pid, signal.SIGKILL)

        error = await failure(adapter.start(kill))
        assert error.code == "engine_died" and "SIGKILL" in error.detail

    run(scenario())


# Ports


@pytest.fixture
def stranger() -> Iterator[socket.socket]:
    """Somebody else's listening socket, which does not mind sharing its port."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener


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


# Deaths


@both_engines
def test_a_death_while_drawing_is_noticed_and_named(make_adapter: Make, ask: Ask) -> None:
    async def scenario() -> None:
        adapter = make_adapter()
        await adapter.start(nobody)
        picture = await drawing(adapter, ask(steps=100))
        died = asyncio.create_task(adapter.wait_died())
        assert not died.done()
        os.kill(adapter.pid or 0, signal.SIGKILL)
        error = await failure(picture)
        assert error.code == "engine_died" and "SIGKILL" in error.detail
        assert "red cube" not in error.detail
        await died
        assert adapter.pid is None
        await adapter.start(nobody)  # without a stop in between
        assert adapter.pid is not None
        await adapter.stop()

    run(scenario())


@both_engines
def test_memory_that_runs_out_is_named(engine_name: str, make_adapter: Make, ask: Ask) -> None:
    spare_mib, side = (8, 1024) if engine_name == "glm" else (64, 512)  # GLM's tiny VAE is much the smaller one

    async def scenario() -> None:
        adapter = make_adapter()
        await adapter.start(nobody)
        assert await adapter.generate(ask(), nobody)  # its threads are there
        process = psutil.Process(adapter.pid)
        process.rlimit(psutil.RLIMIT_AS, (process.memory_info().vms + spare_mib * 1024**2,) * 2)
        error = await failure(adapter.generate(ask(width=side, height=side), nobody))
        assert error.code == "out_of_vram", error.detail
        await adapter.stop()

    run(scenario())


@both_engines
def test_a_stop_while_drawing_ends_the_picture_too(make_adapter: Make, ask: Ask) -> None:
    async def scenario() -> None:
        adapter = make_adapter()
        await adapter.start(nobody)
        picture = await drawing(adapter, ask(steps=100))
        await adapter.stop()
        assert (await failure(picture)).code == "engine_died"

    run(scenario())


def test_a_stopped_engine_is_silent_and_can_be_ended(make_adapter: Make, ask: Ask) -> None:
    async def scenario() -> None:
        adapter = make_adapter()
        await adapter.start(nobody)
        picture = await drawing(adapter, ask(steps=100))
        pid = adapter.pid or 0
        os.kill(pid, signal.SIGSTOP)
        wait_stopped(pid)
        await asyncio.wait([picture], timeout=0.2)  # what it said before is read
        last = adapter.last_line_at
        done, _ = await asyncio.wait([picture], timeout=0.5)
        assert not done and adapter.last_line_at == last  # silent, and no verdict of the adapter's own
        await adapter.stop()
        assert not psutil.pid_exists(pid)
        assert (await failure(picture)).code == "engine_died"

    run(scenario())


def test_a_cancelled_stop_still_ends_the_engine(make_adapter: Make) -> None:
    async def scenario() -> None:
        adapter = make_adapter()
        await adapter.start(nobody)
        stop = asyncio.create_task(adapter.stop())
        await asyncio.sleep(0)
        stop.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stop
        await adapter.wait_died()
        await adapter.stop()
        assert adapter.pid is None

    run(scenario())


OWNER = """
import asyncio, sys
from pathlib import Path
from imagegen.adapters.glm import GlmImageAdapter
from imagegen.adapters.sdcpp import SdcppServerAdapter

async def main():
    what, work, first, *words = sys.argv[1:]
    if what == "glm":
        adapter = GlmImageAdapter(Path(first), 1, Path(work))
    else:
        adapter = SdcppServerAdapter(Path(first), words, 1, Path(work), 60)
    await adapter.start(lambda _: None)
    print(adapter.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@both_engines
def test_the_engine_does_not_outlive_its_service(
    engine_name: str, request: pytest.FixtureRequest, tmp_path: Path, gone: Gone
) -> None:
    if engine_name == "glm":
        words = [str(request.getfixturevalue("glm_models_dir") / "glm-tiny")]
    else:
        words = [str(request.getfixturevalue("sd_server")), *request.getfixturevalue("tiny_argv")]
    command = [sys.executable, "-c", OWNER, engine_name, str(tmp_path), *words]
    owner = subprocess.Popen(command, stdout=subprocess.PIPE)
    with owner:
        try:
            assert owner.stdout is not None
            engine_pid = int(owner.stdout.readline())
            assert psutil.pid_exists(engine_pid)
        finally:
            owner.kill()
    assert gone(engine_pid)
