"""How a picture was made, as its file says it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from imagegen.images.png import printable


@dataclass(frozen=True)
class SettingsRead:
    """Settings in the words of the program that wrote them. None and empty: the file does not say.

    size: width and height in pixels. loras: names and strengths. others: further settings, by that program's labels.
    """

    prompt: str = ""
    negative: str = ""
    model: str | None = None
    seed: int | None = None
    steps: int | None = None
    cfg_scale: float | None = None
    sampler: str | None = None
    size: tuple[int, int] | None = None
    loras: tuple[tuple[str, float], ...] = ()
    speed: str | None = None
    background: str | None = None
    others: dict[str, str] = field(default_factory=dict)

    def printable(self) -> SettingsRead:
        """The same without characters that no text has: JSON may hold halves of them."""

        def clean(text: str | None) -> str | None:
            return None if text is None else printable(text)

        return replace(
            self,
            prompt=printable(self.prompt),
            negative=printable(self.negative),
            model=clean(self.model),
            sampler=clean(self.sampler),
            speed=clean(self.speed),
            background=clean(self.background),
            loras=tuple((printable(name), strength) for name, strength in self.loras),
            others={printable(name): printable(value) for name, value in self.others.items()},
        )
