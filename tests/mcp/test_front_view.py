"""The view in the official AppBridge host, in headless Chromium."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from pathlib import Path

import pytest
from fronts import SMALL, http_front

pytestmark = pytest.mark.npm

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def test_the_view_shows_the_preview_then_the_whole_picture_and_saves_it(service, node, require, tmp_path):
    require("Chromium", CHROMIUM is not None)
    script = Path(__file__).parent / "node" / "view.mjs"
    drawing = json.dumps({"prompt": "a red ball", **SMALL})
    with http_front(service.url) as front:
        ended = node("node", script, CHROMIUM, f"{front}/mcp", drawing, tmp_path / "view.png")
    assert ended.returncode == 0, ended.stderr
    got = json.loads(ended.stdout)
    (picture,) = got["result"]["structuredContent"]["images"]
    stored = service.http.get(f"/images/{picture['image_id']}.png").content

    whole = got["before"]
    assert whole["src"].startswith("blob:") and whole["full"] == f"64x64:{len(stored)}"
    assert (whole["width"], whole["height"], whole["alt"]) == (64, 64, "a red ball")
    assert "seed 7" in whole["facts"] and "tiny" in whole["facts"] and picture["url"] in whole["path"]
    assert whole["saves"] and not whole["zoomed"] and got["zoomed"]["zoomed"] and whole["status"] == ""
    (saved,) = got["downloaded"]
    content = base64.b64decode(saved["resource"]["blob"])
    assert hashlib.sha256(content).digest() == hashlib.sha256(stored).digest()
    assert saved["resource"]["uri"].endswith(".png") and got["sizes"] > 0

    # A host of the older protocol, whose view the front cannot know of.
    assert got["legacy"]["full"] == f"64x64:{len(stored)}" and "seed 7" in got["legacy"]["facts"]

    # A host that passes no tool calls on still shows the preview.
    assert got["preview"]["src"].startswith("data:image/jpeg;base6") and got["preview"]["full"] is None
    assert not got["preview"]["saves"]
    # Nothing is loaded from anywhere but the host itself, and the host's policy was never hit.
    foreign = [url for url in got["asked"] if not url.startswith((got["address"], "data:", "blob:", "about:"))]
    assert foreign == [] and got["wrong"] == []
