"""Prompt templates: presets with placeholders that the user fills before sending the prompt. The server applies none.

Each template is one TOML file. The built-in ones are in `presets/`, the operator's in a folder (`docs/templates.md`).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files as package_files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from imagegen.prompts.guardrails import check_prompt
from imagegen.schemas import Refused
from imagegen.settings import Settings

PROMPT_MAX_CHARS = 2000
FILE_MAX_BYTES = 65_536
FILES_MAX = 200

_GAP = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")

Line = Annotated[str, Field(min_length=1, max_length=300)]
Side = Annotated[int, Field(strict=True, ge=64, le=4096)]


class TemplateError(Exception):
    """A template's file or a placeholder's value is invalid. The message names it."""


class Placeholder(BaseModel):
    """A gap in a prompt, written `{name}` there; without a default a person has to fill it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,39}$")]
    description: Line
    examples: Annotated[tuple[Line, ...], Field(min_length=1, max_length=20)]
    default: Line | None = None


class Template(BaseModel):
    """A preset. Width and height (pixels) suit the motif and are a hint; `notes` say how to get more out of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,59}$")]
    title: Annotated[str, Field(min_length=1, max_length=80)]
    description: Line
    prompt: Annotated[str, Field(min_length=1, max_length=PROMPT_MAX_CHARS)]
    placeholders: tuple[Placeholder, ...] = ()
    width: Side | None = None
    height: Side | None = None
    notes: Annotated[str, Field(max_length=500)] = ""
    source: str = "built-in"

    @field_validator("prompt")
    @classmethod
    def _can_be_sent(cls, prompt: str) -> str:
        try:
            check_prompt(prompt, PROMPT_MAX_CHARS)
        except Refused as refused:
            raise ValueError(refused.detail) from None
        return prompt.strip()

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Template:
        names = [gap.name for gap in self.placeholders]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"placeholders: {twice[0]} is described twice")
        gaps = set(_GAP.findall(self.prompt))
        if undescribed := sorted(gaps - set(names)):
            raise ValueError(f"placeholders: none describes {{{undescribed[0]}}}, which the prompt has")
        if unused := sorted(set(names) - gaps):
            raise ValueError(f"prompt: it has no {{{unused[0]}}}, which placeholders describes")
        if (self.width is None) != (self.height is None):
            raise ValueError("width and height: give both or neither")
        return self


_NAMED_BY_FILE = {"name", "source"}
_FILE_FIELDS = [field for field in Template.model_fields if field not in _NAMED_BY_FILE]


def fill(template: Template, values: Mapping[str, str]) -> str:
    """Fill the placeholders of the prompt with `values`, else with the defaults.

    Placeholders inside a value are not filled. Raises TemplateError for a placeholder without a value and for an
    unknown placeholder.
    """
    gaps = {gap.name: gap for gap in template.placeholders}
    if unknown := sorted(values.keys() - gaps.keys()):
        known = ", ".join(gaps) or "none"
        raise TemplateError(f"{template.name} has no placeholder {unknown[0]}. It has: {known}.")
    filled = {name: values.get(name, "").strip() or gap.default for name, gap in gaps.items()}
    if still_open := [gap for name, gap in gaps.items() if filled[name] is None]:
        gap = still_open[0]
        raise TemplateError(f"{template.name} needs {gap.name}: {gap.description} For example: {gap.examples[0]}")
    return _GAP.sub(lambda found: str(filled[found[1]]), template.prompt)


def load(settings: Settings) -> tuple[tuple[Template, ...], tuple[TemplateError, ...]]:
    """Load the built-in and the operator's templates, sorted by title, and the errors of skipped files.

    The operator's folder is IMAGEGEN_TEMPLATES_DIR, else `templates` in the state folder if it exists. A file with the
    name of a built-in template replaces it. Does disk I/O: call it in a thread from the event loop.
    """
    templates = {template.name: template for template in TEMPLATES}
    problems: list[TemplateError] = []
    for path in _files(settings, problems):
        try:
            own = read(path)
        except TemplateError as problem:
            problems.append(problem)
        else:
            templates[own.name] = own
    by_title = sorted(templates.values(), key=lambda template: (template.title.casefold(), template.name))
    return tuple(by_title), tuple(problems)


def _files(settings: Settings, problems: list[TemplateError]) -> Sequence[Path]:
    folder = settings.templates_dir or settings.home / "templates"
    try:
        files = sorted(folder.iterdir())
    except OSError as failure:
        if settings.templates_dir is not None or not isinstance(failure, FileNotFoundError):
            problems.append(TemplateError(f"The folder of templates cannot be read ({failure.strerror})."))
        return ()
    found = [path for path in files if path.suffix == ".toml" and not path.name.startswith(".")]
    if len(found) > FILES_MAX:
        first_out = found[FILES_MAX].name
        problems.append(
            TemplateError(f"There are more than {FILES_MAX} templates: {first_out} and later are left out.")
        )
    return found[:FILES_MAX]


def read(path: Path | Traversable, source: str | None = None) -> Template:
    """Read a template from a TOML file. The file name gives its name, and its source unless `source` is given.

    Raises TemplateError, which names the file and the field.
    """
    try:
        with path.open("rb") as file:
            data = file.read(FILE_MAX_BYTES + 1)
    except OSError as failure:
        raise TemplateError(f"{path.name}: cannot be read ({failure.strerror}).") from None
    if len(data) > FILE_MAX_BYTES:
        raise TemplateError(f"{path.name}: is longer than {FILE_MAX_BYTES:,} bytes, which no template is.")
    try:
        content = tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as wrong:
        raise TemplateError(f"{path.name}: is not a TOML file in UTF-8: {wrong}.") from None
    if given := sorted(content.keys() & _NAMED_BY_FILE):
        raise TemplateError(f"{path.name}: {given[0]}: is taken from the file's name. Leave it out.")
    try:
        return Template.model_validate(
            {**content, "name": path.name.removesuffix(".toml"), "source": source or path.name}
        )
    except ValidationError as invalid:
        raise TemplateError(f"{path.name}: {_sentence(invalid)}") from None


def _sentence(invalid: ValidationError) -> str:
    """The first validation error as `field: what is wrong`. List items are counted from 1."""
    error = invalid.errors()[0]
    field = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in error["loc"]).lstrip(".")
    if field == "name":
        return "the file's name must be of a-z, 0-9, - and _, begin with none of the last two, and end in .toml."
    if error["type"] == "missing":
        return f"{field}: is missing."
    if error["type"] == "extra_forbidden":
        fields = Placeholder.model_fields if field.startswith("placeholders") else _FILE_FIELDS
        return f"{field}: is not a field. There are: {', '.join(fields)}."
    message = error["msg"].removeprefix("Value error, ").rstrip(".")
    return f"{field}: {message}." if field else f"{message}."


def _read_package() -> tuple[Template, ...]:
    presets = [
        preset for preset in (package_files("imagegen.prompts") / "presets").iterdir() if preset.name.endswith(".toml")
    ]
    return tuple(read(preset, source="built-in") for preset in sorted(presets, key=lambda preset: preset.name))


TEMPLATES = _read_package()
"""The built-in templates, by name."""
