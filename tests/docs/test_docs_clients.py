"""docs/clients.md as a reader types it: the blocks of each section, in order, against the service."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import client_requests
import pytest
from PIL import Image
from served import ROOT, Require, Service

from imagegen.http.openai import fields, request

PAGE = (ROOT / "docs" / "clients.md").read_text()
BLOCK = re.compile(r"^```(bash|python) run\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HERE = "http://127.0.0.1:8765"


def section(title: str) -> list[tuple[str, str]]:
    """The blocks to run under a heading: (language, text)."""
    text = re.split(rf"^## {re.escape(title)}$", PAGE, flags=re.MULTILINE)[1]
    return BLOCK.findall(re.split(r"^## ", text, flags=re.MULTILINE)[0])


def typed(service: Service, folder: Path, blocks: list[tuple[str, str]]) -> str:
    """Run the blocks as one session in `folder`; what it printed."""
    (language,) = {language for language, _ in blocks}
    text = "\n".join(text for _, text in blocks)
    assert HERE in text
    text = text.replace(HERE, service.url)
    command = ["bash", "-euo", "pipefail", "-c", text] if language == "bash" else [sys.executable, "-c", text]
    environment = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "BENTOML_DO_NOT_TRACK": "1"}
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=180)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def pictures(folder: Path) -> dict[str, tuple[str | None, tuple[int, int]]]:
    files = [file for file in folder.iterdir() if file.suffix != ".json"]
    return {file.name: (Image.open(file).format, Image.open(file).size) for file in files}


def test_curl(service: Service, tmp_path: Path, require: Require) -> None:
    require("curl is not installed", shutil.which("curl") is not None)
    printed = typed(service, tmp_path, section("curl"))
    assert printed.startswith("retry: ")
    assert '"status":"complete"' in printed
    assert pictures(tmp_path) == {
        "circle.png": ("PNG", (128, 128)),
        "small.webp": ("WEBP", (64, 64)),
        "tree.png": ("PNG", (128, 128)),
    }


def test_openais_sdk(service: Service, tmp_path: Path) -> None:
    printed = typed(service, tmp_path, section("OpenAI's SDK"))
    assert re.search(r"/images/[0-9a-f]{32}\.jpg$", printed, re.MULTILINE)
    assert re.search(r"^model_not_found \[.*'tiny'.*\]$", printed, re.MULTILINE)
    assert pictures(tmp_path) == {
        "circle-0.png": ("PNG", (128, 128)),
        "circle-1.png": ("PNG", (128, 128)),
        "tree.webp": ("WEBP", (128, 128)),
    }


def test_automatic1111s_python_client(service: Service, tmp_path: Path, require: Require) -> None:
    require("webuiapi is not installed", importlib.util.find_spec("webuiapi") is not None)
    models, settings = typed(service, tmp_path, section("AUTOMATIC1111's API")).splitlines()
    assert "tiny" in models
    assert settings.startswith("Steps: 2, Sampler: Euler a, CFG scale: 1, Seed: 7, Size: 64x64, Model: tiny, Version: ")
    assert pictures(tmp_path) == {"drawn.png": ("PNG", (64, 64)), "edited.png": ("PNG", (64, 64))}


@pytest.mark.parametrize("which", [0, 1], ids=["submitted", "awaited"])
def test_bentomls_client(service: Service, tmp_path: Path, which: int) -> None:
    printed = typed(service, tmp_path, [section("BentoML's client")[which]]).splitlines()
    assert service.http.get(printed[0]).content[:4] == b"\x89PNG"
    assert printed[1:] in ([], ["pending"], ["in_progress"])


def test_the_table_of_openais_parameters_is_complete() -> None:
    named = set(re.findall(r"`(\w+)", "\n".join(line for line in PAGE.splitlines() if line.startswith("| `"))))
    known = {*request.ImagesEditRequest.model_fields, *fields.FIXED, *fields.IGNORED, *fields.SYNONYMS}
    assert known <= named, known - named


def test_the_table_of_programs_says_what_is_tested() -> None:
    head = "| program | draw | edit | models | progress | cancel |\n|---|---|---|---|---|---|\n"
    shown = PAGE.partition(head)[2].partition("\n\n")[0].splitlines()
    assert shown == client_requests.table()
    tests = "".join(file.read_text() for file in (ROOT / "tests").glob("*/test_*.py"))
    for names in client_requests.RUN.values():
        for name in names.values():
            assert f"def {name}(" in tests
    headings = "".join(re.findall(r"^### .*$", PAGE, re.MULTILINE))
    for client in {one.client.split(",")[0] for one in client_requests.RECORDED}:
        assert client in headings, f"{client} has no recipe"
