"""Client and front on systems without POSIX: their imports, and the front's first answer.

Runs with the two packages and pytest alone, on Windows and macOS too (.github/workflows/release.yml).
"""

from __future__ import annotations

import subprocess
import sys

import pytest

POSIX_ONLY = ("fcntl", "grp", "pty", "pwd", "resource", "spwd", "syslog", "termios", "tty")
POSIX_NAMES = {
    "os": ("fork", "getuid", "geteuid", "getgid", "getpgid", "killpg", "setsid", "mkfifo", "O_NOFOLLOW"),
    "signal": ("SIGHUP", "SIGQUIT", "SIGTSTP", "SIGUSR1", "SIGKILL"),
}

IMPORT_ALL = f"""
import builtins, importlib, os, pkgutil, signal, sys
PACKAGE = sys.argv[1]
real = builtins.__import__

def without_posix(name, globals=None, locals=None, fromlist=(), level=0):
    importer = (globals or {{}}).get("__name__", "").partition(".")[0]
    if importer == PACKAGE and name in {POSIX_ONLY!r}:
        raise ModuleNotFoundError("No module named " + repr(name))
    return real(name, globals, locals, fromlist, level)

package = importlib.import_module(PACKAGE)
names = [PACKAGE + "." + found.name for found in pkgutil.iter_modules(package.__path__)]
names = [name for name in names if not name.endswith((".__main__", ".setup"))]
for name in names:  # what they import is there before POSIX is hidden
    importlib.import_module(name)
for name in names:
    del sys.modules[name]
builtins.__import__ = without_posix
for module, lacking in {POSIX_NAMES!r}.items():
    for name in lacking:
        sys.modules[module].__dict__.pop(name, None)
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def ran(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("package", ["imagegen_client", "mcp_front"])
def test_a_package_is_imported_without_posix(package: str) -> None:
    done = ran(IMPORT_ALL, package)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10


def test_the_check_finds_an_import_that_needs_posix(tmp_path) -> None:
    package = tmp_path / "planted"
    package.mkdir()
    for content in ("import fcntl", "from os import getuid", "import signal; signal.SIGHUP"):
        (package / "__init__.py").touch()
        (package / "part.py").write_text(content)
        done = ran(f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{IMPORT_ALL}", "planted")
        assert done.returncode != 0, content


ASK = """
import asyncio, sys
from fastmcp import Client
from fastmcp.client.transports import StdioTransport

async def ask():
    front = StdioTransport(sys.executable, ["-m", "mcp_front"], env={"IMAGEGEN_URL": "http://127.0.0.1:9"})
    async with Client(front) as client:
        print(*[tool.name for tool in await client.list_tools()])

asyncio.run(ask())
"""


@pytest.mark.long  # test_wheels.py has it here
def test_the_front_answers_with_its_tools_over_stdio() -> None:
    done = ran(ASK)
    assert "generate_image" in done.stdout.split(), done.stderr
