"""`imagegen models add`: each family by its tensors, what is asked for, and what is refused."""

from __future__ import annotations

import json
import math
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from command_line import document_of

from imagegen.cli.models import models as command
from imagegen.models import recognition
from imagegen.models.catalog import Catalog
from imagegen.models.families import FAMILIES
from imagegen.models.synthetic.random_gguf import RandomGGUF
from imagegen.settings import Settings

D = "model.diffusion_model."
CLIP = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
KLEIN = {"double_blocks.0.img_attn.qkv.weight": [9, 3], "double_stream_modulation_img.lin.weight": [9, 3]}
FLUX = {"double_blocks.0.img_attn.qkv.weight": [9216, 3072], "img_in.weight": [3072, 64]}


def unet(width: int, *more: str) -> dict[str, list[int]]:
    """The tensors of a checkpoint with a U-Net, its text encoder and its VAE."""
    names = {f"{D}input_blocks.0.0.weight": [320, 4, 3, 3], f"{D}middle_block.1.norm.weight": [320]}
    names[f"{D}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"] = [320, width]
    return names | {CLIP: [49408, 768], "first_stage_model.decoder.conv_in.weight": [1]} | {name: [1] for name in more}


SDXL = unet(2048, "conditioner.embedders.0.x", "conditioner.embedders.1.model.x")
DEV = FLUX | {"guidance_in.in_layer.weight": [1]}
CHROMA = FLUX | {"distilled_guidance_layer.in_proj.weight": [1]}
RADIANCE = FLUX | {"nerf_final_layer_conv.conv.weight": [1]}
FLUX2 = KLEIN | {"single_blocks.47.linear1.weight": [1]}
KLEIN_4B, KLEIN_9B = KLEIN | {"img_in.weight": [3072, 128]}, KLEIN | {"img_in.weight": [4096, 128]}
QWEN = {"transformer_blocks.0.img_mod.1.weight": [1], "img_in.weight": [3072, 64]}
Z_IMAGE = {"cap_embedder.0.weight": [2560], "x_embedder.weight": [3840, 64]}
OVIS = FLUX | {"double_blocks.0.img_mlp.gate_proj.weight": [1]}
ERNIE = {"layers.0.adaLN_sa_ln.weight": [4096], "x_embedder.proj.weight": [4096, 128, 1, 1]}
ANIMA = {"llm_adapter.blocks.0.cross_attn.q_proj.weight": [1]}
LLM, T5, CLIPS = ("llm", "vae"), ("clip_l", "t5xxl", "vae"), ("clip_l", "clip_g", "t5xxl", "vae")

MODELS: dict[str, tuple[str, dict[str, list[int]], tuple[str, ...], dict[str, Any]]] = {
    "dream": ("sd1", unet(768), (), {"steps": 20, "cfg_scale": 7.0, "sampler": "euler_a"}),
    "two": ("sd2", unet(1024), (), {"steps": 20}),
    "my_sd_turbo": ("sd2", unet(1024), (), {"steps": 4, "cfg_scale": 1.0}),
    "juggernaut": ("sdxl", SDXL, (), {"width": 1024, "cfg_scale": 7.0}),
    "xl-lightning": ("sdxl", SDXL, (), {"steps": 4, "cfg_scale": 1.0}),
    "sd3.5": ("sd3", {"joint_blocks.0.x": [1]}, CLIPS, {"cfg_scale": 4.5}),
    "flux1-dev": ("flux1", DEV, T5, {"cfg_scale": 1.0, "steps": 20}),
    "my-kontext": ("flux1", DEV, (), {"cfg_scale": 1.0}),
    "flux1-schnell": ("flux1-schnell", FLUX, T5, {"steps": 4}),
    "my-chroma": ("chroma", CHROMA, (), {"cfg_scale": 4.0}),
    "radiance": ("chroma-radiance", RADIANCE, ("t5xxl",), {"cfg_scale": 4.0}),
    "flux2-dev": ("flux2", FLUX2, LLM, {"cfg_scale": 1.0, "steps": 20}),
    "flux-2-klein-4b": ("flux2-klein", KLEIN_4B, (), {"steps": 4}),
    "flux-2-klein-base-4b": ("flux2-klein", KLEIN_4B, (), {"steps": 20, "cfg_scale": 4.0}),
    "flux-2-klein-9b": ("flux2-klein", KLEIN_9B, LLM, {"steps": 4}),
    "my-qwen-image": ("qwen-image", QWEN, (), {"cfg_scale": 2.5, "steps": 20}),
    "qwen-image-edit-2509": ("qwen-image", QWEN, LLM, {"cfg_scale": 2.5}),
    "my-qwen-image-edit-2511": ("qwen-image", QWEN, (), {"steps": 25}),
    "my-z-image": ("z-image", Z_IMAGE, (), {"cfg_scale": 5.0}),
    "z_image_turbo": ("z-image", Z_IMAGE, (), {"steps": 8}),
    "my-ovis": ("ovis-image", OVIS, (), {"cfg_scale": 5.0}),
    "ernie-image": ("ernie-image", ERNIE, LLM, {"cfg_scale": 5.0}),
    "my-ernie-image-turbo": ("ernie-image", ERNIE, (), {"steps": 8, "cfg_scale": 1.0}),
    "anima": ("anima", ANIMA, LLM, {"cfg_scale": 6.0}),
}
"""By the file's name: the family, tensors, the companion files that must be named, and numbers of the entry."""


