"""A redeploy: the code's folder is deleted and put there again, and nothing of the state goes with it."""

from __future__ import annotations

import shutil
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest
import served
from served import Service, until

from imagegen.security import tls, tokens
from imagegen.settings import Settings

ROOT = Path(__file__).parents[2]


def deploy(folder: Path) -> None:
    """Put the code into `folder`, in the place of whatever is there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copy(ROOT / "service.py", folder)
    shutil.copytree(ROOT / "imagegen", folder / "imagegen")  # compiled as it is


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if "__pycache__" not in path.parts}


def client(home: Path, url: str, **more: Any) -> httpx.Client:
    """Trusts exactly the certificate of the state folder, made if there is none yet."""
    files = tls.files_of(Settings(home=home, tls="auto"))
    assert files is not None
    trusted = ssl.create_default_context(cafile=files.certificate)
    return httpx.Client(base_url=url, timeout=60, trust_env=False, verify=trusted, **more)


def start(home: Path, sd_server: Path, token: str) -> Service:
    service = Service(home, sd_server, {"tls": "auto", "cache": home.parent / "cache"})
    service.url = f"https://127.0.0.1:{service.port}"
    service.http.close()
    service.http = client(home, service.url, headers={"authorization": f"Bearer {token}"})
    service.start()
    return service


def test_replacing_the_code_loses_no_certificate_session_job_or_picture(
    home: Path, sd_server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "code"
    monkeypatch.setattr(served, "ROOT", code)
    token = tokens.new("me", home / "tokens")
    deploy(code)
    before = start(home, sd_server, token)
    try:
        assert "a new state folder" in before.log.read_text()
        job = before.draw()
        picture = before.png(job)
        session = before.http.post("/api/session").cookies["imagegen_session"]
        certificate = ssl.get_server_certificate(("127.0.0.1", before.port))
        worker = before.worker
        loaded_from = {Path(one.path) for one in worker.memory_maps()} | {Path(worker.cwd())}
        assert code in loaded_from, "the copy runs, not the folder of the tests"
    finally:
        before.end()

    ran = files(code)
    deploy(code)
    assert ran == files(code), "nothing was written beside the code"

    after = start(home, sd_server, token)
    try:
        assert ssl.get_server_certificate(("127.0.0.1", after.port)) == certificate
        assert after.job(job["job_id"])["status"] == "complete"
        assert after.png(job) == picture
        with client(home, after.url, cookies={"imagegen_session": session}) as browser:
            assert browser.get("/api/status").status_code == 200
        until(lambda: "ready model=" in after.log.read_text(), "the log says that it is ready")
        assert "a new state folder" not in after.log.read_text()
    finally:
        after.end()
