"""The catalog: what our entries say, what a user may add, and how a mistake is named."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from generate_docs import FOLDER, page_with
from hypothesis import given
from hypothesis import strategies as st
from model_tables import tables

import imagegen.models
from imagegen.cli.models import models as command
from imagegen.engines.base import LoraUse
from imagegen.models.catalog import Catalog, CatalogError, missing_sentence
from imagegen.models.entry import Entry
from imagegen.schemas import Refused
from imagegen.settings import Settings

ALL_FILES = {p.stem: p for p in Path(imagegen.models.__file__).parent.glob("entries/*.toml")}
UPSCALERS = {name: path for name, path in ALL_FILES.items() if 'adapter = "esrgan"' in path.read_text()}
FILES = {name: path for name, path in ALL_FILES.items() if name not in UPSCALERS}

COMPLETE = """
title = "Mine"
description = "A model of my own."
size_multiple = 64
[licence]
name = "mine"
[capabilities]
draw = true
edit = false
[defaults]
steps = 20
cfg_scale = { value = 7.0, min = 3, max = 12.0 }
width = 512
height = 512
sampler = "euler_a"
[[files]]
role = "model"
flag = "--model"
file = "mine.safetensors"
"""

PAGE = FOLDER / "models.md"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "models").mkdir()
    return Settings(home=tmp_path)


def user_file(settings: Settings, name: str, text: str) -> Path:
    path = settings.models_dir / name
    path.write_text(text, encoding="utf-8")
    return path


def fill(entry: Entry, settings: Settings) -> None:
    """Put an empty file wherever one that is not optional belongs."""
    for file in entry.missing(settings):
        path = entry.path_of(file, settings)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(path.name.replace("*", "x")).touch()


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


def test_loras_are_found_wherever_they_lie(settings: Settings, tmp_path: Path) -> None:
    lora = '[[files]]\nrole = "lora"\nfile = "{}"\nmultiplier = 0.5\n'
    text = 'base = "qwen-image-lightning"\n'
    user_file(settings, "same.toml", text)
    user_file(settings, "two.toml", text + lora.format("loras/a.safetensors") + lora.format(tmp_path / "b.safetensors"))
    catalog = Catalog.load(settings)
    same = catalog.get("same")
    assert same.loras(settings) == catalog.get("qwen-image-lightning").loras(settings)
    two = catalog.get("two")
    own = settings.models_dir / "two" / "loras" / "a.safetensors"
    assert two.loras(settings) == (LoraUse(own, 0.5), LoraUse(tmp_path / "b.safetensors", 0.5))


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


def test_a_users_entry_may_leave_the_sources_out(settings: Settings) -> None:
    user_file(settings, "mine.toml", COMPLETE)
    entry = Catalog.load(settings).get("mine")
    assert entry.defaults.steps.value == 20
    assert {s.source for _, s in entry.defaults if s is not None} == {"your file mine.toml"}
    assert missing_sentence(entry, settings).startswith("The model mine lacks mine.safetensors in ")


def test_a_users_file_takes_the_place_of_ours(settings: Settings) -> None:
    user_file(settings, "anything.toml", 'name = "sd-turbo"\n' + COMPLETE)
    entry = Catalog.load(settings).get("sd-turbo")
    assert entry.title == "Mine"
    assert "anything" not in Catalog.load(settings).names()


def test_a_users_file_can_change_one_thing_and_point_at_a_download(settings: Settings, tmp_path: Path) -> None:
    ours = Catalog.packaged().get("qwen-image-edit-2511")
    downloads = tmp_path / "elsewhere"
    text = f"""base = "qwen-image-edit-2511"
