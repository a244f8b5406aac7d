"""Prompt templates: the built-in ones, filling one, and an operator's folder."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagegen.prompts.guardrails import BASELINE_NEGATIVE, check_prompt
from imagegen.prompts.templates import (
    FILES_MAX,
    TEMPLATES,
    Placeholder,
    Template,
    TemplateError,
    fill,
    load,
    read,
)
from imagegen.settings import Settings

BUILT_IN = {template.name: template for template in TEMPLATES}
GOOD = """
title = "Postcard"
description = "A postcard."
prompt = 'A postcard from {place} that says "{greeting}".'

[[placeholders]]
name = "place"
description = "Where it is from."
examples = ["Lisbon"]

[[placeholders]]
name = "greeting"
description = "What it says."
examples = ["Hello", "Ahoy"]
default = "Greetings"
"""


# The built-in ones


def test_the_promised_templates_are_there() -> None:
    assert sorted(t.title for t in TEMPLATES) == [
        "Concert poster",
        "Flat clip-art icon",
        "Hand-drawn sketch",
        "Isometric scene",
        "Sticky note",
        "Stock-art illustration",
        "Warning sign",
        "Whiteboard diagram",
    ]
    assert {t.source for t in TEMPLATES} == {"built-in"}


@pytest.mark.parametrize("name", BUILT_IN)
def test_each_built_in_template_is_ready_to_use(name: str) -> None:
    template = BUILT_IN[name]
    assert template.placeholders, "a template without gaps is a prompt"
    needed = {gap.name: gap.examples[-1] for gap in template.placeholders if gap.default is None}
    assert needed, "something has to be the person's own"
    prompt = fill(template, needed)
    check_prompt(prompt, 1000)
    assert "{" not in prompt and "  " not in prompt and "\n" not in prompt
    assert not re.search(r"\b(no|not|without|never)\b", prompt), "a picture model draws what it reads"
    for excluded in BASELINE_NEGATIVE.split(", "):
        assert excluded.lower().removesuffix("s") not in prompt.lower()


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_size_of_a_built_in_template_fits_the_caps_and_every_model(name: str) -> None:
    template = BUILT_IN[name]
    for side in (template.width, template.height):
        assert side is not None
        assert side % 64 == 0 and side <= Settings.model_fields["max_dimension"].default


@pytest.mark.parametrize(
    ("name", "gap"),
    [
        ("whiteboard_diagram", "title"),
        ("sticky_note", "text"),
        ("warning_sign", "text"),
        ("concert_poster", "artist"),
        ("concert_poster", "venue"),
        ("concert_poster", "date"),
    ],
)
def test_text_that_is_drawn_stands_in_quotation_marks(name: str, gap: str) -> None:
    assert f'"{{{gap}}}"' in BUILT_IN[name].prompt


# Filling


@pytest.fixture
def postcard(tmp_path: Path) -> Template:
    file = tmp_path / "postcard.toml"
    file.write_text(GOOD)
    return read(file)


def test_fill_takes_the_values_then_the_defaults(postcard: Template) -> None:
    assert fill(postcard, {"place": "Oslo"}) == 'A postcard from Oslo that says "Greetings".'
    assert fill(postcard, {"place": " Oslo\n", "greeting": ""}) == 'A postcard from Oslo that says "Greetings".'
    assert fill(postcard, {"place": "Oslo", "greeting": "Hei"}) == 'A postcard from Oslo that says "Hei".'


def test_fill_says_what_is_open_and_what_does_not_exist(postcard: Template) -> None:
    with pytest.raises(TemplateError, match=r"postcard needs place: Where it is from\. For example: Lisbon"):
        fill(postcard, {"greeting": "Hei"})
    with pytest.raises(TemplateError, match=r"no placeholder town\. It has: place, greeting\."):
        fill(postcard, {"place": "Oslo", "town": "Oslo"})


@given(place=st.text(min_size=1).filter(str.strip), greeting=st.text())
def test_what_is_filled_in_is_never_looked_through_again(place: str, greeting: str) -> None:
    template = Template(
        name="t",
        title="T",
        description="T.",
        prompt="<{place}|{greeting}>",
        placeholders=(
            Placeholder(name="place", description="P.", examples=("p",)),
            Placeholder(name="greeting", description="G.", examples=("g",), default="{place}"),
        ),
    )
    assert fill(template, {"place": place, "greeting": greeting}) == (
        f"<{place.strip()}|{greeting.strip() or '{place}'}>"
    )


# An operator's folder

Own = Callable[..., Settings]


@pytest.fixture
def own(tmp_path: Path) -> Own:
    """Settings whose state folder has these template files."""

    def make(**files: str | bytes) -> Settings:
        folder = tmp_path / "templates"
        folder.mkdir()
        for name, content in files.items():
            (folder / f"{name}.toml").write_bytes(content if isinstance(content, bytes) else content.encode())
        return Settings(home=tmp_path)

    return make


def test_without_a_folder_there_are_the_built_in_ones(tmp_path: Path) -> None:
    templates, problems = load(Settings(home=tmp_path))
    assert (set(templates), problems) == (set(TEMPLATES), ())


def test_a_folder_in_the_state_folder_adds_its_templates(own: Own) -> None:
    templates, problems = load(own(postcard=GOOD))
    (new,) = set(templates) - set(TEMPLATES)
    assert (new.name, new.source, problems) == ("postcard", "postcard.toml", ())
    assert [t.title for t in templates] == sorted((t.title for t in templates), key=str.casefold)


def test_the_setting_names_another_folder(tmp_path: Path, own: Own) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "there.toml").write_text(GOOD)
    settings = own(here=GOOD).model_copy(update={"templates_dir": elsewhere})
    assert {t.source for t in load(settings)[0]} == {"built-in", "there.toml"}


def test_a_folder_that_the_setting_names_has_to_be_there(tmp_path: Path) -> None:
    templates, (problem,) = load(Settings(home=tmp_path, templates_dir=tmp_path / "gone"))
    assert set(templates) == set(TEMPLATES)
    assert "folder of templates cannot be read (No such file" in str(problem)
    assert str(tmp_path) not in str(problem), "problems are told to every caller"


def test_a_file_takes_the_place_of_the_built_in_template_of_its_name(own: Own) -> None:
    templates, problems = load(own(sticky_note=GOOD))
    assert len(templates) == len(TEMPLATES) and not problems
    assert [t.title for t in templates if t.name == "sticky_note"] == ["Postcard"]


def test_a_broken_file_is_told_and_hides_no_other(own: Own) -> None:
    templates, problems = load(own(a_broken="title = ", postcard=GOOD, z_broken="title = 3"))
    assert {t.source for t in templates} == {"built-in", "postcard.toml"}
    assert [str(p).split(":")[0] for p in problems] == ["a_broken.toml", "z_broken.toml"]


def test_a_broken_replacement_leaves_the_built_in_one(own: Own) -> None:
    templates, (problem,) = load(own(sticky_note="title = "))
    assert set(templates) == set(TEMPLATES) and "sticky_note.toml" in str(problem)


def test_files_that_are_no_templates_are_left_alone(own: Own) -> None:
    settings = own()
    (settings.home / "templates" / "README.md").write_text("not one")
    (settings.home / "templates" / ".draft.toml").write_text("not one")
    assert load(settings)[1] == ()


def test_more_files_than_are_taken_are_told(own: Own) -> None:
    templates, (problem,) = load(own(**{f"t{number:03}": GOOD for number in range(FILES_MAX + 1)}))
    assert len(templates) == len(TEMPLATES) + FILES_MAX
    assert f"t{FILES_MAX:03}.toml" in str(problem)


WRONG = {
    "no TOML": ("nope", "is not a TOML file in UTF-8: "),
    "no UTF-8": (GOOD.replace("Lisbon", "Évora").encode("latin-1"), "is not a TOML file in UTF-8: "),
    "too long": (GOOD + "#" * 70_000, "is longer than 65,536 bytes"),
    "a field missing": (GOOD.replace('title = "Postcard"', ""), "title: is missing."),
    "a field too much": ("tilte = 'x'\n" + GOOD, "tilte: is not a field. There are: title, description, prompt,"),
    "in a placeholder": (GOOD + 'hint = "x"', "placeholders[2].hint: is not a field. There are: name, description,"),
    "a wrong type": (GOOD.replace('"Postcard"', "3"), "title: Input should be a valid string."),
    "no examples": (GOOD.replace('["Lisbon"]', "[]"), "placeholders[1].examples: "),
    "an undescribed gap": (GOOD.replace("from", "from {town} in"), "placeholders: none describes {town}, which"),
    "a gap too few": (GOOD.replace("{greeting}", "Hi"), "prompt: it has no {greeting}, which placeholders"),
    "described twice": (GOOD.replace('name = "greeting"', 'name = "place"'), "placeholders: place is described twice"),
    "half a size": ("width = 512\n" + GOOD, "width and height: give both or neither."),
    "no whole size": ("width = 1.5\nheight = 512\n" + GOOD, "width: Input should be a valid integer"),
    "a huge size": ("width = 99999\nheight = 512\n" + GOOD, "width: Input should be less than or equal to 4096."),
    "an empty prompt": (re.sub(r"prompt = .*", "prompt = ' '", GOOD), "prompt: The prompt is empty"),
    "an odd prompt": (re.sub(r"prompt = .*", r'prompt = "a\\u0007"', GOOD), "prompt: The prompt has the control"),
    "a name in it": ("name = 'x'\n" + GOOD, "name: is taken from the file's name. Leave it out."),
    "a source in it": ("source = 'built-in'\n" + GOOD, "source: is taken from the file's name."),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_file_is_told_by_file_and_field(own: Own, wrong: str) -> None:
    content, says = WRONG[wrong]
    _, (problem,) = load(own(mine=content))
    assert str(problem).startswith(f"mine.toml: {says}")


def test_a_wrong_file_name_is_told(own: Own) -> None:
    _, (problem,) = load(own(**{"My Card": GOOD}))
    assert str(problem).startswith("My Card.toml: the file's name must be of a-z, 0-9")


def test_a_file_that_may_not_be_read_is_told(own: Own) -> None:
    settings = own(mine=GOOD)
    file = settings.home / "templates" / "mine.toml"
    file.unlink()
    file.mkdir()
    _, (problem,) = load(settings)
    assert str(problem).startswith("mine.toml: cannot be read (")


def test_a_new_file_is_seen_at_the_next_load(own: Own) -> None:
    settings = own()
    assert len(load(settings)[0]) == len(TEMPLATES)
    (settings.home / "templates" / "new.toml").write_text(GOOD)
    assert len(load(settings)[0]) == len(TEMPLATES) + 1


# As JSON


def test_a_template_is_json_that_a_client_can_fill_by_itself(own: Own) -> None:
    found, problems = load(own(postcard=GOOD, broken="title = "))
    assert len(found) == len(TEMPLATES) + 1
    assert [str(problem).split(":")[0] for problem in problems] == ["broken.toml"]
    (postcard,) = [template for template in found if template.name == "postcard"]
    assert json.loads(postcard.model_dump_json()) == {
        "name": "postcard",
        "title": "Postcard",
        "description": "A postcard.",
        "prompt": 'A postcard from {place} that says "{greeting}".',
        "placeholders": [
            {"name": "place", "description": "Where it is from.", "examples": ["Lisbon"], "default": None},
            {"name": "greeting", "description": "What it says.", "examples": ["Hello", "Ahoy"], "default": "Greetings"},
        ],
        "width": None,
        "height": None,
        "notes": "",
        "source": "postcard.toml",
    }


# The page about it

PAGE = (Path(__file__).parents[3] / "docs" / "templates.md").read_text(encoding="utf-8")


def test_the_page_lists_the_built_in_templates() -> None:
    rows = []
    for t in TEMPLATES:
        gaps = ", ".join(f"`{gap.name}`" if gap.default is None else gap.name for gap in t.placeholders)
        rows.append(f"| `{t.name}` | {t.title} | {t.description} | {gaps} | {t.width} × {t.height} |")
    assert "\n" + "\n".join(rows) + "\n\n" in PAGE


def test_the_pages_example_is_a_template(own: Own) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    templates, problems = load(own(postcard=example))
    (postcard,) = [t for t in templates if t.name == "postcard"]
    assert not problems and "white brush lettering" in fill(postcard, {"place": "Oslo"})
