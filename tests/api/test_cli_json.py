"""The commands of a service with --json: each document against its schema, and the exit codes of failures."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import container_stand_in
import pytest
from command_line import CommandLine, Ran, check_schema, document_of
from PIL import Image
from served import ROOT, Service

from imagegen.cli import client
from imagegen.engine_build.cards import Cards

SMALL = ("-W", "64", "-H", "64", "--steps", "2", "--seed", "1")
NOBODY = "0" * 32
Type = Callable[..., Ran]


@pytest.fixture
def typed(imagegen: CommandLine, service: Service) -> Type:
    """`typed("jobs")`: `imagegen jobs --json`, of the shared service."""

    def run(*words: str) -> Ran:
        return imagegen(*words, "--json", "--url", service.url)

    return run


def test_the_documents_of_pictures(typed: Type, imagegen: CommandLine) -> None:
    drawn = typed("draw", "a bell", "-o", "bell.png", *SMALL)
    assert drawn.code == 0, drawn.err
    bell = document_of("draw", drawn.out)
    assert (bell["files"], bell["job"]["status"]) == (["bell.png"], "complete")
    assert Image.open(imagegen.folder / "bell.png").size == (64, 64)
    edited = document_of("edit", typed("edit", "bell.png", "make it blue", *SMALL, "-n", "2").out)
    assert len(edited["files"]) == 2 and all((imagegen.folder / name).exists() for name in edited["files"])
    picture = bell["job"]["images"][0]["id"]
    assert document_of("vary", typed("vary", picture, "-n", "1", "-o", "v.webp").out)["files"] == ["v.webp"]
    large = document_of("upscale", typed("upscale", "bell.png", "--factor", "2", "--model", "lanczos").out)
    assert large["job"]["kind"] == "upscale"
    assert document_of("inspect", typed("inspect", "bell.png").out)["settings"]["prompt"] == "a bell"
    assert document_of("verify", typed("verify", "bell.png").out)["by_this_service"] is True
    listed = document_of("images list", typed("images", "list", "-n", "200").out)
    assert picture in {one["id"] for one in listed}
    words = ("keep", picture, "--board", "Bells", "--note", "loud")
    kept = document_of("images keep", typed("images", *words).out)
    assert (kept["id"], kept["board"], kept["note"], kept["expires_at"]) == (picture, "Bells", "loud", None)
    found = typed("images", "list", "--kept", "-q", "loud", "--board", "Bells", "--kind", "generate")
    assert [one["id"] for one in document_of("images list", found.out)] == [picture]
    assert document_of("images unkeep", typed("images", "unkeep", picture).out)["kept_at"] is None
    saved = document_of("images get", typed("images", "get", picture, "-o", "again.png").out)
    assert saved["bytes"] == (imagegen.folder / "again.png").stat().st_size
    assert (imagegen.folder / "again.png").read_bytes() == (imagegen.folder / "bell.png").read_bytes()
    removed = document_of("images rm", typed("images", "rm", picture, "--yes").out)
    assert removed == {"removed": [picture]}
    assert typed("images", "get", picture).document["error"]["code"] == "expired"
    (imagegen.folder / "p.txt").write_text("a cat\n")
    assert document_of("batch", typed("batch", "p.txt", *SMALL[:6]).out)["done"] == 1
    sheet = typed("compare", "--models", "tiny", "--prompts", "p.txt", "-o", "sheet.png", *SMALL)
    assert document_of("compare", sheet.out)["pictures"][0]["prompt"] == "a cat"


def test_the_documents_of_the_queue_and_the_engine(typed: Type, service: Service) -> None:
    for command in ("status", "warm", "unload"):
        service.until_state("ready", "cold")
        assert document_of("status", typed(command).out)["model"]["default"] == "tiny"
    job_id = service.submit()["job_id"]
    assert job_id in {job["job_id"] for job in document_of("jobs", typed("jobs").out)}
    service.ended(job_id)
    assert document_of("cancel", typed("cancel", job_id).out)[0]["status"] == "complete"
    assert document_of("cancel", typed("cancel", "--all").out) == []


def test_the_documents_of_a_deployment(
    imagegen: CommandLine, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a stand-in for the container runtime; the shared service answers for the deployed one."""
    module = importlib.import_module("imagegen.cli.deploy")
    for folder in ("bin", "runtime"):
        (tmp_path / folder).mkdir()
    container_stand_in.install(tmp_path / "bin" / "podman")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("STAND_IN", str(tmp_path / "runtime"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.setattr(module, "build", lambda _containers, recipe, _tell: recipe.image)
    monkeypatch.setattr(module, "find_cards", Cards)
    monkeypatch.setattr(module, "service_of", lambda _deployment: client.Service(service.url))
    deployed = document_of("deploy", imagegen("deploy", "--no-picture", "--json").out)
    assert (deployed["container"], deployed["urls"]) == ("imagegen", [service.url])
    assert document_of("deploy build", imagegen("deploy", "build", "--json").out)["image"] == deployed["image"]
    state = document_of("deploy status", imagegen("deploy", "status", "--json").out)
    assert (state["ready"], state["service"]["model"]["default"]) == (True, "tiny")
    assert document_of("deploy down", imagegen("deploy", "down", "--json").out)["volume"] == deployed["volume"]
    gone = imagegen("deploy", "status", "--json")
    assert (gone.code, gone.document["error"]["code"]) == (1, "failed")


def test_a_watched_status_is_a_document_a_line(service: Service) -> None:
    command = [sys.executable, "-m", "imagegen.cli", "status", "--watch", "--json", "--url", service.url]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    watching = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert watching.stdout is not None
    first = document_of("status", watching.stdout.readline())
    service.draw()
    changed = document_of("status", watching.stdout.readline())
    assert changed != first, "a line a change"
    watching.send_signal(signal.SIGINT)
    printed, _ = watching.communicate(timeout=60)
    assert watching.returncode == 130
    assert '"code": "interrupted"' in printed


FAILED: list[tuple[tuple[str, ...], int, str]] = [
    (("draw",), 2, "usage"),
    (("draw", "x", "-o", "-"), 2, "usage"),
    (("edit", "none.png", "x"), 2, "usage"),
    (("batch", "none.txt"), 2, "usage"),
    (("cancel",), 2, "usage"),
    (("images", "rm", NOBODY), 2, "usage"),
    (("images", "rm", NOBODY, "--yes"), 3, "image_not_found"),
    (("images", "keep", NOBODY), 3, "image_not_found"),
    (("images", "list", "--from", "yesterday"), 3, "invalid_request"),
    (("cancel", NOBODY, "--all"), 2, "usage"),
    (("images", "get", "../x"), 2, "usage"),
    (("compare", "--models", ","), 2, "usage"),
    (("frobnicate",), 2, "usage"),
    (("status", "--frobnicate"), 2, "usage"),
    (("draw", "x", "--model", "dall-e-3"), 3, "unknown_model"),
    (("compare", "--models", "dall-e-3"), 3, "unknown_model"),
    (("cancel", NOBODY), 3, "job_not_found"),
    (("cancel", f"{NOBODY}/images"), 2, "usage"),
    (("images", "get", NOBODY), 3, "image_not_found"),
    (("vary", NOBODY), 3, "unknown_image"),
    (("upscale", NOBODY), 3, "unknown_image"),
    (("warm", "--model", "dall-e-3"), 3, "unknown_model"),
    (("inspect", "red.jpg"), 3, "bad_image"),
    (("verify", "nothing.png"), 2, "usage"),
    (("verify", "http://127.0.0.1:9/red.jpg"), 1, "fetch_failed"),
    (("draw", "x", "-o", "red.jpg/x.png"), 2, "usage"),
]


@pytest.mark.parametrize(("words", "code", "name"), FAILED, ids=[" ".join(words) for words, _, _ in FAILED])
def test_a_failure_is_a_document_too(
    typed: Type, imagegen: CommandLine, words: tuple[str, ...], code: int, name: str
) -> None:
    Image.new("RGB", (64, 64), "red").save(imagegen.folder / "red.jpg")
    ran = typed(*words)
    check_schema(ran.document, "cli_error")
    error = ran.document["error"]
    assert (ran.code, error["exit_code"], error["code"]) == (code, code, name), ran.err
    assert error["detail"].rstrip(".") in ran.err.replace("\n", " "), "the sentence is on standard error"
    assert [path.name for path in imagegen.folder.iterdir()] == ["red.jpg"]


@pytest.mark.parametrize(
    "words",
    [
        *(("status",), ("warm",), ("unload",), ("jobs",), ("cancel", "--all"), ("cancel", NOBODY)),
        *(("draw", "x"), ("edit", "red.png", "x"), ("vary", NOBODY), ("upscale", "red.png"), ("inspect", "red.png")),
        ("verify", "red.png"),
        *(("batch", "p.txt"), ("compare", "--models", "tiny"), ("images", "list"), ("images", "get", NOBODY)),
        *(("status", "--watch"),),
    ],
    ids=" ".join,
)
def test_without_a_service_every_command_ends_with_four(imagegen: CommandLine, words: tuple[str, ...]) -> None:
    Image.new("RGB", (64, 64), "red").save(imagegen.folder / "red.png")
    (imagegen.folder / "p.txt").write_text("a cat\n")
    ran = imagegen(*words, "--json", "--url", "http://127.0.0.1:9")
    error = ran.document["error"]
    assert (ran.code, error["code"], error["exit_code"]) == (4, "no_service", 4)
    assert sorted(path.name for path in imagegen.folder.iterdir()) == ["p.txt", "red.png"]


def test_standard_output_is_not_json_without_the_option(imagegen: CommandLine, service: Service) -> None:
    ran = imagegen("cancel", NOBODY, "--url", service.url)
    assert (ran.code, ran.out) == (3, "")
    assert "(job_not_found)" in ran.err
