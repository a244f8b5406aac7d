"""Settings of folders and of the database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from imagegen import setting_values as values
from imagegen_client import places


class State(BaseModel):
    """Where the service keeps what it needs again, and the parts of these folders."""

    home: Annotated[Path, Field(description="State folder: models, jobs, images, certificates.")] = places.here("data")
    cache: Annotated[Path, Field(description="The engine's source and builds; safe to delete.")] = places.here("cache")

    database_url: Annotated[
        str | None,
        AfterValidator(lambda text: text and values.database_url(text)),
        Field(
            description="Keep jobs in this Postgres database, postgresql://USER:PASSWORD@HOST/DATABASE "
            "(docs/fleet.md); unset: in the state folder's SQLite file.",
            repr=False,
        ),
    ] = None

    @property
    def models_dir(self) -> Path:
        """One folder a model, and `*.toml` files that add entries to the catalog."""
        return self.home / "models"

    @property
    def loras_dir(self) -> Path:
        """The LoRAs that requests may name: `NAME.safetensors`."""
        return self.home / "loras"

    @property
    def images_dir(self) -> Path:
        return self.home / "images"

    @property
    def bodies_dir(self) -> Path:
        """Large request bodies, as files without a name, while they arrive."""
        return self.home / "bodies"

    @property
    def database(self) -> Path:
        return self.home / "jobs.sqlite3"

    @property
    def tokens_file(self) -> Path:
        """Tokens of `imagegen token new`; read when IMAGEGEN_TOKENS is unset."""
        return self.home / "tokens"

    @property
    def tls_dir(self) -> Path:
        """The certificate and key of IMAGEGEN_TLS=auto."""
        return self.home / "tls"

    @property
    def provenance_dir(self) -> Path:
        """The keys and certificates that sign pictures, unless IMAGEGEN_PROVENANCE_CERT names others."""
        return self.home / "provenance"

    @property
    def engine_dir(self) -> Path:
        """Source and builds of sd-server; safe to delete."""
        return self.cache / "engine"
