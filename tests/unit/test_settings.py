"""A wrong setting stops the start with the variable's name, the value and what is allowed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from served import ROOT

from imagegen import settings
from imagegen.security import tokens


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("IMAGEGEN_PORT", "http", "integer"),
        ("IMAGEGEN_PORT", "70000", "65535"),
        ("IMAGEGEN_IDLE_TIMEOUT", "soon", "auto, never, or seconds"),
        ("IMAGEGEN_IDLE_TIMEOUT", "nan", "auto, never, or seconds"),
        ("IMAGEGEN_IDLE_TIMEOUT", "-1", "auto, never, or seconds"),
        ("IMAGEGEN_MAX_DIMENSION", "63", "64"),
        ("IMAGEGEN_LOG_LEVEL", "LOUD", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("IMAGEGEN_MAX_QEUE", "5", "not a setting"),
    ],
)
def test_a_wrong_value_is_refused_in_a_sentence(monkeypatch, name: str, value: str, said: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(settings.SettingsError) as error:
        settings.load()
    assert name in str(error.value)
    assert said in str(error.value)
    if said != "not a setting":
        assert value in str(error.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"MIN": "7200"},
            "IMAGEGEN_IDLE_MIN_S=7200: must not be above IMAGEGEN_IDLE_MAX_S=3600, which holds unless you set it: "
            "raise that too",
        ),
        ({"MAX": "60", "MIN": "100"}, "IMAGEGEN_IDLE_MAX_S=60: must not be below IMAGEGEN_IDLE_MIN_S=100"),
    ],
)
def test_of_two_that_contradict_each_other_what_was_set_is_named(monkeypatch, given: dict, said: str) -> None:
    for end, value in given.items():
        monkeypatch.setenv(f"IMAGEGEN_IDLE_{end}_S", value)
    with pytest.raises(settings.SettingsError) as error:
        settings.load()
    assert str(error.value) == said
    monkeypatch.setenv("IMAGEGEN_IDLE_MAX_S", "7200")
    assert settings.load().idle_max_s == 7200


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"BODY": str(2**29)},
            f"IMAGEGEN_MAX_BODY_BYTES={2**29}: must not be above IMAGEGEN_MAX_BODIES_BYTES={2**28}, which holds unless "
            "you set it: raise that too",
        ),
        (
            {"BODIES": "65536"},
            f"IMAGEGEN_MAX_BODIES_BYTES=65536: must not be below IMAGEGEN_MAX_BODY_BYTES={25 * 2**20}",
        ),
    ],
)
def test_a_body_of_the_largest_size_fits_into_the_cap_on_all(monkeypatch, given: dict, said: str) -> None:
    for name, value in given.items():
        monkeypatch.setenv(f"IMAGEGEN_MAX_{name}_BYTES", value)
    with pytest.raises(settings.SettingsError) as error:
        settings.load()
    assert str(error.value) == said


def test_a_wrong_token_setting_is_refused_without_the_token(monkeypatch) -> None:
    monkeypatch.setenv("IMAGEGEN_TOKENS", "only-a-secret-without-a-name")
    with pytest.raises(settings.SettingsError) as error:
        tokens.for_service(settings.load())
    assert "IMAGEGEN_TOKENS" in str(error.value)
    assert "only-a-secret" not in str(error.value)


@pytest.mark.parametrize("command", [["-m", "bentoml", "serve", "service:ImageGen"], ["-m", "imagegen.cli", "serve"]])
def test_the_service_does_not_start_with_it(tmp_path, command: list[str]) -> None:
    file = tmp_path / "own.toml"
    file.write_text("port = 8799\nprot = 1\n")
    home = tmp_path / "home"
    home.mkdir()
    wrong = {"IMAGEGEN_IDLE_TIMEOUT": "soon", "IMAGEGEN_CONFIG": str(file)}
    environment = {**os.environ, "IMAGEGEN_HOME": str(home)} | wrong
    ended = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode != 0
    assert "IMAGEGEN_IDLE_TIMEOUT='soon': must be auto, never, or seconds" in ended.stdout + ended.stderr
    assert f"{file}, line 2: prot is not a setting" in ended.stdout + ended.stderr
    assert list(home.iterdir()) == [], "nothing was touched"


def test_every_setting_says_what_it_is_for() -> None:
    for name, field in settings.Settings.model_fields.items():
        assert field.description, name
