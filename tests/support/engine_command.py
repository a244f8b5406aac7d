"""The command `imagegen engine`, run in the test's process."""

from __future__ import annotations

import os
from pathlib import Path

from click.testing import CliRunner, Result

from imagegen.cli.engine import engine as command


def imagegen_engine(cache: Path, *arguments: str, **environment: str) -> Result:
    env = {name: None for name in os.environ if name.startswith("IMAGEGEN_")}
    return CliRunner().invoke(command, arguments, env={**env, "IMAGEGEN_CACHE": str(cache), **environment})