def safetensors(path: Path, shapes: dict[str, list[int]], **metadata: str) -> Path:
    """A file of the right size, whose tensors are a hole in it."""
    tensors: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        tensors[name] = {"dtype": "F16", "shape": shape, "data_offsets": [begin, end]}
    header = json.dumps(tensors).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    os.truncate(path, 8 + len(header) + end)
    return path


def companion(folder: Path, role: str) -> Path:
    return safetensors(folder / f"{role}.safetensors", {"x": [1]})


def add(settings: Settings, *arguments: object) -> Result:
    words = ["add", *map(str, arguments)]
    return CliRunner(env={"IMAGEGEN_HOME": str(settings.home)}).invoke(command, words)


@pytest.mark.parametrize("model", MODELS)
def test_a_family_is_recognised_and_its_entry_written(model: str, settings: Settings, tmp_path: Path) -> None:
    family, shapes, needs, numbers = MODELS[model]
    path = safetensors(tmp_path / f"{model}.safetensors", shapes)
    assert recognition.family(recognition.read(path)) == family
    if needs:
        asked = add(settings, path)
        assert asked.exit_code == 1
        options = [f"--{role.replace('_', '-')}" for role in needs]
        assert f"needs more files for this model: {' '.join(f'{one} FILE' for one in options)}" in asked.stderr
        assert not list(settings.models_dir.iterdir()), "nothing is written"
    given = [word for role in needs for word in (f"--{role.replace('_', '-')}", companion(tmp_path, role))]
    done = add(settings, path, *given)
    assert done.exit_code == 0, done.output
    entry = Catalog.load(settings).get(model)
    assert {name: getattr(entry.defaults, name).value for name in numbers} == numbers
    argv = entry.argv(settings)
    assert argv[argv.index("--model" if D in next(iter(shapes)) else "--diffusion-model") + 1] == str(path)
    for role in needs:
        assert argv[argv.index(f"--{role}") + 1] == str(tmp_path / f"{role}.safetensors")


def test_every_family_has_a_model_in_the_table() -> None:
    assert FAMILIES.keys() - {family for family, *_ in MODELS.values()} == {"sdxs-512"}


def test_what_the_tensors_do_not_tell_is_asked_for(settings: Settings, tmp_path: Path) -> None:
    path = safetensors(tmp_path / "mine.safetensors", DEV)
    asked = add(settings, path)
    assert asked.exit_code == 1 and "flux1-kontext-dev (FLUX.1 Kontext). Choose one with --variant." in asked.stderr
    assert add(settings, path, "--variant", "none").exit_code == 1
    done = add(settings, path, "--variant", "flux1-kontext-dev", "--name", "My Edits!", "--licence", "mine")
    assert done.exit_code == 0 and "imagegen models fetch my-edits" in done.stderr
    entry = Catalog.load(settings).get("my-edits")
    assert entry.capabilities.edit and entry.licence.name == "mine"
    assert [file.file for file in entry.missing(settings)] == [
        *("clip_l.safetensors", "t5xxl_fp16.safetensors", "ae.safetensors")
    ], "the companion files of the catalog's model"


def test_the_document_names_what_is_missing(settings: Settings, tmp_path: Path) -> None:
    path = safetensors(tmp_path / "mine.safetensors", DEV)
    added = document_of("models add", add(settings, path, "--variant", "flux1-kontext-dev", "--json").stdout)
    assert (added["family"], added["missing"][0]) == ("flux1", "clip_l.safetensors")
    assert Path(added["entry"]).exists()


def test_a_licence_in_the_file_is_taken(settings: Settings, tmp_path: Path) -> None:
    add(settings, safetensors(tmp_path / "a.safetensors", SDXL, **{"modelspec.license": "OpenRAIL"}))
    assert Catalog.load(settings).get("a").licence.name == "OpenRAIL"


def test_a_taken_name_is_refused(settings: Settings, tmp_path: Path) -> None:
    refused = add(settings, safetensors(tmp_path / "SDXL.safetensors", SDXL))
    assert refused.exit_code == 1 and "has a model sdxl already. Choose another name with --name." in refused.stderr


def gguf(*parts: bytes) -> bytes:
    """A GGUF header of version 3."""
    return b"GGUF" + struct.pack("<I", 3) + b"".join(parts)


def counts(tensors: int, keys: int) -> bytes:
    return struct.pack("<QQ", tensors, keys)


def text(words: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(words) if length is None else length) + words


