"""Settings of what is done with prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field


class Prompts(BaseModel):
    """Files that replace the built-in policy and templates."""

    policy_file: Annotated[Path | None, Field(description="A TOML file that replaces the built-in policy.")] = None
    templates_dir: Annotated[
        Path | None, Field(description="Folder of your own templates; unset: templates/ in the state folder.")
    ] = None
