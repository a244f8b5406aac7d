"""How a model's previews are made: by which means of the engine, how often, and with which colours."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr, model_validator

from imagegen.engines.base import PreviewMode, PreviewPlan
from imagegen.schemas import PreviewWish

COLOURS = 12


class PreviewLook(BaseModel):
    """The `preview` table of an entry: what `preview: "auto"` means for the model.

    colours: for a model whose latents are its own, a correction of the projected colours: three rows of four numbers,
    the shares of red, green and blue and an offset (0 to 255), for red, green and blue.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mode: Annotated[Literal["off", "projection", "tae", "vae"], Field(description="off, projection, tae or vae")] = (
        "projection"
    )
    every: Annotated[StrictInt, Field(ge=1, le=100, description="steps from one preview to the next")] = 1
    colours: Annotated[
        list[StrictFloat] | None, Field(min_length=COLOURS, max_length=COLOURS, description="twelve numbers")
    ] = None
    source: Annotated[StrictStr | None, Field(min_length=1, description="text: where the values come from")] = None

    @model_validator(mode="after")
    def _sourced(self) -> PreviewLook:
        if self.colours is not None and self.source is None:
            raise ValueError("colours need a source")
        return self

    def plan(self, wish: PreviewWish) -> PreviewPlan | None:
        """What the engine is asked for; None for no previews."""
        if wish == "off" or self.mode == "off":
            return None
        return PreviewPlan(PreviewMode(self.mode), self.every if wish == "auto" else wish)


DEFAULTS = {"sdcpp": PreviewLook(), "glm": PreviewLook(mode="off")}
"""By adapter, for entries without the table. The second engine makes no previews; the first none of latents that it
cannot project."""
