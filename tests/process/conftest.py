"""What the tests of processes ask for."""

from __future__ import annotations

from pathlib import Path

import pytest
from inside import MakeBackend, backend


@pytest.fixture
def app(home: Path, sd_server: Path, tmp_path: Path) -> MakeBackend:
    """`async with app(card, **settings)`: the service without its transports (tests/support/inside.py)."""
    return backend(home, sd_server, tmp_path)
