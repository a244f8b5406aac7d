"""Blocking calls through a proxy that cuts silent connections: whitespace keeps them alive until they are answered."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from held_engine import HeldEngine
from openai import OpenAI
from proxy import reverse_proxy
from served import Service, new_home, until

INTERVAL_S, SILENCE_S = 0.2, 4.0
BEYOND = int(SILENCE_S / INTERVAL_S) + 5
"""So many pieces of whitespace take longer than the proxy's patience."""
BODY = {"prompt": "a red circle", "size": "64x64", "steps": 1}


class Line:
    """A service whose engine does not load until it is let go, and the proxy in front of it."""

    def __init__(self, service: Service, engine: HeldEngine, url: str, pieces: list[bytes]) -> None:
        self.service, self.engine, self.url, self.pieces = service, engine, url, pieces

    def until_kept_alive(self, pieces: int = BEYOND) -> None:
        until(lambda: len(self.pieces) >= pieces, "whitespace comes")
        assert set(self.pieces) == {b" "}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, sd_server: Path) -> HeldEngine:
    return HeldEngine(tmp_path_factory.mktemp("engine") / "held", sd_server)


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory, models_dir: Path, engine: HeldEngine) -> Iterator[Service]:
    home = new_home(tmp_path_factory.mktemp("patient") / "home", models_dir)
    service = Service(home, engine.path, {"keepalive_s": INTERVAL_S, "idle_timeout": "never"})
    service.start()
    yield service
    service.end()


@pytest.fixture
def line(patient: Service, engine: HeldEngine) -> Iterator[Line]:
    until(patient.is_unused, "what came before has ended")
    assert patient.http.post("/api/unload").status_code == 202
    engine.hold()
    pieces: list[bytes] = []
    with reverse_proxy(patient.port, "", {}, silence_s=SILENCE_S, seen=pieces.append) as url:
        yield Line(patient, engine, url, pieces)
        engine.let_go()


class Asked(threading.Thread):
    """A blocking call in a thread of its own."""

    def __init__(self, call: Any) -> None:
        super().__init__()
        self._call = call
        self.start()

    def run(self) -> None:
        try:
            self.answer = self._call()
        except Exception as error:
            self.answer = error

    def result(self) -> Any:
        self.join(120)
        assert not self.is_alive()
        return self.answer


def test_a_picture_that_takes_longer_than_a_proxy_waits(line: Line) -> None:
    client = OpenAI(base_url=f"{line.url}/v1", api_key="none", max_retries=0, timeout=120)
    with pytest.raises(openai.BadRequestError):
        client.images.generate(prompt="a red circle", size="big")
    line.pieces.clear()
    asked = Asked(lambda: client.images.generate(prompt="a red circle", size="64x64", extra_body={"steps": 1}))
    line.until_kept_alive()
    with httpx.Client(base_url=line.url, timeout=120, trust_env=False) as http:
        cut = http.post("/generate", json={"prompt": "a red circle", "width": 64, "height": 64, "steps": 1})
    assert cut.status_code == 504, "the proxy does cut a connection that is silent"
    line.engine.let_go()
    picture = asked.result()
    assert base64.b64decode(picture.data[0].b64_json).startswith(b"\x89PNG")
    assert (picture.size, picture.quality, picture.output_format) == ("64x64", "high", "png")
    assert picture.usage.total_tokens == 0


def test_a_failure_after_the_answer_began_is_an_error_in_its_body(line: Line) -> None:
    with httpx.Client(base_url=line.url, timeout=120, trust_env=False) as http:
        asked = Asked(lambda: http.post("/v1/images/generations", json=BODY))
        line.until_kept_alive(3)
        (job,) = line.service.http.get("/api/jobs?limit=1").json()["items"]
        line.service.http.delete(f"/api/jobs/{job['job_id']}")
        answer = asked.result()
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert (error["code"], error["message"]) == ("cancelled", "The job was cancelled.")


def test_a_client_that_leaves_cancels_its_job(line: Line) -> None:
    with (
        httpx.Client(base_url=line.service.url, timeout=120, trust_env=False) as http,
        http.stream("POST", "/v1/images/generations", json=BODY) as answer,
    ):
        assert next(answer.iter_raw()).strip() == b""
        (job,) = line.service.http.get("/api/jobs?limit=1").json()["items"]
    until(lambda: line.service.job(job["job_id"])["status"] == "cancelled", "the job ends with its client")
