"""Replays the calls of agent_cases against the real front: is each possible, and does each answer say what is next?"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
from agent_cases import SMALL, Case, Step
from fastmcp import Client
from PIL import Image

from mcp_front.texts import REFUSAL

NEXT = re.compile(r"[Tt]ell the user|[Aa]sk|Call |Pass |Use |Fill |take the ids|[Cc]orrect|Do not")
"""What an answer says to an agent that has made its last call."""


@dataclass
class Conversation:
    """The names that answers gave, as an agent reads them, and the files of the evaluation."""

    names: dict[str, str]
    characters: int = 0

    def filled(self, value: Any) -> Any:
        """The arguments with their names filled in. Raises KeyError for one that no answer gave."""
        if isinstance(value, str):
            return re.sub(r"\{(\w+)\}", lambda name: self.names[name[1]], value)
        if isinstance(value, list):
            return [self.filled(one) for one in value]
        return {name: self.filled(one) for name, one in value.items()} if isinstance(value, dict) else value

    def read(self, text: str) -> None:
        """Learn ids from an answer."""
        self.characters += len(text)
        images = re.findall(r"Image id: (\w{32})", text) or re.findall(r"^\d+\. (\w{32}):", text, re.MULTILINE)
        self.names |= {f"image_{number}": one for number, one in enumerate(images, start=1)}
        if images:
            self.names["image"] = images[0]
        if job := re.search(r"\b[Jj]ob (\w{32})", text):
            self.names["job"] = job[1]


@dataclass
class Outcome:
    """What a replay found. `wrong`: why a step was not possible, or its answer said too little."""

    case: Case
    calls: int = 0
    characters: int = 0
    wrong: list[str] = field(default_factory=list)


def files(folder: Path) -> dict[str, str]:
    """Make the files that requests name: two in the open folder, one outside, one among keys."""
    inside, outside, keys = folder / "open", folder / "private", folder / "home" / ".ssh"
    for each in (inside, outside, keys):
        each.mkdir(parents=True)
    named = {"photo": inside / "photo.png", "private": outside / "photo.png", "key": keys / "id_rsa.png"}
    for path in named.values():
        Image.effect_noise((64, 64), 80).convert("RGB").save(path)
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (16, 0, 48, 24))
    mask.save(inside / "mask.png")
    return {name: str(path) for name, path in (named | {"mask": inside / "mask.png"}).items()}


async def replay(client: Client[Any], tools: dict[str, Any], case: Case, names: dict[str, str]) -> Outcome:
    """Make the calls of a case. Never raises: what goes wrong is in the outcome."""
    outcome, talk = Outcome(case), Conversation(dict(names))
    if case.refused:
        _check_refusal(tools, case, outcome)
    for step in case.given:
        await _call(client, tools, step, talk)
    for number, step in enumerate(case.steps):
        following = case.steps[number + 1] if number + 1 < len(case.steps) else None
        try:
            outcome.wrong += [f"{step.tool}: {one}" for one in await _checked(client, tools, step, following, talk)]
        except KeyError as lacking:
            outcome.wrong.append(f"{step.tool}: no answer named {lacking}")
        outcome.calls += 1
    outcome.characters = talk.characters
    return outcome


def _check_refusal(tools: dict[str, Any], case: Case, outcome: Outcome) -> None:
    for name in sorted(case.never):
        if REFUSAL not in tools[name].description:
            outcome.wrong.append(f"{name} does not have the refusal sentence")


async def _checked(
    client: Client[Any], tools: dict[str, Any], step: Step, following: Step | None, talk: Conversation
) -> list[str]:
    result, text, lacking = await _call(client, tools, step, talk)
    wrong = [lacking] if lacking else []
    if bool(result.is_error) is not step.error:
        wrong.append(f"{'failed' if result.is_error else 'did not fail'}: {text[:200]}")
    wrong += [f"the answer does not say {words!r}" for words in step.says if words not in text]
    if following is not None and following.tool not in text:
        wrong.append(f"the answer does not lead to {following.tool}: {text[-200:]}")
    if following is None and not NEXT.search(text):
        wrong.append(f"the answer does not say what to do next: {text[-200:]}")
    return wrong


async def _call(client: Client[Any], tools: dict[str, Any], step: Step, talk: Conversation) -> tuple[Any, str, str]:
    """The result, its text, and what the tool's schema lacks for this call."""
    small = SMALL if step.size and step.tool != "submit_async_job" else {}
    arguments = talk.filled({**small, **step.arguments})
    lacking = schema_lacks(tools, step.tool, arguments)
    result = await client.call_tool(step.tool, arguments, raise_on_error=False)
    text = "\n".join(part.text for part in result.content if part.type == "text")
    talk.read(text)
    return result, text, lacking


def schema_lacks(tools: dict[str, Any], tool: str, arguments: dict[str, Any]) -> str:
    """Why the schema does not allow or does not list these arguments. Empty if it does both."""
    if tool not in tools:
        return "there is no such tool"
    schema = tools[tool].input_schema
    unlisted = sorted(arguments.keys() - schema["properties"].keys())
    if unlisted:
        return f"the schema does not list {', '.join(unlisted)}"
    errors = jsonschema.Draft202012Validator(schema).iter_errors(arguments)
    return "; ".join(error.message[:200] for error in errors)


def report(outcomes: Sequence[Outcome]) -> str:
    """A line for each request, and the sum."""
    lines = []
    for number, one in enumerate(outcomes, start=1):
        lines.append(f"{number:2} {'ok   ' if not one.wrong else 'WRONG'} {one.calls} calls  {one.case.request[:80]}")
        lines += [f"         {reason}" for reason in one.wrong]
    good = sum(not one.wrong for one in outcomes)
    calls, characters = sum(one.calls for one in outcomes), sum(one.characters for one in outcomes)
    lines.append(
        f"{good} of {len(outcomes)} requests: {calls} calls, all answers together {characters} characters of text"
    )
    return "\n".join(lines)


def tokens(tools: dict[str, Any]) -> str:
    """What all tools cost in each conversation, in characters of names, descriptions and input schemas."""
    cost = sum(
        len(name) + len(tool.description) + len(json.dumps(tool.input_schema, ensure_ascii=False))
        for name, tool in tools.items()
    )
    return f"{len(tools)} tools: {cost} characters"
