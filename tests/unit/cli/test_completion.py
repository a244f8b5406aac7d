"""Completion in real shells: commands, options, models and jobs of a service, and none of it without a service."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner
from served import ROOT, Require
from terminals import IMAGEGEN, Terminal

from imagegen.cli import arguments, candidates, cli
from imagegen.cli.completion import SHELLS

JOB, ENDED = "3f0a" + "0" * 28, "77aa" + "0" * 28
ANSWERS = {
    "/api/models": {"items": [{"name": "tiny", "title": "Tiny (noise)"}], "upscalers": [{"name": "up", "title": "Up"}]},
    "/api/loras": {"items": [{"name": "ink"}]},
    "/api/jobs": {
        "items": [
            {"job_id": JOB, "status": "running", "prompt": "a, cat:\nin a hat"},
            {"job_id": ENDED, "status": "complete", "prompt": "a dog"},
        ]
    },
}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """What the candidates read of a service's answers, at an address. Its /silent answers nothing."""
    stop = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/silent"):
                stop.wait()
            body = json.dumps(ANSWERS.get(self.path.partition("?")[0], {})).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    stop.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `imagegen`, for PATH."""
    folder = tmp_path_factory.mktemp("bin")
    script = folder / "imagegen"
    script.write_text(f'#!/bin/sh\nexec {IMAGEGEN} "$@"\n')
    script.chmod(0o755)
    return folder


def completed(url: str, *words: str) -> subprocess.CompletedProcess[str]:
    """What completing the last word prints."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("IMAGEGEN_")}
    own = {"PYTHONPATH": str(ROOT), "IMAGEGEN_URL": url, "_IMAGEGEN_COMPLETE": "bash_complete"}
    typed = {"COMP_WORDS": "\n".join(["imagegen", *words]), "COMP_CWORD": str(len(words))}
    command = [sys.executable, "-m", "imagegen.cli"]
    return subprocess.run(command, env=kept | own | typed, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("stat", {"status"}),
        ("draw --model t", {"tiny"}),
        ("draw --lora ", {"ink"}),
        ("draw - --spe", {"--speed"}),
        ("draw x --speed ", {"quality", "fast"}),
        ("compare --models tiny,t", {"tiny,tiny"}),
        ("upscale cup.png --model ", {"up", "lanczos"}),
        ("cancel ", {JOB}),
        ("vary ", {JOB, ENDED}),
        ("vary cup", {"cup"}),
        ("draw x -o cu", {"cu"}),
        ("completion ", set(SHELLS)),
    ],
)
def test_what_is_offered_for_a_word(
    address: str, line: str, offered: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "ANSWER_S", 120)
    monkeypatch.setenv("IMAGEGEN_URL", address)
    *before, word = line.split(" ")
    items = BashComplete(cli, {}, "imagegen", "_IMAGEGEN_COMPLETE").get_completions(before, word)
    assert {item.value for item in items} == offered


def test_the_command_answers_a_shell(address: str) -> None:
    ran = completed(address, "draw", "-", "--model", "t")
    assert (ran.returncode, ran.stdout.split(), ran.stderr) == (0, ["plain,tiny"], ""), "and - reads no prompt"


def test_a_line_that_is_completed_reads_and_tries_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    used: list[object] = []
    monkeypatch.setattr(arguments.Prompt, "_read", lambda *_: used.append("standard input"))
    monkeypatch.setattr(arguments, "no_new_file_in", used.append)
    completing = BashComplete(cli, {}, "imagegen", "_IMAGEGEN_COMPLETE")
    line = ["draw", "-", "-o", str(tmp_path / "new.png")]
    assert [item.value for item in completing.get_completions(line, "--spe")] == ["--speed"]
    assert used == []


