"""The catalog's own entries, and the page that lists them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from generate_docs import FOLDER, page_with
from model_tables import tables
from user_entries import fill, user_file

import imagegen.models
from imagegen.engines.base import LoraUse
from imagegen.models.catalog import Catalog, missing_sentence
from imagegen.models.entry_files import CatalogError
from imagegen.schemas import Refused
from imagegen.settings import Settings

ALL_FILES = {p.stem: p for p in Path(imagegen.models.__file__).parent.glob("entries/*.toml")}
UPSCALERS = {name: path for name, path in ALL_FILES.items() if 'adapter = "esrgan"' in path.read_text()}
FILES = {name: path for name, path in ALL_FILES.items() if name not in UPSCALERS}

PAGE = FOLDER / "models.md"


def test_every_entry_of_the_package_loads(settings: Settings) -> None:
    catalog = Catalog.load(settings)
    assert set(catalog.names()) == set(FILES) >= {
        "tiny", "qwen-tiny", "qwen-image-edit-2511", "qwen-image-edit-2511-lightning", "qwen-image",
        "qwen-image-lightning", "qwen-image-2512", "qwen-image-2512-lightning", "flux2-klein-4b", "z-image-turbo",
        "sd-turbo", "sdxs-512", "glm-image", "glm-tiny",
    }  # fmt: skip
    assert catalog.names() == Catalog.packaged().names()
    upscalers = {"realesrgan-x4plus", "realesrgan-x4plus-anime", "upscaler-tiny"}
    assert {one.name for one in catalog.upscalers()} == set(UPSCALERS) >= upscalers


@pytest.mark.parametrize("name", FILES)
def test_every_number_in_our_files_has_its_own_source(name: str) -> None:
    data = tomllib.loads(FILES[name].read_text(encoding="utf-8"))
    sourced = [*data.get("defaults", {}).values(), *data.get("flags", [])]
    sourced += [data[table] for table in ("memory", "download_bytes") if table in data]
    assert sourced
    assert all(len(table["source"]) > 5 for table in sourced)


def test_qwen_image_edit_has_the_documented_recipe(settings: Settings) -> None:
    entry = Catalog.load(settings).get("qwen-image-edit-2511")
    d = entry.defaults
    assert (d.steps.value, d.cfg_scale.value, d.width.value, d.height.value) == (25, 2.5, 512, 512)
    assert (d.sampler.value, d.steps.max, d.cfg_scale.max) == ("euler", 40, 4.0)
    assert entry.engine_flags == ["--flow-shift", "3", "--diffusion-fa", "--qwen-image-zero-cond-t"]
    assert not entry.negative_inert


def test_models_at_cfg_1_say_that_a_negative_prompt_is_inert(settings: Settings) -> None:
    inert = {e.name for e in Catalog.load(settings).entries() if e.negative_inert}
    assert inert >= {"tiny", "flux2-klein-4b", "z-image-turbo", "sd-turbo", "sdxs-512", "qwen-image-lightning"}
    assert not inert & {"qwen-tiny", "qwen-image", "qwen-image-2512", "qwen-image-edit-2511"}
    assert {"glm-image", "glm-tiny"} <= inert, "their pipeline takes none, whatever the guidance"


def test_the_guidance_that_destroys_a_glm_picture_is_outside_the_range(settings: Settings) -> None:
    cfg = Catalog.load(settings).get("glm-image").defaults.cfg_scale
    assert cfg.value == 1.5
    assert cfg.max is not None and cfg.max < 7.5


def test_a_lightning_model_shares_its_base_and_adds_a_lora(settings: Settings) -> None:
    catalog = Catalog.load(settings)
    base, fast = catalog.get("qwen-image-edit-2511"), catalog.get("qwen-image-edit-2511-lightning")
    fill(base, settings)
    assert base.installed(settings)
    assert [f.role for f in fast.missing(settings)] == ["lora"]
    fill(fast, settings)
    assert fast.installed(settings)
    assert fast.argv(settings) == base.argv(settings)
    assert (fast.defaults.steps.value, fast.defaults.cfg_scale.value) == (4, 1.0)
    file = "Qwen-Image-Edit-2511-Lightning-4steps-V1.0-bf16.safetensors"
    assert fast.loras(settings) == (LoraUse(settings.models_dir / fast.name / file, 1.0),)
    assert base.loras(settings) == ()


def test_argv_names_existing_files_and_leaves_an_absent_optional_one_out(settings: Settings) -> None:
    entry = Catalog.load(settings).get("qwen-image-edit-2511")
    fill(entry, settings)
    argv = entry.argv(settings)
    assert "--llm_vision" not in argv
    assert all(Path(word).is_file() for word in argv if word.startswith("/"))
    common = settings.models_dir / "qwen-image-common"
    (common / "Qwen2.5-VL-7B-Instruct.mmproj-Q8_0.gguf").touch()
    with_vision = entry.argv(settings)
    assert with_vision[with_vision.index("--llm_vision") + 1] == str(common / "Qwen2.5-VL-7B-Instruct.mmproj-Q8_0.gguf")


def test_a_copy_in_the_models_own_folder_wins_over_the_shared_one(settings: Settings) -> None:
    entry = Catalog.load(settings).get("qwen-image")
    fill(entry, settings)
    own = entry.folder(settings) / "qwen_image_vae.safetensors"
    assert str(own) not in entry.argv(settings)
    own.touch()
    assert str(own) in entry.argv(settings)


def test_a_missing_model_is_named_with_its_files_and_their_folder(settings: Settings) -> None:
    catalog = Catalog.load(settings)
    made = missing_sentence(catalog.get("tiny"), settings)
    assert "dit.gguf" in made and str(settings.models_dir / "tiny") in made and "models make tiny" in made
    qwen = missing_sentence(catalog.get("qwen-image"), settings)
    for part in ("qwen-image-Q4_K_M.gguf", "qwen_image_vae.safetensors", "/models/qwen-image", "/qwen-image-common"):
        assert part in qwen
    fill(catalog.get("qwen-image"), settings)
    assert missing_sentence(catalog.get("qwen-image"), settings) == "The model qwen-image is complete."


def test_the_default_is_the_users_choice_then_what_the_machine_has(settings: Settings) -> None:
    catalog = Catalog.load(settings)
    assert catalog.default(settings, has_gpu=True).name == "qwen-image-edit-2511"
    assert catalog.default(settings, has_gpu=False).name in {"sketch", "tiny"}
    chosen = settings.model_copy(update={"model": "sd-turbo"})
    assert Catalog.load(chosen).default(chosen, has_gpu=True).name == "sd-turbo"
    with pytest.raises(CatalogError, match=r"IMAGEGEN_MODEL='nonsense'.*sd-turbo"):
        Catalog.load(settings.model_copy(update={"model": "nonsense"}))


def test_an_unknown_name_is_refused_with_the_names_there_are(settings: Settings) -> None:
    with pytest.raises(Refused) as refused:
        Catalog.load(settings).get("dall-e")
    assert (refused.value.status, refused.value.code) == (422, "unknown_model")
    assert "'dall-e'" in refused.value.detail and "qwen-image-edit-2511" in refused.value.detail


def test_the_page_is_what_the_catalog_says_and_a_change_shows() -> None:
    text = PAGE.read_text(encoding="utf-8")
    catalog = Catalog.packaged()
    assert page_with(text, tables(catalog)) == text, "run: python tools/generate_docs.py"
    everything = [*catalog.entries(), *catalog.upscalers()]
    for gone in ("tiny", "upscaler-tiny"):
        assert page_with(text, tables(Catalog([e for e in everything if e.name != gone]))) != text
    with pytest.raises(ValueError, match="must have the lines"):
        page_with("no markers", "")


def test_the_pages_examples_are_entries(settings: Settings) -> None:
    text = PAGE.read_text(encoding="utf-8")
    examples = re.findall(r"`models/([\w.-]+\.toml)`.*?```toml\n(.*?)```", text, re.DOTALL)
    assert len(examples) >= 3
    for name, example in examples:
        user_file(settings, name, example)
    catalog = Catalog.load(settings)
    assert catalog.get("qwen-fast").defaults.steps.value == 4
    assert catalog.get("qwen-image-edit-2511").folder(settings) == Path("/srv/models/qwen")
    assert catalog.get("my-model").defaults.cfg_scale.max == 12.0
