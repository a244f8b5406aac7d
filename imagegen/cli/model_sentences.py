"""Errors of the commands about models, as sentences."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from imagegen.models.entry_files import CatalogError
from imagegen.schemas import Refused
from imagegen.storage.database import StateError


@contextmanager
def sentences(doing: str = "read") -> Iterator[None]:
    """Turn Refused, CatalogError, StateError and OSError into a sentence on stderr and exit code 1."""
    try:
        yield
    except Refused as refused:
        raise click.ClickException(refused.detail) from None
    except (CatalogError, StateError) as wrong:
        raise click.ClickException(str(wrong)) from None
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise click.ClickException(f"The model's files could not be {doing}: {error.strerror}{where}.") from None
