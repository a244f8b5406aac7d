"""Faults that the doctor must find, each planted in a scratch state folder, and the finding that each must give."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from held_engine import without_channel
from loras import pair, safetensors

from imagegen.doctor import Level
from imagegen.security import tls
from imagegen.security.tokens import new as new_token


class Scratch:
    """A state folder to plant faults in."""

    def __init__(self, home: Path, environment: pytest.MonkeyPatch) -> None:
        self.home, self.environment = home, environment
        self.started: list[int] = []
        self.held: list[socket.socket] = []

    def set(self, name: str, value: object) -> None:
        self.environment.setenv(f"IMAGEGEN_{name}", str(value))

    def sql(self, statement: str) -> None:
        with sqlite3.connect(self.home / "jobs.sqlite3") as connection:
            connection.execute(statement)
        connection.close()

    def own_model(self, text: str) -> None:
        (self.home / "models" / "mine.toml").write_text('name = "mine"\ntitle = "Mine"\nbase = "tiny"\n' + text)
        self.set("MODEL", "mine")


def unknown_setting(s: Scratch) -> None:
    s.set("MAX_DIMENSIONS", 512)


def wrong_setting(s: Scratch) -> None:
    s.set("MAX_STEPS", "many")


def engine_gone(s: Scratch) -> None:
    s.set("SD_SERVER", s.home / "no-engine-here")


def engine_broken(s: Scratch) -> None:
    broken = s.home / "sd-server"
    broken.write_text("#!/bin/sh\necho 'error while loading shared libraries: libcublas.so.13'; exit 127\n")
    broken.chmod(0o755)
    s.set("SD_SERVER", broken)


def engine_without_channel(s: Scratch) -> None:
    s.set("SD_SERVER", without_channel(s.home, Path(os.environ["IMAGEGEN_SD_SERVER"])))


def flag_missing(s: Scratch) -> None:
    s.own_model('[[flags]]\nflag = "--no-such-flag"\n')


def model_file_gone(s: Scratch) -> None:
    s.own_model('[[files]]\nrole = "llm"\nflag = "--llm"\nfile = "not-here.gguf"\n')


def model_file_is_a_web_page(s: Scratch) -> None:
    _own_file(s, b"<!doctype html><title>403 Forbidden</title>")


def model_file_has_another_hash(s: Scratch) -> None:
    _own_file(s, b"GGUF" + bytes(100), f'sha256 = "{"0" * 64}"\n')


def model_file_is_not_what_was_fetched(s: Scratch) -> None:
    _own_file(s, b"GGUF" + bytes(100))
    noted = {"own.gguf": {"size_bytes": 104, "sha256": "1" * 64}}
    (s.home / "models" / "mine" / "fetched.json").write_text(json.dumps(noted))


def model_file_is_cut_off(s: Scratch) -> None:
    _own_file(s, b"GGUF" + bytes(100), "size_bytes = 105\n")


VISION = '[[files]]\nrole = "llm_vision"\nfile = "mmproj.gguf"\nrepo = "owner/vision"\noptional = true\n'


def vision_tower_lost(s: Scratch) -> None:
    s.set("AUTO_FETCH", "off")
    s.own_model(VISION)


def nothing_fetched_offline(s: Scratch) -> None:
    s.set("AUTO_FETCH", "on")
    s.environment.setenv("HF_HUB_OFFLINE", "1")
    files = [("diffusion_model", "--diffusion-model"), ("llm", "--llm"), ("tae", "--tae")]
    tables = [f'[[files]]\nrole = "{r}"\nflag = "{f}"\nfile = "to-come.gguf"\nrepo = "o/far"\n' for r, f in files]
    s.own_model("".join(tables))


def lora_is_cut_off(s: Scratch) -> None:
    (s.home / "models" / "mine").mkdir()
    (s.home / "models" / "mine" / "some.safetensors").write_bytes(safetensors(pair())[:-1])
    s.own_model('[[files]]\nrole = "lora"\nfile = "some.safetensors"\n')


def _own_file(s: Scratch, content: bytes, more: str = "") -> None:
    (s.home / "models" / "mine").mkdir()
    (s.home / "models" / "mine" / "own.gguf").write_bytes(content)
    s.own_model('[[files]]\nrole = "llm"\nflag = "--llm"\nfile = "own.gguf"\n' + more)


def memory_too_small(s: Scratch) -> None:
    s.own_model("[memory]\nram_bytes = 1_000_000_000_000_000\nvram_bytes = 1_000_000_000_000_000\n")


def disk_too_small(s: Scratch) -> None:
    s.own_model(
        'download_bytes = 1_000_000_000_000_000\n[[files]]\nrole = "llm"\nflag = "--llm"\nfile = "to-come.gguf"\n'
    )


def port_taken(s: Scratch) -> None:
    taken = socket.socket()
    s.held.append(taken)
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    s.set("PORT", taken.getsockname()[1])


def clock_put_back(s: Scratch) -> None:
    s.sql(
        "INSERT INTO jobs (id, revision, kind, status, model, prompt, params, refs, warnings, policy, attempts, "
        f"created_at) VALUES ('{'a' * 32}', 1, 'generate', 'queued', 'tiny', '', '{{}}', '[]', '[]', '{{}}', 0, "
        f"{time.time() + 86400})"
    )


def certificate_ended(s: Scratch) -> None:
    _certificate(s, -0.01)  # it begins an hour before it is made


def certificate_ends_soon(s: Scratch) -> None:
    _certificate(s, 5)


def _certificate(s: Scratch, days: float) -> None:
    files = tls.Files(s.home / "cert.pem", s.home / "key.pem")
    files.key.write_bytes(tls.new_key())
    tls.renew(files, ["localhost"], days=days)
    s.set("TLS", f"{files.certificate},{files.key}")


def certificate_of_another_key(s: Scratch) -> None:
    _certificate(s, 90)
    (s.home / "key.pem").write_bytes(tls.new_key())


def state_open_to_others(s: Scratch) -> None:
    (s.home / "jobs.sqlite3").chmod(0o644)
    s.home.chmod(0o755)


def half_a_picture_left(s: Scratch) -> None:
    (s.home / "images" / f".{'a' * 32}.{'b' * 8}.tmp").write_bytes(b"\x89PNG")


def picture_without_row(s: Scratch) -> None:
    (s.home / "images" / f"{'a' * 32}.png").write_bytes(b"\x89PNG")


def row_without_picture(s: Scratch) -> None:
    s.sql(
        "INSERT INTO images (id, idx, width, height, bytes, sha256, format, created_at) "
        f"VALUES ('{'c' * 32}', 0, 64, 64, 1, '', 'png', 1)"
    )


def engine_left_running(s: Scratch) -> None:
    (s.home / "engine").mkdir()
    orphan = (
        "import os; os.fork() and os._exit(0); print(os.getpid(), flush=True); os.execvp('sleep', ['sleep', '600'])"
    )
    with subprocess.Popen([sys.executable, "-c", orphan], cwd=s.home / "engine", stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        s.started.append(int(parent.stdout.readline()))


def service_hangs(s: Scratch) -> None:
    """A process holds the folder's lock and listens on no port."""
    holder = (
        "import fcntl, sys, time; lock = open(sys.argv[1], 'a'); fcntl.flock(lock, fcntl.LOCK_EX); "
        "print('held', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", holder, str(s.home / "lock")]
    held = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    s.started.append(held.pid)
    assert held.stdout is not None
    assert held.stdout.readline() == b"held\n"


