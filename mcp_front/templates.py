"""A prompt template of the service's, and what a person's values make of it."""

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
        """The prompt with its gaps filled, from the defaults where nothing was typed.

        A gap with neither stays as it is, for the agent to ask about.
        """
        known = {gap.name: values.get(gap.name) or gap.default for gap in self.placeholders}
        return _BRACES.sub(lambda gap: str(known.get(gap[1]) or gap[0]), self.prompt)

    @property
    def size(self) -> str:
        """The size as arguments of generate_image, or nothing."""
        return f"width={self.width}, height={self.height}" if self.width and self.height else ""

    def lines(self) -> list[str]:
        """The template for an agent to read."""
        gaps = [
            f"    {{{gap.name}}}: {gap.description}" + (f" Default: {gap.default}" if gap.default else " Needed.")
            for gap in self.placeholders
        ]
        size = f" ({self.size})" if self.size else ""
        return [f"- {self.title}{size}: {self.description}", f"    {self.prompt}", *gaps]
