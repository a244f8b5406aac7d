"""Logging: one line per event on stderr. No prompt, picture id or path at INFO; no id in a stack trace."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

_ID = re.compile(r"[0-9a-fA-F]{32}")


def without_ids(text: str) -> str:
    """Replace each id of a job or picture by `ID`, because a picture's id is enough to fetch the picture."""
    return _ID.sub("ID", text)


class _Formatter(logging.Formatter):
    def formatException(self, ei: Any) -> str:
        return without_ids(super().formatException(ei))


def configure(level: str) -> None:
    """Give the `imagegen` loggers their own handler, so that they do not depend on BentoML's root logger."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logger = logging.getLogger("imagegen")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False
