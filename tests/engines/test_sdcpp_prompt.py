"""A prompt reaches the engine's text encoder as plain text, whatever notation is in it."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imagegen.engines.sdcpp.adapter import SdcppServerAdapter
from imagegen.engines.sdcpp.prompt import RUN_MAX_CHARS, literal

STACK_SAFE_BYTES = 5_000  # a run of about 6,000 ended an engine with 2 MiB of stack a thread
NOTATION = [
    "(",
    ")",
    "[",
    "]",
    "\\",
    ":",
    "1",
    ".5",
    "-",
    "+",
    "B",
    "BREAK",
    "OUTBREAK",
    "<",
    "<|",
    "|>",
    "a",
    " ",
    "é",
]
noisy = st.lists(st.sampled_from(NOTATION), max_size=120).map("".join)

_TOKEN = re.compile(r"\\[()\[\]]|\\\\|\\|\(|\[|:([+-]?[.0-9]+)\)|\)|\]|BREAK|[^\\()\[\]:B]+|:|B")


def weighed(text: str) -> list[tuple[str, float]]:
    """What the engine makes of `text`: pieces and their weights, by the rules that its log shows it to follow.

    Raises ValueError where std::stof ends the process.
    """
    pieces: list[list[Any]] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def close(bracket: str, weight: float) -> None:
        for piece in pieces[opened[bracket].pop() :]:
            piece[1] *= weight

    for token in _TOKEN.finditer(text):
        if token[0] in opened:
            opened[token[0]].append(len(pieces))
        elif token[1] is not None:
            if opened["("]:
                close("(", float(token[1]))
        elif token[0] == ")" and opened["("]:
            close("(", 1.1)
        elif token[0] == "]" and opened["["]:
            close("[", 1 / 1.1)
        elif token[0] == "BREAK":
            pieces.append(["BREAK", -1.0])
        else:
            pieces.append(["(" if token[0] == r"\(" else token[0], 1.0])
    for bracket, weight in (("(", 1.1), ("[", 1 / 1.1)):
        while opened[bracket]:
            close(bracket, weight)
    return [(piece, weight) for piece, weight in pieces]


@given(st.one_of(noisy, st.text()))
@example("(a:.)")
@example("(a:" + "9" * 60 + ")")
@example("COFFEE BREAK at the OUTBREAK")
@example("(a:+1.5) x:-1) :.)")
@example("\\(x\\) \\\\(y:1.5) \\")
@example("x" * RUN_MAX_CHARS + ":1)" + "x" * (RUN_MAX_CHARS - 5) + "BREAK(b)")
def test_the_encoder_gets_the_text_itself_all_of_one_weight(text: str) -> None:
    pieces = weighed(literal(text))
    assert "".join(piece for piece, _ in pieces) == text.replace("[", r"\[")
    assert all(abs(weight - 1) < 1e-6 for _, weight in pieces)


@given(st.one_of(noisy, st.text(min_size=300)))
@example("a" * 8000)
@example("😀" * 4000)
def test_no_run_is_long_enough_for_the_engines_regex(text: str) -> None:
    runs = re.split(r"[\\()\[\]:B]", literal(text))
    assert max(len(run.encode(errors="surrogatepass")) for run in runs) <= 4 * RUN_MAX_CHARS < STACK_SAFE_BYTES


@pytest.mark.parametrize("mark", ["<|im_end|>", "<|endoftext|>", "</s>", "<think>", "[INST]"])
def test_an_encoders_control_mark_arrives_in_pieces(mark: str) -> None:
    joined: list[tuple[str, float]] = []
    for piece, weight in weighed(literal(f"a{mark}b")):  # the engine joins neighbours of one weight
        if joined and joined[-1][1] == weight:
            joined[-1] = (joined[-1][0] + piece, weight)
        else:
            joined.append((piece, weight))
    assert not any(mark in piece for piece, _ in joined)


@pytest.mark.parametrize("text", ["", "a cat, and a dog: both asleep", "3 < 5", "{a} | $b", "مرحبا 👋"])
def test_a_text_without_notation_is_left_alone(text: str) -> None:
    assert literal(text) == text


# The real engine


class Raw:
    """The engine with a tiny model, asked past the adapter: the prompt is sent as it is here."""

    def __init__(self, loop: asyncio.Runner, engine: SdcppServerAdapter) -> None:
        self.loop, self.engine = loop, engine

    def __call__(self, prompt: str) -> str:
        return self.loop.run(asyncio.wait_for(self._draw(prompt), 60))

    async def _draw(self, prompt: str) -> str:
        client = self.engine._client
        assert client is not None
        body = {"prompt": prompt, "width": 64, "height": 64, "seed": 1, "embed_image_metadata": False}
        body["sample_params"] = {"sample_steps": 1, "guidance": {"txt_cfg": 1.0}}
        job = (await client.post("/sdcpp/v1/img_gen", json=body)).json()
        while job["status"] not in {"completed", "failed"}:
            await asyncio.sleep(0.02)
            job = (await client.get(f"/sdcpp/v1/jobs/{job['id']}")).json()
        assert job["status"] == "completed", job
        return str(job["result"]["images"][0]["b64_json"])


@pytest.fixture(scope="module")
def raw(loop: asyncio.Runner, engine: SdcppServerAdapter) -> Raw:
    return Raw(loop, engine)


def test_the_engine_still_reads_the_notation(raw: Raw) -> None:
    """Should this fail with a newer engine, `literal` has lost its reason, and what it writes would be drawn."""
    assert raw("a c(:1)at") == raw("a cat")
    assert raw("a (cat)") != raw(literal("a (cat)"))


def test_a_long_text_in_runs_draws_what_it_draws_in_one(raw: Raw) -> None:
    text = "a red cube on a blue table, seen from above, " * 12
    assert literal(text) != text
    assert raw(literal(text)) == raw(text)


@pytest.mark.parametrize("prompt", ["(a:.)", "(a:" + "9" * 60 + ")", "COFFEE BREAK (50 cents:-.)", "<|im_end|>[x]"])
def test_a_prompt_that_would_end_the_engine_is_drawn(raw: Raw, prompt: str) -> None:
    assert raw(literal(prompt))
    assert raw.engine.pid is not None
