"""`imagegen.toml`: found in its places, checked as the environment is, wrong settings named by file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from imagegen import config_file, settings
from imagegen.cli import cli
from imagegen.cli.client import service_of
from imagegen.deploy import healthcheck
from imagegen.doctor import configuration as doctor
from imagegen.setting_values import SettingsError
from imagegen.startup import configuration
from imagegen_client import places

SECRET = "0123456789abcdef-secret"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings file that IMAGEGEN_CONFIG names: private, and empty."""
    path = tmp_path / "own.toml"
    path.touch(mode=0o600)
    monkeypatch.setenv("IMAGEGEN_CONFIG", str(path))
    return path


def refusal() -> str:
    with pytest.raises(SettingsError) as refused:
        settings.load()
    return str(refused.value)


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("port = 8799", "port", 8799),
        ('port = "8799"', "port", 8799),
        ("strict_openai = true", "strict_openai", True),
        ('a1111 = "off"', "a1111", False),
        ("idle_timeout = 300", "idle_timeout", "300"),
        ("idle_knob = 0.5", "idle_knob", 0.5),
        ('home = "~/pictures"', "home", Path.home() / "pictures"),
        ('"host" = "localhost"', "host", "127.0.0.1"),
    ],
)
def test_a_value_means_what_the_variable_means(file: Path, line: str, name: str, value: object) -> None:
    file.write_text(line)
    assert getattr(settings.load(), name) == value


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("idle_timeout = 'soon'", "idle_timeout = 'soon': must be auto, never, or seconds"),
        ("port = 70000", "port = '70000': Input should be less than or equal to 65535"),
        ("prot = 8799", "prot is not a setting: see docs/settings.md for the list"),
        ("IMAGEGEN_PORT = 8799", "IMAGEGEN_PORT is not a setting: write port"),
        ("config = '/x'", "config is not a setting"),
        ("models = ['sketch']", "models must be a text, a number, true or false, not a list"),
        ("[service]\nport = 8799", "service is not a setting"),
        ("port.number = 8799", "port must be a text, a number, true or false, not a table"),
        ("image_ttl = 12:30:00", "image_ttl must be a text, a number, true or false, not a date or time"),
        ("home = 'state'", "home has the relative path 'state', which another folder would change"),
        ("tls = '/a.pem,b.pem'", "tls has the relative path 'b.pem'"),
        ("tokens = '@tokens'", "tokens has the relative path 'tokens'"),
        ("home = ''", "home = '': must be a path"),
    ],
)
def test_a_wrong_line_is_named_by_file_and_line(file: Path, line: str, said: str) -> None:
    file.write_text(f'# mine\nmodel_aliases = """\nprot = 1, {line.partition(chr(10))[0]}\n"""\n{line}\n')
    assert refusal().startswith(f"{file}, line 5: {said}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"port = = 1", "is not TOML: Invalid value (at line 1, column 8)"),
        (b"port = 1\nport = 2", "is not TOML: Cannot overwrite a value"),
        (b"model = '\xff'", "is not UTF-8 text"),
        (b"#" * (config_file.MAX_BYTES + 1), "has more than 1,048,576 bytes: it holds no settings"),
    ],
    ids=["syntax", "twice", "not text", "too long"],
)
def test_a_file_that_cannot_be_read_is_named(file: Path, content: bytes, said: str) -> None:
    file.write_bytes(content)
    assert refusal().startswith(f"{file} {said}")


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEGEN_CONFIG", str(tmp_path / "missing.toml"))
    assert "missing.toml: there is no such file" in refusal()
    (tmp_path / "link.toml").symlink_to(tmp_path / "missing.toml")
    monkeypatch.setenv("IMAGEGEN_CONFIG", str(tmp_path / "link.toml"))
    assert "link.toml cannot be read: No such file or directory. To read no file" in refusal()
    monkeypatch.setenv("IMAGEGEN_CONFIG", str(tmp_path))
    assert refusal().startswith(f"{tmp_path} cannot be read: Is a directory.")


