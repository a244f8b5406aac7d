"""`imagegen loras`: a LoRA comes from a file or from a hub on the loopback, is listed, and goes."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hub import Fault, LoopbackHub
from loras import pair, put, safetensors

from imagegen.cli.loras import loras as command
from imagegen.models.download import retry
from imagegen.models.download.hub import Hub

WHOLE = safetensors(pair(), {"modelspec.trigger_phrase": "wtr"})
Run = Callable[..., Result]


@pytest.fixture
def run(home: Path, hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `imagegen loras …` in an empty folder, with the hub on the loopback."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMAGEGEN_HOME", str(home))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr("imagegen.cli.loras.Hub", lambda: Hub(hub.url))
    hub.files["owner/lora"] = {"water.safetensors": WHOLE, "README.md": b"x"}
    hub.files["owner/many"] = {"a.safetensors": WHOLE, "sub/b.safetensors": WHOLE}
    hub.files["owner/none"] = {"model.gguf": b"x"}
    hub.files["owner/broken"] = {"water.safetensors": WHOLE[:999]}

    def invoke(*words: str) -> Result:
        result = CliRunner().invoke(command, list(words))
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        return result

    return invoke


def there(home: Path) -> dict[str, bytes]:
    folder = home / "loras"
    return {one.name: one.read_bytes() for one in folder.iterdir()} if folder.exists() else {}


def test_a_file_is_added_listed_and_removed(run: Run, home: Path, tmp_path: Path) -> None:
    source = tmp_path / "Water colour.safetensors"
    source.write_bytes(WHOLE)
    added = run("add", str(source))
    assert added.exit_code == 0, added.stderr
    assert "Added Water colour (0.0 MB)" in added.stdout
    assert "made for:      FLUX" in added.stdout and "models:        tiny" in added.stdout
    assert "Copying Water colour.safetensors (0.0 MB)" in added.stderr
    assert there(home) == {"Water colour.safetensors": WHOLE}
    assert (home / "loras").stat().st_mode & 0o777 == 0o700
    assert "Water colour  0.0 MB\n  made for:      FLUX\n  trigger words: wtr\n" in run("list").stdout
    (listed,) = json.loads(run("list", "--json").stdout)
    assert listed["bytes"] == len(WHOLE) and "tiny" in listed["models"]
    assert run("remove", "Water colour").stdout == "Removed Water colour (0.0 MB).\n"
    assert there(home) == {} and "There are no LoRAs" in run("list").stderr


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["owner/lora"], "water"),
        (["owner/lora", "--name", "blue"], "blue"),
        (["owner/many/a.safetensors"], "a"),
        (["owner/many/sub/b.safetensors"], "b"),
    ],
    ids=["its only one", "another name", "a file", "in a folder"],
)
def test_a_lora_comes_from_the_hub(run: Run, home: Path, words: list[str], name: str) -> None:
    added = run("add", *words)
    assert added.exit_code == 0, added.stderr
    assert f"Added {name} (0.0 MB)" in added.stdout
    assert " at 0123456789: 0.0 MB; apache-2.0" in added.stderr
    assert there(home) == {f"{name}.safetensors": WHOLE}


def test_a_broken_connection_to_the_hub_goes_on(
    run: Run, hub: LoopbackHub, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "wait", lambda _seconds, _stop: None)
    hub.faults = [Fault(cut_after=2000)]
    added = run("add", "owner/lora")
    assert added.exit_code == 0, added.stderr
    assert hub.reads()[-1].range == "bytes=2000-"
    assert there(home) == {"water.safetensors": WHOLE}


def test_a_licence_that_forbids_commercial_use_must_be_accepted(run: Run, hub: LoopbackHub, home: Path) -> None:
    hub.licence = "cc-by-nc-4.0"
    refused = run("add", "owner/lora")
    assert refused.exit_code == 1 and "does not allow commercial use. Do you accept it?" in refused.stderr
    assert "imagegen loras add owner/lora --yes" in refused.stderr
    assert there(home) == {} and not hub.reads()
    assert run("add", "owner/lora", "--yes").exit_code == 0


BAD = {
    "cut.safetensors": WHOLE[:999],
    "page.safetensors": b"<html>404</html>" * 20,
    "model.safetensors": safetensors({"model.layers.0.weight": pair()[next(iter(pair()))]}),
    "a:b.safetensors": WHOLE,
    ".hidden.safetensors": WHOLE,
    "taken.safetensors": WHOLE,
}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cut.safetensors"], "cut.safetensors is cut off"),
        (["page.safetensors"], "page.safetensors is no safetensors file"),
        (["model.safetensors"], "model.safetensors is a whole model"),
        (["a:b.safetensors"], "cannot be the name of a LoRA"),
        ([".hidden.safetensors"], "cannot be the name of a LoRA"),
        (["taken.safetensors", "--name", "../x"], "cannot be the name of a LoRA"),
        (["taken.safetensors"], "There is a LoRA taken already."),
        (["nothing.safetensors"], "There is no file 'nothing.safetensors'."),
        (["."], "is a folder"),
        (["owner/many"], "Name the file: owner/many/FILE.safetensors. It has: a.safetensors, sub/b.safetensors."),
        (["owner/many/c.safetensors"], "owner/many has no c.safetensors. It has: a.safetensors"),
        (["owner/none"], "It has no file .safetensors."),
        (["owner/broken"], "water.safetensors is cut off"),
        (["nobody/there"], "nobody/there"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_added_leaves_nothing_behind(
    run: Run, home: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    for name, data in BAD.items():
        (tmp_path / name).write_bytes(data)
    put(home, "taken", b"as it was")
    refused = run("add", *words)
    assert refused.exit_code in {1, 2} and said in refused.stderr.replace("\n", " "), refused.stderr
    assert there(home) == {"taken.safetensors": b"as it was"}


def test_wrong_bytes_of_the_hub_are_thrown_away(run: Run, hub: LoopbackHub, home: Path) -> None:
    hub.faults = [Fault(flip=True)]
    refused = run("add", "owner/lora")
    assert refused.exit_code == 1 and "came with wrong bytes" in refused.stderr
    assert there(home) == {}


def test_a_full_disk_leaves_nothing_behind(run: Run, home: Path, tmp_path: Path, require: Callable[..., None]) -> None:
    (home / "loras").mkdir()
    disk = ["mount", "-t", "tmpfs", "-o", "size=66m", "none", str(home / "loras")]
    mounted = subprocess.run(disk, capture_output=True)
    require("a small disk (mount)", mounted.returncode == 0)
    try:
        (tmp_path / "large.safetensors").write_bytes(safetensors({"a.lora_up.weight": np.zeros((4_000_000,), "<f2")}))
        refused = run("add", "large.safetensors")
        assert refused.exit_code == 1 and "free, and the LoRA has 8.0 MB. Make room." in refused.stderr
        assert there(home) == {}
    finally:
        subprocess.run(["umount", str(home / "loras")], check=True)


def test_two_are_not_added_at_once(run: Run, home: Path, tmp_path: Path) -> None:
    (tmp_path / "one.safetensors").write_bytes(WHOLE)
    (home / "loras").mkdir()
    handle = os.open(home / "loras", os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert "Another LoRA is being added." in run("add", "one.safetensors").stderr
    finally:
        os.close(handle)
    assert run("add", "one.safetensors").exit_code == 0


def test_a_lora_that_is_not_there_cannot_be_removed(run: Run, home: Path) -> None:
    put(home, "one")
    for name in ("two", "../models/tiny/dit.gguf", "../loras/one"):
        refused = run("remove", name)
        assert refused.exit_code == 1 and "There is no LoRA" in refused.stderr
    assert there(home).keys() == {"one.safetensors"}
