"""An engine whose load can be held: a script in place of sd-server that runs the real one once released."""

from __future__ import annotations

from pathlib import Path

from engines import SDCPP, Engine

_SCRIPT = """#!/bin/sh
case "$*" in *--help*) exec "{real}" "$@" ;; esac
echo started >> "{folder}/starts"
while [ -e "{folder}/hold" ]; do sleep 0.05; done
n=0
echo "[INFO ] main.cpp:1    - held, and let go"
while [ -e "{folder}/crawl" ] && [ $n -lt 8 ]; do
    n=$((n + 1))
    printf '\\r  |=>                                                | %d/1000 - 2.00MB/s\\033[K' $n
    sleep 0.5
done
exec "{real}" "$@"
"""


def without_channel(folder: Path, real: Path) -> Path:
    """The real engine without the channel, as a user's own binary may be."""
    program = folder / "plain-sd-server"
    program.write_text(f'#!/bin/sh\nunset IMAGEGEN_CHANNEL_PROBE\nexec "{real}" "$@"\n')
    program.chmod(0o755)
    return program


class HeldEngine:
    """`path` is the engine's binary for the service. Loads wait from `hold` until `let_go`.

    crawl: the engine prints progress for 4 s before the real load, as one on a slow disk does.
    """

    def __init__(self, folder: Path, real: Path) -> None:
        folder.mkdir()
        self.path, self._folder = folder / "sd-server", folder
        self.path.write_text(_SCRIPT.format(real=real, folder=folder))
        self.path.chmod(0o755)

    def hold(self) -> None:
        (self._folder / "hold").touch()

    def let_go(self) -> None:
        (self._folder / "hold").unlink(missing_ok=True)

    def crawl(self) -> None:
        (self._folder / "crawl").touch()

    def change(self) -> None:
        """Touch the binary, so that the service retries a failed load at once."""
        self.path.touch()

    @property
    def starts(self) -> int:
        """The number of engine processes started so far."""
        starts = self._folder / "starts"
        return len(starts.read_text().splitlines()) if starts.exists() else 0


class SlowEngine:
    """The second engine with HeldEngine's methods. Its loads take seconds anyway, since it imports torch.

    home: the service's state folder; the logs are beside it.
    """

    path = None

    def __init__(self, home: Path, model: str) -> None:
        self._logs, self._weights = home, home / "models" / model / "model_index.json"

    def hold(self) -> None:
        """Do nothing."""

    def let_go(self) -> None:
        """Do nothing."""

    def change(self) -> None:
        self._weights.touch()

    @property
    def starts(self) -> int:
        """The number of loads in the service's logs."""
        logs = self._logs.parent.glob(f"{self._logs.name}-*.log")
        return sum(log.read_text(errors="replace").count("engine loading\n") for log in logs)


Held = HeldEngine | SlowEngine


def held_load(drawer: Engine, real: Path, folder: Path) -> dict[str, object]:
    """Settings of a service whose loads last: the first engine's are held for good, the second's take seconds."""
    if drawer is not SDCPP:
        return {}
    engine = HeldEngine(folder / "held-engine", real)
    engine.hold()
    return {"sd_server": engine.path}
