"""What the container promises, on a real one: `make image-test` builds the CPU image and runs it with Podman.

No part of `make test`: it needs root, Podman and Debian's packages, and compiles the engine. The base images are
stand-ins made of Debian's packages (`stand_in_bases.sh`): what it cannot show is the real bases, and CUDA.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WORK = Path(os.environ.get("IMAGE_TEST_WORK", "/tmp/imagegen-image-test"))
NAME = "imagegen-proof"
IMAGE = "localhost/imagegen:cpu"
MOST_BYTES = 900_000_000
DEADLINE_S = 300.0
DOC = ROOT / "docs/deploy.md"
CDI = Path("/etc/cdi/imagegen-proof.json")
CANARY = "canary-that-must-not-get-into-the-image"
JOBS = "import sqlite3; print(*sqlite3.connect('/data/jobs.sqlite3').execute('select id, status from jobs'))"
GRACE_S = 240
"""For the picture that a stop lets finish: no machine may be too slow for it."""

CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=10000:10000", "nproc=10000:10000"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
"""


def podman(*arguments: str, check: bool = True) -> str:
    """What it prints; when it fails, its complaints too."""
    done = subprocess.run(["podman", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    said = done.stdout + (done.stderr if done.returncode else "")
    if check:
        assert done.returncode == 0, f"podman {' '.join(arguments)}:\n{said}"
    return said.strip()


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline, f"after {DEADLINE_S:g} s still not so: {what}"
        time.sleep(0.5)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Deployed:
    """The service in its container, as `imagegen deploy` left it."""

    def __init__(self, config: Path, port: int) -> None:
        self.config, self.port = config, port
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False)

    def deploy(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """From a shell with secrets in it."""
        command = [sys.executable, "-m", "imagegen.cli", "deploy", "--runtime", "podman", "--name", NAME]
        environment = os.environ | {"HF_TOKEN": CANARY, "IMAGEGEN_TOKENS": f"canary:{CANARY}"}
        return subprocess.run(
            [*command, "--config", str(self.config), *arguments], cwd=ROOT, stdin=subprocess.DEVNULL,
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    @property
    def token(self) -> str:
        return (self.config / "token").read_text().strip()

    def call(self, method: str, path: str, **how: Any) -> httpx.Response:
        return self.http.request(method, path, headers={"authorization": f"Bearer {self.token}"}, **how)

    def submit(self, **fields: Any) -> str:
        request = {"prompt": "a red circle", "steps": 2, "seed": 1} | fields
        answer = self.call("POST", "/api/generate", json=request)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["job_id"])

    def job(self, job_id: str) -> dict[str, Any]:
        answer = self.call("GET", f"/api/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return self.http.get("/readyz").status_code == 200
        return False

    def drawn(self, job_id: str) -> dict[str, Any]:
        until(lambda: self.job(job_id)["status"] not in {"queued", "running"}, "the job has ended")
        job = self.job(job_id)
        assert job["status"] == "complete", job
        return job

    def inspect(self) -> dict[str, Any]:
        return dict(json.loads(podman("container", "inspect", NAME))[0])


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    for program in ("podman", "buildah", "debootstrap", "runc"):
        assert shutil.which(program), f"{program} is needed: docs/deploy.md says what to install"
    WORK.mkdir(exist_ok=True)
    (WORK / "containers.conf").write_text(CONTAINERS_CONF)
    os.environ["CONTAINERS_CONF"] = str(WORK / "containers.conf")
    for name in [name for name in os.environ if name.startswith("IMAGEGEN_")]:
        del os.environ[name]
    subprocess.run([HERE / "stand_in_bases.sh", WORK], check=True)
    port = free_port()
    this = Deployed(tmp_path_factory.mktemp("config"), port)
    (this.config / "imagegen.env").write_text(f"IMAGEGEN_SHUTDOWN_GRACE_S={GRACE_S}\n")
    _remove()
    if os.environ.get("IMAGE_TEST_BUILD") == "no":  # the image that is there
        how = ["--no-build"]
    else:
        how = ["--build-option", "network=host", "--build-option", "pull-never"]
    done = this.deploy("--port", str(port), "--backend", "cpu", *how)
    assert done.returncode == 0, done.stdout
    this.said = done.stdout  # type: ignore[attr-defined]
    yield this
    _remove()


def _remove() -> None:
    for container in (NAME, f"{NAME}-before"):
        podman("rm", "--force", "--time", "5", container, check=False)
    podman("volume", "rm", "--force", f"{NAME}-data", check=False)


def test_deploy_ends_with_a_picture_and_what_to_type(deployed: Deployed) -> None:
    said: str = deployed.said  # type: ignore[attr-defined]
    assert re.search(r"drew \d+x\d+ with sketch", said)
    assert f"service      http://127.0.0.1:{deployed.port}" in said
    assert "claude mcp add --transport stdio imagegen" in said
    assert deployed.token not in said
    assert oct((deployed.config / "token").stat().st_mode & 0o777) == "0o600"
    assert deployed.http.get("/api/status").status_code == 401
    assert deployed.call("GET", "/api/status").status_code == 200


def test_the_image_is_what_the_page_says(deployed: Deployed) -> None:
    image = json.loads(podman("image", "inspect", IMAGE))[0]
    config = image["Config"]
    print(f"{IMAGE}: {image['Size'] / 1e6:.0f} MB")
    assert image["Size"] <= MOST_BYTES
    assert config["User"] == "imagegen"
    assert config["Volumes"] == {"/data": {}}
    assert config["Entrypoint"][:2] == ["/usr/bin/tini", "--"]
    assert config["StopSignal"] in {"SIGTERM", "15"}
    assert image["Healthcheck"]["Test"] == ["CMD", "python", "-m", "imagegen.deploy.healthcheck"]
    assert config["Labels"]["org.opencontainers.image.title"] == "imagegen"
    assert len(config["Labels"]["org.opencontainers.image.revision"]) >= 40
    assert not [one for one in config["Env"] if "TOKEN" in one or "SECRET" in one]
    for absent in ("gcc", "c++", "uv", "git"):
        assert podman("exec", NAME, "sh", "-c", f"command -v {absent} || echo none") == "none"


def test_no_secret_of_the_shell_is_in_any_layer(deployed: Deployed, tmp_path: Path) -> None:
    saved = tmp_path / "image.tar"
    podman("save", "--output", str(saved), IMAGE)
    with saved.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as layers:
        assert layers.find(ROOT.joinpath("imagegen/deploy/healthcheck.py").read_bytes()) > 0, (
            "what is in a layer is found"
        )
        assert layers.find(b"org.opencontainers.image.title") > 0, "and what is in the image's description"
        assert layers.find(CANARY.encode()) == -1
        assert layers.find(deployed.token.encode()) == -1


def test_it_has_no_rights_and_writes_to_its_volume_alone(deployed: Deployed) -> None:
    assert podman("exec", NAME, "id", "-u") == "10001"
    for place in ("/", "/app", "/opt/imagegen", "/home/bentoml/bento/src"):
        assert "Read-only file system" in podman("exec", NAME, "touch", f"{place}/x", check=False)
    podman("exec", NAME, "touch", "/data/x")
    status = podman("exec", NAME, "cat", "/proc/1/status")
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    assert deployed.inspect()["HostConfig"]["ReadonlyRootfs"] is True


def test_the_health_check_and_the_doctor_are_content(deployed: Deployed) -> None:
    podman("healthcheck", "run", NAME)
    assert " 0 failed" in podman("exec", NAME, "imagegen", "doctor")
    refused = podman("exec", NAME, "python", "-m", "imagegen.deploy.healthcheck", "http://127.0.0.1:1/", check=False)
    assert "does not answer" in refused


def test_orphans_are_reaped(deployed: Deployed) -> None:
    podman("exec", NAME, "sh", "-c", "(sleep 0.2 &) ; exit 0")
    states = "for s in /proc/[0-9]*/stat; do cut -d' ' -f3 $s; done"
    until(lambda: "Z" not in podman("exec", NAME, "sh", "-c", states).split(), "no zombie is left")
    assert podman("exec", NAME, "cat", "/proc/1/comm") == "tini"


def test_a_kill_loses_neither_job_nor_picture(deployed: Deployed) -> None:
    first = deployed.drawn(deployed.submit())
    waiting = [deployed.submit(seed=seed, steps=4) for seed in (2, 3)]
    podman("kill", "--signal", "KILL", NAME)
    until(lambda: deployed.inspect()["State"]["Status"] == "exited", "it is dead")
    assert deployed.inspect()["State"]["ExitCode"] == 137
    podman("start", NAME)
    until(deployed.ready, "it is ready again")
    for job_id in waiting:
        deployed.drawn(job_id)
    picture = deployed.http.get(f"/images/{first['images'][0]['id']}.png")
    assert picture.status_code == 200
    assert picture.content.startswith(b"\x89PNG")


def test_a_stop_lets_the_picture_finish(deployed: Deployed) -> None:
    job_id = deployed.submit(steps=8)
    until(lambda: (deployed.job(job_id)["progress"] or {}).get("phase") not in (None, "loading"), "it is being drawn")
    podman("stop", NAME)
    state = deployed.inspect()["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 0)
    said = subprocess.run(["podman", "logs", NAME], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    in_order = (f"job {job_id} running", "stopping", f"job {job_id} complete", "stopped")
    _, *later = (said.rindex(words) for words in in_order)
    assert later == sorted(later) and later[0] > said.rindex(in_order[0]), said[-3000:]
    podman("start", NAME)
    until(deployed.ready, "it is ready again")
    assert deployed.drawn(job_id)["attempts"] == 1


def test_the_next_deploy_keeps_everything(deployed: Deployed) -> None:
    job = deployed.drawn(deployed.submit(seed=7))
    before, token = deployed.inspect()["Id"], deployed.token
    settings = deployed.config / "imagegen.env"
    settings.write_text(settings.read_text() + "IMAGEGEN_MAX_QUEUE=17\n")
    done = deployed.deploy("--no-build", "--no-picture")
    assert done.returncode == 0, done.stdout
    assert "drains" in done.stdout
    assert deployed.inspect()["Id"] != before
    assert deployed.token == token
    assert "IMAGEGEN_MAX_QUEUE=17" in settings.read_text()
    assert deployed.call("GET", "/api/status").json()["queue"]["max"] == 17
    assert deployed.job(job["job_id"])["status"] == "complete"
    assert podman("ps", "--all", "--format", "{{.Names}}", "--filter", f"name={NAME}").split() == [NAME]


def test_a_new_one_that_does_not_start_is_taken_back(deployed: Deployed) -> None:
    before = deployed.inspect()["Id"]
    good = podman("image", "inspect", "--format", "{{.Id}}", IMAGE)
    broken = WORK / "broken"
    broken.mkdir(exist_ok=True)
    (broken / "Dockerfile").write_text(f"FROM {IMAGE}\nENV IMAGEGEN_THREADS=many\n")
    try:
        podman("build", "--pull-never", "--format", "docker", "--tag", IMAGE, str(broken))
        done = deployed.deploy("--no-build", "--no-picture")
    finally:
        podman("tag", good, IMAGE)
    assert done.returncode == 1
    assert "IMAGEGEN_THREADS='many'" in done.stdout
    assert "The old container runs again." in done.stdout
    assert deployed.inspect()["Id"] == before
    assert deployed.ready()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["IMAGEGEN_ON_MISSING_GPU=exit", "IMAGEGEN_TOKENS=proof:a-token-of-a-test"], "no NVIDIA GPU is visible here"),
        (["IMAGEGEN_THREADS=many"], "IMAGEGEN_THREADS='many'"),
        ([], "has no token"),
    ],
)
def test_a_start_that_cannot_be_ends_with_a_sentence(deployed: Deployed, settings: list[str], sentence: str) -> None:
    options = [part for one in settings for part in ("--env", one)]
    done = subprocess.run(
        ["podman", "run", "--rm", "--read-only", "--tmpfs", "/tmp", "--network", "none", *options, IMAGE],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=DEADLINE_S,
    )  # fmt: skip
    assert done.returncode == 1
    told = [line for line in done.stdout.splitlines() if sentence in line]
    assert len(told) == 1, done.stdout
    assert "Traceback" not in done.stdout


def test_compose_starts_both_and_reserves_the_gpu(deployed: Deployed, tmp_path: Path) -> None:
    """The reservation reaches the service's container, as a made-up CDI device: there is no GPU here."""
    assert not list(CDI.parent.glob("*nvidia*")), "this machine has real CDI devices: they are left alone"
    project, token = f"{NAME}-compose", "a-token-of-the-proof"
    settings = tmp_path / "imagegen.env"
    settings.write_text(f"IMAGEGEN_TOKENS=proof:{token}\nIMAGEGEN_MODEL=tiny\n")
    port, front_port = free_port(), free_port()
    environment = {
        **os.environ, "VARIANT": "cpu", "SETTINGS": str(settings), "PORT": str(port), "MCP_PORT": str(front_port),
        "VOLUME": f"{project}-data",
    }  # fmt: skip

    def compose(*arguments: str, check: bool = True) -> str:
        program = Path(sys.executable).parent / "podman-compose"
        command = [program, "-f", ROOT / "compose.yaml", "-p", project, *arguments]
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip
        assert done.returncode == 0 or not check, done.stdout
        return done.stdout

    edits = {"containerEdits": {"env": ["FAKE_GPU=here"]}}
    devices = [{"name": name, **edits} for name in ("all", "0")]
    CDI.parent.mkdir(exist_ok=True)
    CDI.write_text(json.dumps({"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": devices}))
    try:
        absent = podman("run", "--rm", "--network", "none", "--device", "nvidia.com/gpu=9", IMAGE, "env", check=False)
        assert "nvidia.com/gpu" in absent and "FAKE_GPU" not in absent
        said = compose("up", "-d", "imagegen")
        service, front = f"{project}_imagegen_1", f"{project}_mcp_1"
        until(lambda: _ready(f"http://127.0.0.1:{port}/readyz"), f"the service of compose is ready:\n{said}")
        assert "FAKE_GPU=here" in podman("exec", service, "cat", "/proc/1/environ")  # of CDI, `exec` has none
        assert podman("exec", service, "id", "-u") == "10001"
        said = compose("up", "-d", "--no-deps", "mcp")
        until(lambda: _ready(f"http://127.0.0.1:{front_port}/healthz"), f"the front of compose is ready:\n{said}")
        assert httpx.get(f"http://127.0.0.1:{front_port}/healthz", trust_env=False).json()["service"] == "ready"
        assert "FAKE_GPU" not in podman("exec", front, "cat", "/proc/1/environ")
    finally:
        CDI.unlink()
        print(compose("down", "--volumes", check=False))


def _ready(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(url, trust_env=False, timeout=10).status_code == 200
    return False


def test_https_is_pinned_and_outlives_deploys(deployed: Deployed) -> None:
    settings = deployed.config / "imagegen.env"
    settings.write_text(settings.read_text() + "IMAGEGEN_TLS=auto\n")
    done = deployed.deploy("--no-build")
    assert done.returncode == 0, done.stdout
    assert f"service      https://127.0.0.1:{deployed.port}" in done.stdout
    (pin,) = {line.split()[-1] for line in done.stdout.splitlines() if line.startswith("certificate")}
    assert f'IMAGEGEN_TLS_SHA256="{pin}"' in done.stdout
    podman("healthcheck", "run", NAME)
    podman("restart", "--time", "60", NAME)
    until(lambda: deployed.deploy("status").returncode == 0, "it is ready again, with the same certificate")
    assert pin in podman("exec", NAME, "imagegen", "tls", "show")


def test_down_keeps_the_state(deployed: Deployed) -> None:
    done = deployed.deploy("down")
    assert done.returncode == 0, done.stdout
    assert podman("container", "inspect", NAME, check=False).startswith("[]")
    podman("volume", "inspect", f"{NAME}-data")
    assert deployed.deploy("status").returncode == 1


def test_a_backup_can_be_restored(deployed: Deployed, tmp_path: Path) -> None:
    """The commands of docs/deploy.md, into a volume that is empty."""
    assert deployed.deploy("--no-build", "--no-picture").returncode == 0
    look = f"sha256sum /data/tokens; python -c {shlex.quote(JOBS)}"
    before = podman("exec", NAME, "sh", "-c", look)
    assert "complete" in before
    assert deployed.deploy("down").returncode == 0
    for name in ("Backup", "Restore"):
        section = re.search(rf"^### {name}\n.*?^```\n(.*?)^```", DOC.read_text(), re.MULTILINE | re.DOTALL)
        assert section, name
        commands = section[1].replace("\\\n", " ").replace("imagegen-data", f"{NAME}-data").replace(":cuda", ":cpu")
        if name == "Restore":
            podman("volume", "rm", f"{NAME}-data")
        for command in commands.splitlines():
            if command.startswith("docker"):
                done = subprocess.run(
                    ["sh", "-c", command.replace("docker", "podman", 1)], cwd=tmp_path, capture_output=True, text=True
                )
                assert done.returncode == 0, done.stderr
    done = deployed.deploy("--no-build", "--no-picture")
    assert done.returncode == 0, done.stdout
    assert "does not know the token" not in done.stdout
    assert podman("exec", NAME, "sh", "-c", look) == before
