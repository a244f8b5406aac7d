"""The folder in which the engine finds the LoRAs of a picture, and what its log reports about them.

sd-server draws without a LoRA that it cannot use, and reports that only in its log. Written from lora.hpp and
stable-diffusion.cpp of the pinned engine. Per LoRA and part of the model sd-server prints `loading LoRA from 'PATH'`.
After the last step it prints `(n / m) LoRA tensors have been applied, lora_file_path = PATH`. It prints no such line
for a part of the model without tensors in the file, so the total is taken from the file's header.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from imagegen.engines.base import EngineError, LoraUse
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


class LoraLinks:
    """The value of `--lora-model-dir`: a folder of links to the LoRAs of the running picture, and of nothing else.

    sd-server searches the folder and its subfolders at every request, and takes only names of files in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def clear(self) -> None:
        """Make the folder, or remove what is in it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for one in self.folder.iterdir():
            one.unlink()

    def link(self, loras: Iterable[LoraUse]) -> dict[Path, LoraUse]:
        """The LoRAs by their links. A file that was replaced gets a link of another name.

        Raises EngineError(draw_failed) if a file cannot be read.
        """
        self.clear()
        linked: dict[Path, LoraUse] = {}
        for index, use in enumerate(loras):
            try:
                file = use.path.resolve(strict=True)
                state = file.stat()
            except OSError as failure:
                detail = f"The LoRA {use.path.name} cannot be read: {failure.strerror}. Put it back."
                raise EngineError("draw_failed", detail) from None
            mark = f"{file}\0{state.st_size}\0{state.st_mtime_ns}\0{index}"
            link = self.folder / f"{hashlib.sha256(mark.encode()).hexdigest()[:16]}{use.path.suffix}"
            link.symlink_to(file)
            linked[link] = use
        return linked


class LoraWatch:
    """Tracks the LoRAs of one engine process, picture by picture."""

    def __init__(self) -> None:
        self._totals: dict[str, int] = {}
        self._proven: set[str] = set()  # paths of LoRAs that were applied to a picture
        self.begin({})

    def begin(self, asked: Mapping[Path, LoraUse]) -> None:
        """Start a picture with these LoRAs, by the paths that the log names."""
        self._asked = {str(link): use.path.name for link, use in asked.items()}
        self._loaded: set[str] = set()
        self._unread: set[str] = set()
        self._counts: dict[str, tuple[int, int]] = {}  # tensors applied, in total

    def hear(self, line: str) -> None:
        """Handle a line of the engine's log."""
        text = untagged(line)
        if found := _APPLIED.search(text):
            done, total = self._counts.get(found["path"], (0, 0))
            self._counts[found["path"]] = done + int(found["done"]), total + int(found["total"])
        elif found := _LOADING.search(text):
            self._loaded.add(found["path"])
        else:
            self._unread |= {found["path"] for pattern in _UNREAD if (found := pattern.search(text))}

    def verdict(self) -> tuple[Warn, ...]:
        """The warnings for the picture's LoRAs. Raises EngineError(draw_failed) for a LoRA that was not applied."""
        judged = [self._judge(path, name) for path, name in self._asked.items()]
        return tuple(warning for warning in judged if warning is not None)

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
        self._proven.add(path)
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
                self._totals[path] = len(shapes(Path(path)))
            except (NotSafetensors, OSError):
                self._totals[path] = 0
        return self._totals[path]

    def broke_it(self, complaints: str) -> str | None:
        """If the engine aborted because of a LoRA that it had not applied before: a sentence. Else None."""
        names = ", ".join(name for path, name in self._asked.items() if path not in self._proven)
        if not names or ASSERTION not in complaints:
            return None
        return (
            f"The engine aborted at the first picture with the LoRA {names}: most likely its matrices have other sizes "
            f"than this model's, because it was made for another one. {WHAT_TO_DO}"
        )
