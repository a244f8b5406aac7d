"""The built-in model draws what the prompt says: judged by the pixels, on the real engine.

Few steps and no guidance where that is enough, because a picture takes seconds on a CPU. What share of its pictures is
right is measured by benchmarks/sketch.py.
"""

from __future__ import annotations

import base64
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from event_stream import listening
from PIL import Image
from rules import arrows_join
from served import Service

from imagegen.models.catalog import Catalog
from imagegen.models.synthetic import make as synthetic
from imagegen.models.vocabulary import unknown_subject
from imagegen.settings import Settings

DEADLINE_S = 300.0
QUICK = {"steps": 4, "cfg_scale": 1.0}
HUES = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "yellow": (1, 1, 0)}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory, sd_server: Path) -> Iterator[Service]:
    """A service without an installed model, which draws with the included one."""
    home = tmp_path_factory.mktemp("sketch") / "home"
    service = Service(home, sd_server, {"idle_timeout": "never"})
    service._settings.pop("model")
    service.start()
    yield service
    service.end()


Draw = Callable[..., tuple[np.ndarray, dict[str, Any]]]


@pytest.fixture(scope="module")
def draw(drawn: Service) -> Draw:
    """`draw(prompt, …)`: the pixels (rows, columns, RGB) and the job; each picture is drawn once."""
    known: dict[str, tuple[np.ndarray, dict[str, Any]]] = {}

    def once(prompt: str, again: bool = False, **fields: Any) -> tuple[np.ndarray, dict[str, Any]]:
        request = {"prompt": prompt, "seed": 1} | QUICK | fields
        key = repr(request)
        if key not in known or again:
            route = "/api/edit" if "images" in request else "/api/generate"
            answer = drawn.http.post(route, json=request)
            assert answer.status_code == 202, answer.text
            job = drawn.ended(answer.json()["job_id"], DEADLINE_S)
            assert job["status"] == "complete", job
            known[key] = pixels(drawn.png(job)), job
        return known[key]

    return once


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(float)


