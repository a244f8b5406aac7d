"""`imagegen deploy`: the service in a container, in one command; `status`, `logs`, `down` look after it."""

from __future__ import annotations

import datetime
import functools
import ipaddress
import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from imagegen.cli.client import Service, ServiceError
from imagegen.cli.draw import follow
from imagegen.cli.life import show_status
from imagegen.cli.trust import pinned
from imagegen.deploy import containers as runtimes
from imagegen.deploy.containers import Containers, DeployError
from imagegen.deploy.image import Recipe, build, choose_backend, sizes
from imagegen.deploy.place import Choices, Place, grace_s
from imagegen.deploy.rollout import Rollout
from imagegen.engine.plan import Backend
from imagegen.tls import own_addresses

PORT_INSIDE = 8765
STOP_MARGIN_S = 30
"""What a stop may take beyond the picture: answers that are still read, the engine's end."""
FIRST_PICTURE = {"prompt": "a red circle", "seed": 1}


@dataclass(frozen=True)
class Deployment:
    """What every command is about."""

    containers: Containers
    place: Place
    name: str
    volume: str

    def rollout(self, ready_timeout_s: float = 0) -> Rollout:
        return Rollout(self.containers, self.name, self.volume, ready_timeout_s, tell)

    @property
    def choices(self) -> Choices:
        return self.place.choices()


def tell(words: str) -> None:
    click.echo(f"· {words}", err=True)


def _sentences(command: Callable[..., Any]) -> Callable[..., Any]:
    """What goes wrong ends as a sentence on stderr and exit code 1."""

    @functools.wraps(command)
    def told(*args: Any, **options: Any) -> Any:
        try:
            return command(*args, **options)
        except DeployError as failed:
            raise click.ClickException(str(failed)) from None
        except OSError as failed:
            where = f" ({failed.filename})" if failed.filename else ""
            raise click.ClickException(f"{failed.strerror or failed}{where}") from None

    return told


build_options = [
    click.option("--backend", type=click.Choice(["cpu", "cuda"]), help="Default: cuda where there is an NVIDIA GPU."),
    click.option("--arch", default="all", show_default=True, help="CUDA architectures, such as 90 or 75,86,90."),
    click.option("--jobs", "-j", type=click.IntRange(0, 1024), default=0, help="Compilers at once. Default: by cores."),
    click.option(
        "--build-option", "options", multiple=True, help="For every build, such as network=host. May be repeated."
    ),
]


def _with_build_options(command: Any) -> Any:
    for option in reversed(build_options):
        command = option(command)
    return command


@click.group(invoke_without_command=True)
@click.option("--runtime", type=click.Choice(["docker", "podman"]), help="Default: Docker if it answers, else Podman.")
@click.option("--name", default="imagegen", show_default=True, help="The container's name.")
@click.option("--volume", help="State folder: a volume's name, or a path. Default: NAME-data.")
@click.option("--config", type=click.Path(file_okay=False, path_type=Path), help="Settings folder of the deployment.")
@click.option("--host", help="Address of this machine to publish on; default 127.0.0.1, then the last one.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to publish on; default 8765, then the last one.")
@click.option("--no-build", is_flag=True, help="Use the image that is there.")
@click.option("--no-picture", is_flag=True, help="Do not draw a picture at the end.")
@click.option("--ready-timeout", type=float, default=180.0, show_default=True, help="Seconds to get ready in.")
@_with_build_options
@click.pass_context
@_sentences
def deploy(
    context: click.Context,
    runtime: str | None,
    name: str,
    volume: str | None,
    config: Path | None,
    **options: Any,
) -> None:
    """Build the image, start it in the old one's place, wait until it is ready, draw a picture.

    \b
    imagegen deploy                       for this machine, on http://127.0.0.1:8765
    imagegen deploy --host 0.0.0.0        for other machines too: HTTPS, and a token
    imagegen deploy status | logs | down

    Queue, pictures, models and certificate are in the volume, settings in the folder that is printed: neither is
    touched by a deploy. The old container finishes its picture first, and is started again if the new one does not
    get ready.
    """
    if context.invoked_subcommand is not None:
        _refuse_ignored(context, options)
    found = runtimes.find(runtime)
    place = Place(config) if config else Place.default()
    context.obj = Deployment(found, place, name, volume or f"{name}-data")
    if context.invoked_subcommand is None:
        _deploy(context.obj, **options)


