"""The pictures of the service, found by words of their prompts and notes, described for an agent."""

from __future__ import annotations

from pydantic import BaseModel

from mcp_front.answers import Listed
from mcp_front.client import Service
from mcp_front.words import until

MAX_PROMPT_CHARS = 160


class FoundImage(BaseModel):
    """A picture; `kept`: it does not expire. `board` and `note`: of a kept picture."""

    image_id: str
    width: int
    height: int
    seed: int | None
    model: str | None
    prompt: str
    expires_at: str | None
    kept: bool
    board: str | None
    note: str | None

    @classmethod
    def of(cls, one: Listed) -> FoundImage:
        same = one.model_dump(include=cls.model_fields.keys() & Listed.model_fields.keys())
        return cls(**same | {"prompt": (one.prompt or "")[:1000]}, image_id=one.id, kept=one.kept_at is not None)

    @property
    def line(self) -> str:
        seed = "" if self.seed is None else f", seed {self.seed}"
        origin = f", model {self.model}" if self.model else ", uploaded"
        kept = f" (kept{f' on {self.board}' if self.board else ''})" if self.kept else until(self.expires_at)
        note = f" Note: {_short(self.note)}" if self.note else ""
        return f"{self.image_id}: {self.width} x {self.height} px{seed}{origin}{kept}: {_short(self.prompt)}{note}"


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= MAX_PROMPT_CHARS else f"{words[:MAX_PROMPT_CHARS]}…"


async def found_images(service: Service, limit: int, query: str | None = None, kept: bool = False) -> list[FoundImage]:
    """At most `limit` pictures, the newest first. `query`: words of their prompts or notes. Raises ServiceError."""
    wish = {"limit": str(limit)} | ({"q": query} if query else {}) | ({"kept": "1"} if kept else {})
    return [FoundImage.of(one) for one in await service.find_images(wish)]
