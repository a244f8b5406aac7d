"""`imagegen models` and `imagegen loras` with --json, against their schemas."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import CommandLine, document_of
from hub import LoopbackHub
from loras import pair, safetensors

from imagegen.models.download.hub import Hub
from imagegen.settings import Settings


@pytest.fixture
def here(
    imagegen: CommandLine, settings: Settings, hub: LoopbackHub, made_up: None, monkeypatch: pytest.MonkeyPatch
) -> CommandLine:
    """The command line with the state folder of `settings`, whose model `made-up` is on the hub."""
    hub.files["owner/model"]["model.gguf"] = b"GGUF" + bytes(60)
    monkeypatch.setenv("IMAGEGEN_HOME", str(settings.home))
    monkeypatch.setenv("HF_HOME", str(settings.home / "hf"))
    monkeypatch.setattr("imagegen.cli.fetch.Hub", lambda: Hub(hub.url))
    return imagegen


def test_the_documents_of_models(here: CommandLine, settings: Settings) -> None:
    listed = {one["name"]: one for one in document_of("models list", here("models", "list", "--json").out)}
    assert listed["tiny"]["installed"] is False and "realesrgan-x4plus" in listed
    for name in ("tiny", "made-up", "realesrgan-x4plus"):
        assert document_of("models show", here("models", "show", name, "--json").out) == listed[name]
    planned = document_of("models fetch", here("models", "fetch", "made-up", "--dry-run", "--json").out)
    fetched = document_of("models fetch", here("models", "fetch", "made-up", "--json", "--yes").out)
    assert (planned["fetched"], fetched["fetched"]) == (False, True)
    assert Path(fetched["folder"]).is_dir()
    checked = here("models", "check", "made-up", "--json")
    assert (checked.code, document_of("models check", checked.out)["ok"]) == (0, True)
    next(Path(fetched["folder"]).glob("*.gguf")).write_bytes(b"GGUF, damaged")
    damaged = here("models", "check", "made-up", "--json")
    assert (damaged.code, document_of("models check", damaged.out)["files"][0]["state"]) == (1, "damaged")
    removed = document_of("models remove", here("models", "remove", "made-up", "--yes", "--json").out)
    assert (removed["model"], len(removed["removed"]) > 0) == ("made-up", True)
    again = document_of("models remove", here("models", "remove", "made-up", "--yes", "--json").out)
    assert (again["freed_bytes"], again["removed"]) == (0, [])
    made = document_of("models make", here("models", "make", "tiny", "--json").out)
    assert Path(made["folder"]) == settings.models_dir / "tiny"


def test_the_documents_of_loras(here: CommandLine) -> None:
    (here.folder / "water.safetensors").write_bytes(safetensors(pair(), {"modelspec.trigger_phrase": "wtr"}))
    assert document_of("loras list", here("loras", "list", "--json").out) == []
    added = document_of("loras add", here("loras", "add", "water.safetensors", "--json").out)
    assert added["trigger_words"] == ["wtr"]
    assert document_of("loras list", here("loras", "list", "--json").out) == [added]
    removed = document_of("loras remove", here("loras", "remove", "water", "--json").out)
    assert removed == {"name": "water", "freed_bytes": added["bytes"]}