folder = "{downloads}"
[defaults]
steps = 30
[[files]]
role = "diffusion_model"
flag = "--diffusion-model"
file = "my-Q8_0.gguf"
[[flags]]
flag = "--flow-shift"
value = 2
"""
    user_file(settings, "qwen-image-edit-2511.toml", text)
    entry = Catalog.load(settings).get("qwen-image-edit-2511")
    downloads.mkdir()
    for name in ("my-Q8_0.gguf", "Qwen2.5-VL-7B-Instruct-UD-Q4_K_XL.gguf", "qwen_image_vae.safetensors"):
        (downloads / name).touch()
    assert entry.installed(settings)
    argv = entry.argv(settings)
    assert argv[argv.index("--diffusion-model") + 1] == str(downloads / "my-Q8_0.gguf")
    assert argv[argv.index("--flow-shift") + 1] == "2"
    assert "--qwen-image-zero-cond-t" in argv
    assert (entry.defaults.steps.value, entry.defaults.steps.source) == (30, "your file qwen-image-edit-2511.toml")
    assert entry.defaults.cfg_scale == ours.defaults.cfg_scale


MISTAKES = {
    "a sampler nobody has": ("euler_a", "eulerian", ["defaults.sampler", "'eulerian'", "ddim_trailing"]),
    "steps in words": ("steps = 20", 'steps = "twenty"', ["defaults.steps", "'twenty'", "1 to 100"]),
    "too many steps": ("steps = 20", "steps = 500", ["defaults.steps", "500", "1 to 100"]),
    "half a step": ("steps = 20", "steps = 2.5", ["defaults.steps", "2.5", "1 to 100"]),
    "a range the wrong way round": ("min = 3", "min = 30", ["defaults.cfg_scale", "30", "12.0"]),
    "guidance that is no number": ("value = 7.0", "value = nan", ["defaults.cfg_scale"]),
    "a size off the grid": ("width = 512", "width = 500", ["size_multiple", "500"]),
    "no licence": ('[licence]\nname = "mine"', "", ["licence", "missing"]),
    "a field nobody knows": ("size_multiple", "size_multipel", ["size_multipel", "not a field", "size_multiple"]),
    "a field nobody knows inside": ("draw = true", "drwa = true", ["capabilities.drwa", "draw"]),
    "a word for a truth value": ("draw = true", 'draw = "yes"', ["capabilities.draw", "'yes'", "true or false"]),
    "a role nobody knows": ('role = "model"', 'role = "unet"', ["files[0].role", "'unet'", "diffusion_model"]),
    "a file outside the folder": ("mine.safetensors", "../x", ["files[0].file", "'..'"]),
    "a flag that is none": ('"--model"', '"; rm -rf /"', ["files[0].flag", "engine flag"]),
    "no files": ("[[files]]", "[files]", ["files", "list"]),
    "a folder of nobody's": ("title =", 'folder = "~nobody-here/x"\ntitle =', ["folder", "home of a user"]),
    "a pattern that is absolute": ("mine.safetensors", "/*.gguf", ["files[0].file", "relative"]),
    "a relative folder": ("title =", 'folder = "models"\ntitle =', ["folder", "absolute path"]),
    "edits without references": ("edit = false", "edit = true", ["max_references", "capabilities.edit"]),
    "an unknown base": ("title =", 'base = "nothing"\ntitle =', ["base", "'nothing'", "tiny"]),
    "a base of numbers": ("title =", "base = 3\ntitle =", ["base", "3", "tiny"]),
    "a name with a path": ("title =", 'name = "../x"\ntitle =', ["name", "'../x'", "lower-case"]),
    "no TOML": ("title =", "title", ["not a TOML file", "line 2"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_file_field_and_what_is_allowed(settings: Settings, mistake: str) -> None:
    before, after, expected = MISTAKES[mistake]
    assert before in COMPLETE
    path = user_file(settings, "mine.toml", COMPLETE.replace(before, after, 1))
    with pytest.raises(CatalogError) as wrong:
        Catalog.load(settings)
    message = str(wrong.value)
    assert all(part in message for part in [str(path), *expected]), message


def test_entries_built_on_each_other_are_refused(settings: Settings) -> None:
    user_file(settings, "a.toml", 'base = "b"')
    user_file(settings, "b.toml", 'base = "a"')
    with pytest.raises(CatalogError, match="base"):
        Catalog.load(settings)


def test_two_files_with_one_name_are_refused(settings: Settings) -> None:
    user_file(settings, "a.toml", 'name = "mine"\n' + COMPLETE)
    user_file(settings, "b.toml", 'name = "mine"\n' + COMPLETE)
    with pytest.raises(CatalogError, match=r"b\.toml: name: 'mine' is taken by .*a\.toml"):
        Catalog.load(settings)


DERIVED = """base = "qwen-image-lightning"
folder = "/srv/models"
[defaults]
steps = 4
[[files]]
role = "lora"
file = "*-4steps.safetensors"
shared = "qwen-image"
"""


@given(st.sampled_from([COMPLETE, DERIVED]), st.data())
def test_no_file_ends_in_a_traceback(tmp_path_factory: pytest.TempPathFactory, text: str, data: st.DataObject) -> None:
    """Any piece of a good file replaced by anything: it loads, or there is a sentence that names the file."""
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, min(len(text), start + 40)))
    words = st.sampled_from(
        ["[", "]", "{", "}", "=", '"', "\n", "true", "1e400", "-1", "[]", "{}", "base", "name", "é", "~"]
    )
    piece = data.draw(st.one_of(st.lists(words, max_size=6).map("".join), st.text(max_size=8)))
    settings = Settings(home=tmp_path_factory.getbasetemp() / "any-file")
    settings.models_dir.mkdir(parents=True, exist_ok=True)
    path = settings.models_dir / "mine.toml"
    path.write_bytes((text[:start] + piece + text[stop:]).encode("utf-8", "surrogatepass"))
    try:
        for entry in Catalog.load(settings).entries():
            entry.argv(settings)
            entry.request_options()
            entry.loras(settings)
            assert missing_sentence(entry, settings)
    except CatalogError as wrong:
        assert str(path) in str(wrong)


def test_a_file_that_cannot_be_read_is_named(settings: Settings) -> None:
    (settings.models_dir / "mine.toml").mkdir()
    with pytest.raises(CatalogError, match=r"mine\.toml: cannot be read"):
        Catalog.load(settings)
    (settings.models_dir / "mine.toml").rmdir()
    (settings.models_dir / "mine.toml").write_bytes(b'title = "\xff"')
    with pytest.raises(CatalogError, match=r"mine\.toml: byte 9: not UTF-8"):
        Catalog.load(settings)


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


@pytest.fixture
def cli(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("IMAGEGEN_HOME", str(settings.home))
    return CliRunner()


def test_list_says_what_is_missing_and_what_is_noise(cli: CliRunner, settings: Settings) -> None:
    fill(Catalog.load(settings).get("sd-turbo"), settings)
    lines = {line.split()[0]: line for line in cli.invoke(command, ["list"]).output.splitlines()}
    assert "installed" in lines["sd-turbo"] and "Stability" in lines["sd-turbo"]
    assert "made when first used" in lines["tiny"] and "noise" in lines["tiny"] and "edits" in lines["tiny"]
    edits = Catalog.load(settings).get("qwen-image-edit-2511")
    assert "lacks 3 of 3" in lines[edits.name]
    fill(edits, settings)
    lines = {line.split()[0]: line for line in cli.invoke(command, ["list"]).output.splitlines()}
    assert "installed, without 1 optional" in lines[edits.name], "its vision tower is not there"
    listed = json.loads(cli.invoke(command, ["list", "--json"]).output)
    assert {e["name"]: e["installed"] for e in listed}["sd-turbo"] is True
    assert {e["name"]: e.get("noise") for e in listed}["tiny"] is True


@pytest.mark.parametrize("name", FILES)
def test_show_prints_every_source_and_every_file(cli: CliRunner, settings: Settings, name: str) -> None:
    entry = Catalog.load(settings).get(name)
    page = cli.invoke(command, ["show", name]).output
    for sourced in [s for _, s in entry.defaults if s is not None] + list(entry.flags):
        assert sourced.source in page
    for file in entry.files:
        assert str(entry.path_of(file, settings)) in page
    shown = json.loads(cli.invoke(command, ["show", name, "--json"]).output)
    assert shown["defaults"]["steps"]["source"] == entry.defaults.steps.source
    assert [f["there"] for f in shown["files"]] == [False] * len(entry.files)


@pytest.mark.parametrize("name", UPSCALERS)
def test_show_describes_an_upscaler(cli: CliRunner, settings: Settings, name: str) -> None:
    upscaler = Catalog.load(settings).upscaler(name)
    assert upscaler is not None
    page = cli.invoke(command, ["show", name]).output
    assert "Does:     enlarges\n" in page and str(upscaler.network(settings)) in page
    shown = json.loads(cli.invoke(command, ["show", name, "--json"]).output)
    assert (shown["adapter"], shown["installed"]) == ("esrgan", False)


UPSCALER = """
title = "Mine"
description = "Mine."
adapter = "esrgan"
licence = { name = "mine" }
files = [{ role = "upscaler", file = "mine.safetensors" }]
"""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("", ""), None),
        (('role = "upscaler"', 'role = "vae"'), "exactly one file, of the role upscaler"),
        (("}]", '}, { role = "upscaler", file = "b" }]'), "exactly one file, of the role upscaler"),
        (('adapter = "esrgan"', 'adapter = "esrgan"\nscale = 2'), "scale: is not a field; allowed: adapter, base"),
    ],
)
def test_an_upscaler_of_the_users_own(settings: Settings, change: tuple[str, str], says: str | None) -> None:
    user_file(settings, "mine.toml", UPSCALER.replace(*change))
    if says is None:
        assert Catalog.load(settings).upscaler("mine") is not None
        with pytest.raises(Refused, match="no model 'mine'"):
            Catalog.load(settings).get("mine")
    else:
        with pytest.raises(CatalogError, match=says):
            Catalog.load(settings)


@pytest.mark.parametrize("words", [["show", "dall-e"], ["make", "dall-e"], ["make", "sd-turbo"], ["list"]])
def test_a_failure_is_a_sentence_and_exit_code_1(cli: CliRunner, settings: Settings, words: list[str]) -> None:
    if words == ["list"]:
        user_file(settings, "mine.toml", "steps")
    result = cli.invoke(command, words)
    assert result.exit_code == 1
    assert "Error: " in result.stderr and "Traceback" not in result.stderr
