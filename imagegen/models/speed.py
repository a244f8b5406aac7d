"""Fast: the setting of an entry that gives up some quality for time, by the step caches of sd-server.

Each of them draws a step from earlier ones instead of computing it, where it judges that little would change. sd-server
takes them with every picture (`cache_mode`, `cache_option`), so one loaded model draws both ways.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr, model_validator

_RANGE = frozenset({"threshold", "start", "end"})
_BLOCKS = frozenset({"threshold", "Fn", "Bn", "warmup"})
CACHES: dict[str, frozenset[str]] = {
    "easycache": _RANGE,
    "ucache": _RANGE | {"decay", "relative", "reset"},
    "dbcache": _BLOCKS,
    "taylorseer": _BLOCKS,
    "cache-dit": _BLOCKS,
    "spectrum": frozenset({"w", "m", "lam", "window", "flex", "warmup", "stop"}),
}
"""sd-server's names of its caches, and the options of each (its usage text, `--cache-option`)."""


class Fast(BaseModel):
    """A cache and its options from `min_steps` steps on; or `refused`, why the model has none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    cache_mode: Annotated[
        Literal["easycache", "ucache", "dbcache", "taylorseer", "cache-dit", "spectrum"] | None,
        Field(description="one of " + ", ".join(CACHES)),
    ] = None
    cache_options: Annotated[
        dict[StrictStr, StrictInt | StrictFloat], Field(description="a table of the cache's options, numbers")
    ] = {}
    min_steps: Annotated[StrictInt | None, Field(ge=1, le=100, description="a whole number, 1 to 100")] = None
    source: Annotated[StrictStr | None, Field(min_length=1, description="text: where the values come from")] = None
    refused: Annotated[StrictStr | None, Field(min_length=1, description="a sentence: why there is no fast")] = None

    @model_validator(mode="after")
    def _one_or_the_other(self) -> Fast:
        named = (self.cache_mode, self.min_steps, self.source)
        if self.refused is not None:
            if any(named) or self.cache_options:
                raise ValueError("has either refused, or cache_mode, min_steps and source")
            return self
        if self.cache_mode is None or self.min_steps is None or self.source is None:
            raise ValueError("needs cache_mode, min_steps and source; or refused alone")
        if unknown := sorted(self.cache_options.keys() - CACHES[self.cache_mode]):
            known = ", ".join(sorted(CACHES[self.cache_mode]))
            raise ValueError(f"{self.cache_mode} has no option {unknown[0]!r}; it has {known}")
        return self

    @property
    def native(self) -> dict[str, object]:
        """The fields of the engine's request. sd-server refuses a mode or an option that it does not know."""
        options = ",".join(f"{name}={value:g}" for name, value in self.cache_options.items())
        return {"cache_mode": self.cache_mode, "cache_option": options}
