"""The container's pure parts. What it does is proven on a real one: `make image-test` (tests/image/proof.py)."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from imagegen.cli.deploy import deploy
from imagegen.deploy import containers as runtimes
from imagegen.deploy import healthcheck, image
from imagegen.deploy.containers import Containers, DeployError
from imagegen.deploy.deployment import Deployment
from imagegen.deploy.host_config import Choices, Place, grace_s
from imagegen.deploy.image import Recipe, build, choose_backend
from imagegen.engine_build.cards import Card, Cards
from imagegen.engine_build.plan import Backend
from imagegen.engine_build.toolchain import CUDA_WHEELS
from imagegen.settings import Settings

ROOT = Path(__file__).parents[3]
PODMAN, DOCKER = Containers("podman", Path("/bin/false")), Containers("docker", Path("/bin/false"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    this = Place(tmp_path / "config")
    this.prepare()
    return this


# ---- what is kept on the host -----------------------------------------------------------------


def test_a_deploy_overwrites_nothing_of_the_operators(place: Place) -> None:
    assert place.settings() == {}
    place.env_file.write_text("# mine\nIMAGEGEN_MODEL=tiny\nHF_TOKEN=a=b\n")
    place.prepare()
    assert place.settings() == {"IMAGEGEN_MODEL": "tiny", "HF_TOKEN": "a=b"}


def test_secrets_are_for_their_owner_alone(place: Place) -> None:
    assert place.token() is None
    place.keep_token("very-secret")
    assert place.token() == "very-secret"
    for file in (place.token_file, place.env_file):
        assert file.stat().st_mode & 0o077 == 0
    assert place.folder.stat().st_mode & 0o077 == 0


def test_what_was_chosen_is_kept(place: Place) -> None:
    assert place.choices() is None
    chosen = Choices("studio", "0.0.0.0", 9000, "podman", "/srv/pictures", "cuda")
    place.keep_choices(chosen)
    assert place.choices() == chosen
    (place.folder / "deploy.json").write_text("{")
    with pytest.raises(DeployError, match="damaged: remove it"):
        place.choices()


def test_a_deployment_has_a_volume_and_a_folder_by_its_name() -> None:
    assert Choices().volume == "imagegen-data"
    assert Choices("studio").volume == "studio-data"
    default = Place.default("imagegen").folder
    assert (default.name, Place.default("studio").folder) == ("imagegen", default / "deployments" / "studio")


def test_a_line_that_is_no_setting_is_named(place: Place) -> None:
    place.env_file.write_text("IMAGEGEN_MODEL=tiny\nexport X\n")
    with pytest.raises(DeployError, match=r"line 2: must be NAME=value"):
        place.settings()
    with pytest.raises(DeployError, match="not a number"):
        grace_s({"IMAGEGEN_SHUTDOWN_GRACE_S": "long"})


# ---- how it is started ------------------------------------------------------------------------


H200 = Cards((Card("NVIDIA H200", (9, 0)),), driver_cuda=(13, 0), driver="580.65")
OLD_DRIVER = Cards(H200.found, driver_cuda=(12, 8), driver="570.1")


def options(
    place: Place,
    choices: Choices = Choices(),  # noqa: B008 - frozen
    runtime: Containers = PODMAN,
    backend: Backend = "cpu",
    cards: Cards = H200,
    **settings: str,
) -> str:
    place.env_file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    return " ".join(Deployment(runtime, place, choices).run_options(backend, cards))


def test_the_container_has_no_rights_and_time_to_stop(place: Place) -> None:
    words = options(place, IMAGEGEN_SHUTDOWN_GRACE_S="100")
    assert "--publish 127.0.0.1:8765:8765" in words
    assert "--read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges" in words
    assert f"--volume imagegen-data:/data --env-file {place.env_file}" in words
    (stop_s,) = re.findall(r"--stop-timeout (\d+)", words)
    assert int(stop_s) > 100
    assert "gpu" not in words
    assert "ALLOWED_HOSTS" not in words


def test_the_gpu_is_asked_for_in_each_runtimes_words(place: Place) -> None:
    assert "--gpus all" in options(place, runtime=DOCKER, backend="cuda")
    assert "--device nvidia.com/gpu=all" in options(place, backend="cuda")


@pytest.mark.parametrize("cards", [H200, Cards(), Cards(problem="mismatch")])
@pytest.mark.parametrize("on_missing", ["cpu", "exit", None])
def test_a_card_that_is_there_is_given_whatever_is_done_without_one(
    place: Place, cards: Cards, on_missing: str | None
) -> None:
    """Where there is none, a runtime that is asked for one starts nothing."""
    settings = {} if on_missing is None else {"IMAGEGEN_ON_MISSING_GPU": on_missing}
    asked = "gpu=all" in options(place, backend="cuda", cards=cards, **settings)
    assert asked is (bool(cards.found) or on_missing != "cpu")


@pytest.mark.parametrize(
    ("host", "told", "tls"),
    [
        ("127.0.0.1", None, "off"),
        ("127.0.0.1", "auto", "auto"),
        ("::1", None, "off"),
        ("0.0.0.0", None, "auto"),
        ("0.0.0.0", "", "auto"),
        ("192.0.2.7", "/data/cert.pem,/data/key.pem", "/data/cert.pem,/data/key.pem"),
    ],
)
def test_other_machines_are_served_over_https(place: Place, host: str, told: str | None, tls: str) -> None:
    settings = {} if told is None else {"IMAGEGEN_TLS": told}
    assert f"--env IMAGEGEN_TLS={tls} " in options(place, Choices(host=host), **settings)
    Deployment(PODMAN, place, Choices(host=host)).check()


@pytest.mark.parametrize("off", ["off", "Off "])
def test_plain_http_is_not_published_to_other_machines(place: Place, off: str) -> None:
    place.env_file.write_text(f"IMAGEGEN_TLS={off}\n")
    Deployment(PODMAN, place, Choices()).check()
    with pytest.raises(DeployError, match=r"imagegen.env says IMAGEGEN_TLS=off.* Remove that line for HTTPS"):
        Deployment(PODMAN, place, Choices(host="0.0.0.0")).check()


def test_beyond_loopback_the_hosts_own_addresses_are_its_names(place: Place) -> None:
    words = options(place, Choices(host="0.0.0.0"), IMAGEGEN_ALLOWED_HOSTS="gpu.example")
    (names,) = re.findall(r"IMAGEGEN_ALLOWED_HOSTS=(\S+)", words)
    assert {"gpu.example", "127.0.0.1"} <= set(names.split(","))
    assert "--publish [::]:8765:8765" in options(place, Choices(host="::"))


def test_the_backend_is_what_the_machine_has() -> None:
    assert choose_backend(Cards()) == "cpu"
    assert choose_backend(H200) == "cuda"
    with pytest.raises(DeployError, match="driver 580 or newer, and the driver here is 570"):
        choose_backend(OLD_DRIVER)
    with pytest.raises(DeployError, match=r"does not answer \(mismatch\)"):
        choose_backend(Cards(problem="mismatch"))


def test_no_runtime_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = tmp_path / "docker"
    silent.write_text("#!/bin/sh\necho Cannot connect to the Docker daemon >&2\nexit 1\n")
    silent.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        DeployError, match=r"Cannot connect to the Docker daemon; podman is not installed.*imagegen serve"
    ):
        runtimes.find()
    told = CliRunner().invoke(deploy, ["--config", str(tmp_path), "status"])
    assert told.exit_code == 1
    assert "Error: No container runtime answers here" in told.output


def test_a_docker_that_is_silent_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Podman would begin with an empty volume."""
    for name, line in (("docker", "echo Is the docker daemon running? >&2; exit 1"), ("podman", "echo 4")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        DeployError, match=r"Docker is installed here .*Is the docker daemon running\?.* --runtime podman"
    ):
        runtimes.find()
    assert runtimes.find("podman").name == "podman"
    (tmp_path / "docker").unlink()
    assert runtimes.find().name == "podman"


