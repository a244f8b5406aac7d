"""How a model's previews are made: the engine's method, the interval, and the colour correction."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, field_validator

from imagegen.engines.base import PreviewMode, PreviewPlan
from imagegen.images.preview_colours import PreviewColours
from imagegen.schemas import PreviewWish

CORRECTIONS = ("sketch",)
"""The fitted colour corrections of the package: `entries/NAME-previews.npz`."""


class PreviewLook(BaseModel):
    """The `preview` table of an entry: how the engine makes previews, and how often for `preview: "auto"`.

    colours: a fitted correction of the projected colours, for a model with latents of its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Annotated[Literal["off", "projection", "tae", "vae"], Field(description="off, projection, tae or vae")] = (
        "projection"
    )
    every: Annotated[StrictInt, Field(ge=1, le=100, description="steps from one preview to the next")] = 1
    colours: Annotated[StrictStr | None, Field(description="one of " + ", ".join(CORRECTIONS))] = None

    @field_validator("colours")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and value not in CORRECTIONS:
            raise ValueError(f"must be one of {', '.join(CORRECTIONS)}")
        return value

    def plan(self, wish: PreviewWish) -> PreviewPlan | None:
        """The previews to request from the engine. None for none."""
        if wish == "off" or self.mode == "off":
            return None
        return PreviewPlan(PreviewMode(self.mode), self.every if wish == "auto" else wish)

    def correction(self) -> PreviewColours | None:
        """The colour correction. Its file is read once."""
        return None if self.colours is None else _correction(self.colours)


@cache
def _correction(name: str) -> PreviewColours:
    return PreviewColours.load(files("imagegen.models") / "entries" / f"{name}-previews.npz")


DEFAULTS = {"sdcpp": PreviewLook(), "glm": PreviewLook(mode="off")}
"""By adapter, for entries without the table. The second engine makes no previews. The first engine makes none of
latents that it cannot project."""
