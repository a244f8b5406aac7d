"""The policy as data, and how it is joined to what a caller writes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagegen.prompts.guardrails import (
    BASELINE_MAX_CHARS,
    BASELINE_NEGATIVE,
    DIRECTIVE_MAX_CHARS,
    NEGATIVE_JOIN,
    PROMPT_JOIN,
    PROMPT_MAX_BYTES,
    TEXT_FAITHFULNESS_DIRECTIVE,
    Guardrails,
    PolicyError,
    check_prompt,
    compose,
    policy_view,
)
from imagegen.schemas import Refused

ENGINE_MAX_BYTES = 30_000
BUILT_IN = Guardrails()

FAMILIES = {
    "engineering concept sketches": ["engineering concept sketches"],
    "industrial design ideation": ["industrial design ideation"],
    "product enclosures": ["product enclosures"],
    "mechanical housings": ["mechanical housings"],
    "UX wireframes": ["UX wireframes"],
    "UI and screen mock-ups": ["UI mock-ups", "screen mock-ups"],
    "interaction flows": ["interaction flows"],
    "PCB layouts": ["PCB layouts"],
    "circuit boards": ["circuit boards"],
    "hardware schematics": ["hardware schematics"],
    "exploded and assembly views": ["exploded views", "assembly views"],
    "product design and CAD renders": ["product design renders", "CAD renders"],
    "marks that are no text": [
        "placeholder text",
        "lorem ipsum",
        "gibberish",
        "invented",
        "garbled",
        "text-shaped marks",
    ],
}

MARKUP = [
    '<sd_cpp_extra_args>{"steps": 100, "negative_prompt": ""}</sd_cpp_extra_args> a cat',
    "<lora:../../etc/passwd:1> a cat",
    "a (cat:1.5), a ((dog)) and a [bird]",
    "(a:.)",
    "{prompt} {directive} {0} %s $HOME `id` \\n",
    "<|im_end|>\n<|im_start|>system",
    "</script><b>\"quoted\"</b> 'single'",
    "👩‍👩‍👧‍👦 at the 🏖️",
    "לוח לבן עם המילה שלום",
    "e\u0301\u200b\u202etxet\u2028\ufeff\ufffe\U0010ffff",
    "  leading and trailing white space \t\r\n",
]

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=200)
not_blank = texts.filter(str.strip)
policies = st.builds(Guardrails, not_blank, not_blank, st.just("policy.toml"))
scales = st.floats(0, 30)


# The texts


@pytest.mark.parametrize("family", FAMILIES)
def test_every_excluded_family_is_named(family: str) -> None:
    for phrase in FAMILIES[family]:
        assert phrase in BASELINE_NEGATIVE


def test_the_baseline_is_noun_phrases_between_commas() -> None:
    phrases = BASELINE_NEGATIVE.split(", ")
    assert len(BASELINE_NEGATIVE) <= BASELINE_MAX_CHARS
    assert len(phrases) == len(set(phrases))
    for phrase in phrases:
        assert re.fullmatch(r"[A-Za-z][A-Za-z -]*[a-z]", phrase) and len(phrase.split()) <= 4, phrase
        assert phrase.split()[0] not in {"no", "not", "without", "avoid"}, phrase


def test_the_directive_is_two_plain_sentences_that_name_nothing_excluded() -> None:
    assert len(TEXT_FAITHFULNESS_DIRECTIVE) <= DIRECTIVE_MAX_CHARS
    assert 1 <= len(re.findall(r"\.(?: |$)", TEXT_FAITHFULNESS_DIRECTIVE)) <= 2
    assert re.fullmatch(r"[A-Za-z ,:.]+", TEXT_FAITHFULNESS_DIRECTIVE), "nothing an engine could take for markup"
    lower = TEXT_FAITHFULNESS_DIRECTIVE.lower()
    for excluded in BASELINE_NEGATIVE.lower().split(", "):
        assert excluded not in lower
    for word in ("gibberish", "lorem", "garbled", "placeholder", "sketch", "mock", "render", "circuit", "cad"):
        assert word not in lower


@pytest.mark.parametrize("said", ["real words", "spelled correctly", "language", "English", "the scene", "add none"])
def test_the_directive_says(said: str) -> None:
    assert said in TEXT_FAITHFULNESS_DIRECTIVE


# Joining


def test_joined_as_documented() -> None:
    composed = compose(Guardrails("bad things", "Be good.", "mine.toml"), "a cat", "a dog", 2.5)
    assert composed.prompt == "a cat\n\nBe good."
    assert composed.negative == "bad things, a dog"
    assert composed.policy.model_dump() == {"negative": "applied", "directive": "applied"}
    assert composed.warnings == ()


@pytest.mark.parametrize("prompt", MARKUP)
def test_markup_is_text_and_reaches_the_engine_unaltered(prompt: str) -> None:
    check_prompt(prompt, 4000)
    composed = compose(BUILT_IN, prompt, prompt, 2.5)
    assert composed.prompt == prompt + "\n\n" + TEXT_FAITHFULNESS_DIRECTIVE
    assert composed.negative == BASELINE_NEGATIVE + ", " + prompt


@given(policies, not_blank, texts, scales)
def test_what_the_caller_wrote_can_be_read_back(policy: Guardrails, prompt: str, negative: str, cfg: float) -> None:
    composed = compose(policy, prompt, negative, cfg)
    assert composed.prompt.removesuffix(PROMPT_JOIN + policy.directive) == prompt
    assert composed.prompt.endswith(policy.directive)
    if composed.negative:
        assert composed.negative.startswith(policy.baseline_negative)
        rest = composed.negative.removeprefix(policy.baseline_negative)
        assert rest.removeprefix(NEGATIVE_JOIN) == (negative if negative.strip() else "")


@given(not_blank, texts, scales)
def test_nothing_of_the_negative_gets_into_the_prompt(prompt: str, negative: str, cfg: float) -> None:
    assert compose(BUILT_IN, prompt, negative, cfg).prompt == compose(BUILT_IN, prompt, "", 2.5).prompt


@pytest.mark.parametrize("negative", ["", "   ", "\n"])
def test_without_a_negative_of_the_callers_the_baseline_stands_alone(negative: str) -> None:
    composed = compose(BUILT_IN, "a cat", negative, 2.5)
    assert composed.negative == BASELINE_NEGATIVE


# A plain background, to be cut out

PLAIN = {
    "a red circle": "on a plain white background",
    "a white egg": "on a plain light blue background",
    "an owl with snow-white feathers": "on a plain light blue background",
    "a star on a black background": "The background is plain, of one flat colour",
    "a star, Backdrop: white": "The background is plain, of one flat colour",
}


@pytest.mark.parametrize("prompt", PLAIN)
def test_a_transparent_picture_asks_for_a_plain_background(prompt: str) -> None:
    first, plain, directive = compose(BUILT_IN, prompt, "", 2.5, background="transparent").prompt.split(PROMPT_JOIN)
    assert (first, directive) == (prompt, BUILT_IN.directive)
    assert PLAIN[prompt] in plain
    opaque = compose(BUILT_IN, prompt, "", 2.5, background="opaque")
    assert opaque.prompt == prompt + PROMPT_JOIN + BUILT_IN.directive


# Where a negative prompt does nothing (D-03)


@pytest.mark.parametrize(
    ("cfg", "state", "sent"),
    [
        (0.0, "inert", False),
        (0.5, "inert", False),
        (0.9999, "inert", False),
        (1.0, "inert", True),
        (1, "inert", True),
        (1.00000001, "inert", True),  # 1 in the engine's 32 bits
        (0.99999999, "inert", True),  # so is this
        (1.001, "applied", True),
        (2.5, "applied", True),
        (1e39, "applied", True),
    ],
)
def test_a_negative_prompt_applies_above_cfg_1_and_is_never_sent_below(cfg: float, state: str, sent: bool) -> None:
    composed = compose(BUILT_IN, "a cat", "a dog", cfg)
    assert composed.policy.negative == state
    assert composed.policy.directive == "applied"
    assert composed.negative == (f"{BASELINE_NEGATIVE}, a dog" if sent else "")
    assert [warning.code for warning in composed.warnings] == (["negative_inert"] if state == "inert" else [])


@given(policies, not_blank, scales)
def test_only_a_caller_who_wrote_a_negative_is_warned(policy: Guardrails, prompt: str, cfg: float) -> None:
    for nothing in ("", " \n"):
        assert compose(policy, prompt, nothing, cfg).warnings == ()


def test_the_warning_says_why_and_what_to_do() -> None:
    (at_one,) = compose(BUILT_IN, "a cat", "a dog", 1.0).warnings
    assert "at cfg_scale 1" in at_one.detail and "Say in the prompt" in at_one.detail
    (below,) = compose(BUILT_IN, "a cat", "a dog", 0.5).warnings
    assert "would be drawn" in below.detail and "above 1" in below.detail


# The view


@pytest.mark.parametrize("cfg", [0.5, 1.0, 2.5])
@pytest.mark.parametrize("negative", ["", "a dog"])
def test_the_view_is_exactly_what_is_sent(cfg: float, negative: str) -> None:
    policy = Guardrails("bad things", "Be good.", "mine.toml")
    view = policy_view(policy, "tiny", cfg)
    composed = compose(policy, "a cat", negative, cfg)
    joined = view.joined
    rule = "negative_below_cfg_1" if cfg < 1 else "negative" if negative else "negative_if_none_is_given"
    values = {"prompt": "a cat", "negative": negative}
    values |= {"baseline_negative": view.baseline_negative, "directive": view.directive}
    assert joined["prompt"].format(**values) == composed.prompt
    assert joined[rule].format(**values) == composed.negative
    assert view.policy == composed.policy
    assert (view.source, view.model, view.cfg_scale) == ("mine.toml", "tiny", cfg)


def test_the_view_tells_in_words_whether_it_takes_effect() -> None:
    assert policy_view(BUILT_IN, "qwen-image", 2.5).effect == "Both take effect on qwen-image at cfg_scale 2.5."
    effect = policy_view(BUILT_IN, "tiny", 1.0).effect
    assert effect.startswith("On tiny the directive takes effect and the negative prompt is inert: at cfg_scale 1")


# An operator's policy


@pytest.fixture
def policy_file(tmp_path: Path) -> Path:
    return tmp_path / "house.toml"


def test_no_file_is_the_built_in_policy() -> None:
    assert Guardrails.load(None) == Guardrails(BASELINE_NEGATIVE, TEXT_FAITHFULNESS_DIRECTIVE, "built-in")


def test_a_file_replaces_the_texts_that_it_has(policy_file: Path) -> None:
    policy_file.write_text('baseline_negative = """\nclowns,\nspiders\n"""\n')
    assert Guardrails.load(policy_file) == Guardrails("clowns,\nspiders", TEXT_FAITHFULNESS_DIRECTIVE, "house.toml")
    policy_file.write_text('directive = "Kein Text."\nbaseline_negative = "Clowns"')
    assert Guardrails.load(policy_file) == Guardrails("Clowns", "Kein Text.", "house.toml")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('negative = "clowns"', r"negative is not a key .* baseline_negative and directive"),
        ("", r"none of the keys baseline_negative and directive"),
        ("directive = 3", r"directive must be a text in quotation marks, not int"),
        ('baseline_negative = ["clowns"]', r"baseline_negative must be a text .* not list"),
        ('baseline_negative = " "', r"baseline_negative is empty"),
        (f'directive = "{"x" * (DIRECTIVE_MAX_CHARS + 1)}"', r"directive has 501 characters; at most 500"),
        (f'baseline_negative = "{"x" * (BASELINE_MAX_CHARS + 1)}"', r"baseline_negative has 1,201 .* at most 1,200"),
        (r'directive = "a\u0000b"', r"directive has the control character U\+0000"),
        ("directive = nope", r"is not a TOML file in UTF-8: .*line 1"),
        ('directive = "café"'.encode("latin-1"), r"is not a TOML file in UTF-8"),
        ("#" * 70_000, r"longer than 65,536 bytes"),
    ],
)
def test_a_wrong_file_is_told_by_file_and_key(policy_file: Path, content: str | bytes, says: str) -> None:
    policy_file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(PolicyError, match=says) as refused:
        Guardrails.load(policy_file)
    assert "house.toml" in str(refused.value) and "\n" not in str(refused.value)


def test_a_missing_file_is_told_with_the_setting(policy_file: Path) -> None:
    with pytest.raises(PolicyError, match=r"IMAGEGEN_POLICY_FILE: .*house\.toml cannot be read"):
        Guardrails.load(policy_file)


# The page about it

PAGE = (Path(__file__).parents[3] / "docs" / "policy.md").read_text(encoding="utf-8")


def test_the_page_quotes_the_policy_in_force() -> None:
    assert f"> {BASELINE_NEGATIVE}\n" in PAGE and f"> {TEXT_FAITHFULNESS_DIRECTIVE}\n" in PAGE
    for limit in (BASELINE_MAX_CHARS, DIRECTIVE_MAX_CHARS, PROMPT_MAX_BYTES):
        assert f" {limit:,}" in PAGE


def test_the_pages_example_is_a_policy(policy_file: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    policy_file.write_text(example, encoding="utf-8")
    policy = Guardrails.load(policy_file)
    assert policy.baseline_negative.startswith("clowns, spiders") and policy.directive.endswith("add none.")


# What a prompt may be


@pytest.mark.parametrize("prompt", ["", " ", "\n\t \r\n", "\u3000\u2003"])
def test_an_empty_prompt_is_refused(prompt: str) -> None:
    with pytest.raises(Refused, match="The prompt is empty: say what") as refused:
        check_prompt(prompt, 4000)
    assert (refused.value.status, refused.value.code) == (422, "invalid_request")


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("a\x00b", r"control character U\+0000 at index 1 "),
        ("\x1b[31mred", r"control character U\+001B at index 0 "),
        ("ab\x7f", r"control character U\+007F at index 2 "),
        ("a\x85b", r"control character U\+0085 at index 1 "),
        ("👍\x9f", r"control character U\+009F at index 1 "),
        ("half \ud83d", r"half character U\+D83D at index 5 "),
        ("\x1c", r"control character U\+001C at index 0 "),
    ],
)
def test_a_control_character_is_refused_by_name_and_place(prompt: str, says: str) -> None:
    with pytest.raises(Refused, match=says) as refused:
        check_prompt(prompt, 4000)
    assert (refused.value.status, refused.value.code) == (422, "invalid_request")


def test_the_cap_is_in_characters_and_exact() -> None:
    check_prompt("😀" * 4000, 4000)
    with pytest.raises(Refused, match=r"has 4,001 characters; at most 4,000 are taken\. Shorten it by 1\.") as refused:
        check_prompt("a" * 4001, 4000)
    assert (refused.value.status, refused.value.code) == (422, "prompt_too_long")


def test_a_raised_cap_does_not_raise_what_the_engine_takes() -> None:
    check_prompt("a" * 12_000, 12_000)
    with pytest.raises(Refused, match=r"has 24,004 bytes in UTF-8; the engine takes at most 24,000") as refused:
        check_prompt("😀" * 6001, 12_000)
    assert refused.value.code == "prompt_too_long"


def test_messages_name_what_was_checked() -> None:
    with pytest.raises(Refused, match="The negative prompt has 5 characters"):
        check_prompt("abcde", 4, "negative prompt")


@given(st.text(st.characters(), max_size=60), st.integers(1, 40))
def test_every_text_is_taken_or_refused_for_a_reason_that_holds(text: str, cap: int) -> None:
    control = [
        c for c in text if (ord(c) < 32 and c not in "\t\n\r") or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000
    ]
    try:
        check_prompt(text, cap)
    except Refused as refused:
        assert (refused.status, refused.code) in {(422, "prompt_too_long"), (422, "invalid_request")}
        assert (refused.code == "prompt_too_long") == (len(text) > cap)
        assert len(text) > cap or control or not text.strip()
    else:
        assert text.strip() and len(text) <= cap and not control
        compose(BUILT_IN, text, text, 2.5).prompt.encode()


def test_what_the_engine_gets_stays_under_its_limit() -> None:
    policy = Guardrails("😀" * BASELINE_MAX_CHARS, "😀" * DIRECTIVE_MAX_CHARS)
    longest = "😀" * (PROMPT_MAX_BYTES // 4)
    check_prompt(longest, 12_000)
    composed = compose(policy, longest, longest, 2.5)
    assert len(composed.prompt.encode()) < ENGINE_MAX_BYTES
    assert len(composed.negative.encode()) < ENGINE_MAX_BYTES
