"""What the tools take: each parameter once, with its bounds and the words that an agent reads."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from mcp_front.tool import Arguments

CHUNK_BYTES = 600_000
"""800,000 characters as base64: under Claude Desktop's cap for a result."""

MAX_MASK_CHARS = 3_000_000
"""A request to the front over HTTP may have 4 MiB."""

Prompt = Annotated[str, Field(min_length=1, max_length=12_000)]
Side = Annotated[int, Field(ge=64, le=4096)]
Reference = Annotated[str, Field(max_length=4096)]
References = Annotated[list[Reference], Field(min_length=1, max_length=16)]
Id = Annotated[str, Field(max_length=128)]


class Drawing(Arguments):
    """What every tool that draws takes. What is left out is left to the model's catalog entry."""

    prompt: Prompt = Field(description="What to draw.")
    negative: Annotated[str, Field(max_length=12_000)] | None = Field(None, description="What to leave out.")
    width: Side | None = Field(None, description="Pixels.")
    height: Side | None = None
    steps: Annotated[int, Field(ge=1, le=100)] | None = Field(None, description="More is slower.")
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] | None = Field(None, description="Same seed, same picture.")
    cfg_scale: Annotated[float, Field(ge=0, le=30)] | None = Field(None, description="Guidance.")
    sampler: Annotated[str, Field(max_length=64)] | None = None
    model: Annotated[str, Field(max_length=128)] | None = Field(None, description="See list_models.")
    speed: Literal["quality", "fast"] | None = Field(None, description="fast: sooner, at some cost of quality.")
    n: Annotated[int, Field(ge=1, le=4)] = Field(1, description="Pictures, with seeds that follow each other.")
    anyway: bool = Field(False, description="Draw what the model cannot show, if the user wants it.")

    @property
    def body(self) -> dict[str, Any]:
        """The service's request, without pictures."""
        return self.model_dump(exclude_none=True, include=set(Drawing.model_fields) - {"anyway"})


class Generate(Drawing):
    """A request for pictures from words."""

    wait: bool = Field(True, description="false: return a job id at once.")
    background: Literal["opaque", "transparent"] | None = Field(
        None, description="transparent: the subject cut out, as for an icon."
    )
    loras: list[dict[str, Any]] | None = Field(None, max_length=16, description="[{name, strength}], of list_models.")

    @property
    def body(self) -> dict[str, Any]:
        """The service's request."""
        own = {"background": self.background, "loras": self.loras}
        return super().body | {name: value for name, value in own.items() if value}


class Edit(Drawing):
    """A request to change pictures."""

    wait: bool = Field(True, description="false: return a job id at once.")
    prompt: Prompt = Field(description="What to change, and what to keep.")
    images: References = Field(description="Image ids, or paths of local picture files.")
    mask: Reference | None = Field(None, description="The same: white may change, black stays.")
    fit: Literal["contain", "cover", "stretch"] | None = Field(
        None, description="How the first picture fills another shape."
    )

    @property
    def body(self) -> dict[str, Any]:
        """The service's request, without pictures."""
        return super().body | ({"fit": self.fit} if self.fit else {})


class Submit(Drawing):
    """A request for pictures in the background; an edit if it has `images`."""

    unlisted: ClassVar = frozenset({"negative", "width", "height", "steps", "seed", "cfg_scale", "sampler", "speed"})

    images: References | None = None


class Upscale(Arguments):
    """A request for a larger copy of a picture."""

    image: Reference = Field(description="Image id, or path of a local picture file.")
    factor: Literal[2, 4] = 2


class OneJob(Arguments):
    """A job."""

    job_id: Id


class OneImage(Arguments):
    """A picture of the service."""

    image_id: Id


class Keep(OneImage):
    """A picture to keep, and where."""

    board: Annotated[str, Field(max_length=60)] | None = None
    note: Annotated[str, Field(max_length=1000)] | None = None


class Search(Arguments):
    """Which pictures to list."""

    query: Annotated[str, Field(max_length=200)] | None = Field(None, description="Words of the prompt or note.")
    kept: bool = False
    limit: Annotated[int, Field(ge=1, le=50)] = 10


class Nothing(Arguments):
    """No arguments."""


class Follow(Arguments):
    """A job, or the newest one with a prompt that has not ended."""

    job_id: Id | None = None
    prompt: Annotated[str, Field(max_length=12_000)] | None = None


class Vary(OneImage):
    """A request for pictures like this one."""

    n: Annotated[int, Field(ge=1, le=4)] = 3


class Mask(Arguments):
    """A PNG in base64: white may change, black stays."""

    data: Annotated[str, Field(max_length=MAX_MASK_CHARS)]


class Chunk(OneImage):
    """A part of a picture's file, in bytes."""

    offset: Annotated[int, Field(ge=0)] = 0
    length: Annotated[int, Field(ge=1, le=CHUNK_BYTES)] = CHUNK_BYTES
