"""Model aliases: maps the model names that clients hard-code to models of the catalog."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from imagegen.models.entry_files import CatalogError

NAME = re.compile(r"[!-~]{1,64}")
HOW = "Write names separated by commas, for the default model, or NAME=MODEL: dall-e-3, gpt-image-1=qwen-image."


class Aliases:
    """The aliases of IMAGEGEN_MODEL_ALIASES. A model of the catalog takes precedence over an alias of the same name."""

    def __init__(self, text: str, models: Iterable[str], default: str) -> None:
        """text: the setting. Raises CatalogError with a sentence for an invalid alias or an unknown model."""
        self._models = set(models)
        self._meant = _parsed(text, default)
        for alias, model in self._meant.items():
            if model not in self._models:
                known = ", ".join(sorted(self._models))
                raise CatalogError(
                    f"IMAGEGEN_MODEL_ALIASES: {alias}={model[:64]} names no model that is offered. There are: {known}."
                )

    def model(self, name: str) -> str:
        """The model that `name` refers to. Returns `name` itself if it is not an alias."""
        return name if name in self._models else self._meant.get(name, name)

    @property
    def meant(self) -> Mapping[str, str]:
        """Each alias with its model, without aliases that a model of the same name hides."""
        return {alias: model for alias, model in self._meant.items() if alias not in self._models}


def _parsed(text: str, default: str) -> dict[str, str]:
    """Raises CatalogError."""
    meant: dict[str, str] = {}
    for part in (one.strip() for one in text.split(",") if one.strip()):
        alias, equals, model = (side.strip() for side in part.partition("="))
        if NAME.fullmatch(alias) is None or (equals and not model):
            raise CatalogError(f"IMAGEGEN_MODEL_ALIASES: {part[:80]!r} is not an alias. {HOW}")
        if alias in meant:
            raise CatalogError(f"IMAGEGEN_MODEL_ALIASES names {alias} twice. {HOW}")
        meant[alias] = model or default
    return meant
