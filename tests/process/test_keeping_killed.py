"""kill -9 while pictures are kept, released and deleted: what was answered holds, and every row has its file."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from served import ROOT
from state_folder import TTL_S, Clock, opened

SCRIPT = ROOT / "tests" / "support" / "keeping_process.py"


@pytest.mark.parametrize("answers", [2, 40])
def test_a_kill_leaves_what_was_answered_and_no_row_without_its_file(tmp_path: Path, answers: int) -> None:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{SCRIPT.parent}"}
    command = [sys.executable, str(SCRIPT), str(tmp_path), str(answers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        made = process.stdout.readline().split()[1:]
        said = [process.stdout.readline() for _ in range(answers)]
        process.kill()
        said += process.stdout.readlines()
    done = [line.split() for line in said if line.endswith("\n")]
    assert len(done) >= answers
    asyncio.run(check(tmp_path, made, {image_id: what for what, image_id in done}))


async def check(folder: Path, made: list[str], last: dict[str, str]) -> None:
    """One more change may have been written than said, to any picture; a kill never undoes one."""
    clock = Clock()
    async with opened(folder, clock, max_kept=len(made)) as state:
        listed = {one.id: one for one in await state.images.list(200)}
        assert set(state.files()) == listed.keys(), "a file for each row, and none besides"
        for image in listed.values():
            assert hashlib.sha256(await state.images.read(image.id)).hexdigest() == image.sha256
            assert image.job_id is not None
            job = await state.jobs.get(image.job_id)
            assert image.id in [one.id for one in job.images]
        kept = {one.id for one in listed.values() if one.kept_at is not None}
        assert len(kept ^ {one for one, what in last.items() if what == "keep"}) <= 1
        assert len((set(made) - listed.keys()) ^ {one for one, what in last.items() if what == "delete"}) <= 1
        clock.now += 2 * TTL_S
        await state.jobs.sweep()
        assert set(state.files()) == kept
