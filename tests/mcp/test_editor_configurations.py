"""The configurations of docs/claude.md for VS Code and Cursor are what these editors accept.

VS Code's schema is its own, from its source (the npm package @codingame/monaco-vscode-api carries it).

Cursor publishes no schema. CURSOR states the rules of its documentation (https://cursor.com/docs/mcp): the file has
`mcpServers`; a local server has `command`, and may have `type: "stdio"`, `args`, `env` and `envFile`; a remote one has
`url`, and may have `headers` and `auth`; `${env:NAME}` stands for a variable of the environment. Cursor itself does not
run here.
"""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from served import ROOT

NODE = Path(__file__).parent / "node"
PAGE = (ROOT / "docs" / "claude.md").read_text(encoding="utf-8")

TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
LOCAL = {
    "required": ["command"],
    "properties": {
        "type": {"const": "stdio"},
        "command": {"type": "string"},
        "args": {"type": "array", "items": {"type": "string"}},
        "env": TEXTS,
        "envFile": {"type": "string"},
    },
    "additionalProperties": False,
}
REMOTE = {
    "required": ["url"],
    "properties": {"url": {"type": "string"}, "headers": TEXTS, "auth": {"type": "object"}},
    "additionalProperties": False,
}
CURSOR = {
    "type": "object",
    "required": ["mcpServers"],
    "properties": {"mcpServers": {"type": "object", "additionalProperties": {"oneOf": [LOCAL, REMOTE]}}},
    "additionalProperties": False,
}


def blocks(heading: str) -> list[dict[str, object]]:
    """The JSON of a section of the page."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    found = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", section, re.DOTALL)]
    assert found, heading
    return found


@pytest.mark.npm
def test_vs_code_accepts_its_configurations(node, require):
    package = NODE / "node_modules" / "@codingame" / "monaco-vscode-api"
    require("VS Code's schema in tests/mcp/node (run `npm ci` there)", package.exists())
    ended = node("node", NODE / "vscode_schema.mjs")
    assert ended.returncode == 0, ended.stderr
    check = Draft202012Validator(json.loads(ended.stdout)).is_valid
    for configuration in blocks("VS Code"):
        assert check(configuration)
        for wrong in broken(configuration, "servers"):
            assert not check(wrong), wrong


def test_cursor_s_configurations_follow_its_documentation():
    check = Draft202012Validator(CURSOR).is_valid
    for configuration in blocks("Cursor"):
        assert check(configuration)
        for wrong in broken(configuration, "mcpServers"):
            assert not check(wrong), wrong


def broken(configuration: dict[str, object], key: str) -> list[dict[str, object]]:
    """The same with a mistake: a schema that accepts these would prove nothing."""
    renamed = copy.deepcopy(configuration)
    renamed["server"] = renamed.pop(key)
    misspelled = copy.deepcopy(configuration)
    misspelled[key]["imagegen"]["comand"] = "imagegen-mcp"  # type: ignore[index]
    return [renamed, misspelled]


@pytest.mark.parametrize(("heading", "key"), [("VS Code", "servers"), ("Cursor", "mcpServers")])
def test_no_configuration_holds_a_token(heading, key):
    servers = [each[key]["imagegen"] for each in blocks(heading)]  # type: ignore[index]
    tokens = [server["env"]["IMAGEGEN_TOKEN"] for server in servers if "IMAGEGEN_TOKEN" in server["env"]]
    assert tokens and all(token.startswith("${") for token in tokens)
