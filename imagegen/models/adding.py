"""Writes the user's own catalog entry for a file of weights."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagegen.models import families, recognition
from imagegen.models.catalog import Catalog
from imagegen.models.entry import Entry
from imagegen.models.entry_files import CatalogError
from imagegen.models.recognition import WeightsError, WeightsFile
from imagegen.settings import Settings
from imagegen.storage import permissions

ROLES = ("vae", "tae", "llm", "clip_l", "clip_g", "t5xxl")
INSIDE = {
    "vae": ("first_stage_model.", "vae."),
    "clip_l": ("cond_stage_model.", "conditioner.embedders.0.", "text_encoders.clip_l.", "te."),
    "clip_g": ("conditioner.embedders.1.", "cond_stage_model.1.", "text_encoders.clip_g."),
    "t5xxl": ("text_encoders.t5xxl.",),
    "llm": ("text_encoders.llm.",),
}
"""By role: beginnings of the names of its tensors in a file with a whole model."""
LICENCE_KEYS = ("general.license.name", "general.license", "modelspec.license", "license")
NO_LICENCE = "not stated in the file: see where it is from"


class Unanswered(Exception):
    """The file lacks information that the entry needs. The message names the option that supplies it."""


@dataclass(frozen=True)
class Wish:
    """The options of a user. companions: files by role. variant, name: None: from the file's name."""

    companions: Mapping[str, Path] = field(default_factory=dict)
    variant: str | None = None
    name: str | None = None
    licence: str | None = None


def recognise(path: Path) -> tuple[WeightsFile, str]:
    """The header of a file, and its family. Raises WeightsError."""
    found = recognition.read(path)
    return found, recognition.family(found)


def compose(found: WeightsFile, family_name: str, wish: Wish) -> tuple[str, str]:
    """The entry's name and its TOML. Raises Unanswered, WeightsError."""
    family = families.FAMILIES[family_name]
    variant_name = wish.variant or families.guess(family, found.path.stem)
    if variant_name is None or variant_name not in family.variants:
        kinds = ", ".join(f"{name} ({one.title})" for name, one in family.variants.items())
        raise Unanswered(f"Its tensors do not identify the variant: {kinds}. Choose one with --variant.")
    variant = family.variants[variant_name]
    name = wish.name or slug(found.path.stem)
    data: dict[str, Any] = {"title": wish.name or found.path.stem}
    data["description"] = f"{variant.title}; added from {found.path.name}."
    data["notes"] = [] if variant.base else [f"The numbers are {variant.source}."]
    if variant.base is not None:
        data["base"] = variant.base
    data["licence"] = {"name": wish.licence or _licence(found)}
    if variant.base is None:
        data |= _numbers(family, variant)
        data["flags"] = [_flag(flag, variant.source) for flag in variant.flags]
    inherited = variant.base is not None and _has_width(found, family.width)
    data["files"] = [_main(found), *_companions(found, family, wish, inherited)]
    return name, toml(data)


def _licence(found: WeightsFile) -> str:
    stated = (found.texts.get(key, "").strip() for key in LICENCE_KEYS)
    return next((licence[:100] for licence in stated if licence and licence.isprintable()), NO_LICENCE)


def _numbers(family: families.Family, variant: families.Variant) -> dict[str, Any]:
    sampler = "euler_a" if family.unet else "euler"
    able = {"draw": True, "edit": variant.edits, "max_references": 4 if variant.edits else 0}
    sourced = {key: {"value": value, "source": variant.source} for key, value in variant.numbers.items()}
    return {
        "size_multiple": 64 if family.unet else 16,
        "size_min_px": 256,
        "capabilities": able,
        "defaults": sourced | {"sampler": {"value": sampler, "source": families.ENGINES_OWN}},
    }


def _flag(flag: str, source: str) -> dict[str, Any]:
    name, _, value = flag.partition(" ")
    return {"flag": name, **({"value": value} if value else {}), "source": source}


def _has_width(found: WeightsFile, width: tuple[str, int] | None) -> bool:
    """Whether the model has the width of the entries that its family's variants are built on."""
    if width is None:
        return True
    return any(name.endswith(width[0]) and shape and shape[0] == width[1] for name, shape in found.shapes.items())


def _main(found: WeightsFile) -> dict[str, Any]:
    flag = "--model" if found.whole else "--diffusion-model"
    return {"role": "diffusion_model", "flag": flag, "file": _place(found.path)}


def _companions(found: WeightsFile, family: families.Family, wish: Wish, inherited: bool) -> list[dict[str, Any]]:
    """The tables of the companion files. Raises Unanswered for one that is needed and not there, WeightsError."""
    if "tae" in wish.companions and not family.tae:
        raise WeightsError("The engine has no small autoencoder for this family: give its VAE with --vae.")
    tables = []
    for role, path in wish.companions.items():
        recognition.read(path)  # refuses pickles and damaged files
        own = "vae" if role == "tae" else role  # it replaces the VAE of a base
        tables.append({"role": own, "flag": f"--{role}", "file": _place(path)})
    given = {table["role"] for table in tables}
    lacking = [role for role in family.needs if role not in given and not _is_inside(found, role)]
    if lacking and not inherited:
        options = " ".join(f"--{role.replace('_', '-')} FILE" for role in lacking)
        raise Unanswered(f"The engine needs more files for this model: {options}")
    return tables


def _is_inside(found: WeightsFile, role: str) -> bool:
    return found.whole and any(name.startswith(INSIDE[role]) for name in found.shapes)


def _place(path: Path) -> str:
    place = str(path.absolute())
    if not place.isprintable() or any(c in place for c in "*?["):
        raise WeightsError(f"{place} has a character that an entry cannot name (*, ?, [). Rename the file.")
    return place


def slug(stem: str) -> str:
    """A name for an entry."""
    return re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("._-")[:64] or "model"


def write(name: str, text: str, settings: Settings) -> tuple[Path, Entry]:
    """Write the entry into the models folder. Returns its file and the entry.

    Raises CatalogError if the name is taken or not valid, OSError.
    """
    if name in Catalog.load(settings).names():
        raise CatalogError(f"The catalog has a model {name} already. Choose another name with --name.")
    permissions.make_folder(settings.models_dir)
    path = settings.models_dir / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    try:
        return path, Catalog.load(settings).get(name)
    except CatalogError:
        path.unlink()
        raise


def toml(data: Mapping[str, Any]) -> str:
    """TOML of an entry: plain values first, then tables and lists of tables."""
    plain = {k: v for k, v in data.items() if not isinstance(v, dict) and not _is_tables(v)}
    lines = [f"{key} = {_value(value)}" for key, value in plain.items()]
    for key, value in data.items():
        if isinstance(value, dict):
            lines += ["", f"[{key}]", *(f"{inner} = {_value(one)}" for inner, one in value.items())]
        elif _is_tables(value):
            for table in value:
                lines += ["", f"[[{key}]]", *(f"{inner} = {_value(one)}" for inner, one in table.items())]
    return "\n".join(lines) + "\n"


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(one)}" for key, one in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
