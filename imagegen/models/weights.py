"""The files of a catalog entry, and where they belong: what models and upscalers have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, StrictStr, field_validator, model_validator

from imagegen.models.entry_tables import CLOSED, Licence, ModelFile, Sourced
from imagegen.settings import Settings


class Weights(BaseModel):
    """What every entry of the catalog has: a name, a licence, files and the folder in which they belong."""

    model_config = CLOSED

    name: Annotated[
        StrictStr,
        Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$", description="lower-case letters, digits, '.', '-' and '_'"),
    ]
    title: Annotated[StrictStr, Field(min_length=1, description="a text")]
    description: Annotated[StrictStr, Field(min_length=1, description="a sentence a person reads")]
    licence: Licence
    files: Annotated[list[ModelFile], Field(min_length=1, description="at least one [[files]] table")]
    download_bytes: Annotated[Sourced | None, Field(description="bytes of all files together")] = None
    own_folder: Annotated[Path | None, Field(alias="folder", description="an absolute path")] = None
    made_by: Annotated[StrictStr | None, Field(description="the script that makes the files")] = None
    notes: Annotated[list[StrictStr], Field(description="a list of texts")] = []

    @field_validator("own_folder")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        if value is None:
            return None
        try:
            value = value.expanduser()
        except RuntimeError:
            raise ValueError("names the home of a user this machine does not know") from None
        if not value.is_absolute() or not str(value).isprintable():
            raise ValueError("must be an absolute path")
        return value

    def folder(self, settings: Settings) -> Path:
        """The model's own folder: the entry's `folder`, else the name under the models folder."""
        return self.own_folder or settings.models_dir / self.name

    def path_of(self, file: ModelFile, settings: Settings) -> Path:
        """The path of `file`. If it is missing: the path where it belongs (a pattern stays a pattern).

        The model's own folder precedes the folder that it shares with other models.
        """
        own = self.folder(settings)
        places = [own] if file.shared is None else [own, settings.models_dir / file.shared]
        for place in places:
            matches = sorted(place.glob(file.file)) if file.is_pattern else []
            for path in [place / file.file, *matches]:
                if path.is_file():
                    return path
        return places[-1] / file.file

    def missing(self, settings: Settings) -> list[ModelFile]:
        """The missing files that the model needs."""
        return [f for f in self.files if not f.optional and not self.path_of(f, settings).is_file()]

    def absent(self, settings: Settings) -> list[ModelFile]:
        """The missing optional files that a hub has."""
        return [f for f in self.files if f.optional and f.repo and not self.path_of(f, settings).is_file()]

    def installed(self, settings: Settings) -> bool:
        """Whether every needed file exists. Does not check their contents."""
        return not self.missing(settings)

    def paths(self, settings: Settings) -> list[Path]:
        """Every existing file that the engine may read. For a `repository`: all files of its folder."""
        found: list[Path] = []
        for file in self.files:
            path = self.path_of(file, settings)
            if file.role == "repository":
                found += sorted(p for p in path.parent.rglob("*") if p.is_file())
            elif path.is_file():
                found.append(path)
        return found


class Upscaler(Weights):
    """A network that enlarges pictures four times: an ESRGAN generator (RRDBNet) as the engine reads it."""

    adapter: Annotated[Literal["esrgan"], Field(description="esrgan")]
    made_by: Annotated[Literal["esrgan"] | None, Field(description="esrgan")] = None

    @model_validator(mode="after")
    def _one_file(self) -> Upscaler:
        if [file.role for file in self.files] != ["upscaler"] or self.files[0].optional:
            raise ValueError("an upscaler has exactly one file, of the role upscaler")
        return self

    def network(self, settings: Settings) -> Path:
        """The path of the network's file."""
        return self.path_of(self.files[0], settings)