def test_a_build_needs_the_repository(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="run this from a copy of the project's repository"):
        build(PODMAN, Recipe("cpu", root=tmp_path), print)


# ---- the files --------------------------------------------------------------------------------


def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "compose.yaml").read_text()))


def test_compose_reserves_a_gpu_for_the_service_alone() -> None:
    services = compose()["services"]
    (device,) = services["imagegen"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert "deploy" not in services["mcp"]
    assert services["mcp"]["environment"]["NVIDIA_VISIBLE_DEVICES"] == "void"


@pytest.mark.parametrize("name", ["imagegen", "mcp"])
def test_compose_gives_no_rights_and_publishes_for_this_machine(name: str) -> None:
    service = compose()["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges"]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][:4] == ["CMD", "python", "-m", "imagegen.deploy.healthcheck"]
    assert all(port.startswith("${PUBLISH:-127.0.0.1}:") for port in service["ports"])


def test_compose_keeps_state_and_settings_out_of_the_code() -> None:
    service = compose()["services"]["imagegen"]
    assert service["volumes"] == ["data:/data"]
    (settings,) = service["env_file"]
    assert settings == {"path": "${SETTINGS:-${HOME}/.config/imagegen/imagegen.env}", "required": False}
    grace = Settings.model_fields["shutdown_grace_s"].default
    assert float(service["stop_grace_period"].removesuffix("s")) > grace + 10


