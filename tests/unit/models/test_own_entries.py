"""Entries of a user: what they can change, and how each mistake is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from user_entries import COMPLETE, user_file

from imagegen.engines.base import LoraUse
from imagegen.models.catalog import Catalog, missing_sentence
from imagegen.models.entry_files import CatalogError
from imagegen.schemas import Refused
from imagegen.settings import Settings


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
    "an unknown sampler": ("euler_a", "eulerian", ["defaults.sampler", "'eulerian'", "ddim_trailing"]),
    "steps in words": ("steps = 20", 'steps = "twenty"', ["defaults.steps", "'twenty'", "1 to 100"]),
    "too many steps": ("steps = 20", "steps = 500", ["defaults.steps", "500", "1 to 100"]),
    "half a step": ("steps = 20", "steps = 2.5", ["defaults.steps", "2.5", "1 to 100"]),
    "a range the wrong way round": ("min = 3", "min = 30", ["defaults.cfg_scale", "30", "12.0"]),
    "guidance that is no number": ("value = 7.0", "value = nan", ["defaults.cfg_scale"]),
    "a size off the grid": ("width = 512", "width = 500", ["size_multiple", "500"]),
    "no licence": ('[licence]\nname = "mine"', "", ["licence", "missing"]),
    "an unknown field": ("size_multiple", "size_multipel", ["size_multipel", "not a field", "size_multiple"]),
    "an unknown field of a table": ("draw = true", "drwa = true", ["capabilities.drwa", "draw"]),
    "a word for a truth value": ("draw = true", 'draw = "yes"', ["capabilities.draw", "'yes'", "true or false"]),
    "an unknown role": ('role = "model"', 'role = "unet"', ["files[0].role", "'unet'", "diffusion_model"]),
    "a file outside the folder": ("mine.safetensors", "../x", ["files[0].file", "'..'"]),
    "a flag that is none": ('"--model"', '"; rm -rf /"', ["files[0].flag", "engine flag"]),
    "no files": ("[[files]]", "[files]", ["files", "list"]),
    "a folder of an unknown user": ("title =", 'folder = "~nobody-here/x"\ntitle =', ["folder", "home of a user"]),
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
