"""What a LoRA's file says about itself: base model, trigger words, and the family of its matrices. Pure."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from imagegen.engines.safetensors import Header, Tensor

MOST_WORDS, MOST_CHARS = 12, 80
"""The most trigger words of a LoRA, and the most characters of a text from a file's metadata."""
TAGS_MAX_CHARS = 4_000_000

_BASE_MODELS = ("modelspec.architecture", "ss_base_model_version", "ss_sd_model_name", "base_model")
"""Keys of the metadata that name the base model, the most exact first."""
_TRIGGERS = ("modelspec.trigger_phrase", "trigger_words", "ss_trigger_words", "activation text")
_FAMILIES = (
    (re.compile(r"single_transformer_blocks|single_blocks|double_blocks"), "FLUX"),
    (re.compile(r"(img|txt)_(mod|mlp)|transformer_blocks.*add_q_proj"), "Qwen-Image"),
    (re.compile(r"(^|[._])layers[._]\d+[._](attention|feed_forward)[._]"), "Z-Image"),
    (re.compile(r"joint_blocks"), "Stable Diffusion 3"),
    (re.compile(r"blocks[._]\d+[._](cross_attn|self_attn)[._]"), "Wan"),
)
_CROSS_ATTENTION = re.compile(r"(down|up|input|output|mid|middle)_blocks?.*attn2[._]to_k")
_UNETS = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "Stable Diffusion XL"}
"""U-Nets by the width of their text: the input of the cross-attention's matrices."""


@dataclass(frozen=True)
class Facts:
    """base_model, trigger_words: from the metadata. family: recognised from names and shapes of the tensors."""

    base_model: str | None
    family: str | None
    trigger_words: tuple[str, ...]


def facts_of(header: Header) -> Facts:
    """What a LoRA's header says about it. Every text is printable and short."""
    said = {key: text for key, value in header.metadata.items() if (text := _plain(value))}
    base_model = next((said[key] for key in _BASE_MODELS if key in said), None)
    return Facts(base_model, _family(header.tensors), _trigger_words(header.metadata, said))


def _trigger_words(metadata: Mapping[str, str], said: Mapping[str, str]) -> tuple[str, ...]:
    """The phrase that the author wrote, else the most frequent tags of the training pictures."""
    written = next((said[key] for key in _TRIGGERS if key in said), None)
    if written:
        words = [one.strip(" \"'[]") for one in written.split(",")]
        return tuple(dict.fromkeys(word for word in words if word))[:MOST_WORDS]
    frequency = metadata.get("ss_tag_frequency", "")
    if len(frequency) > TAGS_MAX_CHARS:
        return ()
    try:
        counts: Counter[str] = Counter()
        for tags in json.loads(frequency).values():
            counts.update({_plain(tag): int(count) for tag, count in tags.items()})
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        return ()
    return tuple(tag for tag, _ in counts.most_common(MOST_WORDS + 1) if tag)[:MOST_WORDS]


def _family(tensors: Mapping[str, Tensor]) -> str | None:
    for mark, family in _FAMILIES:
        if any(mark.search(name) for name in tensors):
            return family
    for name, tensor in tensors.items():
        if _CROSS_ATTENTION.search(name) and re.search("lora_down|lora_A|lora.down", name) and len(tensor.shape) > 1:
            return _UNETS.get(tensor.shape[1])
    return None


def _plain(text: str) -> str:
    """The printable characters of a text, shortened."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text[: 4 * MOST_CHARS])
    plain = " ".join(plain.split())
    return plain if len(plain) <= MOST_CHARS else plain[: MOST_CHARS - 1] + "…"
