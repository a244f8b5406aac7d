"""What agents read: each text must contain what the product depends on."""

import asyncio
import json

import pytest
from fastmcp import Client
from fronts import DRAWING, READING, SHOWING, TOOLS

from mcp_front import texts
from mcp_front.app import build
from mcp_front.settings import Settings

SUITED = ["concept ideation", "mood boards", "stock-art-style illustrations", "icons", "whiteboard diagrams"]
RESTRICTED = [
    "engineering",
    "CAD",
    "UX mock-ups",
    "hardware schematics",
    "photoreal product renders",
    "dimensional drawings",
    "medical or scientific imagery",
]


@pytest.fixture(scope="module")
def listed():
    async def ask():
        async with Client(build(Settings(url="http://127.0.0.1:9"), local=True)) as client:
            return {tool.name: tool for tool in await client.list_tools()}, client.initialize_result

    return asyncio.run(ask())


def test_these_are_the_tools(listed):
    assert set(listed[0]) == TOOLS


MAX_CHARS = 9000


def test_all_tools_together_cost_few_characters(listed):
    costs = {
        name: len(name) + len(tool.description) + len(json.dumps(tool.input_schema, ensure_ascii=False))
        for name, tool in listed[0].items()
    }
    assert sum(costs.values()) <= MAX_CHARS, costs


def test_generate_image_says_what_it_is_for_and_what_not(listed):
    words = listed[0]["generate_image"].description
    assert "BEST SUITED FOR" in words and "RESTRICTED USE" in words
    assert not [use for use in SUITED + RESTRICTED if use not in words.split(texts.REFUSAL)[0]]
    assert words.count(texts.REFUSAL) == 1
    assert "exactly this sentence" in words


@pytest.mark.parametrize("name", [name for name in DRAWING if name != "generate_image"])
def test_another_drawing_tool_has_one_line_with_the_refusal(listed, name):
    (line,) = [one for one in listed[0][name].description.splitlines() if one.startswith("RESTRICTED")]
    assert line.endswith(f'exactly this sentence: "{texts.REFUSAL}"')
    assert "RESTRICTED USE" not in listed[0][name].description


def test_the_refusal_is_one_sentence_that_names_every_restricted_use():
    assert "\n" not in texts.REFUSAL
    assert texts.REFUSAL.count(".") == 1 and texts.REFUSAL.endswith(".")
    assert not [use for use in RESTRICTED if use not in texts.REFUSAL]


@pytest.mark.parametrize("name", SHOWING)
def test_a_tool_that_shows_a_picture_says_that_the_preview_may_be_hidden(listed, name):
    words = listed[0][name].description
    assert "hidden by default" in words and "always tell the user where the file is" in words
    assert "expires" in words


@pytest.mark.parametrize("name", [*DRAWING, "get_job_status"])
def test_a_tool_that_leaves_a_job_says_how_to_poll(listed, name):
    words = listed[0][name].description
    assert "5 s" in words and "45 s" in words and "get_job_result" in words


def test_the_instructions_say_the_short_form():
    words = texts.INSTRUCTIONS
    for needed in [*SUITED, *RESTRICTED, "every 5 s, not faster", "hidden by default", "submit_async_job"]:
        assert needed in words, needed
    assert len(words) < 2048  # Claude Code cuts longer instructions off


def test_every_parameter_but_the_subject_is_optional_bounded_and_described(listed):
    needed = {
        "generate_image": ["prompt"],
        "edit_image": ["prompt", "images"],
        "submit_async_job": ["prompt"],
        "upscale_image": ["image"],
        "list_templates": [],
        "list_models": [],
        "list_images": [],
        "keep_image": ["image_id"],
        "read_image_chunk": ["image_id"],
        "read_job": [],
        "upload_mask": ["data"],
        "vary_image": ["image_id"],
    }
    for name, tool in listed[0].items():
        schema = tool.input_schema
        assert schema.get("required", []) == needed.get(name, ["job_id"]), name
        for parameter, rule in schema["properties"].items():
            bounded = {"maximum", "maxLength", "maxItems", "enum"} & rule.keys() or rule["type"] == "boolean"
            assert bounded or parameter == "offset", (name, parameter, rule)


def test_every_tool_has_a_title_and_says_whether_it_changes_anything(listed):
    for name, tool in listed[0].items():
        assert tool.title and tool.description, name
        assert tool.annotations.read_only_hint is (name in READING), name
        assert tool.annotations.open_world_hint is False, name


def test_the_next_step_names_the_job_and_the_cadence():
    words = texts.next_step_waiting("abc")
    assert 'get_job_status(job_id="abc")' in words and 'get_job_result(job_id="abc")' in words
    assert "every 5 s, not faster" in words
    assert "where the file was saved: the preview is hidden" in texts.next_step_done(saved=True)
    assert "the download command: the preview is hidden" in texts.next_step_done(saved=False)


def test_the_instructions_say_what_the_services_model_cannot_do(service):
    async def ask(url):
        async with Client(build(Settings(url=url), local=True)) as client:
            return client.instructions

    told = asyncio.run(ask(service.url))
    assert told.startswith(texts.INSTRUCTIONS)
    assert f"model is tiny. {service.status()['model']['limits']}" in told
    assert len(told) < 2048
    assert asyncio.run(ask("http://127.0.0.1:9")) == texts.INSTRUCTIONS, "a service that is down delays nobody"
