"""Lets a language model at an OpenAI-compatible address answer the requests of agent_cases with the real tools."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any

import httpx
from agent_cases import Case
from agent_replay import Conversation
from fastmcp import Client

from mcp_front.texts import REFUSAL

MAX_CALLS = 12
"""An agent that has made this many calls for one request is stopped."""
TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Model:
    """An OpenAI-compatible address, up to `/v1`, with the model's name and a key."""

    url: str
    name: str
    key: str

    @classmethod
    def of_environment(cls) -> Model | None:
        """The model of IMAGEGEN_EVAL_URL, IMAGEGEN_EVAL_MODEL and IMAGEGEN_EVAL_KEY. None without the first."""
        url = os.environ.get("IMAGEGEN_EVAL_URL", "").rstrip("/")
        name = os.environ.get("IMAGEGEN_EVAL_MODEL", "default")
        return cls(url, name, os.environ.get("IMAGEGEN_EVAL_KEY", "none")) if url else None

    async def answer(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> tuple[dict[str, Any], int]:
        """The model's next message, and the tokens of the request. Raises httpx.HTTPError."""
        body = {"model": self.name, "messages": messages, "tools": tools, "temperature": 0}
        async with httpx.AsyncClient(timeout=TIMEOUT_S) as http:
            reply = await http.post(
                f"{self.url}/chat/completions", json=body, headers={"authorization": f"Bearer {self.key}"}
            )
            reply.raise_for_status()
        answer = reply.json()
        return answer["choices"][0]["message"], (answer.get("usage") or {}).get("prompt_tokens", 0)


@dataclass
class Attempt:
    """What a model did with a request. `tokens`: of all its requests together."""

    case: Case
    called: list[str] = field(default_factory=list)
    said: str = ""
    tokens: int = 0

    @property
    def wrong(self) -> list[str]:
        """Why the request was not met: a needed call is lacking or out of order, or a call was wrong."""
        if self.case.refused and REFUSAL not in self.said:
            return ["it did not answer with the refusal sentence"]
        wrong = [f"it called {name}" for name in self.called if name in self.case.never]
        calls = iter(self.called)
        wrong += [f"it did not call {step.tool} in its turn" for step in self.case.steps if step.tool not in calls]
        return wrong


async def attempt(
    model: Model, client: Client[Any], tools: dict[str, Any], case: Case, names: dict[str, str]
) -> Attempt:
    """Let the model work on a request until it makes no more calls. Raises httpx.HTTPError."""
    tried, talk = Attempt(case), Conversation(dict(names))
    offered = [_function(name, tool) for name, tool in tools.items()]
    messages: list[dict[str, Any]] = [{"role": "system", "content": client.instructions or ""}]
    for number, step in enumerate(case.given):
        arguments = talk.filled(step.arguments)
        messages += [{"role": "user", "content": "Go on."}, _called(f"given_{number}", step.tool, arguments)]
        messages.append(await _result(client, f"given_{number}", step.tool, arguments, talk))
    messages.append({"role": "user", "content": talk.filled(case.request)})
    while len(tried.called) < MAX_CALLS:
        message, tokens = await model.answer(messages, offered)
        tried.tokens += tokens
        messages.append(message)
        if not message.get("tool_calls"):
            tried.said = message.get("content") or ""
            break
        for one in message["tool_calls"]:
            function = one["function"]
            tried.called.append(function["name"])
            messages.append(await _result(client, one["id"], function["name"], _arguments(function), talk))
    return tried


def _function(name: str, tool: Any) -> dict[str, Any]:
    described = {"name": name, "description": tool.description, "parameters": tool.input_schema}
    return {"type": "function", "function": described}


def _called(call_id: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    calls = [{"id": call_id, "type": "function", "function": function}]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def _arguments(function: dict[str, Any]) -> dict[str, Any]:
    try:
        given = json.loads(function["arguments"] or "{}")
    except json.JSONDecodeError:
        return {"not": "JSON"}  # the tool answers that it does not know this argument
    return given if isinstance(given, dict) else {"not": "an object"}


async def _result(
    client: Client[Any], call_id: str, name: str, arguments: dict[str, Any], talk: Conversation
) -> dict[str, Any]:
    """The result of a call as a message. Pictures are left out: the words have to do."""
    result = await client.call_tool(name, arguments, raise_on_error=False)
    text = "\n".join(part.text for part in result.content if part.type == "text")
    talk.read(text)
    return {"role": "tool", "tool_call_id": call_id, "content": text}
