"""docs/claude.md says what the front does, and nothing that it does not."""

from __future__ import annotations

import dataclasses
import json
import re

from fronts import APP_ONLY, TOOLS
from served import ROOT

from mcp_front.settings import Settings, load

PAGE = (ROOT / "docs" / "claude.md").read_text(encoding="utf-8")
SETTINGS_PAGE = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")

RENAMED = {
    "roots": "MCP_ROOTS",
    "wait_s": "MCP_WAIT_S",
    "warm": "MCP_WARM",
    "host": "MCP_HOST",
    "port": "MCP_PORT",
    "tls": "MCP_TLS",
    "allowed_hosts": "MCP_ALLOWED_HOSTS",
    "public_url": "MCP_PUBLIC_URL",
    "front_url": "MCP_FRONT_URL",
    "auth_server": "MCP_AUTH_SERVER",
}
VARIABLES = {f"IMAGEGEN_{RENAMED.get(f.name, f.name.upper())}" for f in dataclasses.fields(Settings)}


def test_every_variable_named_is_one_of_the_front():
    of_benchmarks = {"IMAGEGEN_EVAL_URL", "IMAGEGEN_EVAL_MODEL", "IMAGEGEN_EVAL_KEY"}
    assert set(re.findall(r"IMAGEGEN_[A-Z_0-9]+", PAGE)) <= VARIABLES | of_benchmarks
    front = SETTINGS_PAGE.split("## The MCP front")[1]
    documented = set(re.findall(r"^\| `(IMAGEGEN_[A-Z_0-9]+)`", front, re.MULTILINE))
    assert documented == VARIABLES - {"IMAGEGEN_ALLOW_ANONYMOUS"}  # told among the service's own


def test_each_variable_is_read():
    values = {
        "URL": "https://h",
        "TLS_SHA256": "ab" * 32,
        "MCP_TLS": "",
        "TLS_CA": "",
        "OUTPUT_DIR": "/o",
        "MCP_ROOTS": "/r",
    }
    values |= {"TOKEN": "t", "MCP_WAIT_S": "9", "MCP_WARM": "1", "MCP_HOST": "h", "MCP_PORT": "9", "MCP_ROOTS": "/r"}
    values |= {"MCP_ALLOWED_HOSTS": "a,b", "MCP_PUBLIC_URL": "https://p", "ALLOW_ANONYMOUS": "1"}
    values |= {"MCP_FRONT_URL": "https://f/mcp", "MCP_AUTH_SERVER": "https://a"}
    changed = load({f"IMAGEGEN_{name}": value for name, value in values.items()})
    same = {f.name for f in dataclasses.fields(Settings) if getattr(changed, f.name) == getattr(Settings(), f.name)}
    assert same == {"tls", "tls_ca"}  # need files; tested where they are used


def test_the_tools_of_the_page_are_the_tools():
    table = PAGE.split("## The tools")[1].split("##")[0]
    assert set(re.findall(r"`([a-z]+_[a-z_]+)`", table)) >= TOOLS - APP_ONLY


def test_what_is_quoted_is_said():
    packages = ("mcp_front", "imagegen_client", "imagegen")
    said = "".join(path.read_text(encoding="utf-8") for name in packages for path in (ROOT / name).rglob("*.py"))
    said = re.sub(r'"\s*\n\s*f?"', "", said).lower()
    troubles = PAGE.split("## When something is wrong")[1].split("##")[0]
    quoted = re.findall(r"^\| \*(.+?)\*", troubles, re.MULTILINE)
    assert len(quoted) > 5
    missing = [words for words in quoted if words.lower() not in said]
    assert missing == []


def test_every_configuration_is_json_and_starts_the_front():
    found = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
    servers = [one for each in found for one in (each.get("mcpServers") or each.get("servers") or {}).values()]
    assert {server["command"] for server in servers} == {"imagegen-mcp"}
    assert len(servers) == len([each for each in found if "env" not in each]) == 5
