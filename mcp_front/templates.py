"""A prompt template of the service, and its prompt with a user's values filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mcp_front.answers import Read

_BRACES = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Placeholder(Read):
    """A gap in a template, written `{name}` in its prompt; without a default a person has to fill it."""

    name: str
    description: str = ""
    examples: tuple[str, ...] = ()
    default: str | None = None


class Template(Read):
    """A preset of the service's. Width and height (pixels) suit the motif, and the model can draw them."""

    name: str
    title: str
    description: str = ""
    prompt: str
    placeholders: tuple[Placeholder, ...] = ()
    width: int | None = None
    height: int | None = None
    notes: str = ""

    def filled(self, values: Mapping[str, Any]) -> str:
        """The prompt with its placeholders filled, from the defaults if no value is given.

        A placeholder with neither stays in the prompt, so that the agent asks about it.
        """
        known = {gap.name: values.get(gap.name) or gap.default for gap in self.placeholders}
        return _BRACES.sub(lambda gap: str(known.get(gap[1]) or gap[0]), self.prompt)

    @property
    def size(self) -> str:
        """The size as arguments of generate_image. Empty if the template has none."""
        return f"width={self.width}, height={self.height}" if self.width and self.height else ""

    def lines(self) -> list[str]:
        """The template as text for an agent."""
        gaps = [
            f"    {{{gap.name}}}: {gap.description}" + (f" Default: {gap.default}" if gap.default else " Needed.")
            for gap in self.placeholders
        ]
        size = f" ({self.size})" if self.size else ""
        return [f"- {self.title}{size}: {self.description}", f"    {self.prompt}", *gaps]
