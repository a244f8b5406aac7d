"""The Claude Code plugin: checked and installed by the real Claude Code from the repository's folder, then used.

Each test has an empty home. No connection leaves the machine: Claude Code talks to a stand-in for its model on
loopback, and every other address leads to a closed port.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest
from fronts import APP_ONLY, SMALL, TOOLS, after, environment
from messages_endpoint import endpoint
from served import ROOT

from mcp_front.texts import REFUSAL

pytestmark = pytest.mark.npm

PLUGIN = ROOT / "plugin"
COMMANDS = {"draw", "edit-image", "whiteboard"}
PREFIX = "mcp__plugin_imagegen_imagegen__"
CLOSED = "http://127.0.0.1:9"
NO_NETWORK = dict.fromkeys(("ANTHROPIC_BASE_URL", "HTTPS_PROXY", "HTTP_PROXY"), CLOSED) | {"NO_PROXY": "127.0.0.1"}
QUIET = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1"}


@pytest.fixture(scope="module")
def claude(node, require, tmp_path_factory):
    """Runs Claude Code with a home of its own, and with `imagegen-mcp` on the PATH, as an installation has it."""
    scripts = Path(sys.executable).parent
    require("imagegen-mcp beside the Python that runs the tests", (scripts / "imagegen-mcp").exists())
    home = tmp_path_factory.mktemp("Ann Änderson")

    def call(*arguments: object, **more: str) -> str:
        env = environment("") | QUIET | NO_NETWORK | {"HOME": str(home), "ANTHROPIC_API_KEY": "none"} | more
        del env["IMAGEGEN_URL"]  # it comes from the settings file, as docs/claude.md says
        path = f"{scripts}{os.pathsep}{os.environ['PATH']}"
        (home / "work").mkdir(exist_ok=True)
        ended = node("claude", *arguments, cwd=home / "work", env=env | {"PATH": path})
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    call.home = home  # type: ignore[attr-defined]
    return call


@pytest.fixture(scope="module")
def installed(claude):
    """Claude Code with the plugin, installed by the two lines of docs/claude.md."""
    page = (ROOT / "docs" / "claude.md").read_text(encoding="utf-8")
    lines = re.findall(r"^/(plugin .*)$", page, re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        claude(*line.replace("/home/ann/imagegen", str(ROOT)).split())
    return claude


def test_claude_code_finds_no_fault_in_the_plugin(claude):
    for folder in (ROOT, PLUGIN):
        claude("plugin", "validate", "--strict", folder)
    found = json.loads(claude("plugin", "validate", "--json", PLUGIN))
    assert found["success"] and not found["manifest"]["warnings"]
    provided = found["provides"]
    assert [(server["name"], server["target"]) for server in provided["mcpServers"]] == [("imagegen", "imagegen-mcp")]
    assert set(provided["commands"]) == {f"imagegen:{name}" for name in COMMANDS}
    assert provided["skills"] == ["imagegen:pictures"]


def test_the_installed_plugin_is_the_folder_and_no_more(installed):
    (listed,) = json.loads(installed("plugin", "list", "--json"))
    assert listed["id"] == "imagegen@imagegen" and listed["enabled"] is True
    copies = installed.home / ".claude" / "plugins" / "cache" / "imagegen" / "imagegen"
    (copy,) = copies.iterdir()
    names = {path.relative_to(PLUGIN).as_posix() for path in PLUGIN.rglob("*") if path.is_file()}
    assert {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()} == names


@pytest.mark.parametrize(
    ("typed", "tool", "expanded"),
    [
        ("/draw a red ball", "generate_image", "imagegen's tool generate_image: a red ball"),
        ("/edit-image make it blue", "edit_image", "imagegen's tool edit_image: make it blue"),
        ("/imagegen:whiteboard plan, build, ship", "list_templates", "imagegen's tools: plan, build, ship"),
    ],
)
def test_a_command_reaches_the_model_and_its_tool_runs(installed, service, tmp_path, typed, tool, expanded):
    """The command allows its tools, so nothing asks for permission. Claude Code keeps `/whiteboard` for itself."""
    settings = installed.home / ".claude" / "settings.json"
    values = {"IMAGEGEN_URL": service.url, "IMAGEGEN_OUTPUT_DIR": str(tmp_path)}
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"env": values}))
    arguments: dict[str, object] = {}
    if tool != "list_templates":
        arguments = {"prompt": "a ball", **SMALL}
    if tool == "edit_image":
        arguments["images"] = [service.draw()["images"][0]["id"]]
    with endpoint(PREFIX + tool, arguments) as model:
        installed("-p", typed, ANTHROPIC_BASE_URL=model.url, ENABLE_TOOL_SEARCH="false")
    assert expanded in model.requests
    assert {f"{PREFIX}{name}" for name in TOOLS - APP_ONLY} <= set(model.offered)
    assert "- imagegen:pictures: When a picture helps" in model.requests
    assert "- imagegen:draw" not in model.requests, "a command costs no words until it is typed"
    assert not model.results[0].get("is_error"), model.text()
    if tool != "list_templates":
        assert Path(after(model.text(), "Saved: ")).parent == tmp_path


def test_the_texts_name_tools_that_there_are():
    for path in PLUGIN.rglob("*.md"):
        words = path.read_text(encoding="utf-8")
        named = set(re.findall(r"(?<![a-z_])[a-z]+(?:_[a-z]+)+", words.replace(PREFIX, "")))
        assert named <= TOOLS | {"whiteboard_diagram"}, path
        allowed = re.findall(r"^allowed-tools: (.*)$", words, re.MULTILINE)
        tools = {one.removeprefix(PREFIX) for line in allowed for one in line.split(", ")}
        assert tools <= TOOLS and (tools or path.name == "SKILL.md"), path


def test_the_skill_is_short_and_names_every_restricted_use():
    words = (PLUGIN / "skills" / "pictures" / "SKILL.md").read_text(encoding="utf-8")
    assert len(words) <= 2100
    said = " ".join(words.split())
    restricted = [use.removeprefix("or ") for use in REFUSAL.rstrip(".").split("not for ")[1].split(", ")]
    assert len(restricted) == 7 and not [use for use in restricted if use not in said]
    assert not [name for name in ("sketch", "Qwen-Image", "FLUX.2 klein", "GLM-Image") if f"**{name}:**" not in said]


def test_the_plugin_holds_no_address_and_no_token_of_anyones():
    manifest = json.loads((PLUGIN / ".claude-plugin" / "plugin.json").read_text(encoding="utf-8"))
    (server,) = manifest["mcpServers"].values()
    assert server["env"] == {
        "IMAGEGEN_URL": "${IMAGEGEN_URL:-http://127.0.0.1:8765}",
        "IMAGEGEN_TOKEN": "${IMAGEGEN_TOKEN:-}",
    }
