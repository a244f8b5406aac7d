"""Clients and checkers of other people's: Claude Code, the TypeScript SDK, the conformance suite, the inspector."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fronts import MANY_STEPS, SMALL, after, environment, http_front
from messages_endpoint import endpoint
from served import ROOT, free_port, until

sys.path.insert(0, str(ROOT / "benchmarks"))

from claude_session import run, transcript

NODE = Path(__file__).parent / "node"

pytestmark = pytest.mark.npm

# ---- Claude Code --------------------------------------------------------------------------------------------


@pytest.fixture
def claude(node, tmp_path):
    """Runs Claude Code, which is made to call one tool of the front; gives what the model would have got."""

    def ask(server: dict[str, object], tool: str, arguments: dict[str, object]):
        home, work, config = tmp_path / "home", tmp_path / "work", tmp_path / "mcp.json"
        home.mkdir(exist_ok=True)
        work.mkdir(exist_ok=True)
        config.write_text(json.dumps({"mcpServers": {"imagegen": server}}))
        with endpoint(f"mcp__imagegen__{tool}", arguments) as model:
            options = ["--mcp-config", config, "--strict-mcp-config", "--allowedTools", f"mcp__imagegen__{tool}"]
            quiet = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1"}
            env = {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "none", "HOME": str(home)} | quiet
            ended = node("claude", "-p", "draw", *options, cwd=work, env=env | {"ENABLE_TOOL_SEARCH": "false"})
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return model

    return ask


def over_stdio(service, output, **settings: object) -> dict[str, object]:
    env = environment(service.url, output_dir=output, **settings)
    own = {name: value for name, value in env.items() if name.startswith(("IMAGEGEN_", "PYTHONPATH"))}
    return {"type": "stdio", "command": sys.executable, "args": ["-m", "mcp_front"], "env": own}


def test_claude_code_draws_and_its_model_gets_text_path_and_preview(service, claude, tmp_path):
    output = tmp_path / "pictures of mine"
    model = claude(over_stdio(service, output), "generate_image", {"prompt": "a red ball", **SMALL})
    assert {block["type"] for block in model.content()} >= {"text", "image"}
    text = model.text()
    saved = Path(after(text, "Saved: "))
    assert saved.parent == output and saved.read_bytes().startswith(b"\x89PNG")
    assert "Always tell the user where the file was saved" in text and "image://" in text
    assert "RESTRICTED USE" in model.offered["mcp__imagegen__generate_image"]["description"]
    assert "mcp__imagegen__read_image_chunk" not in model.offered  # it is for the view alone
    assert "every 5 s, not faster" in model.requests  # the server's instructions


def test_claude_code_edits_by_local_path_and_by_image_id(service, claude, tmp_path):
    drawn = service.draw()
    local = tmp_path / "mine.png"
    local.write_bytes(service.png(drawn))
    for reference in (str(local), drawn["images"][0]["id"]):
        arguments = {"prompt": "make it blue", "images": [reference], **SMALL}
        model = claude(over_stdio(service, tmp_path / "out", mcp_roots=tmp_path), "edit_image", arguments)
        assert model.text().startswith("Edited 1 picture")


def test_claude_code_waits_through_a_slow_picture_in_one_call(service, claude, tmp_path):
    model = claude(over_stdio(service, tmp_path), "generate_image", {"prompt": "slow", **MANY_STEPS})
    assert model.text().startswith("Drew 1 picture")  # and no job was handed back: it asks for progress


def test_claude_code_is_told_of_an_error_in_a_sentence(claude, tmp_path):
    nowhere = type("Nowhere", (), {"url": f"http://127.0.0.1:{free_port()}"})
    model = claude(over_stdio(nowhere, tmp_path), "generate_image", {"prompt": "x"})
    assert "cannot be reached" in model.text() and model.results[0].get("is_error") is True


@pytest.mark.long
def test_claude_code_draws_chooses_edits_enlarges_and_keeps(service, node, tmp_path):
    model, said = run(service.url, tmp_path / "session")
    drawn, edited, larger, kept = model.texts
    chosen = re.findall(r"Image id: (\w{32})", drawn)[1]
    assert drawn.startswith("Drew 3 pictures") and "Picture 3:" in drawn and model.pictures == 5
    assert edited.startswith("Edited 1 picture") and larger.startswith("Enlarged 1 picture: 256 x 256 px")
    (job,) = [one for one in service.http.get("/api/jobs?limit=9").json()["items"] if one["job_id"] in edited]
    assert job["references"] == [chosen]
    picture = re.findall(r"Image id: (\w{32})", larger)[0]
    assert kept.startswith(f"Picture {picture} is kept on the board Kites")
    assert service.http.get("/api/images?board=Kites").json()["items"][0]["id"] == picture
    service.http.delete(f"/api/images/{picture}/keep")
    assert len(list((tmp_path / "session" / "pictures").glob("*.png"))) == 5
    assert [turn.user in transcript(model, said) for turn in said] == [True] * 3


def test_claude_code_over_http(service, claude):
    with http_front(service.url) as front:
        server: dict[str, object] = {"type": "http", "url": f"{front}/mcp"}
        model = claude(server, "generate_image", {"prompt": "a red ball", **SMALL})
    assert "Download command: curl" in model.text() and "image" in {block["type"] for block in model.content()}


# ---- The TypeScript SDK -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "mode"), [("stdio", "auto"), ("http", "auto"), ("http", "legacy")])
def test_the_typescript_client(service, node, tmp_path, kind, mode):
    with contextlib.ExitStack() as opened:
        target = [sys.executable, "-m", "mcp_front"]
        if kind == "http":
            target = [opened.enter_context(http_front(service.url)) + "/mcp"]
        ended = node("node", NODE / "draw.mjs", mode, kind, *target, env=environment(service.url, output_dir=tmp_path))
    assert ended.returncode == 0, ended.stderr
    got = json.loads(ended.stdout)
    assert "generate_image" in got["tools"]
    assert got["messages"] and got["messages"][-1] == "complete"
    for name in ("drawn", "edited", "fetched"):
        kinds = [part["type"] for part in got[name]["content"]]
        assert kinds == ["text", "image", "resource_link"] and not got[name].get("isError")
    assert got["failed"]["isError"] and "no job" in got["failed"]["content"][0]["text"]
    assert len(list(tmp_path.glob("*.png"))) == (3 if kind == "stdio" else 0)


# ---- Conformance --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def conformance_front(url: str) -> Iterator[str]:
    """The front with the suite's fixtures."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, Path(__file__).parent / "conformance_front.py"],
        env=environment(url, mcp_port=port),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:

        def answers() -> bool:
            assert process.poll() is None, "the front ended"
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5).status_code == 200
            return False

        until(answers, "the front answers")
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        process.wait(20)


