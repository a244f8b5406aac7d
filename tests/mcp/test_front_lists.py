"""What an agent can ask of the service before and after drawing: models, pictures, larger copies, masks."""

from __future__ import annotations

import json

import pytest
from fronts import SMALL, after, call, image_id_of, job_id_of, run, saved_path_of, text_of, within
from loras import pair, put, safetensors
from PIL import Image

from mcp_front.answers import Said
from mcp_front.gallery import MAX_PROMPT_CHARS, FoundImage
from mcp_front.models import Model

MODEL = {
    "name": "m",
    "title": "M",
    "description": "Draws all.",
    "default": False,
    "installed": True,
    "capabilities": {"draw": True, "edit": True, "mask": True, "max_references": 4},
    "defaults": {
        "width": {"value": 512, "min": 256, "max": 1024},
        "height": {"value": 384, "min": 256, "max": 1024},
        "steps": {"value": 4},
    },
}


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        (
            {},
            [
                "- m (installed): Draws all. Draws, edits up to 4 pictures, takes a mask; 512 x 384 px, sides of "
                "256 to 1024 px; speed not measured here yet."
            ],
        ),
        (
            {
                "default": True,
                "limits": "Only cups.",
                "picture_s": 12.4,
                "fast": {"cache_mode": "x"},
                "misfits": [Said(code="does_not_fit", detail="Needs 24 GB.\nMore.")],
                "capabilities": {"draw": True, "edit": True, "max_references": 1},
                "defaults": {side: {"value": 128, "min": 128, "max": 128} for side in ("width", "height", "steps")},
            },
            [
                "- m (installed, the default): Draws all. Draws, edits one picture; 128 x 128 px; about 12 s a "
                "picture, takes speed=fast.",
                "    Limits: Only cups.",
                "    Needs 24 GB.",
            ],
        ),
        ({"installed": False}, ["- m (not installed): Draws all."]),
    ],
)
def test_a_model_in_words(changes, lines):
    assert Model.model_validate(MODEL | changes).lines() == lines


def test_list_models_says_what_each_is_and_the_default_first(service):
    async def story():
        async with within(service.url, ui=True) as client:
            return await call(client, "list_models")

    result = run(story())
    catalog = service.http.get("/api/models").json()["items"]
    assert {one["name"] for one in result.structured_content["models"]} == {one["name"] for one in catalog}
    first, limits, *_ = text_of(result).splitlines()
    (tiny,) = [one for one in catalog if one["default"]]
    assert first.startswith(f"- tiny (installed, the default): {tiny['description']} Draws, edits up to 4 pictures")
    assert limits.strip() == f"Limits: {tiny['limits']}"


def test_a_lora_is_listed_and_drawn_with(service):
    file = put(service.home, "soft", safetensors(pair(), {"modelspec.trigger_phrase": "wtr, soft"}))
    put(service.home, "broken", b"no LoRA")

    async def story():
        async with within(service.url, ui=True) as client:
            listed = await call(client, "list_models")
            drawn = await call(
                client, "generate_image", prompt="a red circle", loras=[{"name": "soft", "strength": 0.5}], **SMALL
            )
            return listed, drawn

    try:
        listed, drawn = run(story())
    finally:
        for one in file.parent.iterdir():
            one.unlink()
    assert [(one["name"], "tiny" in one["models"]) for one in listed.structured_content["loras"]] == [("soft", True)]
    assert "\nLoRAs, for `loras` of generate_image:\n- soft, for " in text_of(listed)
    assert "; write in the prompt: wtr, soft\n" in text_of(listed)
    assert service.job(drawn.structured_content["job_id"])["params"]["loras"] == [{"name": "soft", "strength": 0.5}]


def test_the_catalog_says_the_measured_speed_and_misfits(service):
    service.draw()
    models = {one["name"]: one for one in service.http.get("/api/models").json()["items"]}
    assert models["tiny"]["picture_s"] > 0 and models["tiny"]["misfits"] == []
    assert models["qwen-image"]["picture_s"] is None


def test_pictures_are_found_by_words_of_their_prompts(service):
    async def story():
        async with within(service.url, ui=True) as client:
            drawn = [
                image_id_of(await call(client, "generate_image", prompt=prompt, **SMALL))
                for prompt in ("an ochre heron\n at dusk", "an ochre gate")
            ]
            both = await call(client, "list_images", query="Ochre")
            one = await call(client, "list_images", query="dusk HERON")
            none = await call(client, "list_images", query="ochre zebra")
            newest = await call(client, "list_images", limit=1)
            (recent,) = await client.read_resource("image://recent")
        return drawn, both, one, none, newest, json.loads(recent.text)

    (heron, gate), both, one, none, newest, recent = run(story())
    assert [found["image_id"] for found in both.structured_content["images"]] == [gate, heron]
    assert [found["image_id"] for found in one.structured_content["images"]] == [heron]
    assert text_of(one).splitlines()[1].startswith(f"1. {heron}: 64 x 64 px, seed 7, model tiny (until 20")
    assert text_of(one).splitlines()[1].endswith(": an ochre heron at dusk")
    assert text_of(none).startswith("No picture was found.") and none.structured_content["images"] == []
    assert len(newest.structured_content["images"]) == 1
    assert {heron, gate} <= {found["image_id"] for found in recent}