def test_the_cuda_packages_are_the_builders_and_pinned_by_hash() -> None:
    lock = (ROOT / "requirements" / "cuda.txt").read_text()
    assert set(re.findall(r"^([a-z-]+)==13\.\S+ \\\n    --hash=sha256:", lock, re.MULTILINE)) == set(CUDA_WHEELS)


def test_a_bento_includes_what_the_links_in_it_lead_to() -> None:
    included = yaml.safe_load((ROOT / "bentofile.yaml").read_text())["include"]
    packed = {path for pattern in included for path in ROOT.glob(pattern.replace("/**", "/**/*"))}
    links = [path for path in packed if path.is_symlink()]
    assert links
    assert [path for path in links if path.resolve() not in packed] == []


def test_only_what_the_engine_is_made_by_is_sent_to_its_build() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "deploy/engine.Dockerfile").read_text(), re.MULTILINE)
    assert {path.rstrip("/") for line in copied for path in line.split()} == kept


# ---- the health check -------------------------------------------------------------------------


@pytest.fixture
def answering() -> Iterator[HTTPServer]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/readyz" else 503)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_health_check_tells_ready_from_not(answering: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    port = answering.server_port
    assert healthcheck.trouble(healthcheck.own_url({"IMAGEGEN_PORT": str(port)})) is None
    assert healthcheck.trouble(f"http://127.0.0.1:{port}/other") == f"http://127.0.0.1:{port}/other answered 503"
    assert "does not answer" in (healthcheck.trouble("http://127.0.0.1:9/") or "")


def test_the_health_check_knows_https() -> None:
    assert healthcheck.own_url({}) == "http://127.0.0.1:8765/readyz"
    assert healthcheck.own_url({"IMAGEGEN_TLS": "auto", "IMAGEGEN_PORT": "99"}) == "https://127.0.0.1:99/readyz"


def test_packing_reads_none_of_the_users_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, str]] = []

    def run(_command: list[str], environment: dict[str, str], *_: object, **__: object) -> str:
        seen.append(environment)
        return "__tag__:imagegen:1"

    monkeypatch.setenv("IMAGEGEN_TOKENS", "ann:0123456789abcdef")
    monkeypatch.setenv("IMAGEGEN_CONFIG", "/home/ann/imagegen.toml")
    monkeypatch.setattr(image, "_run", run)
    image._bento(Containers("podman", Path("podman")), Recipe("cpu"))
    for environment in seen:
        own = {name: value for name, value in environment.items() if name.startswith("IMAGEGEN_")}
        assert own.keys() == {"IMAGEGEN_HOME", "IMAGEGEN_CONFIG"} and own["IMAGEGEN_CONFIG"] == ""
    assert len(seen) == 2
