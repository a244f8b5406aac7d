"""benchmarks/agents.py: forty requests of users, replayed on the front, and given to a model at a loopback address."""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict

import pytest
from chat_endpoint import calls, chat_endpoint, says
from fastmcp import Client
from served import ROOT

from mcp_front.app import build
from mcp_front.settings import Settings
from mcp_front.texts import REFUSAL

sys.path.insert(0, str(ROOT / "benchmarks"))

from agent_cases import CASES, SMALL, Case, Step
from agent_model import Model
from agent_replay import Conversation, report, schema_lacks
from agents import attempts_report, measure

FEW = ("Change the last picture", "imaginary", "{private}", "CAD drawing")


def cases(*words: str) -> list[Case]:
    return [case for case in CASES if any(one in case.request for one in words)]


def test_the_schemas_list_and_allow_each_call_of_forty_requests():
    async def ask():
        async with Client(build(Settings(url="http://127.0.0.1:9"), local=True)) as client:
            return {tool.name: tool for tool in await client.list_tools()}

    tools, talk = asyncio.run(ask()), Conversation(defaultdict(lambda: "0" * 32))
    assert len(CASES) == len({case.request for case in CASES}) == 40
    steps = [step for case in CASES for step in (*case.given, *case.steps)]
    lacking = [schema_lacks(tools, step.tool, talk.filled(step.arguments)) for step in steps]
    assert not any(lacking), lacking
    assert {step.tool for step in steps} >= {"upscale_image", "keep_image", "list_models", "cancel_job"}
    assert schema_lacks(tools, "generate_image", {"prompt": "x", "colour": "red"}) == "the schema does not list colour"
    assert "99" in schema_lacks(tools, "generate_image", {"prompt": "x", "n": 99})
    assert schema_lacks(tools, "draw", {}) == "there is no such tool"


def test_a_replay_finds_each_call_possible_and_says_what_is_lacking(service, tmp_path):
    impossible = Case("Draw in red.", (Step("generate_image", {"prompt": "x", "colour": "red"}, ("is red",)),))
    unnamed = Case("Make it green.", (Step("edit_image", {"prompt": "green", "images": ["{image}"]}),))
    *good, first, second = asyncio.run(measure(service.url, tmp_path, [*cases(*FEW), impossible, unnamed], None))
    assert [one.wrong for one in good] == [[]] * len(FEW), report(good)
    assert first.wrong[0] == "generate_image: the schema does not list colour"
    assert "does not say 'is red'" in first.wrong[-1]
    assert second.wrong == ["edit_image: no answer named 'image'"]
    assert f"{len(FEW)} of {len(FEW) + 2} requests" in report([*good, first, second])


@pytest.mark.long
def test_forty_requests_are_possible_and_each_answer_says_what_is_next(service, tmp_path):
    outcomes = asyncio.run(measure(service.url, tmp_path, CASES, None))
    assert not any(one.wrong for one in outcomes), report(outcomes)


def test_a_model_at_an_address_works_with_the_real_tools(service, tmp_path, monkeypatch):
    """It is given the tools, the conversation before and each result; its calls are compared with the recorded ones."""

    def answer(messages):
        asked = messages[-1]["content"] if messages[-1]["role"] == "user" else None
        if asked == "Make it bigger.":
            words = messages[-2]["content"]
            return calls("upscale_image", image=words.split("Image id: ")[1].split()[0])
        if asked and "CAD" in asked:
            return says(REFUSAL)
        if asked and "circuit board" in asked:
            return calls("generate_image", prompt="a circuit board", **SMALL)
        return says("Done.")

    requests: list[dict[str, object]] = []
    with chat_endpoint(answer, requests) as url:
        monkeypatch.setenv("IMAGEGEN_EVAL_URL", url)
        monkeypatch.setenv("IMAGEGEN_EVAL_KEY", "its key")
        wanted = cases("Make it bigger", "CAD drawing", "circuit board")
        bigger, refused, drawn = asyncio.run(measure(service.url, tmp_path, wanted, Model.of_environment()))
    assert (bigger.called, bigger.wrong, bigger.tokens) == (["upscale_image"], [], 200)
    assert (refused.called, refused.wrong) == ([], [])
    assert drawn.called == ["generate_image"] and drawn.wrong
    assert "2 of 3 requests met, 500 tokens" in attempts_report([bigger, refused, drawn])
    assert requests[0]["path"] == "/v1/chat/completions" and requests[0]["authorization"] == "Bearer its key"
    offered = {one["function"]["name"] for one in requests[0]["tools"]}
    assert "generate_image" in offered and "read_image_chunk" not in offered
    system, *_, result = requests[1]["messages"]
    assert "own image service" in system["content"] and result["content"].startswith("Enlarged 1 picture")