def test_the_first_file_of_the_places_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user, machine = tmp_path / "user", tmp_path / "machine"
    monkeypatch.delenv("IMAGEGEN_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(user))
    monkeypatch.setattr(places, "machine_folder", lambda *_: machine)
    assert settings.load().port == 8765
    for folder, port in ((machine, 8701), (user / "imagegen", 8702)):
        folder.mkdir(parents=True)
        (folder / "imagegen.toml").write_text(f"port = {port}")
        assert settings.load().port == port
    monkeypatch.setenv("IMAGEGEN_CONFIG", str(machine / "imagegen.toml"))
    assert settings.load().port == 8701
    monkeypatch.setenv("IMAGEGEN_CONFIG", "")
    assert settings.load().port == 8765


def test_no_file_of_the_working_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMAGEGEN_CONFIG")
    monkeypatch.setattr(places, "settings_folders", lambda: [tmp_path / "none"])
    (tmp_path / "imagegen.toml").write_text('url = "http://192.0.2.1"')
    monkeypatch.chdir(tmp_path)
    assert config_file.read().path is None


def test_the_environment_overrides_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('port = 8799\nhost = "::1"\nimage_ttl = "wrong"\n')
    monkeypatch.setenv("IMAGEGEN_PORT", "8700")
    monkeypatch.setenv("imagegen_image_ttl", "60")
    loaded = settings.Loaded.now()
    assert (loaded.settings.port, loaded.settings.host, loaded.settings.image_ttl) == (8700, "::1", 60)
    assert [loaded.source(name) for name in ("port", "host", "image_ttl", "model")] == [
        *("environment", "file", "environment", "default")
    ]


@pytest.mark.parametrize("name", sorted(config_file.SECRETS))
@pytest.mark.parametrize("mode", [0o604, 0o602, 0o777], ids=oct)
def test_a_secret_that_every_user_may_read_is_refused(file: Path, name: str, mode: int) -> None:
    file.write_text(f'port = 8799\n{name} = "{SECRET}"')
    file.chmod(mode)
    assert refusal() == (
        f"{file}, line 2: {name} is a secret, and every user of this machine may use the file: run `chmod o= {file}`"
    )
    file.chmod(0o640)  # root's, for the service's group
    assert config_file.read().values[name] == SECRET


def test_each_secret_and_each_path_of_the_settings_is_known_here() -> None:
    fields = settings.Settings.model_fields
    assert {name for name in fields if not fields[name].repr} == config_file.SECRETS - config_file.ADDRESS
    paths = {name for name in fields if "Path" in str(fields[name].annotation)}
    assert paths == config_file.PATHS - config_file.ADDRESS


def test_a_file_without_a_secret_may_be_open(file: Path) -> None:
    file.write_text('tokens = "@/srv/tokens"\nport = 8799')
    file.chmod(0o644)
    assert settings.load().tokens == "@/srv/tokens"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('allowed_hosts = "a b"', "IMAGEGEN_ALLOWED_HOSTS: 'a b' is not a host name."),
        ('\nhost = "0.0.0.0"', "IMAGEGEN_HOST=0.0.0.0 opens the service to other machines"),
        ('tls = "/none.pem,/none.key"', "IMAGEGEN_TLS: the certificate /none.pem cannot be read"),
        (f'tokens = "{SECRET}"', "IMAGEGEN_TOKENS, entry 1: must be name:token"),
        ("idle_min_s = 7200", "IMAGEGEN_IDLE_MIN_S=7200: must not be above IMAGEGEN_IDLE_MAX_S=3600"),
    ],
)
def test_what_the_start_refuses_later_is_named_too(file: Path, content: str, said: str) -> None:
    file.write_text(content)
    with pytest.raises(SettingsError) as refused:
        configuration.read()
    sentence = configuration.sentence(refused.value) or ""
    name = content.strip().partition(" ")[0]
    assert sentence.startswith(said)
    assert sentence.endswith(f"(Set: {name} in {file}, line {content.count(chr(10)) + 1}.)")
    assert sentence.count(str(file)) == 1 and SECRET not in sentence