EXPECTED = {
    "2026-07-28": set(),
    # A stateless server has no way back to the client, which these need, and FastMCP has no subscriptions.
    "2025-11-25": {
        "tools-call-with-logging",
        "tools-call-sampling",
        "tools-call-elicitation",
        "elicitation-sep1034-defaults",
        "elicitation-sep1330-enums",
        "resources-subscribe",
        "resources-unsubscribe",
    },
}
"""Scored scenarios that fail, by revision of the specification."""


def test_conformance(service, node):
    with conformance_front(service.url) as url:
        for revision, expected in EXPECTED.items():
            ended = node("conformance", "server", "--url", url, "--requirements", revision)
            summary = ended.stdout.split("=== SUMMARY ===")[1]
            ran, _, unscored = summary.partition("Not scored")
            failed = set(re.findall(r"✗ ([\w-]+):", ran)) - set(re.findall(r"✗ ([\w-]+) \(", unscored))
            passed = re.findall(r"✓ ([\w-]+):", ran)
            assert failed == expected, ended.stdout
            assert len(passed) > 20


# ---- The inspector ------------------------------------------------------------------------------------------


def test_the_inspector_finds_nothing_to_complain_of(service, node):
    with http_front(service.url) as front:
        ask = ["--cli", "--server-url", f"{front}/mcp", "--transport", "http"]
        tools = node("mcp-inspector", *ask, "--method", "tools/list", "--strict")
        assert tools.returncode == 0, tools.stderr
        assert "generate_image" in tools.stdout and "error" not in tools.stderr.lower()
        apps = node("mcp-inspector", *ask, "--method", "tools/list", "--app-info", "--advertise-apps")
        assert apps.returncode == 0, apps.stderr
    with_view = {line["toolName"] for line in map(json.loads, apps.stdout.splitlines()) if line.get("hasApp")}
    assert with_view >= {"generate_image", "edit_image", "get_job_result"}, apps.stdout
