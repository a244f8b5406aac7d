"""kill -9 of anything at any moment: every accepted job ends once, in order, with the right picture.

The second engine's turn is in `make test-long`.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from engines import Engine, first_engine, second_engine_long
from held_engine import held_load
from served import Service, gone, new_home, until


def phase_of(service: Service, job_id: str) -> str | None:
    progress = service.job(job_id)["progress"]
    return progress and progress["phase"]


@contextlib.contextmanager
def at(moment: str, service: Service, drawer: Engine) -> Iterator[dict[str, Any]]:
    """A job that is at `moment`. While its picture is sampled, the engine is suspended, so that it does not end."""
    if moment == "idle":
        yield service.draw()
    elif moment == "loading":
        service.http.post("/api/unload")
        job = service.submit(**drawer.long)
        service.until_state("loading")
        yield job
    elif moment == "decoding":
        job = service.submit(**(drawer.decoding or {}))
        until(lambda: phase_of(service, job["job_id"]) == moment, "the picture is decoded")
        yield job
    else:
        job = service.submit(**drawer.long)
        with service.engine_held(job["job_id"]):
            yield job


def kill_everything(service: Service) -> None:
    service.kill()
    service.restart()


def kill_supervisor(service: Service) -> None:
    """The worker and the engine end with it, and a new start is not refused."""
    others = service.processes()[1:]
    service.supervisor.kill()
    service.wait()
    until(lambda: all(gone(p.pid) for p in others), "worker and engine end with the supervisor")
    service.restart()


def kill_worker(service: Service) -> None:
    """The supervisor starts another one; the engine ends with its worker."""
    engine = service.engine_pid
    service.worker.kill()
    if engine is not None:
        until(lambda: gone(engine), "the engine ends with the worker")
    service.until_ready()


def kill_engine(service: Service) -> None:
    def killed() -> bool:
        pid = service.engine_pid
        if pid is None:
            return False
        try:
            psutil.Process(pid).kill()
        except psutil.NoSuchProcess:
            return False
        return True

    until(killed, "there is an engine to kill")


STALL_S = 10
"""Many times what a step takes on a busy machine, and waited for in full by those that stop an engine."""


def kills(*them: Callable[[Service], None]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("kill", them, ids=lambda kill: kill.__name__)


started: set[str] = set()
"""The engines whose `lasting` was started."""


@pytest.fixture(scope="module")
def lasting(tmp_path_factory, drawer: Engine, drawer_models: Path, sd_server: Path) -> Iterator[Service]:
    """One service for each engine that is killed and stopped again and again, on one state folder. Started once."""
    assert drawer.model not in started, "the fixture has lost its scope"
    started.add(drawer.model)
    home = new_home(tmp_path_factory.mktemp("lasting") / "home", drawer_models)
    service = Service(home, sd_server, {"idle_timeout": "never", "model": drawer.model, "stall_s": STALL_S})
    service.start()
    yield service
    service.end()


@pytest.fixture(scope="module")
def bounded(tmp_path_factory, drawer: Engine, drawer_models: Path, sd_server: Path) -> Iterator[Service]:
    """One service for each engine whose jobs may take some seconds."""
    home = new_home(tmp_path_factory.mktemp("bounded") / "home", drawer_models)
    service = Service(home, sd_server, {"idle_timeout": "never", "model": drawer.model, "max_job_s": 8})
    service.start()
    yield service
    service.end()


moments = pytest.mark.parametrize(
    "moment", ["sampling", *(pytest.param(moment, marks=pytest.mark.long) for moment in ("loading", "idle"))]
)


@kills(kill_supervisor, kill_everything, kill_worker, kill_engine)
@moments
@second_engine_long
def test_a_kill_loses_nothing(lasting: Service, drawer: Engine, kill: Callable[[Service], None], moment: str) -> None:
    kill_at(moment, lasting, drawer, kill)


@pytest.mark.long
@kills(kill_everything, kill_supervisor, kill_worker, kill_engine)
@first_engine
def test_a_kill_while_it_decodes_loses_nothing(
    lasting: Service, drawer: Engine, kill: Callable[[Service], None]
) -> None:
    kill_at("decoding", lasting, drawer, kill)


def kill_at(moment: str, service: Service, drawer: Engine, kill: Callable[[Service], None]) -> None:
    with at(moment, service, drawer) as job:
        behind = service.submit("a green tree", seed=2)
        kill(service)
    first, second = service.ended(job["job_id"]), service.ended(behind["job_id"])
    assert (first["status"], second["status"]) == ("complete", "complete"), (first, second)
    assert first["finished_at"] <= second["finished_at"]
    if moment != "idle":
        assert first["attempts"] == 2
    assert len(service.png(first)) > 1000


@second_engine_long
def test_a_rerun_keeps_the_finished_pictures_and_draws_the_same(lasting: Service, drawer: Engine) -> None:
    service = lasting
    undisturbed = service.unsigned(service.draw(**drawer.long, seed=4))
    job = service.submit(**drawer.long, seed=3, n=3)
    until(lambda: service.job(job["job_id"])["images"], "the first picture is finished")
    with service.engine_held(job["job_id"]):
        running = service.job(job["job_id"])
        kill_everything(service)
    ended = service.ended(job["job_id"])
    assert (running["status"], ended["status"], ended["attempts"]) == ("running", "complete", 2)
    assert ended["images"][0]["id"] == running["images"][0]["id"], "it is not drawn again"
    assert [image["seed"] for image in ended["images"]] == [3, 4, 5]
    assert service.unsigned(ended, 1) == undisturbed
    assert {image["expires_at"] for image in ended["images"]} == {ended["expires_at"]}


@second_engine_long
def test_a_job_that_kills_its_engine_is_given_up_after_three_tries(lasting: Service, drawer: Engine) -> None:
    service = lasting
    job = service.submit(**drawer.endless)
    behind = service.submit()
    for attempt in (1, 2, 3):
        until(
            lambda attempt=attempt: (
                (now := service.job(job["job_id"]))["attempts"] == attempt
                and (now["progress"] or {}).get("phase") == "sampling"
            ),
            f"attempt {attempt} is drawn",
        )
        kill_engine(service)
    failed = service.ended(job["job_id"])
    assert failed["error"]["code"] == "engine_died"
    assert "3 times" in failed["error"]["detail"]
    assert service.ended(behind["job_id"])["status"] == "complete"


@second_engine_long
def test_an_engine_that_dies_idle_is_noticed_and_replaced(lasting: Service) -> None:
    lasting.draw()
    kill_engine(lasting)
    lasting.until_state("cold")
    lasting.draw()


@second_engine_long
def test_a_stopped_engine_is_ended_and_the_job_drawn_again(lasting: Service, drawer: Engine) -> None:
    stop_at("sampling", lasting, drawer)


@second_engine_long
def test_an_engine_stopped_while_idle_is_ended_and_the_job_drawn_again(lasting: Service, drawer: Engine) -> None:
    stop_at("idle", lasting, drawer)


@pytest.mark.long
@first_engine
def test_an_engine_stopped_in_decoding_is_ended_and_the_job_drawn_again(lasting: Service, drawer: Engine) -> None:
    stop_at("decoding", lasting, drawer)


def stop_at(moment: str, service: Service, drawer: Engine) -> None:
    with at(moment, service, drawer) as job:
        stopped = service.engine_pid
        assert stopped is not None
        psutil.Process(stopped).send_signal(signal.SIGSTOP)
        if moment == "idle":
            job = service.submit()
        ended = service.ended(job["job_id"])
    assert (ended["status"], ended["attempts"]) == ("complete", 2), ended
    assert gone(stopped)


@second_engine_long
def test_an_engine_stopped_while_it_loads_is_given_up_with_a_sentence(
    serve_drawer, drawer: Engine, sd_server: Path, tmp_path: Path
) -> None:
    service = serve_drawer(load_timeout_s=3, **held_load(drawer, sd_server, tmp_path))
    job = service.submit()
    service.until_state("loading")
    until(lambda: service.engine_pid is not None, "the engine is started")
    stopped = service.engine_pid
    psutil.Process(stopped).send_signal(signal.SIGSTOP)
    ended = service.ended(job["job_id"])
    assert ended["error"]["code"] == "load_failed"
    assert "stood still" in ended["error"]["detail"]
    assert gone(stopped)


def test_a_second_service_on_the_same_state_folder_is_refused(service: Service, sd_server: Path) -> None:
    second = Service(service.home, sd_server, {})
    second.launch()
    second.wait()
    assert "Another service is using the state folder" in second.tail()
    assert service.draw()["status"] == "complete"


def test_orphan_files_are_removed_at_the_start(serve) -> None:
    service = serve()
    kept = service.draw()["images"][0]["id"]
    service.kill()
    orphan = service.home / "images" / f"{'0' * 32}.png"
    orphan.write_bytes(b"not finished")
    service.restart()
    assert [path.name for path in (service.home / "images").glob("*")] == [f"{kept}.png"]


@second_engine_long
def test_a_job_that_takes_too_long_is_ended_with_what_to_do(bounded: Service, drawer: Engine) -> None:
    job = bounded.ended(bounded.submit(**drawer.endless)["job_id"])
    assert job["error"]["code"] == "gave_up"
    assert "IMAGEGEN_MAX_JOB_S" in job["error"]["detail"]
    assert bounded.draw()["status"] == "complete"


@first_engine
def test_a_job_that_would_take_too_long_is_refused(bounded: Service) -> None:
    bounded.draw()  # so that its pace is known
    refused = bounded.http.post(
        "/api/generate", json={"prompt": "x", "width": 512, "height": 512, "steps": 100, "n": 4}
    )
    assert (refused.status_code, refused.json()["code"]) == (422, "job_too_large"), refused.text
