"""A model of the service's catalog, described for an agent that has to choose one."""

from __future__ import annotations

from imagegen_client.progress import duration
from mcp_front.answers import Read, Said


class Capabilities(Read):
    """What can be asked of a model."""

    draw: bool = True
    edit: bool = False
    mask: bool = False
    max_references: int = 0


class Usual(Read):
    """A default value, and the range in which the model is known to work."""

    value: int | float | str
    min: int | float | None = None
    max: int | float | None = None


class Defaults(Read):
    """Sizes in pixels."""

    width: Usual
    height: Usual
    steps: Usual


class Fast(Read):
    """The model's fast setting; None where it has none."""

    cache_mode: str | None = None


class Model(Read):
    """A model; `picture_s`: seconds of a usual picture here, None until one was measured."""

    name: str
    title: str
    description: str
    default: bool
    installed: bool
    noise: bool = False
    limits: str | None = None
    capabilities: Capabilities
    defaults: Defaults
    fast: Fast | None = None
    picture_s: float | None = None
    misfits: tuple[Said, ...] = ()

    def lines(self) -> list[str]:
        """One line that describes the model, and one for each fact that the user has to know before drawing."""
        default = ", the default" if self.default else ""
        if not self.installed:
            return [f"- {self.name} (not installed{default}): {self.description}"]
        speed = f"about {duration(self.picture_s)} a picture" if self.picture_s else "speed not measured here yet"
        fast = ", takes speed=fast" if self.fast and self.fast.cache_mode else ""
        return [
            f"- {self.name} (installed{default}): {self.description} {self._can}; {self._sizes}; {speed}{fast}.",
            *([f"    Limits: {self.limits}"] if self.limits else []),
            *(f"    {one.first_line}" for one in self.misfits),
        ]

    @property
    def _can(self) -> str:
        can = self.capabilities
        edits = f"edits up to {can.max_references} pictures" if can.max_references > 1 else "edits one picture"
        known = [("draws", can.draw), (edits, can.edit), ("takes a mask", can.mask)]
        words = ", ".join(word for word, able in known if able)
        return words[:1].upper() + words[1:]

    @property
    def _sizes(self) -> str:
        sides = self.defaults
        usual = f"{sides.width.value} x {sides.height.value} px"
        if sides.width.min is None or sides.width.min == sides.width.max:
            return usual
        return f"{usual}, sides of {sides.width.min} to {sides.width.max} px"
