"""What the files of this and other programs say about how they were made."""

from __future__ import annotations

import io
import json
import zlib
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from imagegen.images import png_texts
from imagegen.images.inspection import inspect
from imagegen.images.png import BrokenPng, finish_png
from imagegen.images.settings_read import SettingsRead


def with_texts(*, packed: bool = False, **texts: str) -> bytes:
    info = PngInfo()
    for keyword, text in texts.items():
        info.add_text(keyword, text, zip=packed)
    file = io.BytesIO()
    Image.new("RGB", (8, 4), "red").save(file, "PNG", pnginfo=info)
    return file.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)


def with_chunk(kind: bytes, body: bytes) -> bytes:
    png = with_texts()
    return png[:33] + chunk(kind, body) + png[33:]


OURS = {
    "Software": "imagegen 0.1.0",
    "model": "tiny",
    "seed": "7",
    "steps": "4",
    "cfg_scale": "1.5",
    "sampler": "euler",
    "speed": "fast",
    "loras": "soft light:0.8, b:1",
    "prompt": "a bell",
    "parameters": "a bell\nNegative prompt: hats\nSteps: 4, Sampler: Euler, CFG scale: 1.5, Seed: 7, Size: 64x32",
}
INFOTEXT = (
    "masterpiece, <lora:detail:0.6> a cat\nNegative prompt: blurry\n"
    "Steps: 30, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 1234, Size: 512x768, Model: dream_8"
)
KSAMPLER: dict[str, Any] = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 156680208700286,
            "steps": 20,
            "cfg": 8,
            "sampler_name": "euler_ancestral",
            "scheduler": "normal",
            "denoise": 1,
            "model": ["10", 0],
            "positive": ["6", 0],
            "negative": ["7", 0],
            "latent_image": ["5", 0],
        },
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd/v1-5.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 256, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a glass bottle", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "text, watermark", "clip": ["4", 1]}},
    "10": {
        "class_type": "LoraLoader",
        "inputs": {"lora_name": "glass.safetensors", "strength_model": 0.7, "model": ["4", 0], "clip": ["4", 1]},
    },
    "11": {
        "class_type": "KSampler",
        "inputs": {"seed": 9, "steps": 5, "cfg": 2, "latent_image": ["12", 0], "positive": ["6", 0]},
    },
    "12": {"class_type": "LatentUpscale", "inputs": {"samples": ["3", 0], "width": 1024, "height": 512}},
}
ADVANCED: dict[str, Any] = {
    "1": {
        "class_type": "SamplerCustomAdvanced",
        "inputs": {
            "noise": ["2", 0],
            "guider": ["3", 0],
            "sampler": ["4", 0],
            "sigmas": ["5", 0],
            "latent_image": ["6", 0],
        },
    },
    "2": {"class_type": "RandomNoise", "inputs": {"noise_seed": 42}},
    "3": {"class_type": "BasicGuider", "inputs": {"model": ["8", 0], "conditioning": ["7", 0]}},
    "4": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
    "5": {
        "class_type": "BasicScheduler",
        "inputs": {"scheduler": "simple", "steps": 25, "denoise": 1, "model": ["8", 0]},
    },
    "6": {"class_type": "EmptySD3LatentImage", "inputs": {"width": 1024, "height": 1024}},
    "7": {"class_type": "FluxGuidance", "inputs": {"guidance": 3.5, "conditioning": ["9", 0]}},
    "8": {"class_type": "UNETLoader", "inputs": {"unet_name": "flux1-dev.safetensors"}},
    "9": {"class_type": "CLIPTextEncode", "inputs": {"text": ["10", 0], "clip": ["11", 0]}},
    "10": {"class_type": "PrimitiveStringMultiline", "inputs": {"value": "a lighthouse"}},
    "11": {"class_type": "DualCLIPLoader", "inputs": {"clip_name1": "t5.safetensors"}},
}
INVOKE = {
    "app_version": "5.4.2",
    "generation_mode": "txt2img",
    "positive_prompt": "a red fox",
    "negative_prompt": "blurry",
    "width": 1024,
    "height": 768,
    "seed": 5,
    "cfg_scale": 7.5,
    "steps": 50,
    "scheduler": "dpmpp_2m_k",
    "model": {"key": "x", "name": "Dreamshaper 8", "base": "sd-1"},
    "loras": [{"model": {"name": "fox", "base": "sd-1"}, "weight": 0.75}],
}
OLD_INVOKE = INVOKE | {"model": {"model_name": "amixx"}, "loras": [{"lora": {"model_name": "fox"}, "weight": 1}]}

