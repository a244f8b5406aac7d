"""A start that cannot succeed: one sentence and exit code 1, before anything is started."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from served import ImagegenServe, MakeService, Service, refused_start

from imagegen.security.tokens import new

NOWHERE = os.devnull + "/nowhere"


@pytest.mark.parametrize("kind", [Service, ImagegenServe], ids=["bentoml serve", "imagegen serve"])
def test_a_port_that_is_taken_is_reported_before_anything_starts(
    tmp_path: Path, sd_server: Path, kind: type[Service]
) -> None:
    service = kind(tmp_path / "home", sd_server, {})
    with socket.create_server(("127.0.0.1", service.port)):
        said = refused_start(service, f"IMAGEGEN_PORT={service.port} is taken by ", f"(process {os.getpid()}: ")
    assert len(said.splitlines()) == 1, said
    assert not (tmp_path / "home").exists()


def test_a_worker_that_cannot_start_again_ends_the_service(serve: MakeService, home: Path) -> None:
    new("kim", home / "tokens")
    service = serve()
    (home / "tokens").write_text("kim: not a digest")
    service.worker.kill()
    assert service.wait() == 1
    assert f"imagegen cannot start: {home / 'tokens'}, line 1: must be name:sha256" in service.tail()
    assert "Traceback" not in service.tail()


@pytest.mark.parametrize(
    ("variable", "unset", "said"),
    [
        ("HOME", "IMAGEGEN_HOME", f"The state folder {NOWHERE}/.local/share/imagegen cannot be used: Not a directory"),
        ("BENTOML_HOME", "", f"BENTOML_HOME={NOWHERE} cannot be used: Not a directory. Set another folder."),
    ],
)
def test_a_home_folder_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, sd_server: Path, monkeypatch: pytest.MonkeyPatch, variable: str, unset: str, said: str
) -> None:
    service = ImagegenServe(tmp_path / "home", sd_server, {})
    environment = {k: v for k, v in service.environment().items() if k not in {unset, "XDG_DATA_HOME"}}
    monkeypatch.setattr(service, "environment", lambda: environment | {variable: NOWHERE})
    assert len(refused_start(service, said).splitlines()) == 1
