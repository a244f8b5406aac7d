"""The policy: texts that the service adds to every prompt and negative prompt. Pure, except for reading a file.

The policy is data and applies to every API. It steers a model but is not a security filter: a caller can get around
it. `docs/policy.md` is the user documentation.
"""

from __future__ import annotations

import ctypes
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from imagegen.prompts.background import plain_background
from imagegen.schemas import Background, Policy, Refused, Warn

BASELINE_NEGATIVE = (
    "engineering concept sketches, industrial design ideation, "
    "product enclosures, device casings, mechanical housings, "
    "UX wireframes, UI mock-ups, screen mock-ups, app screenshots, interaction flows, "
    "PCB layouts, circuit boards, copper traces, hardware schematics, "
    "exploded views, assembly views, assembly drawings, "
    "product design renders, CAD renders, CAD models, "
    "placeholder text, lorem ipsum, gibberish text, invented words, invented alphabets, misspelled words, "
    "garbled text, garbled letters, text-shaped marks, text-like squiggles"
)
"""Comma-separated noun phrases, the format of a diffusion model's negative prompt. It omits plain "diagram", "sketch"
and "handwriting", because users ask for whiteboards, pencil sketches and sticky notes."""

TEXT_FAITHFULNESS_DIRECTIVE = (
    "Any text in the picture is made of real words, spelled correctly, in the language that this prompt uses "
    "or names and otherwise in English, and it makes sense in the scene. "
    "Where no text is asked for, add none: no words, letters or numbers."
)
"""Plain sentences for the positive prompt. They name no excluded thing, because a model draws the nouns it reads.
"Add none" instead of "show none" lets an edit keep a sign in its reference picture."""

PROMPT_JOIN = "\n\n"  # the directive is a separate paragraph
NEGATIVE_JOIN = ", "

BASELINE_MAX_CHARS = 1200
DIRECTIVE_MAX_CHARS = 500
PROMPT_MAX_BYTES = 24_000
"""Limit of a prompt in UTF-8, in addition to IMAGEGEN_MAX_PROMPT_CHARS. With the longest policy texts (4 bytes a
character) the engine gets less than 30,000 bytes. The engine's limits are in bytes, not in characters."""
FILE_MAX_BYTES = 65_536

KEYS = {"baseline_negative": BASELINE_MAX_CHARS, "directive": DIRECTIVE_MAX_CHARS}

# C0, DEL, C1 and lone surrogates. Tab and line ends are allowed: a browser's form sends line ends as CR LF.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


class PolicyError(Exception):
    """A policy file is invalid. The message names the file, the key and the allowed values."""


@dataclass(frozen=True)
class Guardrails:
    """The active policy. `source`: "built-in" or the name of the operator's file."""

    baseline_negative: str = BASELINE_NEGATIVE
    directive: str = TEXT_FAITHFULNESS_DIRECTIVE
    source: str = "built-in"

    @classmethod
    def load(cls, path: Path | None) -> Guardrails:
        """Load the policy from the TOML file `path`, or return the built-in one. A missing key keeps the built-in text.

        Strips white space around a text. Raises PolicyError for an invalid file.
        """
        if path is None:
            return cls()
        try:
            return cls(**_read(path), source=path.name)
        except PolicyError as wrong:
            raise PolicyError(f"IMAGEGEN_POLICY_FILE: {wrong}") from None


def _read(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_MAX_BYTES + 1)
    except OSError as failure:
        raise PolicyError(
            f"{path} cannot be read ({failure.strerror}). Name a policy file, or unset it for the built-in policy."
        ) from None
    if len(data) > FILE_MAX_BYTES:
        raise PolicyError(f"{path} is longer than {FILE_MAX_BYTES:,} bytes: it is no policy file.")
    try:
        content = tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as wrong:
        raise PolicyError(f"{path} is not a TOML file in UTF-8: {wrong}.") from None
    if unknown := sorted(content.keys() - KEYS.keys()):
        raise PolicyError(f"{path}: {unknown[0]} is not a key of a policy. Its keys are {' and '.join(KEYS)}.")
    if not content:
        raise PolicyError(f"{path}: it has none of the keys {' and '.join(KEYS)}. Give at least one.")
    return {key: _policy_text(path, key, value) for key, value in content.items()}


def _policy_text(path: Path, key: str, value: object) -> str:
    if not isinstance(value, str):
        raise PolicyError(f"{path}: {key} must be a text in quotation marks, not {type(value).__name__}.")
    text, limit = value.strip(), KEYS[key]
    if not text:
        raise PolicyError(f"{path}: {key} is empty. Write the text, or leave the key out for the built-in one.")
    if len(text) > limit:
        raise PolicyError(f"{path}: {key} has {len(text):,} characters; at most {limit:,} are taken. Shorten it.")
    if bad := _CONTROL.search(text):
        raise PolicyError(f"{path}: {key} has {_named(bad[0])}. Take it out.")
    return text


@dataclass(frozen=True)
class Composed:
    """The engine's texts, and the job's policy and warnings."""

    prompt: str
    negative: str
    policy: Policy
    warnings: tuple[Warn, ...] = ()


