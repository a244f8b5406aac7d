"""What the page, the command line and the MCP front call the same progress."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from served import Require

import imagegen
from imagegen.cli.delivery import _describe
from imagegen_client.answers import JobState, parsed
from imagegen_client.progress import describe

WORDS_JS = Path(imagegen.__file__).parent / "web" / "js" / "words.js"


def on_the_page(function: str, *values: Any) -> str:
    given = ", ".join(map(json.dumps, values))
    script = f"import {{ {function} }} from {json.dumps(WORDS_JS.as_uri())}; console.log({function}({given}));"
    ran = subprocess.run(
        ["node", "--input-type=module", "--eval", script], capture_output=True, text=True, timeout=300, check=True
    )
    return ran.stdout.strip()


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        ({"phase": "encoding", "step": 128, "steps": 1280}, "writing the picture's tokens 128/1280"),
        ({"phase": "sampling", "step": 7, "steps": 25}, "drawing: step 7/25"),
    ],
)
def test_tokens_are_no_steps(require: Require, progress: dict[str, Any], words: str) -> None:
    require("node (apt install nodejs)", shutil.which("node") is not None)
    job = {"job_id": "a", "status": "running", "progress": {"image": 1} | progress, "params": {"n": 1}}
    assert _describe(job) == words
    assert describe(parsed(JobState, job, "job")) == words
    assert on_the_page("doing", job, None) == words[0].upper() + words[1:]


@pytest.mark.parametrize(
    ("left_s", "words"),
    [(2100, "fetching 12 %, 35 min left"), (40, "fetching 12 %, 40 s left"), (None, "fetching 12 %")],
)
def test_a_long_download_has_its_minutes_left(require: Require, left_s: float | None, words: str) -> None:
    require("node (apt install nodejs)", shutil.which("node") is not None)
    assert on_the_page("fetchWord", {"bytes_done": 12, "bytes_total": 100, "left_s": left_s}) == words
