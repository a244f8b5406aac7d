"""docs/python.md and docs/python.ipynb as a reader runs them, against the service."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from served import ROOT, Require, Service

import imagegen_client
from imagegen_client import ServiceError

PAGE = (ROOT / "docs" / "python.md").read_text()
BLOCK = re.compile(r"^```python run\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(service: Service, folder: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "IMAGEGEN_URL": service.url, "PYTHONIOENCODING": "utf-8"}
    command = (sys.executable, *command)
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=180)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_the_page_begins_with_what_to_type() -> None:
    assert BLOCK.findall(PAGE)[0].strip().endswith('Client().draw("a cat").save("cat.png")')


def test_the_blocks_of_the_page_run(service: Service, tmp_path: Path) -> None:
    printed = run(service, tmp_path, "-c", "\n".join(BLOCK.findall(PAGE)))
    kinds = {file.name: Image.open(file).format for file in tmp_path.iterdir() if file.name != "forming.jpg"}
    assert kinds == {
        **dict.fromkeys(["cat.png", "rotated.png", "large.png", "tree.png", "circle-1.png", "circle-2.png"], "PNG"),
        "circle.webp": "WEBP",
    }
    assert re.search(r"^7 \(128, 128\) http://\S+\.png$", printed, re.MULTILINE)
    assert "100%  complete" in printed
    assert "tiny installed" in printed
    assert "unknown_model There is no model 'dall-e-3'." in printed


def test_the_notebook_runs_and_shows_progress_and_pictures(service: Service, tmp_path: Path, require: Require) -> None:
    require("the notebook needs IPython", importlib.util.find_spec("IPython") is not None)
    printed = run(service, tmp_path, str(ROOT / "tests/support/run_cells.py"), str(ROOT / "docs/python.ipynb"))
    cells = [json.loads(line) for line in printed.splitlines()]
    live = next(cell["shown"] for cell in cells if 'preview="auto"' in cell["source"])
    *progress, cleared, picture = live
    assert len({output["display_id"] for output in [*progress, cleared]}) == 1, "one output that changes"
    assert [output["update"] for output in progress] == [False] + [True] * (len(progress) - 1)
    assert "<progress" in progress[0]["html"] and progress[-1]["plain"] == "complete"
    assert (cleared["html"], cleared["update"]) == ("", True)
    assert "image/png" in picture["types"]
    assert any("image/png" in cell["result"] for cell in cells), "a picture as a value is shown too"


def test_every_kind_of_error_is_in_the_table() -> None:
    public = {name for name in imagegen_client.__all__ if isinstance(getattr(imagegen_client, name), type)}
    kinds = {name for name in public if issubclass(getattr(imagegen_client, name), ServiceError)}
    section = PAGE[PAGE.index("## Errors") : PAGE.index("## Connect")]
    listed = set(re.findall(r"`([A-Z]\w+)`", "\n".join(re.findall(r"^\|.*\|", section, re.MULTILINE))))
    assert listed == kinds - {"ServiceError", "Refused"}


@pytest.mark.parametrize("name", sorted(imagegen_client.__all__))
def test_what_is_public_is_there(name: str) -> None:
    assert getattr(imagegen_client, name).__doc__ or name in {"ImageLike"}
