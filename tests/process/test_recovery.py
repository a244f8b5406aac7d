"""kill -9 of anything at any moment: every accepted job ends once, in order, with the right picture."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from engines import SDCPP, Engine
from served import Service, gone, new_home, until


def phase_of(service: Service, job_id: str) -> str | None:
    progress = service.job(job_id)["progress"]
    return progress and progress["phase"]


def reach(service: Service, drawer: Engine, moment: str) -> dict[str, object]:
    """Submit a long job and return it once the service is at `moment`."""
    if moment == "idle":
        return service.draw()
    if moment == "loading":
        service.http.post("/api/unload")
        job = service.submit(**drawer.long)
        service.until_state("loading")
        return job
    job = service.submit(**(drawer.decoding if moment == "decoding" else drawer.long))
    until(lambda: phase_of(service, job["job_id"]) == moment, f"the job is {moment}")
    return job


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


KILLS = [kill_everything, kill_supervisor, kill_worker, kill_engine]


every_kill = pytest.mark.parametrize("kill", KILLS, ids=lambda kill: kill.__name__)
first_engine = pytest.mark.parametrize("drawer", [SDCPP], indirect=True, ids=str)
"""For `decoding`: the second engine's is over before anybody sees it.

Never in one parametrize with a plain argument: pytest then gives the engine, and `lasting` with it, the scope of a
function, and starts a service for each test.
"""


started: set[str] = set()
"""The engines whose `lasting` was started."""


@pytest.fixture(scope="module")
def lasting(tmp_path_factory, drawer: Engine, drawer_models: Path, sd_server: Path) -> Iterator[Service]:
    """One service for each engine that is killed again and again, on one state folder. Started once an engine."""
    assert drawer.model not in started, "the fixture has lost its scope"
    started.add(drawer.model)
    home = new_home(tmp_path_factory.mktemp("lasting") / "home", drawer_models)
    service = Service(home, sd_server, {"idle_timeout": "never", "model": drawer.model})
    service.start()
    yield service
    service.end()


@every_kill
@pytest.mark.parametrize(
    "moment", ["sampling", *(pytest.param(moment, marks=pytest.mark.long) for moment in ("loading", "idle"))]
)
def test_a_kill_loses_nothing(lasting: Service, drawer: Engine, kill: Callable[[Service], None], moment: str) -> None:
    kill_at(moment, lasting, drawer, kill)


@pytest.mark.long
@every_kill
@first_engine
def test_a_kill_while_it_decodes_loses_nothing(
    lasting: Service, drawer: Engine, kill: Callable[[Service], None]
) -> None:
    kill_at("decoding", lasting, drawer, kill)


def kill_at(moment: str, service: Service, drawer: Engine, kill: Callable[[Service], None]) -> None:
    job = reach(service, drawer, moment)
    behind = service.submit("a green tree", seed=2)
    kill(service)
    first, second = service.ended(job["job_id"]), service.ended(behind["job_id"])
    assert (first["status"], second["status"]) == ("complete", "complete"), (first, second)
    assert first["finished_at"] <= second["finished_at"]
    if moment != "idle":
        assert first["attempts"] == 2
    assert len(service.png(first)) > 1000


def test_a_rerun_draws_the_same_picture(serve_drawer, drawer: Engine) -> None:
    service = serve_drawer(idle_timeout="never")
    undisturbed = service.draw(**drawer.long, seed=3)["images"][0]["sha256"]
    job = service.submit(**drawer.long, seed=3)
    until(lambda: phase_of(service, job["job_id"]) == "sampling", "the job is drawn")
    kill_everything(service)
    assert service.ended(job["job_id"])["images"][0]["sha256"] == undisturbed


def test_a_job_that_kills_its_engine_is_given_up_after_three_tries(serve_drawer, drawer: Engine) -> None:
    service = serve_drawer(idle_timeout="never")
    job = service.submit(**drawer.long)
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


def test_an_engine_that_dies_idle_is_noticed_and_replaced(serve_drawer) -> None:
    service = serve_drawer(idle_timeout="never")
    service.draw()
    kill_engine(service)
    service.until_state("cold")
    service.draw()


@pytest.mark.parametrize("moment", ["sampling", "idle"])
def test_a_stopped_engine_is_ended_and_the_job_drawn_again(serve_drawer, drawer: Engine, moment: str) -> None:
    stop_at(moment, serve_drawer(idle_timeout="never", stall_s=15), drawer)


@first_engine
def test_an_engine_stopped_while_it_decodes_is_ended_and_the_job_drawn_again(serve_drawer, drawer: Engine) -> None:
    stop_at("decoding", serve_drawer(idle_timeout="never", stall_s=15), drawer)


def stop_at(moment: str, service: Service, drawer: Engine) -> None:
    job = reach(service, drawer, moment)
    stopped = service.engine_pid
    assert stopped is not None
    psutil.Process(stopped).send_signal(signal.SIGSTOP)
    if moment == "idle":
        job = service.submit()
    ended = service.ended(job["job_id"])
    assert (ended["status"], ended["attempts"]) == ("complete", 2), ended
    assert gone(stopped)


def test_an_engine_stopped_while_it_loads_is_given_up_with_a_sentence(serve_drawer) -> None:
    service = serve_drawer(load_timeout_s=5)
    job = service.submit()
    service.until_state("loading")
    until(lambda: service.engine_pid is not None, "the engine is started")
    stopped = service.engine_pid
    psutil.Process(stopped).send_signal(signal.SIGSTOP)
    ended = service.ended(job["job_id"])
    assert ended["error"]["code"] == "load_failed"
    assert "stood still" in ended["error"]["detail"]
    assert gone(stopped)


def test_a_second_service_on_the_same_state_folder_is_refused_with_a_sentence(serve, sd_server) -> None:
    first = serve()
    second = Service(first.home, sd_server, {})
    second.launch()
    second.wait()
    assert "Another service is using the state folder" in second.tail()
    assert first.draw()["status"] == "complete"


def test_orphan_files_are_removed_at_the_start(serve) -> None:
    service = serve()
    kept = service.draw()["images"][0]["id"]
    service.kill()
    orphan = service.home / "images" / f"{'0' * 32}.png"
    orphan.write_bytes(b"not finished")
    service.restart()
    assert [path.name for path in (service.home / "images").glob("*")] == [f"{kept}.png"]


def test_a_job_that_takes_too_long_is_ended_with_what_to_do(serve_drawer, drawer: Engine) -> None:
    service = serve_drawer(idle_timeout="never", max_job_s=12)
    four = drawer.endless | {"n": 4}
    job = service.ended(service.submit(**four)["job_id"])
    assert job["error"]["code"] == "gave_up"
    assert "IMAGEGEN_MAX_JOB_S" in job["error"]["detail"]
    assert service.draw()["status"] == "complete"


def test_a_job_that_would_take_too_long_is_refused(serve) -> None:
    service = serve(idle_timeout="never", max_job_s=12)
    service.draw()  # so that its pace is known
    refused = service.http.post(
        "/api/generate", json={"prompt": "x", "width": 512, "height": 512, "steps": 100, "n": 4}
    )
    assert (refused.status_code, refused.json()["code"]) == (422, "job_too_large"), refused.text