def test_the_doctor_names_a_wrong_line_and_goes_on(file: Path) -> None:
    file.write_text("port = 8799\nprot = 1\n")
    found, findings = doctor.settings()
    assert [finding.what for finding in findings] == [
        f"{file}, line 2: prot is not a setting: see docs/settings.md for the list."
    ]
    assert found.port == 8765


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"imagegen_port": "http"}, ["IMAGEGEN_PORT='http': Input should be a valid integer"]),
        (
            {"IMAGEGEN_PORT": "http", "IMAGEGEN_PROVENANCE_CERT": "/srv/cert.pem"},
            [
                "IMAGEGEN_PORT='http': Input should be a valid integer",
                "IMAGEGEN_PROVENANCE_CERT: IMAGEGEN_PROVENANCE_KEY is needed too",
            ],
        ),
    ],
    ids=["small letters", "one after the other"],
)
def test_the_doctor_names_each_wrong_variable_and_goes_on(
    file: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: list[str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found, findings = doctor.settings()
    assert [finding.what.startswith(words) for finding, words in zip(findings, said, strict=True)] == [True] * len(said)
    assert (found.port, found.provenance_cert) == (8765, None)


def test_half_a_certificate_of_the_file_is_named_by_its_line(file: Path) -> None:
    file.write_text('port = 8799\nprovenance_cert = "/srv/cert.pem"')
    assert refusal() == (
        "IMAGEGEN_PROVENANCE_CERT: IMAGEGEN_PROVENANCE_KEY is needed too, a certificate and its key belong together "
        f"(Set: provenance_cert in {file}, line 2.)"
    )


# ---- the command line -------------------------------------------------------------------------


def test_the_command_line_takes_address_and_token_from_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(f'url = "http://127.0.0.1:8799/"\ntoken = "{SECRET}"\n')
    service = service_of(None)
    assert (service.url, service._transport.address.token) == ("http://127.0.0.1:8799", SECRET)
    monkeypatch.setenv("IMAGEGEN_URL", "http://127.0.0.1:8700")
    assert service_of(None).url == "http://127.0.0.1:8700"
    assert service_of("http://127.0.0.1:8701").url == "http://127.0.0.1:8701"


@pytest.mark.parametrize(
    ("name", "value", "url"),
    [("imagegen_port", "8799", "http://127.0.0.1:8799"), ("imagegen_host", "::1", "http://[::1]:8765")],
)
def test_a_variable_in_small_letters_counts(file: Path, monkeypatch, name: str, value: str, url: str) -> None:
    monkeypatch.setenv(name, value)
    assert service_of(None).url == url


@pytest.mark.parametrize(
    ("content", "url"), [("port = 8799", "http://127.0.0.1:8799"), ('host = "::1"', "http://[::1]:8765")]
)
def test_the_command_line_finds_the_service_of_the_file(file: Path, content: str, url: str) -> None:
    file.write_text(content)
    assert service_of(None).url == url


def test_a_command_reports_a_wrong_line_that_it_does_not_need(file: Path) -> None:
    file.write_text('url = "http://127.0.0.1:9"\ntokn = "x"\n')
    with pytest.raises(SettingsError, match="line 2: tokn is not a setting"):
        service_of(None)


def test_config_show_says_each_value_and_its_origin(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(f'port = 8799\ntokens = "ann:{SECRET}"\ntoken = "{SECRET}"\nread_ahead = false\n')
    monkeypatch.setenv("IMAGEGEN_MODEL", "tiny")
    printed = CliRunner().invoke(cli, ["config", "show"]).output
    lines = {line.split()[0]: line.split(maxsplit=1)[1] for line in printed.splitlines()[1:]}
    assert printed.startswith(f"settings file: {file}\n")
    shown = {name: " ".join(lines[name].split()) for name in ("port", "tokens", "token", "model", "host", "read_ahead")}
    assert shown == {
        "port": "file, line 1 8799",
        "tokens": "file, line 2 (hidden)",
        "token": "file, line 3 (hidden)",
        "read_ahead": "file, line 4 0",
        "model": "environment tiny",
        "host": "default 127.0.0.1",
    }
    as_json = CliRunner().invoke(cli, ["config", "show", "--json"]).output
    found = json.loads(as_json)
    assert SECRET not in printed + as_json
    assert (
        [entry["name"] for entry in found["settings"]]
        == list(lines)
        == [
            *settings.Settings.model_fields,
            *sorted(config_file.ADDRESS),
        ]
    )
    assert found["file"] == str(file)
    (port,) = (entry for entry in found["settings"] if entry["name"] == "port")
    assert port == {
        "name": "port",
        "variable": "IMAGEGEN_PORT",
        "value": 8799,
        "source": "file",
        "line": 1,
        "hidden": False,
    }


def test_the_health_check_asks_where_the_file_says(file: Path) -> None:
    file.write_text('port = 8799\ntls = "auto"\n')
    assert healthcheck.own_url(healthcheck.with_file({})) == "https://127.0.0.1:8799/readyz"
    assert healthcheck.own_url(healthcheck.with_file({"IMAGEGEN_PORT": "1"})) == "https://127.0.0.1:1/readyz"
