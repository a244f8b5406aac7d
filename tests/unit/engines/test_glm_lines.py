"""What passes between the second engine and its adapter, without the engine: lines, and prompts as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagegen.engines.base import DrawProgress
from imagegen.engines.glm.server import lines
from imagegen.engines.glm.server.text import literal
from imagegen.engines.tracking import Bar, DrawTracker, Mark, Tokens
from imagegen.schemas import Phase

TOKENS = {"<|image|>", "<sop>", "<eop>", "[gMASK]"}
counts = st.tuples(st.integers(0, 10**9), st.integers(1, 10**9)).map(sorted).map(tuple).filter(lambda c: c[1] > 0)


@given(counts)
def test_what_is_written_is_read(count: tuple[int, int]) -> None:
    done, total = count
    assert lines.parse(lines.loading(done, total)) == lines.Loaded(done, total)
    assert lines.parse(lines.tokens(done, total)) == Tokens(done, total)
    assert lines.parse(lines.step(done, total)) == Bar(done, total, None)


@pytest.mark.parametrize(
    ("line", "mark"),
    [
        (lines.LISTENING, Mark.LISTENING),
        (lines.SAMPLING, Mark.SAMPLING_BEGUN),
        (lines.DECODING, Mark.DECODING),
        (lines.DRAWN, Mark.DRAW_DONE),
    ],
)
def test_marks_are_read(line: str, mark: Mark) -> None:
    assert lines.parse(line) is mark


@pytest.mark.parametrize("line", ["@step 3/2", "@step 0/0", "@step 1/2 ", "x @step 1/2", "@step ١/2", "@step -1/2", ""])
def test_anything_else_is_for_people(line: str) -> None:
    assert lines.parse(line) is None


@given(st.text())
def test_any_line_can_be_read(line: str) -> None:
    lines.parse(line)


def test_a_complaint_is_one_line() -> None:
    assert lines.complaint("two\nlines  of words") == "[ERROR] two lines of words"


def test_tokens_are_progress_only_while_encoding() -> None:
    tracker = DrawTracker(0.0)
    assert tracker.feed(Tokens(8, 261), 1.0) == DrawProgress(Phase.ENCODING, 8, 261)
    tracker.feed(Mark.SAMPLING_BEGUN, 2.0)
    assert tracker.feed(Tokens(16, 261), 3.0) is None
    assert tracker.times(4.0).tokens == 8
    assert DrawTracker(0.0).times(1.0).tokens is None


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("a cat", "a cat"),
        ("<sop>32 32<eop>", "< sop>32 32< eop>"),
        ("<<|image|>", "<< |image|>"),
        ("<|im<|image|>age|>", "<|im< |image|>age|>"),
        ("[gMASK] [other] <b>", "[ gMASK] [other] <b>"),
        ("<[gMASK]sop> [<sop>]", "<[ gMASK]sop> [< sop>]"),
        ("a sign that says 'OPEN' \"now\"", "a sign that says 'OPEN' \"now\""),
    ],
)
def test_control_tokens_become_text(prompt: str, text: str) -> None:
    assert literal(prompt, TOKENS) == text


@given(st.lists(st.sampled_from([*TOKENS, "<", ">", "[", "]", "|", "a", " "])).map("".join))
def test_no_control_token_is_left_and_nothing_else_is_lost(prompt: str) -> None:
    text = literal(prompt, TOKENS)
    assert not any(token in text for token in TOKENS)
    assert text.replace(" ", "") == prompt.replace(" ", "")