def test_a_long_prompt_is_cut_and_a_kept_picture_is_named_as_such():
    known = {"image_id": "i", "width": 1, "height": 2, "seed": 3, "model": "m", "prompt": "x" * 500}
    found = FoundImage(**known, expires_at=None, kept=True, board="Owls", note="for Ann")
    assert found.line == f"i: 1 x 2 px, seed 3, model m (kept on Owls): {'x' * MAX_PROMPT_CHARS}… Note: for Ann"
    uploaded = FoundImage(
        **known | {"seed": None, "model": None, "prompt": ""}, expires_at=None, kept=False, board=None, note=None
    )
    assert uploaded.line == "i: 1 x 2 px, uploaded: "


def test_a_picture_is_kept_on_a_board_and_found_by_its_note(service):
    picture = service.draw()["images"][0]["id"]

    async def story():
        async with within(service.url, ui=True) as client:
            kept = await call(client, "keep_image", image_id=picture, board="Owls", note="for Ann's wall")
            found = await call(client, "list_images", query="ann wall", kept=True)
            return kept, found, await call(client, "list_images", query="no such words", kept=True)

    try:
        kept, found, none = run(story())
    finally:
        service.http.delete(f"/api/images/{picture}/keep")
    assert text_of(kept).splitlines()[0] == f"Picture {picture} is kept on the board Owls: it no longer expires."
    assert "Tell the user" in text_of(kept)
    (facts,) = found.structured_content["images"]
    assert (facts["image_id"], facts["kept"], facts["board"]) == (picture, True, "Owls")
    assert "(kept on Owls): a red circle Note: for Ann's wall" in text_of(found)
    assert text_of(none).startswith("No picture was found.")


def test_a_larger_copy_of_a_picture_or_a_file_is_made_and_saved(service, tmp_path):
    picture, source = service.draw("a violet kite")["images"][0]["id"], tmp_path / "source.png"
    Image.effect_noise((10, 6), 80).convert("RGB").save(source)

    async def story():
        async with within(service.url, output_dir=tmp_path / "saved", mcp_roots=tmp_path) as client:
            larger = await call(client, "upscale_image", image=picture, factor=4)
            of_file = await call(client, "upscale_image", image=str(source))
            return larger, of_file, await call(client, "list_images", query="violet kite", limit=1)

    larger, of_file, listed = run(story())
    for result, size, ending in ((larger, (256, 256), "a-violet-kite"), (of_file, (20, 12), "")):
        assert not result.is_error, text_of(result)
        assert text_of(result).startswith(f"Enlarged 1 picture: {size[0]} x {size[1]} px, model lanczos")
        path = saved_path_of(result)
        assert Image.open(path).size == size and ending in path.name
        assert "enlarged by Lanczos' filter, which adds no detail" in text_of(result)
        assert "seed" not in text_of(result).partition("(job ")[0]
    assert text_of(listed).splitlines()[1].startswith(f"1. {image_id_of(larger)}: 256 x 256 px, model lanczos (until")


def test_a_transparent_background_reaches_the_service(service):
    async def story():
        async with within(service.url) as client:
            return await call(client, "generate_image", prompt="an amber star", background="transparent", **SMALL)

    result = run(story())
    assert not result.is_error, text_of(result)
    job = service.job(text_of(result).split("(job ")[1][:32])
    assert job["params"]["background"] == "transparent"


def test_a_mask_and_a_fit_reach_the_engine(service, tmp_path):
    source, mask = tmp_path / "source.png", tmp_path / "mask.png"
    Image.effect_noise((64, 64), 80).convert("RGB").save(source)
    drawn = Image.new("RGBA", (64, 64), (0, 0, 0, 255))
    drawn.paste((0, 0, 0, 0), (32, 0, 64, 64))  # transparent: may change
    drawn.save(mask)

    async def story():
        async with within(service.url, output_dir=tmp_path, mcp_roots=tmp_path) as client:
            asked = {"prompt": "make it blue", "images": [str(source)], "fit": "stretch", **SMALL}
            return [await call(client, "edit_image", **asked, **more) for more in ({}, {"mask": str(mask)})]

    whole, masked = run(story())
    assert not masked.is_error, text_of(masked)
    assert saved_path_of(whole).read_bytes() != saved_path_of(masked).read_bytes()
    job = service.job(after(text_of(masked), "(job ").rstrip(")."))
    assert job["params"]["fit"] == "stretch"


@pytest.mark.parametrize("tool", ["generate_image", "submit_async_job"])
def test_a_drawing_tool_that_does_not_wait_hands_back_the_job(service, tool):
    arguments = {"wait": False} if tool == "generate_image" else {}

    async def story():
        async with within(service.url) as client:
            return await call(client, tool, prompt="not waited for", **arguments, **SMALL)

    result = run(story())
    job_id = job_id_of(result)
    assert f'get_job_result(job_id="{job_id}")' in text_of(result)
    assert not [part for part in result.content if part.type == "image"]
    assert service.job(job_id)["prompt"] == "not waited for"


def test_the_server_has_an_icon(service):
    async def story():
        async with within(service.url) as client:
            return client.server_info.icons

    (icon,) = run(story())
    assert icon.mime_type == "image/svg+xml" and icon.src.startswith("data:image/svg+xml;base64,")