def database_damaged(s: Scratch) -> None:
    path = s.home / "jobs.sqlite3"
    path.write_bytes(path.read_bytes()[:4096] + os.urandom(8192))


def database_is_no_database(s: Scratch) -> None:
    (s.home / "jobs.sqlite3").write_bytes(b"hello" * 1000)


def database_of_a_newer_version(s: Scratch) -> None:
    s.sql("PRAGMA user_version = 99")


def policy_broken(s: Scratch) -> None:
    (s.home / "policy.toml").write_text('baseline = "clowns"\n')
    s.set("POLICY_FILE", s.home / "policy.toml")


def template_broken(s: Scratch) -> None:
    (s.home / "templates").mkdir()
    (s.home / "templates" / "mine.toml").write_text('title = "Mine"\n')


def catalog_broken(s: Scratch) -> None:
    s.own_model("stepps = 20\n")


def alias_of_no_model(s: Scratch) -> None:
    s.set("MODEL_ALIASES", "dall-e-3=nothing")


def open_to_the_network(s: Scratch) -> None:
    s.set("HOST", "0.0.0.0")


def tokens_readable_by_others(s: Scratch) -> None:
    new_token("kim", s.home / "tokens")
    (s.home / "tokens").chmod(0o644)


FAULTS: list[tuple[Callable[[Scratch], None], str, Level, str]] = [
    (unknown_setting, "settings", Level.FAIL, "IMAGEGEN_MAX_DIMENSIONS is not a setting"),
    (wrong_setting, "settings", Level.FAIL, "IMAGEGEN_MAX_STEPS='many'"),
    (engine_gone, "engine", Level.FAIL, "no-engine-here does not exist"),
    (engine_broken, "engine", Level.FAIL, "libcublas.so.13"),
    (engine_without_channel, "channel", Level.WARN, "listens on a port of 127.0.0.1"),
    (flag_missing, "flags", Level.WARN, "--no-such-flag"),
    (model_file_gone, "model files", Level.FAIL, "not-here.gguf"),
    (model_file_is_a_web_page, "model files", Level.FAIL, "is not a GGUF file"),
    (model_file_has_another_hash, "model files", Level.FAIL, "instead of 000000000000"),
    (model_file_is_not_what_was_fetched, "model files", Level.FAIL, "instead of 111111111111"),
    (vision_tower_lost, "model files", Level.WARN, "mine works without mmproj.gguf, which is not here"),
    (nothing_fetched_offline, "model files", Level.FAIL, "Unset HF_HUB_OFFLINE"),
    (lora_is_cut_off, "model files", Level.FAIL, "some.safetensors is cut off"),
    (model_file_is_cut_off, "model files", Level.FAIL, "has 104 bytes instead of 105"),
    (memory_too_small, "memory", Level.WARN, "needs 1000000.0 GB"),
    (disk_too_small, "disk", Level.FAIL, "still needs"),
    (port_taken, "port", Level.FAIL, f"process {os.getpid()}"),
    (clock_put_back, "clock", Level.FAIL, "the newest job was made at"),
    (certificate_ended, "certificate", Level.FAIL, "ended on"),
    (certificate_ends_soon, "certificate", Level.WARN, "ends in 4 days"),
    (certificate_of_another_key, "certificate", Level.FAIL, "is not the key of"),
    (state_open_to_others, "state folder", Level.WARN, "other users of this machine"),
    (half_a_picture_left, "leftovers", Level.WARN, "1 files"),
    (picture_without_row, "leftovers", Level.WARN, "1 files"),
    (row_without_picture, "pictures", Level.WARN, "c" * 32),
    (service_hangs, "state folder", Level.FAIL, "listens on no port"),
    (engine_left_running, "engines", Level.FAIL, "no service owns"),
    (database_damaged, "database", Level.FAIL, "is damaged"),
    (database_is_no_database, "database", Level.FAIL, "file is not a database"),
    (database_of_a_newer_version, "database", Level.FAIL, "schema 99"),
    (policy_broken, "policy", Level.FAIL, "baseline is not a key"),
    (template_broken, "templates", Level.WARN, "mine.toml"),
    (catalog_broken, "catalog", Level.FAIL, "stepps: is not a field"),
    (alias_of_no_model, "catalog", Level.FAIL, "dall-e-3=nothing names no model"),
    (open_to_the_network, "tokens", Level.FAIL, "IMAGEGEN_HOST=0.0.0.0"),
    (tokens_readable_by_others, "tokens", Level.WARN, "can be read by other users"),
]
"""Each fault, with the check that finds it, the level, and a part of the finding."""