READ: list[tuple[str, dict[str, str], str | None, SettingsRead]] = [
    (
        "ours", OURS, "imagegen",
        SettingsRead(
            "a bell", "hats", "tiny", 7, 4, 1.5, "euler", (64, 32), (("soft light", 0.8), ("b", 1.0)), "fast"
        ),
    ),
    (
        "automatic1111", {"parameters": INFOTEXT}, "automatic1111",
        SettingsRead(
            "masterpiece, <lora:detail:0.6> a cat", "blurry", "dream_8", 1234, 30, 7.0, "DPM++ 2M", (512, 768),
            others={"Schedule type": "Karras"},
        ),
    ),
    (
        "comfyui", {"prompt": json.dumps(KSAMPLER), "workflow": "{}"}, "comfyui",
        SettingsRead(
            "a glass bottle", "text, watermark", "sd/v1-5.safetensors", 156680208700286, 20, 8.0, "euler_ancestral",
            (512, 256), (("glass.safetensors", 0.7),), others={"scheduler": "normal", "denoise": "1"},
        ),
    ),
    (
        "comfyui, advanced", {"prompt": json.dumps(ADVANCED)}, "comfyui",
        SettingsRead(
            "a lighthouse", "", "flux1-dev.safetensors", 42, 25, None, "euler", (1024, 1024),
            others={"scheduler": "simple", "denoise": "1"},
        ),
    ),
    (
        "invokeai", {"invokeai_metadata": json.dumps(INVOKE)}, "invokeai",
        SettingsRead(
            "a red fox", "blurry", "Dreamshaper 8", 5, 50, 7.5, "dpmpp_2m", (1024, 768), (("fox", 0.75),),
            others={"generation_mode": "txt2img", "app_version": "5.4.2"},
        ),
    ),
    (
        "invokeai 3", {"invokeai_metadata": json.dumps(OLD_INVOKE)}, "invokeai",
        SettingsRead(
            "a red fox", "blurry", "amixx", 5, 50, 7.5, "dpmpp_2m", (1024, 768), (("fox", 1.0),),
            others={"generation_mode": "txt2img", "app_version": "5.4.2"},
        ),
    ),
    ("a prompt that is no graph", {"prompt": "a cat"}, None, SettingsRead()),
    ("a graph without a sampler", {"prompt": json.dumps({"1": KSAMPLER["6"]})}, None, SettingsRead()),
    ("odd links", {"prompt": json.dumps({"1": {"class_type": "KSampler", "inputs": {"positive": ["1", 0]}}})},
     "comfyui", SettingsRead()),
    ("deep JSON", {"prompt": "[" * 100_000, "invokeai_metadata": '{"a":' * 100_000}, None, SettingsRead()),
    ("other JSON", {"prompt": "[1]", "invokeai_metadata": "7"}, None, SettingsRead()),
    (
        "odd types",
        {"invokeai_metadata": json.dumps({"positive_prompt": 7, "seed": True, "steps": "x", "loras": [1], "width": 1})},
        "invokeai", SettingsRead(),
    ),
    ("halves of characters", {"invokeai_metadata": '{"positive_prompt": "\\ud800a"}'}, "invokeai",
     SettingsRead("\ufffda")),
    ("nothing", {}, None, SettingsRead()),
]  # fmt: skip


@pytest.mark.parametrize(("texts", "program", "settings"), [one[1:] for one in READ], ids=[one[0] for one in READ])
def test_how_a_picture_was_made(texts: dict[str, str], program: str | None, settings: SettingsRead) -> None:
    for packed in (False, True):
        found = inspect(with_texts(packed=packed, **texts))
        assert (found.program, found.settings) == (program, settings)
        assert (found.width, found.height) == (8, 4)


def test_what_the_service_writes_is_read() -> None:
    assert inspect(finish_png(with_texts(), OURS).data).settings == READ[0][3]


TOO_LONG = "x" * (png_texts.TEXT_MAX_BYTES + 1)


@pytest.mark.parametrize(
    ("kind", "body", "why"),
    [
        (b"tEXt", b"k\0" + TOO_LONG.encode(), "is too long"),
        (b"zTXt", b"k\0\0" + zlib.compress(TOO_LONG.encode()), "is too long"),
        (b"iTXt", b"k\0\1\0\0\0" + zlib.compress(TOO_LONG.encode()), "is too long"),
        (b"zTXt", b"k\0\0" + zlib.compress(b"abc" * 100)[:-6], "is damaged"),
        (b"zTXt", b"k\0\0nothing", "is damaged"),
        (b"zTXt", b"k\0\1nothing", "is packed in a way that does not exist"),
        (b"iTXt", b"k\0\0\0", "is damaged"),
        (b"tEXt", b"k" * 80 + b"\0text", None),
        (b"tEXt", b"no keyword", None),
        (b"tEXt", b"\0text", None),
    ],
)
def test_a_text_that_cannot_be_read_is_left_out(kind: bytes, body: bytes, why: str | None) -> None:
    texts = inspect(with_chunk(kind, body)).texts
    assert (texts.found, texts.unread) == ({}, {} if why is None else {"k": why})


def test_all_texts_together_are_bounded() -> None:
    packed = zlib.compress(b"x" * png_texts.TEXT_MAX_BYTES)
    png = with_texts()
    chunks = b"".join(chunk(b"zTXt", b"k%d\0\0" % number + packed) for number in range(8))
    texts = inspect(png[:33] + chunks + png[33:]).texts
    assert (len(texts.found), len(texts.unread)) == (4, 4)


@pytest.mark.parametrize("data", [b"", b"GIF89a", with_texts()[:40], with_texts()[:-20]], ids=len)
def test_what_is_no_whole_png_is_a_sentence(data: bytes) -> None:
    with pytest.raises(BrokenPng, match=r"\.$"):
        inspect(data)


@pytest.mark.parametrize("line", ["a" * 10**6, " " * 10**6, "a, " * 10**5, 'a:"' * 10**5, "<lora:" * 10**5])
def test_a_long_line_is_a_prompt_and_not_searched(line: str) -> None:
    found = inspect(with_texts(parameters=line))
    assert (found.settings.prompt, found.settings.others) == (line.strip(), {})
