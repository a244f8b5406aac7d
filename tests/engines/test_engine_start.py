"""How an engine's process starts, and what is said when it cannot. Real engines, tiny models."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import psutil
import pytest
from lives import Ask, Changes, Make, both_engines, failure, nobody, run
from own_model import OwnModel

from imagegen.engines.base import LoadProgress


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


@pytest.mark.parametrize(
    ("engine_name", "damage"),
    [
        *(("sdcpp", damage) for damage in ("truncated", "emptied", "garbage")),
        ("glm", "truncated"),
        *(pytest.param("glm", damage, marks=pytest.mark.long) for damage in ("emptied", "garbage")),
    ],
    indirect=["engine_name"],
)
def test_a_damaged_model_says_so_in_the_engines_words(make_adapter: Make, own_model: OwnModel, damage: str) -> None:
    file = own_model.weights
    whole = file.read_bytes()
    file.write_bytes({"truncated": whole[: len(whole) // 2], "emptied": b"", "garbage": b"\x00\xff" * 4096}[damage])

    async def scenario() -> None:
        adapter = make_adapter(**own_model.changes)
        error = await failure(adapter.start(nobody))
        assert error.code == "load_failed"
        assert "exit status 1" in error.detail and own_model.called in error.detail
        assert adapter.pid is None

    run(scenario())


@both_engines
def test_a_missing_file_is_named_before_anything_is_started(make_adapter: Make, own_model: OwnModel) -> None:
    own_model.needed.unlink()

    async def scenario() -> None:
        error = await failure(make_adapter(**own_model.changes).start(nobody))
        assert error.code == "model_missing" and own_model.needed_called in error.detail

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


@both_engines
def test_a_load_that_stands_still_is_given_up(make_adapter: Make) -> None:
    async def scenario() -> None:
        adapter = make_adapter()

        def stop_it(_: LoadProgress) -> None:
            if adapter.pid is not None:
                os.kill(adapter.pid, signal.SIGSTOP)
                adapter.load_stall_s = 1.0  # from now on: what comes before takes as long as it takes

        error = await failure(adapter.start(stop_it))
        assert error.code == "load_failed" and "stood still at" in error.detail
        assert adapter.pid is None

    run(scenario())


@both_engines
@pytest.mark.parametrize("moment", ["at once", "while it loads"])
def test_a_cancelled_start_leaves_no_process(make_adapter: Make, moment: str) -> None:
    async def scenario() -> None:
        adapter, heard = make_adapter(), Changes()
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
