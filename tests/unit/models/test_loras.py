"""The LoRA folder: what counts as a LoRA of it, and what its files say about themselves."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from loras import pair, put, safetensors

from imagegen.models.catalog import Catalog
from imagegen.models.entry import Entry
from imagegen.models.loras.folder import MAX_HEADER_BYTES, LoraFolder
from imagegen.schemas import Refused
from imagegen.settings import Settings

WHOLE = safetensors(pair())


@pytest.fixture
def folder(home: Path) -> LoraFolder:
    return LoraFolder(Settings(home=home))


@pytest.fixture
def tiny(home: Path) -> Entry:
    return Catalog.load(Settings(home=home)).get("tiny")


def refused(folder: LoraFolder, name: str, entry: Entry) -> Refused:
    with pytest.raises(Refused) as caught:
        folder.checked(name, entry)
    assert caught.value.status == 422 and str(folder.path.parent) not in caught.value.detail
    return caught.value


def test_a_lora_is_found_by_its_name(folder: LoraFolder, home: Path, tiny: Entry) -> None:
    assert folder.all() == [] and folder.names() == []
    for name in ("water colour", "v1.5", "Café_2"):
        put(home, name)
        assert folder.checked(name, tiny).name == name
    assert folder.checked("v1.5.safetensors", tiny).name == "v1.5", "the file's name is taken too"
    (home / "loras" / "notes.txt").write_text("x")
    assert folder.names() == ["Café_2", "v1.5", "water colour"]


@pytest.mark.parametrize(
    "name",
    [
        *("other", "", ".", "..", "../tiny", "sub/one", "sub\\one", "/etc/hostname", ".hidden", "a:b", "a\0b"),
        *("x" * 200, "out", "dangling", "pipe", "folder", "loop"),
    ],
)
def test_nothing_else_is_a_lora(folder: LoraFolder, home: Path, tiny: Entry, name: str) -> None:
    put(home, "one")
    loras = home / "loras"
    (loras / "sub").mkdir()
    put(home, "sub/one")
    put(home, ".hidden")
    elsewhere = put(home.parent, "elsewhere")
    (loras / "out.safetensors").symlink_to(elsewhere)
    (loras / "dangling.safetensors").symlink_to(loras / "nothing")
    (loras / "loop.safetensors").symlink_to(loras / "loop.safetensors")
    (loras / "folder.safetensors").mkdir()
    os.mkfifo(loras / "pipe.safetensors")
    assert refused(folder, name, tiny).code == "unknown_lora"
    assert folder.names() == ["one"]


def test_a_link_inside_the_folder_and_a_folder_that_is_a_link_count(
    folder: LoraFolder, home: Path, tiny: Entry, tmp_path: Path
) -> None:
    (tmp_path / "large disk").mkdir()
    (home / "loras").symlink_to(tmp_path / "large disk")
    put(home, "one")
    (home / "loras" / "two.safetensors").symlink_to("one.safetensors")
    assert folder.names() == ["one", "two"]
    assert folder.checked("two", tiny).path == tmp_path / "large disk" / "one.safetensors"


def header(length: int, text: bytes = b"") -> bytes:
    return length.to_bytes(8, "little") + text


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is no safetensors file"),
        (WHOLE[:4000], "is cut off: it has 4,000 bytes instead of"),
        (WHOLE + b"x", "is longer than its header says"),
        (b"<html>404</html>" * 20, "is no safetensors file"),
        (b"PK\x03\x04" + bytes(100), "is no safetensors file"),
        (header(2**63), "is no safetensors file"),
        (header(40) + b"[" * 40, "its header cannot be read"),
        (header(2_000_000) + b"[" * 2_000_000, "its header cannot be read"),
        (header(MAX_HEADER_BYTES + 1) + b" " * (MAX_HEADER_BYTES + 1), "has a header of 16,777,217 bytes"),
        (header(2, b"{}"), "has no tensor"),
        (WHOLE.replace(b"[4, 128]", b"[4, 999]"), "is damaged: the size of its tensor"),
        (WHOLE.replace(b"[4, 128]", b"[-4,128]"), "its header cannot be read"),
        (safetensors(pair(ranks=(4, 8))), "has matrices that do not fit each other"),
    ],
    ids=[
        *("empty", "cut off", "longer", "HTML", "pickle", "absurd length", "no object", "deep", "large header"),
        *("no tensor", "wrong size", "negative side", "odd ranks"),
    ],
)
def test_a_damaged_file_is_refused_and_listed_with_its_fault(
    folder: LoraFolder, home: Path, tiny: Entry, data: bytes, said: str
) -> None:
    put(home, "one", data)
    caught = refused(folder, "one", tiny)
    assert caught.code == "lora_damaged" and said in caught.detail
    (listed,) = folder.all()
    assert listed.fault is not None and said in listed.fault
    assert not folder.fits(listed, tiny)


def test_a_file_that_was_replaced_is_read_again(folder: LoraFolder, home: Path, tiny: Entry) -> None:
    put(home, "one")
    assert folder.checked("one", tiny)
    put(home, "one", WHOLE[:999])
    assert refused(folder, "one", tiny).code == "lora_damaged"
    put(home, "one").unlink()
    assert refused(folder, "one", tiny).code == "unknown_lora"


@pytest.mark.parametrize(
    ("lora", "code", "said"),
    [
        (pair("transformer_blocks.0.attn.to_q", 3072, 3072), "lora_of_another_model", "is 3072x3072"),
        (pair("no.such.matrix"), "lora_of_another_model", "none of its 2 tensors"),
        (pair("transformer.single_transformer_blocks.0.attn.to_q", outer=128), "lora_not_supported", "128 of the 1152"),
    ],
    ids=["another size", "another family", "a part"],
)
def test_a_lora_that_does_not_fit_the_model_is_refused(
    folder: LoraFolder, home: Path, tiny: Entry, lora: Any, code: str, said: str
) -> None:
    put(home, "one", safetensors(lora, {"ss_base_model_version": "some_base"}))
    caught = refused(folder, "one", tiny)
    assert caught.code == code and said in caught.detail
    assert ("another model (some_base, and tiny is FLUX.2):" in caught.detail) is (code == "lora_of_another_model")
    (listed,) = folder.all()
    assert listed.fault is None and not folder.fits(listed, tiny)


def test_a_model_whose_files_are_missing_is_checked_when_it_draws(folder: LoraFolder, home: Path) -> None:
    put(home, "one")
    entry = Catalog.load(Settings(home=home)).get("qwen-image")
    lora = folder.checked("one", entry)
    assert not folder.fits(lora, entry), "it is not listed for a model that cannot be checked"


TAGS = json.dumps({"10_cats": {"cat": 9, "a\nred\thouse": 30, "": 99}, "5_dogs": {"cat": 30, "dog": 1}})


@pytest.mark.parametrize(
    ("metadata", "base_model", "words"),
    [
        ({}, None, ()),
        ({"ss_base_model_version": "sdxl_base_v1-0"}, "sdxl_base_v1-0", ()),
        ({"ss_base_model_version": "x", "modelspec.architecture": "flux-1-dev/lora"}, "flux-1-dev/lora", ()),
        ({"modelspec.trigger_phrase": "wtrclr style, soft , wtrclr style"}, None, ("wtrclr style", "soft")),
        ({"ss_tag_frequency": TAGS}, None, ("cat", "a red house", "dog")),
        ({"ss_tag_frequency": TAGS, "modelspec.trigger_phrase": "mine"}, None, ("mine",)),
        ({"ss_tag_frequency": "[1, 2]"}, None, ()),
        ({"ss_tag_frequency": "[" * 9999}, None, ()),
        ({"ss_tag_frequency": '{"a": {"b": "many"}}'}, None, ()),
        ({"ss_base_model_version": "a\x1b[31m\nb" + "c" * 500}, "a [31m b" + "c" * 71 + "…", ()),
    ],
)
def test_what_a_file_says_about_itself(
    folder: LoraFolder, home: Path, metadata: dict[str, str], base_model: str | None, words: tuple[str, ...]
) -> None:
    put(home, "one", safetensors(pair(), metadata))
    (lora,) = folder.all()
    assert (lora.facts.base_model, lora.facts.trigger_words) == (base_model, words)
    assert lora.facts.family == "FLUX"


@pytest.mark.parametrize(
    ("matrix", "inner", "family"),
    [
        ("transformer.single_transformer_blocks.0.attn.to_q", 3072, "FLUX"),
        ("transformer_blocks.0.attn.add_q_proj", 3072, "Qwen-Image"),
        ("diffusion_model.layers.3.attention.to_q", 3840, "Z-Image"),
        ("lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k", 2048, "Stable Diffusion XL"),
        ("lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_k", 768, "Stable Diffusion 1"),
        ("something.else", 9, None),
    ],
)
def test_a_family_is_recognised_by_names_and_shapes(
    folder: LoraFolder, home: Path, matrix: str, inner: int, family: str | None
) -> None:
    put(home, "one", safetensors(pair(matrix, inner=inner)))
    assert [lora.facts.family for lora in folder.all()] == [family]
