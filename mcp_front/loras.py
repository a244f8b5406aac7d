"""A LoRA of the service, described for an agent that may draw with it."""

from __future__ import annotations

from mcp_front.answers import Read


class Lora(Read):
    """A LoRA. `models`: those that it can be used with; `trigger_words` belong in the prompt."""

    name: str
    models: tuple[str, ...] = ()
    trigger_words: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        words = f"; write in the prompt: {', '.join(self.trigger_words)}" if self.trigger_words else ""
        return f"- {self.name}, for {', '.join(self.models)}{words}"