def middle(picture: np.ndarray) -> np.ndarray:
    """The colour of the inner tenth."""
    h, w = (side * 9 // 20 for side in picture.shape[:2])
    return np.median(picture[h:-h, w:-w].reshape(-1, 3), axis=0)


def corners(picture: np.ndarray) -> np.ndarray:
    """The colours of the four corners."""
    h, w = (side // 16 for side in picture.shape[:2])
    return np.array(
        [part.mean((0, 1)) for part in (picture[:h, :w], picture[:h, -w:], picture[-h:, :w], picture[-h:, -w:])]
    )


def is_colour(rgb: np.ndarray, name: str) -> bool:
    """Whether the channels that make the colour stand out from the others."""
    strong = np.array(HUES[name], bool)
    return bool(rgb[strong].min() > rgb[~strong].max() + 40)


def test_it_is_the_default_where_nothing_else_is_and_says_what_it_is(drawn: Service) -> None:
    model = drawn.status()["model"]
    assert (model["default"], model["noise"]) == ("sketch", False)
    assert "simple clip-art" in model["limits"]
    assert f"up to {Catalog.packaged().get('sketch').defaults.width.max} px" in model["limits"], "agents go by it"
    shown = next(one for one in drawn.http.get("/api/models").json()["items"] if one["default"])
    assert "simple clip-art" in shown["title"] and shown["installed"]


def test_a_red_circle_is_red_in_the_middle_and_white_at_the_corners(draw: Draw) -> None:
    picture, job = draw("a red circle")
    assert is_colour(middle(picture), "red"), middle(picture)
    assert (corners(picture) > 225).all(), corners(picture)
    assert [w["code"] for w in job["warnings"]] == []


def test_another_colour_and_another_background(draw: Draw) -> None:
    assert is_colour(middle(draw("a blue circle")[0]), "blue")
    on_black = draw("a yellow star on a black background")[0]
    assert is_colour(middle(on_black), "yellow"), middle(on_black)
    assert (corners(on_black) < 90).all(), corners(on_black)


def test_a_low_strength_keeps_the_picture_and_1_edits_it(draw: Draw) -> None:
    source, job = draw("a red circle")
    body = {"images": [job["images"][0]["id"]]}
    kept, low = draw("make it blue", strength=0.2, **body)
    assert is_colour(middle(kept), "red") and np.abs(kept - source).mean() < 8
    assert (low["params"]["strength"], low["params"]["steps"]) == (0.2, QUICK["steps"])
    changed = draw("make it blue", strength=1, **body)[0]
    assert is_colour(middle(changed), "blue"), middle(changed)


def test_an_icon_is_transparent_around_its_subject(drawn: Service) -> None:
    answer = drawn.http.post(
        "/api/generate", json={"prompt": "a red heart", "seed": 1, "background": "transparent"} | QUICK
    )
    job = drawn.ended(answer.json()["job_id"], DEADLINE_S)
    assert [one["code"] for one in job["warnings"]] == ["background_removed"]
    assert [one["code"] for one in job["images"][0]["warnings"]] == ["background_removed"]
    rgba = np.asarray(Image.open(io.BytesIO(drawn.png(job)))).astype(float)
    assert rgba.shape == (128, 128, 4)
    alpha = rgba[..., 3]
    assert (alpha[:8].max(), alpha[-8:].max(), alpha[60:68, 60:68].min()) == (0, 0, 255)
    assert 0.15 < (alpha == 255).mean() < 0.6 and 0 < ((alpha > 0) & (alpha < 255)).mean() < 0.1
    assert is_colour(middle(rgba[..., :3]), "red")
    jpeg = Image.open(io.BytesIO(drawn.http.get(f"/images/{job['images'][0]['id']}.jpg").content))
    assert min(jpeg.getpixel((3, 3))) > 250, "a JPEG lies on white"
    body = {"prompt": "make it blue", "images": [job["images"][0]["id"]], "seed": 1} | QUICK
    edited = drawn.ended(drawn.http.post("/api/edit", json=body).json()["job_id"], DEADLINE_S)
    assert [one["code"] for one in edited["warnings"]] == ["transparency_on_white"]
    assert (corners(pixels(drawn.png(edited))) > 225).all()


def test_openais_sdk_gets_a_transparent_icon(drawn: Service) -> None:
    with openai.OpenAI(base_url=f"{drawn.url}/v1", api_key="none", max_retries=0, timeout=DEADLINE_S) as client:
        asked = {"prompt": "a red circle", "background": "transparent", "extra_body": {"seed": 1} | QUICK}
        answer = client.images.generate(**asked)
        with client.images.generate(**asked, output_format="webp", stream=True) as stream:
            (event,) = stream
    assert (answer.background, event.background) == ("transparent", "transparent")
    for b64 in (answer.data[0].b64_json, event.b64_json):
        image = Image.open(io.BytesIO(base64.b64decode(b64 or "")))
        assert (image.mode, image.getpixel((2, 2))[3], image.getpixel((64, 64))[3]) == ("RGBA", 0, 255)


def test_a_small_drawing_on_a_plain_background_is_not_blank(draw: Draw) -> None:
    for prompt in ("a red circle", "a blue circle", "a yellow star on a black background", "a small white cloud"):
        assert "blank_picture" not in [warning["code"] for warning in draw(prompt)[1]["warnings"]], prompt


def test_another_thing_has_another_shape(draw: Draw) -> None:
    """A disc fills most of the box around it; two boxes with an arrow leave the box's middle rows' ends full."""
    circle, boxes = (np.ptp(draw(p)[0], axis=2) > 60 for p in ("a red circle", "two blue boxes joined by an arrow"))
    rows, columns = (np.flatnonzero(circle.any(axis=1 - axis)) for axis in (0, 1))
    assert 0.6 < len(rows) / len(columns) < 1.6, "about as high as wide"
    rows, columns = (np.flatnonzero(boxes.any(axis=1 - axis)) for axis in (0, 1))
    assert len(columns) > 1.4 * len(rows), "wider than high"
    gap = boxes[:, boxes.shape[1] * 9 // 20 : boxes.shape[1] * 11 // 20]
    assert gap.mean() < 0.1, "nothing blue between the boxes"


def test_boxes_are_joined_by_an_arrow_with_a_head(drawn: Service) -> None:
    """With the model's own numbers."""
    job = drawn.draw("two blue boxes joined by an arrow", width=None, height=None, steps=None, seed=1)
    assert arrows_join(np.asarray(Image.open(io.BytesIO(drawn.png(job))).convert("RGB")), 2)


def test_the_seed_matters_and_repeats(draw: Draw) -> None:
    first = draw("a red circle")[0]
    other = draw("a red circle", seed=2)[0]
    assert np.abs(first - other).max() > 30
    assert is_colour(middle(other), "red"), "whatever the seed"
    assert (draw("a red circle", again=True)[0] == first).all()


def test_an_edit_starts_from_its_picture(draw: Draw) -> None:
    source, job = draw("a red circle")
    edited, answer = draw("make it blue", images=[job["images"][0]["id"]])
    drawn_without = draw("make it blue")[0]
    assert answer["kind"] == "edit"
    assert edited.shape == source.shape
    assert np.abs(edited - source).max() > 30 and np.abs(edited - drawn_without).max() > 30


def covered(picture: np.ndarray) -> np.ndarray:
    """Where the picture is not its background."""
    return np.abs(picture - np.median(corners(picture), axis=0)).max(-1) > 40


@pytest.mark.parametrize("thing", ["circle", "heart"])
def test_an_edit_changes_the_colour_and_keeps_the_shape(draw: Draw, thing: str) -> None:
    source, job = draw(f"a red {thing}", steps=8)
    edited, _ = draw("make it blue", images=[job["images"][0]["id"]], steps=8)
    assert is_colour(middle(source), "red") and is_colour(middle(edited), "blue")
    assert (corners(edited) > 225).all(), "the background stays"
    before, after = covered(source), covered(edited)
    assert (before & after).sum() > 0.75 * (before | after).sum(), "what is covered before and after"


@pytest.mark.parametrize(
    "prompt",
    [
        "a zorbulated giraffe playing chess",
        "?",
        "((((a:2.5) [red BREAK circle",
        "рыжая лиса 🦊 на снегу",
        "circle " * 500,
    ],
    ids=["unknown", "a mark", "brackets", "unicode", "long"],
)
def test_odd_prompts_become_something(draw: Draw, prompt: str) -> None:
    picture, job = draw(prompt, steps=1)
    assert picture.shape == (128, 128, 3)
    codes = [warning["code"] for warning in job["warnings"]]
    assert ("unknown_subject" in codes) == ("circle" not in prompt)


@pytest.mark.parametrize("size", [(64, 256), (256, 96), (192, 192), (1024, 1024)])
def test_another_size_than_the_trained_one_is_refused(drawn: Service, size: tuple[int, int]) -> None:
    asked = {"prompt": "a red circle", "width": size[0], "height": size[1]}
    answer = drawn.http.post("/api/generate", json=asked)
    assert (answer.status_code, answer.json()["code"]) == (422, "size_out_of_range")
    assert answer.json()["detail"] == f"width is {size[0]}; sketch takes 128 px."


def test_the_default_size_of_openais_clients_is_reduced(drawn: Service) -> None:
    with openai.OpenAI(base_url=f"{drawn.url}/v1", api_key="none", max_retries=0) as client:
        answer = client.images.generate(prompt="a red circle", size="1024x1024")
    assert (answer.size, answer.data[0].b64_json is not None) == ("128x128", True)
    assert answer.model_extra["warnings"] == [
        {"code": "size_reduced", "detail": "sketch draws sides of 128 px: 1024x1024 became 128x128."}
    ]


def test_the_command_line_draws_it_with_its_own_numbers(drawn: Service, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "imagegen.cli",
        "draw",
        "a clipart icon of a green tree",
        "-o",
        "tree.png",
        "--seed",
        "3",
    ]
    environment = {**os.environ, "IMAGEGEN_URL": drawn.url}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr
    picture = pixels((tmp_path / "tree.png").read_bytes())
    coloured = picture[np.ptp(picture, axis=2) > 60]
    assert len(coloured) > 0.05 * picture[..., 0].size, "a tree is no speck"
    assert is_colour(np.median(coloured, axis=0), "green")
    params = drawn.http.get("/api/jobs", params={"limit": 1}).json()["items"][0]["params"]
    defaults = Catalog.packaged().get("sketch").defaults
    for name, sourced in defaults:
        assert params[name] == sourced.value, name
    assert params["scheduler"] == "simple"


def test_the_command_line_says_what_it_is(drawn: Service) -> None:
    environment = {**os.environ, "IMAGEGEN_URL": drawn.url, "IMAGEGEN_HOME": str(drawn.home)}

    def said(*arguments: str) -> str:
        command = [sys.executable, "-m", "imagegen.cli", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60).stdout

    for arguments in (("status",), ("models", "list"), ("models", "show", "sketch"), ("doctor",)):
        assert "simple clip-art" in said(*arguments), arguments


# Words


THINGS = [["circle", "circles", "disc"], ["coffee cup", "coffee cups", "mug"]]


@pytest.mark.parametrize(
    ("prompt", "known"),
    [
        ("a red circle", True),
        ("A Red CIRCLE.", True),
        ('"circle"', True),
        ("three circles", True),
        ("a coffee-cup", True),
        ("a cup of coffee", False),
        ("a semicircle", False),
        ("circled", False),
        ("", False),
        ("猫", False),
    ],
)
def test_a_prompt_that_names_nothing_known_is_told(prompt: str, known: bool) -> None:
    warning = unknown_subject("small", THINGS, prompt)
    assert (warning is None) == known
    if warning is not None:
        assert warning.code == "unknown_subject"
        assert "simple clip-art" in warning.detail and "It knows: circle, coffee cup." in warning.detail


def test_only_a_model_whose_world_is_counted_has_such_a_list() -> None:
    catalog = Catalog.packaged()
    things = synthetic.things(catalog.get("sketch"))
    assert things and all(names and names[0] == names[0].lower() for names in things)
    assert synthetic.things(catalog.get("tiny")) is None
    assert synthetic.things(catalog.get("qwen-image")) is None


def test_what_somebody_installed_comes_before_our_own(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    settings.models_dir.mkdir()
    files = '[[files]]\nrole = "model"\nflag = "--model"\nfile = "m.gguf"\n'
    (settings.models_dir / "mine.toml").write_text(f'base = "sd-turbo"\ntitle = "Mine"\n{files}')
    assert Catalog.load(settings).default(settings, has_gpu=False).name == "sketch", "it is not here yet"
    (settings.models_dir / "mine").mkdir()
    (settings.models_dir / "mine" / "m.gguf").touch()
    assert Catalog.load(settings).default(settings, has_gpu=False).name == "mine"
    assert Catalog.load(settings).default(settings, has_gpu=True).name == "qwen-image-edit-2511"


def test_its_previews_have_the_colours_of_the_picture(drawn: Service) -> None:
    job = drawn.submit("a red circle on a light blue background", width=128, height=128, steps=8, preview="auto")
    seen: list[bytes] = []
    with listening(drawn, f"/api/jobs/{job['job_id']}/events") as stream:
        for event in stream:
            if event.name == "preview" and (answer := drawn.http.get(event.data["url"])).status_code == 200:
                seen.append(answer.content)
    assert seen
    pixels = np.asarray(Image.open(io.BytesIO(seen[0])).convert("RGB")).astype(int)
    assert pixels.shape == (128, 128, 3)
    red, green, blue = pixels[56:72, 56:72].mean((0, 1))
    assert red > max(green, blue) + 60, (red, green, blue)
    red, green, blue = pixels[4:12, 4:12].mean((0, 1))
    assert blue > red + 20, (red, green, blue)
    assert min(red, green, blue) > 140
