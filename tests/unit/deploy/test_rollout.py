"""A deploy whose second half does not come: whatever stops it, what ran before runs again, and loses nothing.

The runtime is a stand-in (container_stand_in.py). A real one, real images and databases are in tests/image/proof.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import container_stand_in
import pytest
from served import until

ROOT = Path(__file__).parents[3]
OLD, NEW = 1, 2
SAVING = "run --rm --name imagegen-volume --network none --volume imagegen-data:/data --entrypoint sh sha256:"
# A process that was started in the background ignores Ctrl-C, and so would all that it starts.
ROLLOUT = """\
import signal, sys
from pathlib import Path
from imagegen.deploy.containers import Containers, DeployError
from imagegen.deploy.rollout import Rollout
signal.signal(signal.SIGINT, signal.default_int_handler)
podman = Containers("podman", Path(sys.argv[1]))
try:
    rollout = Rollout(podman, "imagegen", "imagegen-data", float(sys.argv[2]), lambda words: print(words, flush=True))
    rollout.replace("image", ["--volume", "imagegen-data:/data"])
except DeployError as failed:
    sys.exit(f"Error: {failed}")
except KeyboardInterrupt:
    sys.exit("interrupted")
"""


class Host:
    """A machine with a container runtime, and rollouts on it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "volumes" / "imagegen-data"
        self._begun: list[subprocess.Popen[str]] = []
        container_stand_in.install(folder / "podman")

    def tell(self, **files: object) -> None:
        """Write files that the stand-in goes by; an empty one is removed."""
        for name, text in files.items():
            file = self.folder / name
            file.write_text(str(text)) if text else file.unlink(missing_ok=True)

    def begin(self, ready_timeout_s: float = 0) -> subprocess.Popen[str]:
        running = subprocess.Popen(
            [sys.executable, "-c", ROLLOUT, self.folder / "podman", str(ready_timeout_s)], cwd=ROOT,
            env=os.environ | {"STAND_IN": str(self.folder), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self._begun.append(running)
        return running

    def end(self) -> None:
        """Nothing is left, however the test ended."""
        self.tell(hold=None)
        for running in self._begun:
            running.kill()
            running.wait()

    def deploy(self) -> tuple[int, str]:
        """Exit code, and what was said."""
        running = self.begin()
        said, _ = running.communicate()
        return running.returncode, said

    @property
    def containers(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "containers.json").read_text()))

    @property
    def works(self) -> bool:
        """The old container, under its name, alone, up and accepting jobs, on a database that it can read."""
        (name, one), *more = self.containers.items()
        up = (one["status"], one["draining"], one["generation"]) == ("running", False, OLD)
        return not more and name == "imagegen" and up and self.database <= OLD

    @property
    def database(self) -> int:
        return int((self.data / "jobs.sqlite3").read_text())

    @property
    def saved(self) -> list[str]:
        return [path.name for path in self.data.glob("before-deploy*")]

    def calls(self, which: str = "calls") -> list[str]:
        file = self.folder / which
        return file.read_text().splitlines() if file.exists() else []

    def last(self, which: str = "calls") -> str:
        return (self.calls(which) or [""])[-1]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """With a container that runs, on a database of its form, and a newer image."""
    this = Host(tmp_path)
    this.data.mkdir(parents=True)
    (this.data / "jobs.sqlite3").write_text(str(OLD))
    one = {"volume": str(this.data), "generation": OLD, "status": "running", "draining": False}
    this.tell(image=NEW, **{"containers.json": json.dumps({"imagegen": one})})
    assert this.works
    yield this
    this.end()


def test_a_deploy_takes_the_old_ones_place_and_leaves_nothing_behind(host: Host) -> None:
    code, said = host.deploy()
    assert code == 0, said
    assert [(name, one["generation"]) for name, one in host.containers.items()] == [("imagegen", 2)]
    assert host.database == 2
    assert host.saved == []


def test_no_space_for_the_copy_of_the_database(host: Host) -> None:
    complaint = "cp: error writing '/data/before-deploy.part/jobs.sqlite3': No space left on device"
    host.tell(fails=f"{SAVING}{OLD} -c set\t{complaint}")
    code, said = host.deploy()
    assert code == 1
    assert "No space left on device" in said and "The old container runs again." in said
    assert host.works
    assert host.saved == []


def test_a_copy_that_breaks_off_is_none(host: Host) -> None:
    """Half a copy would be taken for the database one day."""
    (host.data / "jobs.sqlite3-wal").mkdir()  # `cp` refuses a folder
    code, said = host.deploy()
    assert code == 1 and "jobs.sqlite3-wal" in said
    assert host.works
    assert host.saved == []


