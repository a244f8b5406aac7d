"""Requests of many clients, written down from their sources, replayed as a container would send them; and clients from
npm and the package index, unchanged: OpenAI's SDK for Node, Vercel's AI SDK, LiteLLM, LangChain."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from client_requests import DRAW, EDIT, HINT, KEPT, RECORDED, REDUCED, Recorded
from PIL import Image
from served import Require, Service, new_home, until

NODE = Path(__file__).parent / "node"
IN_AN_ENVIRONMENT = [
    (["litellm==1.110.2"], "litellm_draw.py"),
    (["langchain-community==0.4.2", "openai==3.57.0"], "langchain_draw.py"),
]
"""Packages, and the program of this folder that draws with them."""
TOKEN = "a-token-of-a-client-0"


@pytest.fixture(scope="module")
def tended(tmp_path_factory: pytest.TempPathFactory, models_dir: Any, sd_server: Any) -> Iterator[Service]:
    """A service with a token, which draws small pictures whatever is asked for."""
    home = new_home(tmp_path_factory.mktemp("tended") / "home", models_dir)
    settings = {"tokens": f"client:{TOKEN}", "max_dimension": 64, "idle_timeout": "never"}
    service = Service(home, sd_server, settings)
    service.start()
    yield service
    service.end()


@pytest.fixture(scope="module")
def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda one: one.name)
def test_a_client_gets_what_it_asks_for(tended: Service, picture: bytes, recorded: Recorded) -> None:
    sent = recorded.sent(picture, "tiny", TOKEN)
    if not recorded.typed:
        sent["content"] = json.dumps(sent.pop("json"))
    answer = tended.http.request(recorded.method, recorded.path, **sent)
    assert answer.status_code in {200, 204}, answer.text
    if recorded.does not in {DRAW, EDIT}:
        return
    drawn, warnings = pictures(tended, answer)
    assert [max(one.size) for one in drawn] == [64]
    found = sorted(one["code"] for one in warnings if one["code"] in {HINT, KEPT, REDUCED})
    assert found == sorted(recorded.warns), warnings
    newest = tended.http.get("/api/jobs?limit=1", headers={"authorization": f"Bearer {TOKEN}"}).json()["items"][0]
    assert (newest["kind"] == "edit") == (recorded.does == EDIT)
    assert TOKEN not in answer.text and "secret" not in answer.text


def pictures(service: Service, answer: httpx.Response) -> tuple[list[Image.Image], list[dict[str, Any]]]:
    """The pictures of an answer, fetched if they are addresses, and its warnings."""
    body = answer.json()
    if "images" in body:
        info = json.loads(body["info"])
        return [opened(base64.b64decode(one)) for one in body["images"]], info["warnings"]
    files = []
    for one in body["data"]:
        if "url" in one:
            assert one["url"].startswith("http://host.docker.internal:8765/"), "an address that the client can reach"
            files.append(service.http.get(httpx.URL(one["url"]).path).content)
        else:
            files.append(base64.b64decode(one["b64_json"]))
    return [opened(file) for file in files], body.get("warnings", [])


@pytest.fixture
def node(tended: Service, require: Require) -> Callable[[str], Any]:
    """`node(PICTURE)` runs draw.mjs, and returns what it printed."""
    program = shutil.which("node") or ""
    require(
        "node, and the packages of tests/api/node (run `npm ci` there)",
        (NODE / "node_modules").exists() and program != "",
    )

    def run(picture: str) -> Any:
        command = [program, str(NODE / "draw.mjs"), tended.url, TOKEN, picture]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=170)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    return run


@pytest.mark.npm
def test_node_clients_draw_edit_and_list(node: Callable[[str], Any], tmp_path: Path, picture: bytes) -> None:
    (tmp_path / "picture.png").write_bytes(picture)
    got = node(str(tmp_path / "picture.png"))
    assert {"tiny", "gpt-image-1"} <= set(got["models"])
    assert got["drawn"] == {"file": "PNG", "size": "64x64", "warnings": ["hint_without_effect", "size_reduced"]}
    assert got["edited"] == {"file": "PNG", "warnings": ["hint_without_effect"]}
    assert got["vercel"] == "PNG"


@pytest.mark.npm
def test_a_node_client_that_aborts_cancels_its_job(tended: Service, node: Callable[[str], Any]) -> None:
    tended.http.headers["authorization"] = f"Bearer {TOKEN}"

    def statuses() -> set[str]:
        items = tended.http.get("/api/jobs?limit=20").json()["items"]
        return {one["status"] for one in items if one["prompt"] == "cancelled from node"}

    with tended.at_work():
        assert node("") == "APIUserAbortError"
        until(lambda: statuses() == {"cancelled"}, "the job ends with its client")
    del tended.http.headers["authorization"]


@pytest.mark.long
@pytest.mark.parametrize(("packages", "program"), IN_AN_ENVIRONMENT, ids=["litellm", "langchain"])
def test_a_python_client_draws(
    tended: Service, tmp_path: Path, picture: bytes, packages: list[str], program: str
) -> None:
    """Each has a virtual environment of its own: they need other versions of libraries, and up to 400 MB."""
    (tmp_path / "picture.png").write_bytes(picture)
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True, timeout=900)
    command = [python, str(Path(__file__).parent / program), tended.url, TOKEN, str(tmp_path / "picture.png")]
    environment = {"PATH": "/usr/bin:/bin", "NO_PROXY": "127.0.0.1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1]) == ["iVBORw0K", "iVBORw0K"], "PNG files"


def opened(file: bytes) -> Image.Image:
    return Image.open(io.BytesIO(file))
