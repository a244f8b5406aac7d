"""Checks in the engine's log whether LoRAs were applied: sd-server draws without a LoRA that it cannot use.

Pure, except that it reads the files' headers. Written from lora.hpp and stable-diffusion.cpp of the pinned engine. Per
LoRA and part of the model sd-server prints `loading LoRA from 'PATH'`. After the last step, or when it has merged the
LoRA into the weights, it prints `(n / m) LoRA tensors have been applied, lora_file_path = PATH`. It prints no such line
for a part of the model without tensors in the file, so the total is taken from the file's header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from imagegen.engines.base import EngineError
from imagegen.engines.safetensors import NotSafetensors, shapes
from imagegen.engines.sdcpp.log import untagged
from imagegen.schemas import Warn

_LOADING = re.compile(r"loading LoRA from '(?P<path>.+)'$")
_APPLIED = re.compile(
    r"\((?P<done>\d{1,7}) / (?P<total>\d{1,7})\) LoRA tensors have been applied, lora_file_path = (?P<path>.+)$"
)
_UNREAD = (
    re.compile(r"load lora tensors from (?P<path>.+) failed$"),
    re.compile(r"init lora model loader from file failed: '(?P<path>.+)'$"),
    re.compile(r"read tensor data failed: '(?P<path>.+)'$"),
)
ASSERTION = "GGML_ASSERT"
WHAT_TO_DO = "Put the LoRA of this very model in its place, or take it out of the model's entry."


class LoraWatch:
    """Tracks the LoRAs of one engine process, picture by picture; `files`: the LoRAs that pictures may name."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._files = {str(path): path for path in files}
        self._totals: dict[str, int] = {}
        self.proven: set[str] = set()  # file names of the LoRAs that were applied to a picture
        self.begin()

    def begin(self) -> None:
        """Reset; called when a picture begins."""
        self._loaded: set[str] = set()
        self._unread: set[str] = set()
        self._counts: dict[str, tuple[int, int]] = {}  # tensors applied, in total

    def hear(self, line: str) -> None:
        """Handle a line of the engine's log."""
        text = untagged(line)
        if told := _APPLIED.search(text):
            done, total = self._counts.get(told["path"], (0, 0))
            self._counts[told["path"]] = done + int(told["done"]), total + int(told["total"])
        elif told := _LOADING.search(text):
            self._loaded.add(told["path"])
        else:
            self._unread |= {told["path"] for pattern in _UNREAD if (told := pattern.search(text))}

    def verdict(self, asked: Iterable[Path]) -> tuple[Warn, ...]:
        """The warnings for a picture with these LoRAs.

        Raises EngineError(draw_failed) for a LoRA that was not applied.
        """
        return tuple(warning for path in asked if (warning := self._judge(str(path), path.name)) is not None)

    def _judge(self, path: str, name: str) -> Warn | None:
        if path in self._unread:
            detail = f"The engine could not read the LoRA {name}: the file is damaged. Fetch or copy it again."
            raise EngineError("draw_failed", detail)
        done, total = self._counts.get(path, (0, 0))
        total = max(total, self._total(path))
        if not done and path not in self._loaded and path not in self._counts:
            detail = f"The engine did not report whether it used the LoRA {name}: compare with a picture without it."
            return Warn(code="lora_in_doubt", detail=detail)
        if not done:
            raise EngineError(
                "draw_failed",
                f"The LoRA {name} has no effect: none of its {total} tensors belongs to a matrix of this model, so it "
                f"was made for another one. {WHAT_TO_DO}",
            )
        self.proven.add(name)
        if done >= total:
            return None
        detail = (
            f"Of the {total} tensors of the LoRA {name} the engine used {done}: the others belong to no matrix of this "
            "model that it knows. The picture is not what the LoRA was made for."
        )
        return Warn(code="lora_in_doubt", detail=detail)

    def _total(self, path: str) -> int:
        """The number of tensors in the file; 0 if it cannot be read."""
        if path not in self._totals:
            try:
                self._totals[path] = len(shapes(self._files[path]))
            except (NotSafetensors, OSError, KeyError):
                self._totals[path] = 0
        return self._totals[path]


def broke_it(asked: Iterable[Path], proven: set[str], complaints: str) -> str | None:
    """If the engine aborted because of a LoRA that it had not applied before: a sentence. Else None."""
    names = ", ".join(path.name for path in asked if path.name not in proven)
    if not names or ASSERTION not in complaints:
        return None
    return (
        f"The engine aborted at the first picture with the LoRA {names}: most likely its matrices have other sizes "
        f"than this model's, because it was made for another one. {WHAT_TO_DO}"
    )
