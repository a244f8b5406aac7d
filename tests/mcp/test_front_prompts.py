"""Templates as prompts, completion, resources, and warming: against the real service."""

from __future__ import annotations

import pytest
from fronts import SMALL, call, image_id_of, run, text_of, within
from loras import pair, put, safetensors
from mcp_types import PromptReference, ResourceTemplateReference

from mcp_front.client import Service
from mcp_front.connection import Connection
from mcp_front.prompts import TemplatePrompts
from mcp_front.settings import Settings
from mcp_front.templates import Placeholder, Template


def test_each_template_is_a_prompt_with_its_gaps_as_arguments(service):
    templates = service.http.get("/api/templates").json()["items"]

    async def story():
        async with within(service.url) as client:
            return {prompt.name: prompt for prompt in await client.list_prompts()}

    prompts = run(story())
    assert set(prompts) == {template["name"] for template in templates} and "whiteboard_diagram" in prompts
    for template in templates:
        offered = {argument.name: argument.required for argument in prompts[template["name"]].arguments}
        gaps = {gap["name"]: gap["default"] is None for gap in template["placeholders"]}
        assert offered == gaps | {"model": False, "lora": False}
        assert prompts[template["name"]].title == template["title"]


def test_a_prompt_is_the_template_filled_in(service):
    async def story():
        async with within(service.url) as client:
            filled = {"title": "Life of a {accent}", "labels": '"A" and "B"'}
            message = (await client.get_prompt("whiteboard_diagram", filled)).messages[0]
            sketch = (await client.get_prompt("whiteboard_diagram", {**filled, "model": "sketch"})).messages[0]
            with pytest.raises(Exception, match="no model 'nothing'"):
                await client.get_prompt("whiteboard_diagram", {**filled, "model": "nothing"})
            listed = text_of(await call(client, "list_templates"))
        said = message.content.text
        assert message.role == "user" and "the tool generate_image, then tell me" in said, "a model of noise"
        assert "generate_image with model=sketch, width=128, height=128, then" in sketch.content.text
        assert '"Life of a {accent}"' in said and "with blue accents" in said and "{labels}" not in said
        assert "whiteboard" in listed and "{labels}: " in listed and "Default: blue" in listed

    run(story())


def test_a_template_with_a_gap_called_model_keeps_it():
    template = Template(name="t", title="T", prompt="{model}", placeholders=(Placeholder(name="model"),))
    service = Service(Connection(Settings(), lambda: None))
    argument, lora = TemplatePrompts(service)._as_prompt(template).arguments or []
    assert argument.name == "model" and argument.required
    assert lora.name == "lora" and not lora.required


def test_a_gap_that_nobody_filled_stays_visible():
    gaps = (Placeholder(name="a"), Placeholder(name="b", default="B"))
    template = Template(name="t", title="T", prompt="{a} {b} {c}", placeholders=gaps)
    assert template.filled({}) == "{a} B {c}"
    assert template.filled({"a": "{b}", "b": ""}) == "{b} B {c}"


def test_completion_offers_examples_and_recent_pictures(service):
    async def story():
        async with within(service.url) as client:
            ask = PromptReference(type="ref/prompt", name="whiteboard_diagram")
            offered = await client.complete(ask, {"name": "accent", "value": ""})
            assert {"blue", "red"} <= set(offered.values)
            assert (await client.complete(ask, {"name": "accent", "value": "GR"})).values == ["green"]
            assert (await client.complete(ask, {"name": "nothing", "value": ""})).values == []
            assert (await client.complete(ask, {"name": "model", "value": "TI"})).values == ["tiny"]
            assert "sketch" in (await client.complete(ask, {"name": "model", "value": ""})).values
            drawn = image_id_of(await call(client, "generate_image", prompt="x", **SMALL))
            resource = ResourceTemplateReference(type="ref/resource", uri="image://{image_id}/full.png")
            found = await client.complete(resource, {"name": "image_id", "value": drawn[:6]})
            assert drawn in found.values

    run(story())


def test_a_lora_is_offered_by_its_name_and_drawn_with(service):
    file = put(service.home, "soft", safetensors(pair()))

    async def story():
        async with within(service.url) as client:
            ask = PromptReference(type="ref/prompt", name="whiteboard_diagram")
            offered = await client.complete(ask, {"name": "lora", "value": "SO"})
            filled = {"title": "x", "labels": "y", "model": "tiny", "lora": "soft"}
            return offered.values, (await client.get_prompt("whiteboard_diagram", filled)).messages[0].content.text

    try:
        offered, said = run(story())
    finally:
        file.unlink()
    assert offered == ["soft"] and "generate_image with model=tiny" in said
    assert ', loras=[{"name": "soft"}], then' in said


def test_a_picture_is_a_resource(service):
    async def story():
        async with within(service.url) as client:
            image_id = image_id_of(await call(client, "generate_image", prompt="x", **SMALL))
            (resource,) = await client.read_resource(f"image://{image_id}/full.png")
            assert resource.mime_type == "image/png"
            (view,) = await client.read_resource("ui://imagegen/picture.html")
            assert view.mime_type == "text/html;profile=mcp-app" and "<html" in view.text
            with pytest.raises(Exception, match="picture"):
                await client.read_resource("image://0123456789abcdef0123456789abcdef/full.png")

    run(story())


def test_connecting_warms_the_model_only_if_switched_on(serve):
    service = serve(idle_timeout="never")

    async def connect(mode, **settings):
        client = within(service.url, **settings)
        async with client.new() if mode == "auto" else type(client)(client.transport, mode="legacy") as connected:
            await connected.list_tools()

    for mode in ("auto", "legacy"):
        run(connect(mode))
        assert service.status()["engine"]["state"] == "cold", mode
        run(connect(mode, mcp_warm=1))
        service.until_state("ready")
        assert service.http.post("/api/unload").status_code == 202
