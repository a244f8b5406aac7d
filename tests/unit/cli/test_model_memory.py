"""`imagegen models` shows what a model's pictures took of the memory on this machine."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from imagegen.cli.models import models
from imagegen.cli.status import show_status
from imagegen.hardware.memory_needs import MemoryNeed, MemoryNeeds, NeedKey
from imagegen.hardware.needs_table import NeedsTable
from imagegen.schemas import Kind
from imagegen.storage.database import open_database

GB = 10**9
SMALL, LARGE = 512 * 512, 1024 * 1024
NEEDS = [("card", SMALL, 6 * GB, False), ("card", LARGE, 12 * GB, True), ("offload", LARGE, 8 * GB, False)]


async def store(path: Path) -> None:
    database = await open_database(path)
    table = NeedsTable(database, MemoryNeeds())
    for mode, pixels, size, failed in NEEDS:
        await table.learn(MemoryNeed(NeedKey("sd-turbo", 0, Kind.GENERATE, mode), pixels, size, failed))
    await database.close()


def test_the_list_and_the_page_of_a_model_show_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGEGEN_HOME", str(tmp_path))

    def said(*arguments: str) -> str:
        result = CliRunner().invoke(models, list(arguments))
        assert result.exit_code == 0, result.output
        return result.output

    assert "not measured" in said("list") and "Memory, as measured" not in said("show", "sd-turbo")
    asyncio.run(store(tmp_path / "jobs.sqlite3"))
    (row,) = (line for line in said("list").splitlines() if line.startswith("sd-turbo "))
    assert "6.0 GB of the GPU (card)" in row
    page = said("show", "sd-turbo")
    assert "generate card     1,048,576 px  12.0 GB was too little" in page
    assert "generate offload  1,048,576 px  8.0 GB of the GPU (offload)" in page
    found = json.loads(said("show", "sd-turbo", "--json"))["memory_needs"]
    assert [(one["mode"], one["pixels"], one["bytes"], one["failed"]) for one in found] == NEEDS


@pytest.mark.parametrize("memory", [None, {"mode": "offload", "need_bytes": GB, "reason": "It needs about 1.0 GB."}])
def test_the_status_shows_the_memory_mode(capsys: pytest.CaptureFixture[str], memory: dict[str, object] | None) -> None:
    engine = {"model": "tiny", "state": "ready", "since": "now", "load": None, "fetch": None, "error": None}
    state = {"engine": engine | {"memory": memory}, "model": {"default": "tiny"}, "idle": {"reason": None}}
    show_status(state | {"queue": {"running": 0, "queued": 0}, "gpu": None})
    assert ("memory  offload: It needs about 1.0 GB." in capsys.readouterr().out) is (memory is not None)