HUGE = (1 << 63) - 1
TENSOR = text(b"joint_blocks.0.x") + struct.pack("<I", 1)
REFUSED: dict[str, tuple[bytes, str]] = {
    "a new checkpoint": (b"PK\x03\x04" + bytes(99), "is a pickle"),
    "an old checkpoint": (b"\x80\x02}q\x00." + bytes(99), "is a pickle"),
    "a page": (b"<html>not found</html>", "is no safetensors file"),
    "nothing": (b"", "is no safetensors file"),
    "JSON that is deep": (struct.pack("<Q", 200_000) + b"[" * 200_000, "its header cannot be read"),
    "JSON of another kind": (struct.pack("<Q", 4) + b"null", "its header cannot be read"),
    "a header longer than the file": (struct.pack("<Q", HUGE) + b"{}", "is no safetensors file"),
    "GGUF of version 99": (b"GGUF" + struct.pack("<I", 99), "of version 99"),
    "GGUF without a header": (gguf(), "damaged or cut off"),
    "GGUF with many tensors": (gguf(counts(HUGE, 0)), "impossible sizes"),
    "GGUF with many keys": (gguf(counts(0, HUGE)), "impossible sizes"),
    "GGUF with a long key": (gguf(counts(0, 1), text(b"k", HUGE)), "impossible sizes"),
    "GGUF with a long list": (gguf(counts(0, 1), text(b"k"), struct.pack("<IIQ", 9, 4, HUGE)), "impossible sizes"),
    "GGUF with a list of lists": (gguf(counts(0, 1), text(b"k"), struct.pack("<IIQ", 9, 9, 5)), "an unknown kind"),
    "GGUF with a list beyond its end": (gguf(counts(0, 1), text(b"k"), struct.pack("<IIQ", 9, 10, 999)), "cut off"),
    "GGUF with a name that is no text": (gguf(counts(1, 0), text(b"\xff\xfe")), "damaged or cut off"),
    "GGUF with a huge tensor": (gguf(counts(1, 0), TENSOR, struct.pack("<QIQ", HUGE, 0, 0)), "an impossible shape"),
    "GGUF with an empty side": (gguf(counts(1, 0), TENSOR, struct.pack("<QIQ", 0, 0, 0)), "an impossible shape"),
    "GGUF that is cut off": (gguf(counts(1, 0), TENSOR, struct.pack("<QIQ", 64, 0, 0)), "is cut off: it has"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_damaged_and_hostile_files_are_refused_in_a_sentence(what: str, settings: Settings, tmp_path: Path) -> None:
    data, said = REFUSED[what]
    for name in ("bad.gguf", "bad.safetensors"):
        (tmp_path / name).write_bytes(data)
        refused = add(settings, tmp_path / name)
        assert (refused.exit_code, refused.exception.__class__) == (1, SystemExit)
        assert said in refused.stderr and refused.stderr.count("\n") == 1
    whole = safetensors(tmp_path / "a.safetensors", FLUX2)
    assert said in add(settings, whole, "--vae", tmp_path / "bad.gguf", "--llm", tmp_path / "bad.gguf").stderr
    assert not list(settings.models_dir.iterdir()), "nothing is written"


OTHERS = {
    "a LoRA": ({"transformer.x.lora_A.weight": [1]}, "is a LoRA"),
    "a text model": ({"blk.0.attn_q.weight": [1]}, "give it with --llm"),
    "T5": ({"enc.blk.0.attn_q.weight": [1]}, "give it with --t5xxl"),
    "CLIP": ({"text_model.encoder.layers.0.mlp.fc1.weight": [1]}, "give it with --clip-l"),
    "a VAE": ({"decoder.up.0.block.0.conv1.weight": [1]}, "give it with --vae"),
    "a small autoencoder": ({"decoder.layers.0.weight": [1]}, "give it with --tae"),
    "an upscaler": ({"conv_first.weight": [1]}, "is an upscaler"),
    "video": ({"blocks.0.cross_attn.norm_k.weight": [1]}, "is a model for video"),
    "inpainting": (unet(768) | {f"{D}input_blocks.0.0.weight": [320, 9, 3, 3]}, "inpainting or control"),
    "FLUX fill": (FLUX | {"img_in.weight": [3072, 384]}, "inpainting or control"),
    "another U-Net": (unet(512), "text width is none of 768, 1024, 2048"),
    "something else": ({"a": [1]}, "of no family that the engine is known to draw with"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_files_that_are_no_model_of_their_own_are_named(what: str, settings: Settings, tmp_path: Path) -> None:
    shapes, said = OTHERS[what]
    refused = add(settings, safetensors(tmp_path / "x.safetensors", shapes))
    assert refused.exit_code == 1 and said in refused.stderr
    assert not list(settings.models_dir.iterdir())


def test_gguf_tells_the_same_as_safetensors(tmp_path: Path) -> None:
    made = RandomGGUF("flux", 1)
    made.normal("double_stream_modulation_img.lin.weight", (96, 32), 1.0)
    made.write(tmp_path / "a.gguf", lambda _count: None)
    found = recognition.read(tmp_path / "a.gguf")
    assert (dict(found.shapes), found.texts["general.architecture"]) == (
        {"double_stream_modulation_img.lin.weight": (96, 32)},
        "flux",
    )
    assert recognition.family(found) == "flux2-klein"
