"""Settings of a picture of ComfyUI: its PNG text `prompt` is the graph of nodes that made it, as JSON.

Nodes of extensions have inputs of any name, so the reader follows links from the sampler and takes the first inputs of
the usual names. It visits each node once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from imagegen.images.settings_read import SettingsRead

KEYWORD = "prompt"
SAMPLERS = ("KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced")
TEXTS = ("text", "text_g", "t5xxl", "clip_l", "prompt", "string", "value")
"""Inputs that hold a prompt, of nodes on the way to the sampler's `positive` or `negative`."""
MODELS = ("ckpt_name", "unet_name", "model_name", "gguf_name")
NOT_FOLLOWED = frozenset({"clip", "clip1", "clip2", "vae", "control_net", "clip_vision", "style_model", "model"})
"""Links of a prompt's nodes that lead to models."""
MOST_LORAS = 64

Graph = Mapping[str, Any]


def read(text: str) -> SettingsRead | None:
    """The settings of the graph's sampler; None if it is no graph of ComfyUI, or has no sampler."""
    try:
        graph = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(graph, dict):
        return None
    samplers = [name for name, node in graph.items() if _class_of(node) in SAMPLERS]
    if not samplers:
        return None
    # A second sampler enlarges the picture of the first, which begins with an empty latent.
    first = next((name for name in samplers if _size(graph, name) is not None), samplers[0])
    return _of_sampler(graph, first)


def _of_sampler(graph: Graph, sampler: str) -> SettingsRead:
    found = SettingsRead(
        prompt=_text(graph, sampler, "positive"),
        negative=_text(graph, sampler, "negative"),
        model=_value(graph, sampler, MODELS, str),
        seed=_value(graph, sampler, ("seed", "noise_seed"), int),
        steps=_value(graph, sampler, ("steps",), int),
        cfg_scale=_value(graph, sampler, ("cfg",), float),
        sampler=_value(graph, sampler, ("sampler_name",), str),
        size=_size(graph, sampler),
        loras=tuple(_loras(graph, sampler)),
    )
    for name in ("scheduler", "denoise", "guidance"):
        value = _value(graph, sampler, (name,), (str, float))
        if value is not None:
            found.others[name] = f"{value:g}" if isinstance(value, float) else value
    return found


def _class_of(node: Any) -> str:
    return str(node.get("class_type", "")) if isinstance(node, dict) else ""


def _inputs(graph: Graph, name: str) -> Mapping[str, Any]:
    node = graph.get(name)
    inputs = node.get("inputs") if isinstance(node, dict) else None
    return inputs if isinstance(inputs, dict) else {}


def _link(graph: Graph, value: Any) -> str | None:
    """The node that an input comes from; None for a value."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and value[0] in graph:
        return value[0]
    return None


def _upstream(graph: Graph, starts: Sequence[str], skip: frozenset[str] = frozenset()) -> Iterator[str]:
    """The nodes that lead to `starts`, and these, the nearest first, each once. `skip`: links not to follow."""
    waiting, seen = list(starts), set(starts)
    for name in waiting:  # grows meanwhile
        yield name
        for label, value in _inputs(graph, name).items():
            linked = None if label in skip else _link(graph, value)
            if linked is not None and linked not in seen:
                seen.add(linked)
                waiting.append(linked)


def _value(graph: Graph, sampler: str, names: Sequence[str], kinds: Any) -> Any:
    """The nearest input with one of these names and types. A whole number is also a float."""
    prompts = frozenset({"positive", "negative", "conditioning", "samples"})
    for node in _upstream(graph, [sampler], prompts):
        for name in names:
            value = _inputs(graph, node).get(name)
            if isinstance(value, int) and not isinstance(value, bool) and kinds not in (int, str):
                value = float(value)
            if isinstance(value, kinds) and not isinstance(value, bool):
                return value
    return None


def _text(graph: Graph, sampler: str, side: str) -> str:
    """The nearest prompt on the way to the sampler's `positive` or `negative`, which a guider may have in its place."""
    inputs = _inputs(graph, sampler)
    guider = _inputs(graph, _link(graph, inputs.get("guider")) or "")
    ways = [inputs.get(side), guider.get(side), guider.get("conditioning") if side == "positive" else None]
    start = next((linked for way in ways if (linked := _link(graph, way)) is not None), None)
    other = "negative" if side == "positive" else "positive"
    for node in [] if start is None else _upstream(graph, [start], NOT_FOLLOWED | {other}):
        for name in TEXTS:
            value = _inputs(graph, node).get(name)
            if isinstance(value, str) and value.strip():
                return value.strip()
    return ""


def _size(graph: Graph, sampler: str) -> tuple[int, int] | None:
    """The size of the empty latent that a sampler begins with; None if it begins with a picture."""
    start = _link(graph, _inputs(graph, sampler).get("latent_image"))
    for node in [] if start is None else _upstream(graph, [start], frozenset({"samples", "pixels", "vae"})):
        inputs = _inputs(graph, node)
        width, height = inputs.get("width"), inputs.get("height")
        if "Empty" in _class_of(graph[node]) and type(width) is int and type(height) is int:
            return width, height
    return None


def _loras(graph: Graph, sampler: str) -> Iterator[tuple[str, float]]:
    count = 0
    for node in _upstream(graph, [sampler], frozenset({"positive", "negative", "conditioning"})):
        inputs = _inputs(graph, node)
        name, strength = inputs.get("lora_name"), inputs.get("strength_model", 1.0)
        if isinstance(name, str) and type(strength) in {int, float} and count < MOST_LORAS:
            count += 1
            yield name, float(strength)