def test_a_job_is_described_by_its_state_and_prompt(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "ANSWER_S", 120)
    monkeypatch.setenv("IMAGEGEN_URL", address)
    items = BashComplete(cli, {}, "imagegen", "_IMAGEGEN_COMPLETE").get_completions(["cancel"], "")
    assert [(item.value, item.help) for item in items] == [(JOB, "running: a, cat: in a hat")]


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "silent"])
def test_without_a_service_there_are_the_packaged_models_and_no_error(address: str, url: str) -> None:
    service = f"{address}/silent" if url == "silent" else url
    models = completed(service, "draw", "--model", "ti")
    assert (models.returncode, models.stdout.split(), models.stderr) == (0, ["plain,tiny"], "")
    if url != "silent":
        jobs = completed(service, "cancel", "")
        assert (jobs.returncode, jobs.stdout.split(), jobs.stderr) == (0, [], "")


def test_a_setting_that_is_wrong_is_no_error_of_the_completion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEGEN_PROT", "1")
    context = cli.make_context("imagegen", [], resilient_parsing=True)
    assert candidates.jobs(context, click_parameter(), "") == []


def click_parameter():  # type: ignore[no-untyped-def]
    command = cli.get_command(cli.make_context("imagegen", [], resilient_parsing=True), "cancel")
    assert command is not None
    return command.params[0]


def test_the_packaged_models_are_those_of_the_catalog() -> None:
    from imagegen.models.catalog import Catalog

    catalog = Catalog.packaged()
    assert set(candidates._packaged()) == {entry.name for entry in catalog.entries()}
    assert set(candidates._packaged(upscalers=True)) - set(candidates._packaged()) == {
        entry.name for entry in catalog.upscalers()
    }


STARTED = {
    "bash": ["--norc", "--noprofile", "-i"],
    "zsh": ["-f", "-i"],
    "fish": ["--no-config", "-i"],
}
SET_UP = {
    "bash": 'eval "$(imagegen completion bash)"; PS1=READY\\>',
    "zsh": 'autoload -Uz compinit; compinit -u -D; eval "$(imagegen completion zsh)"; PROMPT=READY\\>',
    "fish": "imagegen completion fish | source; function fish_prompt; printf 'READY>'; end",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_real_shell_completes(shell: str, address: str, commands: Path, tmp_path: Path, require: Require) -> None:
    require(f"{shell} is not installed", shutil.which(shell) is not None)
    environment = {"PATH": f"{commands}:{os.environ['PATH']}", "HOME": str(tmp_path), "IMAGEGEN_URL": address}
    terminal = Terminal([shell, *STARTED[shell]], size=(40, 200, 0, 0), cwd=tmp_path, **environment)

    def typed(keys: bytes, shown: bytes) -> None:
        start = len(terminal.written)
        terminal.type(keys)
        terminal.until(lambda: shown in plain(terminal.written[start:]), f"{shown!r} after {keys!r}")

    terminal.type(SET_UP[shell].encode() + b"\r")
    terminal.until(lambda: plain(terminal.written).count(b"READY>") >= 1, "the shell is ready")
    typed(b"imagegen canc\t", b"imagegen cancel ")
    typed(b"3f\t", JOB.encode())
    typed(b"\x15imagegen draw x --model ti\t", b"--model tiny ")
    terminal.type(b"\x15exit\r")
    terminal.end()


def plain(written: bytes) -> bytes:
    """What is written without colours and movements."""
    return re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\x1b\][^\x07]*\x07", b"", bytes(written))


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_names_its_shell_and_is_right_to_the_shell(shell: str, require: Require) -> None:
    printed = CliRunner().invoke(cli, ["completion", shell])
    assert (printed.exit_code, f"_IMAGEGEN_COMPLETE={shell}_complete" in printed.output) == (0, True)
    require(f"{shell} is not installed", shutil.which(shell) is not None)
    checked = subprocess.run([shell, "-n"], input=printed.output, capture_output=True, text=True, timeout=60)
    assert (checked.returncode, checked.stderr) == (0, "")
