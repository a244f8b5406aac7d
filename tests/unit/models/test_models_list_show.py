"""`imagegen models list` and `imagegen models show`."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from user_entries import fill, user_file

from imagegen.cli.models import models as command
from imagegen.models.catalog import Catalog
from imagegen.settings import Settings

UPSCALERS = [one.name for one in Catalog.packaged().upscalers()]


@pytest.fixture
def cli(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("IMAGEGEN_HOME", str(settings.home))
    return CliRunner()


def test_list_says_what_is_missing_and_what_is_noise(cli: CliRunner, settings: Settings) -> None:
    fill(Catalog.load(settings).get("sd-turbo"), settings)
    lines = {line.split()[0]: line for line in cli.invoke(command, ["list"]).output.splitlines()}
    assert "installed" in lines["sd-turbo"] and "Stability" in lines["sd-turbo"]
    assert "made when first used" in lines["tiny"] and "noise" in lines["tiny"] and "edits" in lines["tiny"]
    edits = Catalog.load(settings).get("qwen-image-edit-2511")
    assert "lacks 3 of 3" in lines[edits.name]
    fill(edits, settings)
    lines = {line.split()[0]: line for line in cli.invoke(command, ["list"]).output.splitlines()}
    assert "installed, without 1 optional" in lines[edits.name], "its vision tower is not there"
    listed = json.loads(cli.invoke(command, ["list", "--json"]).output)
    assert {e["name"]: e["installed"] for e in listed}["sd-turbo"] is True
    assert {e["name"]: e.get("noise") for e in listed}["tiny"] is True


@pytest.mark.parametrize("name", Catalog.packaged().names())
def test_show_prints_every_source_and_every_file(cli: CliRunner, settings: Settings, name: str) -> None:
    entry = Catalog.load(settings).get(name)
    page = cli.invoke(command, ["show", name]).output
    for sourced in [s for _, s in entry.defaults if s is not None] + list(entry.flags):
        assert sourced.source in page
    for file in entry.files:
        assert str(entry.path_of(file, settings)) in page
    shown = json.loads(cli.invoke(command, ["show", name, "--json"]).output)
    assert shown["defaults"]["steps"]["source"] == entry.defaults.steps.source
    assert [f["there"] for f in shown["files"]] == [False] * len(entry.files)


@pytest.mark.parametrize("name", UPSCALERS)
def test_show_describes_an_upscaler(cli: CliRunner, settings: Settings, name: str) -> None:
    upscaler = Catalog.load(settings).upscaler(name)
    assert upscaler is not None
    page = cli.invoke(command, ["show", name]).output
    assert "Does:     enlarges\n" in page and str(upscaler.network(settings)) in page
    shown = json.loads(cli.invoke(command, ["show", name, "--json"]).output)
    assert (shown["adapter"], shown["installed"]) == ("esrgan", False)


@pytest.mark.parametrize("words", [["show", "dall-e"], ["make", "dall-e"], ["make", "sd-turbo"], ["list"]])
def test_a_failure_is_a_sentence_and_exit_code_1(cli: CliRunner, settings: Settings, words: list[str]) -> None:
    if words == ["list"]:
        user_file(settings, "mine.toml", "steps")
    result = cli.invoke(command, words)
    assert result.exit_code == 1
    assert "Error: " in result.stderr and "Traceback" not in result.stderr
