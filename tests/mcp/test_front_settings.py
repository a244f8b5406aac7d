"""The front's settings: what bundles and people write, and what is said of a mistake."""

import socket
from pathlib import Path

import pytest

from mcp_front import listening
from mcp_front.settings import WAIT_SILENT_S, WAIT_WITH_PROGRESS_S, SettingsError, load


def test_nothing_set_is_the_service_on_this_machine():
    settings = load({})
    assert (settings.url, settings.token, settings.port) == ("http://127.0.0.1:8765", None, 8766)
    assert settings.call_budget_s(reports_progress=True) == WAIT_WITH_PROGRESS_S == 230
    assert settings.call_budget_s(reports_progress=False) == WAIT_SILENT_S == 50
    assert settings.warm is False


def test_an_unexpanded_option_of_a_bundle_is_not_set():
    settings = load({"IMAGEGEN_TOKEN": "${user_config.api_token}", "IMAGEGEN_TLS_SHA256": ""})
    assert settings.token is None and settings.tls_sha256 is None


def test_home_is_expanded_in_the_output_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load({"IMAGEGEN_OUTPUT_DIR": "${HOME}/Pictures/ü b"}).output_dir == tmp_path / "Pictures" / "ü b"
    assert load({"IMAGEGEN_OUTPUT_DIR": "~/x"}).output_dir == tmp_path / "x"


def test_a_fingerprint_is_read_as_people_copy_it():
    colons = ":".join(["AB"] * 32)
    assert load({"IMAGEGEN_URL": "https://h", "IMAGEGEN_TLS_SHA256": f"sha256:{colons}"}).tls_sha256 == "ab" * 32


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("URL", "127.0.0.1:8765", "is not an address"),
        ("URL", "ftp://h", "is not an address"),
        ("URL", "http://name:secret@h", "IMAGEGEN_TOKEN"),
        ("TOKEN", "two words", "HTTP header"),
        ("TLS_SHA256", "abc", "64 hexadecimal digits"),
        ("MCP_WAIT_S", "soon", "1 to 3600"),
        ("MCP_WAIT_S", "0", "1 to 3600"),
        ("MCP_PORT", "70000", "1 to 65535"),
        ("MCP_HOST", "127.0.0.1:8831", "without a port: 127.0.0.1, with IMAGEGEN_MCP_PORT=8831"),
        ("MCP_HOST", "[::1]:8831", "without a port: ::1, with IMAGEGEN_MCP_PORT=8831"),
        ("MCP_HOST", "http://127.0.0.1", "without a scheme or path: 127.0.0.1"),
        ("MCP_HOST", "[]", "is not an address"),
        ("TLS_CA", "~nobody-of-this-name/x", "unknown user"),
        ("OUTPUT_DIR", "~nobody-of-this-name/x", "unknown user"),
        ("MCP_TLS", "~nobody-of-this-name/c,k", "CERT,KEY"),
        ("MCP_TLS", f"{'x' * 300},k", "CERT,KEY"),
        ("MCP_TLS", "only.pem", "CERT,KEY"),
        ("MCP_WARM", "perhaps", "1 or 0"),
        ("MCP_PUBLIC_URL", "nowhere", "is not an address"),
    ],
)
def test_a_mistake_is_named_with_its_variable(variable, value, says):
    with pytest.raises(SettingsError) as wrong:
        load({f"IMAGEGEN_{variable}": value})
    assert f"IMAGEGEN_{variable}" in str(wrong.value) and says in str(wrong.value)
    assert "secret" not in str(wrong.value)


@pytest.mark.parametrize(
    ("given", "host"),
    [("[::1]", "::1"), ("::1", "::1"), ("0.0.0.0", "0.0.0.0"), ("::", "::"), ("localhost", "localhost")],
)
def test_an_address_to_listen_on_is_read_as_it_is_written(given, host):
    assert load({"IMAGEGEN_MCP_HOST": given}).host == host


def test_a_port_that_is_taken_names_the_setting():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(SettingsError) as refused:
            listening.check(load({"IMAGEGEN_MCP_PORT": str(port)}))
    assert str(refused.value).startswith(f"IMAGEGEN_MCP_PORT={port}: 127.0.0.1 cannot be listened on: Address already")
    listening.check(load({"IMAGEGEN_MCP_PORT": str(port)}))
    with pytest.raises(SettingsError, match="IMAGEGEN_MCP_HOST"):
        listening.check(load({"IMAGEGEN_MCP_HOST": "192.0.2.7"}))


def test_a_pin_needs_https_and_no_ca_beside_it():
    with pytest.raises(SettingsError, match="not https"):
        load({"IMAGEGEN_TLS_SHA256": "ab" * 32})
    with pytest.raises(SettingsError, match="not both"):
        load({"IMAGEGEN_URL": "https://h", "IMAGEGEN_TLS_SHA256": "ab" * 32, "IMAGEGEN_TLS_CA": "/x"})


def test_the_token_is_in_no_repr():
    settings = load({"IMAGEGEN_TOKEN": "hush"})
    assert settings.token == "hush" and "hush" not in repr(settings)
    assert isinstance(load({"IMAGEGEN_OUTPUT_DIR": "x"}).output_dir, Path)
