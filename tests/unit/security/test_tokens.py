"""Tokens: where the service may start without one, which lists and files are refused, and `imagegen token new`."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from imagegen.security import tokens
from imagegen.security.tokens import Tokens
from imagegen.settings import Settings, SettingsError

ANNA = "a-token-of-anna-0"
BERT = "a-token-of-bert-0"


def test_who_may_start_where(tmp_path: Path) -> None:
    def loaded(**settings: object) -> Tokens | None:
        return tokens.for_service(Settings(home=tmp_path, **settings))

    for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
        assert loaded(host=host) is None
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        with pytest.raises(SettingsError, match="no token"):
            loaded(host=host)
        assert loaded(host=host, allow_anonymous=True) is None
        assert loaded(host=host, tokens=f"anna:{ANNA}").names == ("anna",)


@pytest.mark.parametrize(
    ("listed", "sentence"),
    [
        ("justatoken0123456", "name:token"),
        ("a:short", "16"),
        (f"a:{ANNA},a:{BERT}", "name of its own"),
        (f"a b:{ANNA}", "letters"),
        ("a:with spaces in it 123", "without spaces"),
        (",", "no token"),
        ("@/nowhere/tokens", "cannot be read"),
    ],
)
def test_wrong_tokens_stop_the_start_without_showing_them(tmp_path: Path, listed: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(sentence)) as caught:
        tokens.load(Settings(home=tmp_path, tokens=listed))
    for secret in ("justatoken0123456", "short,", "with spaces", ANNA):
        assert secret not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "# nobody\n", "anna\n", f"anna:{ANNA}\n", f"anna:{'0' * 64}\nanna:{'1' * 64}\n", "\xff"]
)
def test_wrong_files_of_tokens_stop_the_start(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokens").write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsError, match="tokens"):
        tokens.load(Settings(home=tmp_path))


def token_new(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "imagegen.cli", "token", "new", *arguments]
    environment = {**os.environ, "IMAGEGEN_HOME": str(home)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_a_new_token_is_shown_once_and_opens_the_lock(tmp_path: Path) -> None:
    first, second = token_new(tmp_path, "anna"), token_new(tmp_path, "bert")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    file = tmp_path / "tokens"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    made = first.stdout.strip()
    assert len(made) >= 40
    assert made not in file.read_text()
    read = tokens.load(Settings(home=tmp_path))
    assert read is not None
    assert (read.name_of(made), read.name_of(second.stdout.strip()), read.name_of(made + "x")) == ("anna", "bert", None)
    again = token_new(tmp_path, "anna")
    assert (again.returncode, again.stdout) == (1, "")
    assert "already" in again.stderr
    assert token_new(tmp_path, "no/name").returncode == 1


def test_a_new_token_goes_to_the_file_that_is_named(tmp_path: Path) -> None:
    file = tmp_path / "elsewhere"
    file.write_text(f"old:{'0' * 64}")  # somebody's editor left no newline
    made = token_new(tmp_path, "anna", "--file", str(file))
    assert f"IMAGEGEN_TOKENS=@{file}" in made.stderr
    read = tokens.load(Settings(home=tmp_path, tokens=f"@{file}"))
    assert read is not None
    assert read.names == ("old", "anna")
    assert read.name_of(made.stdout.strip()) == "anna"