def _refuse_ignored(context: click.Context, options: dict[str, Any]) -> None:
    """What a deploy takes, before a command that does not deploy, would silently do nothing."""
    for option in context.command.params:
        if option.name in options and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
            behind = f"`imagegen deploy {context.invoked_subcommand} --help`"
            raise click.UsageError(f"{option.opts[0]} has no effect here: {behind} lists what this takes.", context)


def _deploy(
    this: Deployment,
    *,
    host: str | None,
    port: int | None,
    no_build: bool,
    no_picture: bool,
    ready_timeout: float,
    backend: Backend | None,
    **how: Any,
) -> None:
    last = this.choices
    backend = backend or last.backend or choose_backend()
    choices = Choices(host or last.host, port or last.port, backend)
    recipe = _recipe(backend, **how)
    this.place.prepare(beyond_loopback=not _is_loopback(choices.host))
    settings = this.place.settings()
    if not no_build:
        build(this.containers, recipe, tell)
        tell(sizes(this.containers, recipe))
    rollout = this.rollout(ready_timeout)
    rollout.tidy()
    if "IMAGEGEN_TOKENS" not in settings and this.place.token() is None:
        this.place.keep_token(_new_token(this, recipe.image))
    rollout.replace(recipe.image, run_options(this, choices, settings))
    this.place.keep_choices(choices)
    service = _service(this)
    if not no_picture:
        _draw(service)
    _summary(this, choices, recipe.image, service)


def _recipe(backend: Backend, *, arch: str, jobs: int, options: tuple[str, ...]) -> Recipe:
    return Recipe(backend, arch, jobs, options)


