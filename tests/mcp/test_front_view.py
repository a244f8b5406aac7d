"""The view in the official AppBridge host, in headless Chromium."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from pathlib import Path

import pytest
from fronts import SMALL, http_front
from PIL import Image

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
    assert whole["buttons"] == ["edit", "more", "save"] and whole["status"] == ""
    assert not whole["zoomed"] and got["zoomed"]["zoomed"]
    (saved,) = got["downloaded"]
    content = base64.b64decode(saved["resource"]["blob"])
    assert hashlib.sha256(content).digest() == hashlib.sha256(stored).digest()
    assert saved["resource"]["uri"].endswith(".png") and got["sizes"] > 0

    # A host of the older protocol, whose view the front cannot know of.
    assert got["legacy"]["full"] == f"64x64:{len(stored)}" and "seed 7" in got["legacy"]["facts"]

    # A host that passes no tool calls on still shows the preview.
    assert got["preview"]["src"].startswith("data:image/jpeg;base6") and got["preview"]["full"] is None
    assert got["preview"]["buttons"] == []
    # Nothing is loaded from anywhere but the host itself, and the host's policy was never hit.
    foreign = [url for url in got["asked"] if not url.startswith((got["address"], "data:", "blob:", "about:"))]
    assert foreign == [] and got["wrong"] == []


LONG = {"width": 128, "height": 128, "steps": 30, "seed": 7, "n": 4}


def test_candidates_come_one_by_one_and_are_chosen_edited_and_varied(service, node, require, tmp_path):
    require("Chromium", CHROMIUM is not None)
    before = set((service.home / "images").iterdir())
    script = Path(__file__).parent / "node" / "candidates.mjs"
    drawing = json.dumps({"prompt": "three kites", **LONG})
    with http_front(service.url) as front:
        ended = node("node", script, CHROMIUM, f"{front}/mcp", drawing, tmp_path / "view.png")
    assert ended.returncode == 0, ended.stderr
    got = json.loads(ended.stdout)

    # While the tool runs: a card for each picture, the first one whole, another as it looks now.
    first, second, third, fourth = got["forming"]["cards"]
    assert got["forming"]["result"] is None and first["alt"] == "Picture 1: three kites"
    assert first["full"] and second["full"] and third["src"].startswith("data:image/jpeg")
    assert third["id"] is fourth["id"] is None and fourth["buttons"] == []
    # A job that is cancelled keeps its finished pictures, and the sheet shows no others.
    finished = [card["id"] for card in got["finished"]]
    assert finished == [one["image_id"] for one in got["result"]["structuredContent"]["images"]]
    assert [first["id"], second["id"]] == finished[:2] and len(finished) < 4

    assert [card["chosen"] for card in got["chosen"]] == [True] + [False] * (len(finished) - 1)
    chose, edited, varied = got["told"]
    assert chose == f"The user chose picture 1: image id {first['id']}, seed 7. Use this image id from here on."

    *same, new = [card["id"] for card in got["edited"]]
    assert same == finished
    assert f"the user had picture 1: image id {first['id']}, seed 7 changed where they painted" in edited
    assert f": a green kite. The result is picture {len(finished) + 1}: image id {new}" in edited and chose in edited
    drawn = {one["id"]: one["job_id"] for one in service.http.get("/api/images").json()["items"]}
    job = service.job(drawn[new])
    assert (job["kind"], job["prompt"], job["references"]) == ("edit", "a green kite", [first["id"]])
    masks = [path for path in set((service.home / "images").iterdir()) - before if path.stem not in drawn]
    for mask in [Image.open(path).convert("L") for path in masks]:
        assert mask.size == (128, 128) and mask.getpixel((64, 64)) == 255 and mask.getpixel((5, 64)) == 0
    assert masks

    more = [card["id"] for card in got["varied"]][len(same) + 1 :]
    assert len(more) == 3 and {service.job(drawn[one])["prompt"] for one in more} == {"a green kite"}
    assert f"asked for more like picture {len(finished) + 1}" in varied and got["wrong"] == []
