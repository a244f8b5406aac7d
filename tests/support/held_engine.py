"""An engine whose load can be held: a script in sd-server's place that becomes the real one when it is let go."""

from __future__ import annotations

from pathlib import Path

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
    """A program that is the real engine to everyone who does not ask for its channel: a user's own binary."""
    program = folder / "plain-sd-server"
    program.write_text(f'#!/bin/sh\nunset IMAGEGEN_CHANNEL_PROBE\nexec "{real}" "$@"\n')
    program.chmod(0o755)
    return program


class HeldEngine:
    """`path` is the engine to give to the service; loads are held while `hold` is in force.

    crawl: before the real load it prints progress for 4 s, as an engine on a slow disk does.
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
        """A load that failed is tried again at once."""
        self.path.touch()

    @property
    def starts(self) -> int:
        """How many engine processes were started so far."""
        starts = self._folder / "starts"
        return len(starts.read_text().splitlines()) if starts.exists() else 0


class SlowEngine:
    """The second engine in a HeldEngine's place: its loads take seconds by themselves, for it imports torch.

    home: the service's state folder, beside which its logs are.
    """

    path = None

    def __init__(self, home: Path, model: str) -> None:
        self._logs, self._weights = home, home / "models" / model / "model_index.json"

    def hold(self) -> None:
        """As it is."""

    def let_go(self) -> None:
        """As it is."""

    def change(self) -> None:
        self._weights.touch()

    @property
    def starts(self) -> int:
        """How many loads the service's log tells of."""
        logs = self._logs.parent.glob(f"{self._logs.name}-*.log")
        return sum(log.read_text(errors="replace").count("engine loading\n") for log in logs)
