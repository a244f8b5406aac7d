"""A start that cannot succeed ends with one sentence that names the setting, whatever is wrong with it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from imagegen import engine_build
from imagegen.prompts import templates
from imagegen.security import tls
from imagegen.setting_values import absolute, listen_address
from imagegen.settings import load
from imagegen.startup import configuration, port

LONG_NAME = "x" * 300


def refusal() -> str:
    """Why the service would not start, with the environment as it is."""
    with pytest.raises(configuration.SENTENCES) as refused:
        read = configuration.read()
        configuration.check(read, read.settings.host, read.settings.port)
    return str(refused.value)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEGEN_HOME", str(tmp_path / "home"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("IMAGEGEN_PORT", str(free.getsockname()[1]))


# ---- the address ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        (" localhost ", "127.0.0.1"),
        ("LOCALHOST", "127.0.0.1"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("0.0.0.0", "0.0.0.0"),
        ("::", "::"),
        ("[::]", "::"),
        ("192.0.2.7", "192.0.2.7"),
        ("2001:DB8::7", "2001:db8::7"),
    ],
)
def test_an_address_is_understood_as_it_is_written(given: str, address: str) -> None:
    assert listen_address(given) == address


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("127.0.0.1:8831", "must be an address without a port: 127.0.0.1, with IMAGEGEN_PORT=8831"),
        ("localhost:8831", "must be an address without a port: 127.0.0.1, with IMAGEGEN_PORT=8831"),
        ("[::1]:8831", "must be an address without a port: ::1, with IMAGEGEN_PORT=8831"),
        ("http://127.0.0.1:8831/", "must be an address without a port: 127.0.0.1, with IMAGEGEN_PORT=8831"),
        ("http://127.0.0.1", "must be an address without a scheme or path: 127.0.0.1"),
        ("https://localhost/", "must be an address without a scheme or path: 127.0.0.1"),
        ("pictures.example", "must be an IP address of this machine"),
        ("*", "must be an IP address of this machine"),
        ("", "must be an IP address of this machine"),
        ("127.0.0", "must be an IP address of this machine"),
        ("[127.0.0.1", "must be an IP address of this machine"),
    ],
)
def test_what_is_no_address_says_what_to_write(monkeypatch: pytest.MonkeyPatch, given: str, said: str) -> None:
    monkeypatch.setenv("IMAGEGEN_HOST", given)
    told = refusal()
    assert told.startswith(f"IMAGEGEN_HOST={given!r}: {said}")
    assert "other machines" not in told and "\n" not in told


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7"])
def test_an_address_beyond_this_machine_needs_a_token(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("IMAGEGEN_HOST", host)
    assert refusal().startswith(f"IMAGEGEN_HOST={host} opens the service to other machines, and it has no token")


@pytest.mark.parametrize("host", ["localhost", "[::1]", "127.0.0.2"])
def test_an_address_of_this_machine_alone_needs_none(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("IMAGEGEN_HOST", host)
    read = configuration.read()
    assert read.tokens is None and not read.is_open
    if ":" not in read.settings.host or has_ipv6():
        configuration.check(read, read.settings.host, read.settings.port)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as trial:
            trial.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_an_address_of_another_machine_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEGEN_HOST", "192.0.2.7")
    monkeypatch.setenv("IMAGEGEN_ALLOW_ANONYMOUS", "1")
    assert refusal().startswith("IMAGEGEN_HOST=192.0.2.7 is not an address of this machine")


@pytest.mark.parametrize(("theirs", "ours"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1")])
def test_a_port_that_is_taken_names_who_has_it(monkeypatch: pytest.MonkeyPatch, theirs: str, ours: str) -> None:
    with socket.create_server((theirs, 0)) as server:
        taken = server.getsockname()[1]
        monkeypatch.setenv("IMAGEGEN_HOST", ours)
        monkeypatch.setenv("IMAGEGEN_PORT", str(taken))
        told = refusal()
    assert told.startswith(f"IMAGEGEN_PORT={taken} is taken by ") and f"process {os.getpid()}" in told
    assert port.problem_of(ours, taken) is None, "it is free again"


# ---- files and folders ------------------------------------------------------------------------


def below_a_file(folder: Path) -> str:
    (folder / "file").touch()
    return str(folder / "file" / "x")


def a_folder(folder: Path) -> str:
    (folder / "folder").mkdir()
    return str(folder / "folder")


def a_file(folder: Path) -> str:
    (folder / "file").write_bytes(b"\xff not what is wanted")
    return str(folder / "file")


def missing(folder: Path) -> str:
    return str(folder / "missing" / "x")


def too_long(folder: Path) -> str:
    return str(folder / LONG_NAME)


def of_nobody(_folder: Path) -> str:
    return "~nobody-of-this-name/x"


def empty(_folder: Path) -> str:
    return ""


WRONG_FILES = (below_a_file, a_folder, a_file, missing, too_long, of_nobody, empty)
WRONG_FOLDERS = (below_a_file, a_file, too_long, of_nobody, empty)


@pytest.mark.parametrize(
    ("setting", "form", "wrong"),
    [
        *(("IMAGEGEN_HOME", "{}", wrong) for wrong in WRONG_FOLDERS),
        *(("IMAGEGEN_TOKENS", "@{}", wrong) for wrong in WRONG_FILES),
        *(("IMAGEGEN_TLS", "{},{}", wrong) for wrong in WRONG_FILES),
        *(("IMAGEGEN_POLICY_FILE", "{}", wrong) for wrong in WRONG_FILES),
        *((name, "{}", of_nobody) for name in ("IMAGEGEN_CACHE", "IMAGEGEN_SD_SERVER", "IMAGEGEN_TEMPLATES_DIR")),
        *((name, "{}", empty) for name in ("IMAGEGEN_CACHE", "IMAGEGEN_SD_SERVER", "IMAGEGEN_TEMPLATES_DIR")),
    ],
)
def test_a_file_or_folder_that_cannot_be_used_names_its_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, setting: str, form: str, wrong: Callable[[Path], str]
) -> None:
    value = wrong(tmp_path)
    monkeypatch.setenv(setting, form.format(value, value))
    told = refusal()
    assert setting in told and "\n" not in told, told
    assert "Traceback" not in told and "Errno" not in told, told


@pytest.mark.parametrize(
    ("setting", "wrong"),
    [
        *(("IMAGEGEN_SD_SERVER", wrong) for wrong in (below_a_file, a_folder, a_file, missing, too_long)),
        *(("IMAGEGEN_CACHE", wrong) for wrong in (below_a_file, a_file, missing, too_long)),
    ],
)
def test_an_engine_that_cannot_be_found_is_reported_when_it_is_needed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, setting: str, wrong: Callable[[Path], str]
) -> None:
    monkeypatch.delenv("IMAGEGEN_SD_SERVER", raising=False)
    monkeypatch.setenv(setting, wrong(tmp_path))
    read = configuration.read()
    configuration.check(read, read.settings.host, read.settings.port)
    with pytest.raises(engine_build.EngineMissing) as refused:
        engine_build.resolve(read.settings)
    assert "IMAGEGEN_SD_SERVER" in str(refused.value) and "Errno" not in str(refused.value)


@pytest.mark.parametrize("wrong", WRONG_FOLDERS[:3])
def test_templates_that_cannot_be_read_do_not_stop_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wrong: Callable[[Path], str]
) -> None:
    monkeypatch.setenv("IMAGEGEN_TEMPLATES_DIR", wrong(tmp_path))
    found, problems = templates.load(load())
    assert len(found) == len(templates.TEMPLATES)
    assert str(problems[0]).startswith("The folder of templates cannot be read (")


@pytest.mark.parametrize("wrong", [a_folder, a_file], ids=["a folder", "no text"])
def test_a_tokens_file_of_the_state_folder_is_named(tmp_path: Path, wrong: Callable[[Path], str]) -> None:
    home = tmp_path / "home"
    home.mkdir()
    Path(wrong(tmp_path)).rename(home / "tokens")
    told = refusal()
    assert str(home / "tokens") in told and "IMAGEGEN_TOKENS" in told


def test_a_certificate_with_the_key_of_another_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pair = tls.Files(tmp_path / "cert.pem", tmp_path / "key.pem")
    pair.key.write_bytes(tls.new_key())
    tls.renew(pair, ["localhost"])
    pair.key.write_bytes(tls.new_key())
    monkeypatch.setenv("IMAGEGEN_TLS", f"{pair.certificate},{pair.key}")
    assert refusal() == f"IMAGEGEN_TLS: {pair.key} is not the key of {pair.certificate}."


@pytest.mark.parametrize("place", ["lock", "tls", "models/own.toml"])
def test_a_folder_in_the_place_of_a_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str) -> None:
    path = tmp_path / "home" / place
    path.parent.mkdir(parents=True)
    if place == "tls":
        path.touch()
        monkeypatch.setenv("IMAGEGEN_TLS", "auto")
    else:
        path.mkdir()
    told = refusal()
    assert str(path.parent) in told or path.name in told, told


# ---- values -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("IMAGEGEN_MODEL", "no-such-model"),
        ("IMAGEGEN_MODELS", "tiny,no-such-model"),
        ("IMAGEGEN_MODELS", " , "),
        ("IMAGEGEN_TOKENS", "laptop:short"),
        ("IMAGEGEN_TOKENS", "no-name-at-all"),
        ("IMAGEGEN_ALLOWED_HOSTS", "http://pictures.example/x"),
        ("IMAGEGEN_PUBLIC_URL", "pictures.example"),
        ("IMAGEGEN_TRUSTED_PROXIES", "nginx"),
        ("IMAGEGEN_MAX_CONNECTIONS", "60000"),
        ("IMAGEGEN_MODEL_ALIASES", "a=b=c"),
        ("IMAGEGEN_MODEL_ALIASES", "dall-e-3=no-such-model"),
        ("IMAGEGEN_CORS_ORIGINS", "pictures.example"),
        ("IMAGEGEN_WEBHOOK_URL", "hooks.example"),
        ("IMAGEGEN_WEBHOOK_SECRET", "not-a-secret"),
        ("IMAGEGEN_WEBHOOK_ALLOW", "http://hooks.lan/"),
        ("IMAGEGEN_TLS", "on"),
        ("IMAGEGEN_TLS", "~nobody-of-this-name/c.pem,key.pem"),
        ("IMAGEGEN_ALLOW_ANONYMOUS", "perhaps"),
        ("IMAGEGEN_NO_SUCH_SETTING", "1"),
        ("IMAGEGEN_ON_MISSING_GPU", "exit"),
    ],
)
def test_a_value_that_cannot_be_used_names_its_setting(
    monkeypatch: pytest.MonkeyPatch, setting: str, value: str
) -> None:
    monkeypatch.setenv(setting, value)
    told = refusal()
    assert setting in told and "\n" not in told, told


def test_several_wrong_settings_are_all_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEGEN_HOST", "here")
    monkeypatch.setenv("IMAGEGEN_CACHE", "")
    assert [line.partition("=")[0] for line in refusal().splitlines()] == ["IMAGEGEN_CACHE", "IMAGEGEN_HOST"]


# ---- what is right ----------------------------------------------------------------------------


def test_a_start_that_can_succeed_only_makes_the_state_folder(tmp_path: Path) -> None:
    read = configuration.read()
    configuration.check(read, read.settings.host, read.settings.port)
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["lock"]


def test_paths_are_made_absolute_and_the_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("IMAGEGEN_CACHE", "~/c")
    monkeypatch.setenv("IMAGEGEN_TLS", " ~/cert.pem , key.pem ")
    chosen = load()
    assert str(chosen.cache) == "/home/somebody/c"
    assert chosen.tls == f"/home/somebody/cert.pem,{Path.cwd()}/key.pem"
    assert absolute("~") == Path("/home/somebody")


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (OSError(28, "No space left on device", "/x"), "/x cannot be used: No space left on device."),
        (OSError(24, "Too many open files"), "Too many open files."),
        (RuntimeError("a bug"), None),
    ],
)
def test_an_error_of_the_system_is_a_sentence_too(failure: Exception, said: str | None) -> None:
    assert configuration.sentence(failure) == said
