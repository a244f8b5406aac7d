"""Finds the running service by its state folder or its port, so that it is checked with its own settings.

The service may have other settings than the shell in which the doctor runs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import httpx
import psutil

from imagegen import config_file
from imagegen.doctor import state
from imagegen.doctor.finding import Finding, fail, ok
from imagegen.settings import FRONT_ONLY, PREFIX, Settings, SettingsError, load
from imagegen.startup import port

ANSWER_S = 10.0
_NEEDS_TOKEN = {401, 403}


@dataclass(frozen=True)
class Running:
    """A running service and its settings.

    environment: its variables, None if this user may not read them. differing: names of variables with another value in
    this process.
    """

    pids: set[int]
    settings: Settings
    environment: Mapping[str, str] | None = None
    differing: tuple[str, ...] = ()


def find(settings: Settings) -> Running | None:
    """Find the service that holds the state folder, else the one that listens on the port, else None."""
    if pids := state.service_pids(settings):
        environments = [environment for pid in pids if (environment := _environment_of(pid)) is not None]
        for environment in environments:
            running = _with(environment, pids)
            if running is not None and running.settings.home == settings.home:
                return running
        return Running(pids, settings)
    for pid in port.holders(settings.port) - {None}:
        assert pid is not None
        environment = _environment_of(pid)
        running = None if environment is None else _with(environment, {pid})
        if running is not None and pid in (pids := state.service_pids(running.settings)):
            return Running(pids, running.settings, running.environment, running.differing)
    return None


def _environment_of(pid: int) -> dict[str, str] | None:
    """The service's variables in the environment of a process, with relative paths made absolute."""
    try:
        process = psutil.Process(pid)
        everything, folder = process.environ(), process.cwd()
    except (psutil.Error, OSError):
        return None
    found = {name: value for name, value in everything.items() if _is_of_service(name)}
    for name in ("HOME", "CACHE", "CONFIG", "SD_SERVER", "POLICY_FILE", "TEMPLATES_DIR"):
        if value := found.get(PREFIX + name):
            found[PREFIX + name] = os.path.join(folder, os.path.expanduser(value))  # noqa: PTH118, PTH111 - relative to `folder`
    return found


def _is_of_service(name: str) -> bool:
    return name.startswith("HF_") or (name.startswith(PREFIX) and name.removeprefix(PREFIX) not in FRONT_ONLY)


def _with(environment: dict[str, str], pids: set[int]) -> Running | None:
    own = {name: value for name, value in os.environ.items() if _is_of_service(name)}
    with contextlib.suppress(SettingsError):
        own[config_file.VARIABLE] = str(config_file.find() or "")
        environment = {config_file.VARIABLE: own[config_file.VARIABLE], **environment}
    differing = tuple(sorted(name for name in own | environment if own.get(name) != environment.get(name)))
    with adopted(environment):
        try:
            return Running(pids, load(), environment, differing)
        except SettingsError:  # of another version of the service
            return None


@contextlib.contextmanager
def adopted(environment: Mapping[str, str] | None) -> Iterator[None]:
    """Replace this process's variables with the service's. None changes nothing."""
    before = {name: value for name, value in os.environ.items() if _is_of_service(name)}
    try:
        if environment is not None:
            _replace(environment)
        yield
    finally:
        _replace(before)


def _replace(environment: Mapping[str, str]) -> None:
    for name in [name for name in os.environ if _is_of_service(name)]:
        del os.environ[name]
    os.environ.update(environment)


def answer(running: Running) -> Iterable[Finding]:
    """Findings about the running service: its own answer, and the settings that this shell lacks.

    Yields no finding for a service that does not listen: the state folder's check reports it.
    """
    if not port.holders(running.settings.port) & running.pids:
        return
    url = running.settings.url
    token = os.environ.get("IMAGEGEN_TOKEN")
    try:
        # The listening process is known, so its certificate is not verified.
        with httpx.Client(verify=False, trust_env=False, timeout=ANSWER_S) as client:  # noqa: S501
            headers = {"authorization": f"Bearer {token}"} if token else {}
            got = client.get(f"{url}/api/status", headers=headers)
        said = got.json() if got.status_code == httpx.codes.OK else {}
        engine = said.get("engine", {})
    except (httpx.HTTPError, ValueError, AttributeError) as silent:
        yield fail(
            "service",
            f"The service (processes {_named(running.pids)}) does not answer at {url}: {silent}.",
            "Look again in a minute; if it is still so, end those processes.",
        )
        return
    if got.status_code in _NEEDS_TOKEN:
        yield ok("service", f"A service answers at {url}. Set IMAGEGEN_TOKEN to see its state.")
    elif engine.get("state") == "failed":
        error = engine.get("error") or {}
        yield fail(
            "service",
            f"The service at {url} has no engine: {error.get('detail')}",
            "Jobs fail until this is fixed. See the service log.",
        )
    else:
        queue = said.get("queue", {})
        yield ok(
            "service",
            f"The service answers at {url}: engine {engine.get('state')}, {queue.get('running')} running, "
            f"{queue.get('queued')} waiting.",
        )
    if running.differing:
        yield ok(
            "service",
            "It was started with other settings than this shell has, and is examined with its own: "
            f"{', '.join(running.differing)}.",
        )


def _named(pids: set[int]) -> str:
    return ", ".join(str(pid) for pid in sorted(pids))
