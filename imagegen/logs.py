"""Logging: one structured line per event on stderr; no prompt, picture id or path at INFO."""

from __future__ import annotations

import logging
import sys


def configure(level: str) -> None:
    """Give the `imagegen` loggers their own handler, whatever BentoML does with the root logger."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logger = logging.getLogger("imagegen")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False
