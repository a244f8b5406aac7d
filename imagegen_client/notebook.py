"""Live progress in a Jupyter notebook, by IPython's own display updates: no widgets are needed."""

from __future__ import annotations

import base64
import html
import sys
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from imagegen_client.pictures import Picture
from imagegen_client.watch import Update

BAR_PX = 320


class Live:
    """One output of a cell that changes with the job: its progress in words, a bar, and the newest preview."""

    def __init__(self, display: Any) -> None:
        self._display = display
        self._id = uuid4().hex
        self._last: dict[str, str] | None = None

    def show(self, update: Update) -> None:
        """Replace the output, if the update looks different."""
        self._send(_bundle(update))

    def clear(self) -> None:
        """Remove the output's content."""
        if self._last is not None:
            self._send({"text/html": "", "text/plain": ""})

    def _send(self, bundle: dict[str, str]) -> None:
        if bundle != self._last:
            self._display(bundle, raw=True, display_id=self._id, update=self._last is not None)
            self._last = bundle


def live() -> Live | None:
    """A new output of the running cell; None outside of a notebook."""
    shell = _notebook_shell()
    if shell is None:
        return None
    from IPython.display import display

    return Live(display)


def show(picture: Picture) -> None:
    """Show a picture below the running cell."""
    from IPython.display import display

    put: Callable[[Picture], Any] = display
    put(picture)


def _notebook_shell() -> Any:
    """The shell of the notebook that runs this code; None outside of one. Never imports IPython itself.

    A terminal's shell is none: it prints each update of an output below the one before.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return None if shell is None or hasattr(shell, "pt_app") or type(shell).__name__.startswith("Terminal") else shell


def _bundle(update: Update) -> dict[str, str]:
    words = html.escape(update.text)
    picture = ""
    if update.preview:
        data = base64.b64encode(update.preview.bytes).decode()
        picture = f'<br><img alt="preview" style="max-width:{BAR_PX}px" src="data:image/jpeg;base64,{data}">'
    bar = f'<progress value="{update.fraction:.3f}" max="1" style="width:{BAR_PX}px"></progress>'
    return {"text/html": f"<div>{bar} {words}{picture}</div>", "text/plain": update.text}