def run_options(this: Deployment, choices: Choices, settings: dict[str, str]) -> list[str]:
    """Everything of `docker run` but the name and the image."""
    host = f"[{choices.host}]" if ":" in choices.host else choices.host
    options = [
        *("--hostname", socket.gethostname()),  # its own name to browsers and in the certificate
        *("--publish", f"{host}:{choices.port}:{PORT_INSIDE}"),
        *("--volume", f"{this.volume}:/data"),
        *("--env-file", str(this.place.env_file)),
        *("--env", "IMAGEGEN_HOME=/data", "--env", "IMAGEGEN_HOST=0.0.0.0", "--env", f"IMAGEGEN_PORT={PORT_INSIDE}"),
        *("--restart", "unless-stopped", "--stop-timeout", str(int(grace_s(settings)) + STOP_MARGIN_S)),
        *("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),  # noqa: S108
    ]
    if not _is_loopback(choices.host):
        # A container does not see the addresses by which its host is called.
        names = [*settings.get("IMAGEGEN_ALLOWED_HOSTS", "").split(","), *own_addresses()]
        options += ["--env", f"IMAGEGEN_ALLOWED_HOSTS={','.join(name for name in names if name)}"]
    if choices.backend == "cuda" and settings.get("IMAGEGEN_ON_MISSING_GPU") != "cpu":
        options += this.containers.gpu_options()
    return options


def _new_token(this: Deployment, image: str) -> str:
    """A token for deploys, made by the service's own command; the volume keeps only its SHA-256."""
    name = f"deploy-{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}"
    return this.containers.ask(
        "run", "--rm", "--network", "none", "--volume", f"{this.volume}:/data", image, "imagegen", "token", "new", name
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# ---- the service that runs --------------------------------------------------------------------


def _certificate_sha256(this: Deployment) -> str | None:
    """The SHA-256 of the certificate that the service shows, None if it speaks plain HTTP."""
    if this.place.settings().get("IMAGEGEN_TLS", "off").strip().lower() in {"", "off"}:
        return None
    shown = this.containers.ask("exec", this.name, "imagegen", "tls", "show")
    return shown.split("sha256", 1)[1].split()[0]


def _service(this: Deployment) -> Service:
    """The service at its published address, as a client on this machine reaches it."""
    choices = this.choices
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(choices.host, choices.host)  # noqa: S104 - compared, not bound
    pin = _certificate_sha256(this)
    token = os.environ.get("IMAGEGEN_TOKEN") or this.place.token()
    verify = True if pin is None else pinned(host, choices.port, pin)
    scheme = "http" if pin is None else "https"
    return Service(f"{scheme}://{f'[{host}]' if ':' in host else host}:{choices.port}", token, verify)


def _draw(service: Service) -> None:
    tell("a picture is drawn; the first one waits for its model")
    began = time.monotonic()
    try:
        job = follow(service, service.json("POST", "/api/generate", json=FIRST_PICTURE))
        if job["status"] != "complete":
            error = job.get("error") or {"detail": "The job was cancelled.", "code": "cancelled"}
            raise ServiceError(f"{error['detail']} ({error['code']})")
        image = job["images"][0]
        service.call("GET", f"/images/{image['id']}.png")
    except ServiceError as failed:
        raise DeployError(
            f"The service is up at {service.url}, but a picture could not be drawn: {failed}\n"
            "The token is that of IMAGEGEN_TOKEN in this shell, else the deploy's own."
        ) from None
    size = f"{image['width']}x{image['height']}"
    tell(f"drew {size} with {job['model']} in {time.monotonic() - began:.1f} s: {image['url']}")


def _summary(this: Deployment, choices: Choices, image: str, service: Service) -> None:
    pin = _certificate_sha256(this)
    urls = [service.url]
    if not _is_loopback(choices.host):
        scheme = service.url.partition(":")[0]
        urls.append(f"{scheme}://{socket.gethostname()}:{choices.port}")
    token_file = this.place.token_file
    click.echo(f"service      {'  '.join(urls)}")
    click.echo(f"container    {this.name} ({this.containers.name}), image {image}")
    click.echo(f"state        volume {this.volume}")
    click.echo(f"settings     {this.place.env_file}")
    click.echo(f"token        in {token_file}; the page asks for it. More: docs/deploy.md")
    click.echo(f"certificate  {f'sha256 {pin}' if pin else 'none: plain HTTP'}")
    variables = {"IMAGEGEN_URL": urls[-1], "IMAGEGEN_TOKEN": f"$(cat {token_file})"}
    if pin:
        variables["IMAGEGEN_TLS_SHA256"] = pin
    told = " ".join(f'--env {name}="{value}"' for name, value in variables.items())
    click.echo("\nClaude Code, where imagegen-mcp is installed (docs/claude.md):")
    click.echo(f"  claude mcp add --transport stdio imagegen {told} -- imagegen-mcp")
    variables["IMAGEGEN_TOKEN"] = f"what {token_file} says"
    entry = {"mcpServers": {"imagegen": {"command": "imagegen-mcp", "env": variables}}}
    click.echo("Claude Desktop, in claude_desktop_config.json:")
    click.echo(f"  {json.dumps(entry)}")


# ---- the commands -----------------------------------------------------------------------------


@deploy.command("build")
@_with_build_options
@click.pass_obj
@_sentences
def build_command(this: Deployment, backend: Backend | None, **how: Any) -> None:
    """Build the image and print its name; for compose.yaml and for other machines."""
    recipe = _recipe(backend or choose_backend(), **how)
    image = build(this.containers, recipe, tell)
    tell(sizes(this.containers, recipe))
    click.echo(image)


@deploy.command()
@click.pass_obj
@_sentences
def status(this: Deployment) -> None:
    """The container, and what the service in it is doing. Exit code 1 if it is not ready."""
    state = this.containers.state(this.name)
    if state is None:
        raise DeployError(f"There is no container {this.name}: `imagegen deploy` makes it.")
    ready = state.status == "running" and this.rollout().is_ready()
    click.echo(f"container {this.name}: {state.status} since {state.started_at}, {'ready' if ready else 'not ready'}")
    if not ready:
        raise DeployError("The service does not accept jobs; `imagegen deploy logs` shows why.")
    show_status(_service(this).json("GET", "/api/status"))


@deploy.command()
@click.option("--follow", "-f", "follows", is_flag=True, help="Go on as lines come.")
@click.option("--tail", type=int, default=100, show_default=True, help="How many of the last lines.")
@click.pass_obj
@_sentences
def logs(this: Deployment, follows: bool, tail: int) -> None:
    """The service's log."""
    this.containers.show("logs", *(["--follow"] if follows else []), "--tail", str(tail), this.name)


@deploy.command()
@click.pass_obj
@_sentences
def down(this: Deployment) -> None:
    """Let the running picture finish, then stop and remove the container. State and settings stay."""
    this.rollout().tidy()
    if this.containers.state(this.name) is None:
        raise DeployError(f"There is no container {this.name}.")
    this.containers.ask("stop", this.name)
    this.containers.ask("rm", this.name)
    click.echo(
        f"{this.name} is gone. Its state stays in the volume {this.volume}, its settings in {this.place.folder}."
    )