def compose(
    guardrails: Guardrails,
    prompt: str,
    negative: str,
    cfg_scale: float,
    takes_negative: bool = True,
    background: Background = "opaque",
) -> Composed:
    """Add the policy's texts to the caller's unchanged texts.

    Prompt: the caller's, PROMPT_JOIN, the directive. A transparent background puts a sentence between the two, which
    asks for a plain one. Negative: the baseline, NEGATIVE_JOIN, the caller's. Without a
    caller's negative prompt it is the baseline alone. If the negative prompt is inert (D-03), the job's policy reports
    it, and a caller who wrote one gets a warning. At cfg 1 the engine gets the negative prompt but does not read it.
    Below 1 guidance reverses and would draw the named things, so the engine gets an empty one.
    takes_negative: False for a model that never reads a negative prompt.
    """
    plain = [plain_background(prompt)] if background == "transparent" else []
    given = bool(negative.strip())
    joined = guardrails.baseline_negative + (NEGATIVE_JOIN + negative if given else "")
    applied = negative_applies(cfg_scale, takes_negative)
    otherwise = ", or ask for a cfg_scale above 1 if the model takes it" if takes_negative else ""
    inert = Warn(
        code="negative_inert",
        detail=f"Your negative prompt has no effect: {_why_inert(cfg_scale, takes_negative)}. Say in the prompt what "
        f"to show instead{otherwise}.",
    )
    return Composed(
        prompt=PROMPT_JOIN.join([prompt, *plain, guardrails.directive]),
        negative="" if _engine_float(cfg_scale) < 1 else joined,
        policy=Policy(negative="applied" if applied else "inert"),
        warnings=(inert,) if given and not applied else (),
    )


def negative_applies(cfg_scale: float, takes_negative: bool = True) -> bool:
    """Whether a negative prompt has an effect: only above cfg 1, and if the model reads one."""
    return takes_negative and _engine_float(cfg_scale) > 1


def _engine_float(value: float) -> float:
    """The value in the engine's 32-bit precision, in which 1.00000001 is 1."""
    return ctypes.c_float(value).value


def _why_inert(cfg_scale: float, takes_negative: bool = True) -> str:
    if not takes_negative:
        return "this model does not read a negative prompt"
    if _engine_float(cfg_scale) < 1:
        return "below cfg_scale 1 a negative prompt would be drawn instead of avoided, so it is left out"
    return "at cfg_scale 1 the engine does not read a negative prompt"


class PolicyView(BaseModel):
    """What every picture is kept from, in the exact words the engine gets."""

    model_config = ConfigDict(extra="forbid")

    source: str
    model: str
    cfg_scale: float
    policy: Policy
    effect: str
    baseline_negative: str
    directive: str
    joined: dict[str, str]


def policy_view(guardrails: Guardrails, model: str, cfg_scale: float, takes_negative: bool = True) -> PolicyView:
    """The response of `GET /api/policy`: the exact texts, how they are joined to a caller's, and whether they have an
    effect on `model` at its default `cfg_scale`. `policy` has the same schema as in a job."""
    applied = negative_applies(cfg_scale, takes_negative)
    if applied:
        effect = f"Both take effect on {model} at cfg_scale {cfg_scale:g}."
    else:
        effect = (
            f"On {model} the directive takes effect and the negative prompt is inert: "
            f"{_why_inert(cfg_scale, takes_negative)}."
        )
        if takes_negative:
            effect += " In a job with a cfg_scale above 1 both take effect."
    return PolicyView(
        source=guardrails.source,
        model=model,
        cfg_scale=cfg_scale,
        policy=Policy(negative="applied" if applied else "inert"),
        effect=effect,
        baseline_negative=guardrails.baseline_negative,
        directive=guardrails.directive,
        joined={
            "prompt": "{prompt}" + PROMPT_JOIN + "{directive}",
            "negative": "{baseline_negative}" + NEGATIVE_JOIN + "{negative}",
            "negative_if_none_is_given": "{baseline_negative}",
            "negative_below_cfg_1": "",
        },
    )


def check_prompt(text: str, max_chars: int, what: str = "prompt") -> None:
    """Refuse a text that the engine cannot process. what: its name in messages.

    Raises Refused 422: invalid_request if the text is blank or has a control character other than tab and line end;
    prompt_too_long above `max_chars` characters or PROMPT_MAX_BYTES bytes of UTF-8.
    """
    if len(text) > max_chars:
        raise Refused(
            422,
            "prompt_too_long",
            f"The {what} has {len(text):,} characters; at most {max_chars:,} are taken. "
            f"Shorten it by {len(text) - max_chars:,}.",
        )
    if bad := _CONTROL.search(text):
        raise Refused(
            422,
            "invalid_request",
            f"The {what} has {_named(bad[0])} at index {bad.start()} (the first character is 0). "
            "Take it out; line ends and tabs can stay.",
        )
    if not text.strip():
        raise Refused(422, "invalid_request", f"The {what} is empty: say what the picture should show.")
    if (size_bytes := len(text.encode())) > PROMPT_MAX_BYTES:
        raise Refused(
            422,
            "prompt_too_long",
            f"The {what} has {size_bytes:,} bytes in UTF-8; the engine takes at most {PROMPT_MAX_BYTES:,}. Shorten it.",
        )


def _named(character: str) -> str:
    kind = "the half character" if "\ud800" <= character <= "\udfff" else "the control character"
    return f"{kind} U+{ord(character):04X}"