@pytest.mark.parametrize(
    ("call", "end"),
    [("stop", "runs on."), ("rename", "runs again."), ("run --detach", "runs again.")],
)
def test_a_step_that_is_refused_is_told_with_its_reason(host: Host, call: str, end: str) -> None:
    """In Docker's way: the reason, an empty line, and where to read of options."""
    host.tell(
        fails=f"{call}\tError response from daemon:\\nport is taken\\n\\nRun 'docker run --help' for more information"
    )
    code, said = host.deploy()
    assert code == 1
    assert (
        f"`podman {call.split()[0]}` failed: Error response from daemon:\n  port is taken\nThe old container {end}"
        in said
    )
    assert "--help" not in said
    assert host.works
    assert host.saved == []


def test_a_new_one_that_does_not_get_ready(host: Host) -> None:
    host.tell(unready=NEW)
    code, said = host.deploy()
    assert code == 1
    assert f"the log of imagegen, generation {NEW}" in said
    assert "The old container runs again, with the database as it was before the deploy." in said
    assert host.works
    assert host.saved == []


def test_a_new_one_that_restarts_is_taken_back_with_its_log(host: Host) -> None:
    host.tell(unready=NEW, restarted=NEW, silent=2)
    code, said = host.deploy()
    assert code == 1
    assert f"ended and was restarted. It said:\n  the log of imagegen, generation {NEW}" in said
    assert host.works


def test_an_old_one_that_cannot_be_started_is_told(host: Host) -> None:
    host.tell(unready=NEW, fails="start\tError: the machine is full")
    code, said = host.deploy()
    assert code == 1
    assert "does not run again: `podman start` failed: Error: the machine is full\nTry `podman start imagegen`" in said
    host.tell(unready=None, fails=None)
    assert host.deploy()[0] == 0


@pytest.mark.parametrize(
    ("step", "how"),
    [
        ("stop", signal.SIGINT),
        ("stop", signal.SIGTERM),
        ("stop", signal.SIGHUP),
        (SAVING, signal.SIGINT),
        ("run --detach", signal.SIGINT),
    ],
)
def test_a_signal_half_way(host: Host, step: str, how: signal.Signals) -> None:
    host.tell(hold=step)
    running = host.begin()
    until(lambda: any(call.startswith(step) for call in host.calls()), "the deploy has come there")
    running.send_signal(how)
    if step == "stop":  # the old one still drains: that is waited for, however often somebody presses Ctrl-C
        until(lambda: [call.split()[0] for call in host.calls()].count("stop") == 2, "it goes back")
        running.send_signal(how)
    else:
        until(lambda: host.last().startswith("exec imagegen rm"), "it went back")
    host.tell(hold=None)
    said, _ = running.communicate()
    assert running.returncode == 1, said
    if step == SAVING:
        assert "rm --force imagegen-volume" in host.calls(), "its container is ended, too"
    assert "The old container runs again." in said and "interrupted" in said
    assert host.works
    assert host.saved == []


def test_a_terminal_that_is_closed_in_the_drain(host: Host) -> None:
    """Whatever is said then fails."""
    host.tell(hold="stop")
    running = host.begin()
    assert running.stdout is not None
    until(lambda: host.last().startswith("stop"), "the old one drains")
    running.stdout.close()
    running.send_signal(signal.SIGHUP)
    until(lambda: [call.split()[0] for call in host.calls()].count("stop") == 2, "it goes back")
    running.send_signal(signal.SIGHUP)
    host.tell(hold=None)
    running.wait()
    assert host.works
    assert host.saved == []


@pytest.mark.parametrize("gets_ready", [True, False])
@pytest.mark.parametrize("step", ["stop", SAVING, "rename", "run --detach", "exec imagegen python"])
def test_a_deploy_that_is_killed_half_way_and_another(host: Host, step: str, gets_ready: bool) -> None:
    """The new one may have changed the database by then: the copy of before is all that the old one can read."""
    host.tell(unready=NEW, hold=step)
    first = host.begin(ready_timeout_s=1000)
    until(lambda: host.last().startswith(step), "the deploy has come there")
    first.kill()
    host.tell(hold=None)
    first.communicate()
    until(lambda: host.last("returned").startswith(step), "what it had begun has ended")
    if gets_ready:
        host.tell(unready=None)
    code, said = host.deploy()
    if gets_ready:
        assert code == 0, said
        assert [(name, one["generation"]) for name, one in host.containers.items()] == [("imagegen", 2)]
    else:
        assert code == 1
        assert "with the database as it was before the deploy" in said
        assert host.works
    assert host.saved == []
