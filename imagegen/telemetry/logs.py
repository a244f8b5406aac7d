"""Logging: one structured line per event on stderr; no prompt, picture id or path at INFO, no id in a stack trace."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

_ID = re.compile(r"[0-9a-fA-F]{32}")


def without_ids(text: str) -> str:
    """`text` with `ID` for each id of a job or picture: whoever knows a picture's id may fetch the picture."""
    return _ID.sub("ID", text)


class _Formatter(logging.Formatter):
    def formatException(self, ei: Any) -> str:
        return without_ids(super().formatException(ei))


def configure(level: str) -> None:
    """Give the `imagegen` loggers their own handler, whatever BentoML does with the root logger."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logger = logging.getLogger("imagegen")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False
