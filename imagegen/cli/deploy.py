"""`imagegen deploy`: run the service in a container. `status`, `logs` and `down` manage the container."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from imagegen.cli.deployed import draw_first, service_of, summary, tell
from imagegen.cli.documents import DeploymentRemoved, DeploymentState, ImageBuilt
from imagegen.cli.output import json_option, print_json
from imagegen.cli.status import show_status
from imagegen.deploy import containers as runtimes
from imagegen.deploy.containers import RUNTIMES, DeployError, Runtime
from imagegen.deploy.deployment import Deployment
from imagegen.deploy.host_config import DEFAULT_NAME, Choices, Place
from imagegen.deploy.image import Recipe, build, check_driver, choose_backend, sizes
from imagegen.engine_build.cards import find_cards
from imagegen.engine_build.plan import Backend, EngineBuildError, parse_archs
from imagegen.setting_values import listen_address

CONTAINER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
BACKENDS: dict[str, Backend] = {"cpu": "cpu", "cuda": "cuda"}


def _about(command: Callable[..., Any]) -> Any:
    """Pass the deployment to a command. Its errors become a sentence and exit code 1.

    Looks for the container runtime only here, so that `--help` needs none.
    """

    @click.pass_obj
    @functools.wraps(command)
    def with_deployment(find: Callable[[], Deployment], **options: Any) -> Any:
        try:
            return command(find(), **options)
        except DeployError as failed:
            raise click.ClickException(str(failed)) from None
        except OSError as failed:
            where = f" ({failed.filename})" if failed.filename else ""
            raise click.ClickException(f"{failed.strerror or failed}{where}") from None

    return with_deployment


# ---- options ----------------------------------------------------------------------------------


def _archs(_context: click.Context, _option: click.Parameter, typed: str | None) -> str | None:
    try:
        if typed is not None:
            parse_archs(typed)
    except EngineBuildError as wrong:
        raise click.BadParameter(str(wrong)) from None
    return typed


def _host(_context: click.Context, _option: click.Parameter, typed: str | None) -> str | None:
    try:
        return typed if typed is None else listen_address(typed)
    except ValueError:
        raise click.BadParameter(
            f"{typed!r} is not an address. Give one of this machine's, 0.0.0.0 or :: for all of them, or 127.0.0.1."
        ) from None


def _name(_context: click.Context, _option: click.Parameter, typed: str | None) -> str | None:
    if typed is not None and not CONTAINER_NAME.fullmatch(typed):
        raise click.BadParameter("a container's name is letters, digits and _ . - and begins with a letter or digit.")
    return typed


def _volume(_context: click.Context, _option: click.Parameter, typed: str | None) -> str | None:
    return str(Path(typed).absolute()) if typed is not None and "/" in typed else typed


build_options = [
    click.option(
        "--backend",
        type=click.Choice(["auto", *BACKENDS]),
        help="Default: the last one named, else auto: cuda where there is an NVIDIA GPU.",
    ),
    click.option(
        "--arch",
        callback=_archs,
        help="CUDA architectures, such as 90 or 75,86,90 or all. Default: those of this machine's cards; `build`: all.",
    ),
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
@click.option(
    "--runtime", type=click.Choice(RUNTIMES), help="Default: the last one, else Docker if it is installed, else Podman."
)
@click.option("--name", callback=_name, help=f"The container's name. Default: {DEFAULT_NAME}.")
@click.option(
    "--volume",
    callback=_volume,
    help="State folder: a volume's name, or a path. Default: the last one, else NAME-data.",
)
@click.option(
    "--config",
    type=click.Path(file_okay=False, path_type=Path),
    help="Settings folder of the deployment. Default: one for each name.",
)
@click.option("--host", callback=_host, help="Address of this machine to publish on; default 127.0.0.1, then the last.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to publish on; default 8765, then the last one.")
@click.option("--no-build", is_flag=True, help="Use the image that is there.")
@click.option("--no-picture", is_flag=True, help="Do not draw a picture at the end.")
@click.option("--ready-timeout", type=float, default=180.0, show_default=True, help="Seconds to get ready in.")
@_with_build_options
@json_option
@click.pass_context
def deploy(
    context: click.Context,
    runtime: Runtime | None,
    name: str | None,
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
    context.obj = functools.partial(_deployment, runtime, name, volume, config)
    if context.invoked_subcommand is not None:
        behind = f"`imagegen deploy {context.invoked_subcommand} --help` lists what this takes"
        _refuse_ignored(context, set(options), behind)
        return
    if options["no_build"]:
        _refuse_ignored(context, {"arch", "jobs", "options"}, "--no-build takes the image that is there")
    _deploy(**options)


def _refuse_ignored(context: click.Context, names: set[str], why: str) -> None:
    """Raise UsageError if one of the options `names` was given, since it would have no effect."""
    for option in context.command.params:
        if option.name in names and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option.opts[0]} has no effect here: {why}.", context)


def _deployment(runtime: Runtime | None, name: str | None, volume: str | None, config: Path | None) -> Deployment:
    """The deployment that the options and the last deploy describe. Raises DeployError."""
    place = Place(config.absolute()) if config else Place.default(name or DEFAULT_NAME)
    last = place.choices()
    if last is not None and name not in {None, last.name}:
        raise DeployError(f"{place.folder} belongs to the container {last.name}: give {name} a folder of its own.")
    choices = last or Choices(name or DEFAULT_NAME)
    choices = replace(choices, runtime=runtime or choices.runtime, named_volume=volume or choices.named_volume)
    try:
        found = runtimes.find(choices.runtime)
    except DeployError as none:
        if runtime is None and choices.runtime is not None:
            raise DeployError(
                f"{none}\nThe last deploy was made with {choices.runtime}: --runtime names another."
            ) from None
        raise
    return Deployment(found, place, choices)


# ---- the commands -----------------------------------------------------------------------------


@_about
def _deploy(
    this: Deployment,
    *,
    host: str | None,
    port: int | None,
    no_build: bool,
    no_picture: bool,
    ready_timeout: float,
    backend: str | None,
    arch: str | None,
    as_json: bool,
    **how: Any,
) -> None:
    last, cards = this.choices, find_cards()
    named = last.backend if backend is None else BACKENDS.get(backend)
    if backend is None and named is not None:
        tell(f"backend {named}, as named before; --backend auto looks at the machine again")
    chosen = named or choose_backend(cards)
    if chosen == "cuda":
        check_driver(cards)
    recipe = _recipe(chosen, arch or ",".join(cards.archs), arch is not None, **how)
    choices = replace(last, host=host or last.host, port=port or last.port, backend=named, runtime=this.containers.name)
    this = replace(this, choices=choices)
    this.place.prepare()
    this.check()
    if not no_build:
        build(this.containers, recipe, tell)
        tell(sizes(this.containers, recipe))
    elif not this.containers.try_("image", "inspect", recipe.image):
        raise DeployError(f"There is no image {recipe.image}: without --no-build it is built.")
    this.make_token(recipe.image, tell)
    this.rollout(tell, ready_timeout).replace(recipe.image, this.run_options(chosen, cards))
    this.place.keep_choices(choices)
    service = service_of(this)
    if not no_picture:
        draw_first(service)
    summary(this, recipe.image, service, as_json)


def _recipe(backend: Backend, archs: str, named: bool, *, jobs: int, options: tuple[str, ...]) -> Recipe:
    """named: `archs` comes from --arch."""
    if backend == "cpu" and named:
        raise click.UsageError("--arch names architectures of CUDA, and this is an image for the CPU: leave it out.")
    return Recipe(backend, "all" if backend == "cpu" else archs or "all", jobs, options)


@deploy.command("build")
@_with_build_options
@json_option
@_about
def build_command(this: Deployment, backend: str | None, arch: str | None, as_json: bool, **how: Any) -> None:
    """Build the image and print its name; for compose.yaml and for other machines."""
    chosen = BACKENDS.get(backend or "") or choose_backend(find_cards())
    recipe = _recipe(chosen, arch or "all", arch is not None, **how)
    image = build(this.containers, recipe, tell)
    tell(sizes(this.containers, recipe))
    if as_json:
        print_json(ImageBuilt(image))
    else:
        click.echo(image)


@deploy.command()
@json_option
@_about
def status(this: Deployment, as_json: bool) -> None:
    """Show the state of the container and of its service. Exit code 1 if the service is not ready."""
    rollout = this.rollout(tell)
    if rollout.was_cut_off():
        tell("a deploy was cut off half-way: `imagegen deploy` goes on from there")
    state = this.containers.state(this.name)
    if state is None:
        raise DeployError(f"There is no container {this.name}: `imagegen deploy` makes it.")
    ready = state.status == "running" and rollout.is_ready()
    said = f"container {this.name}: {state.status} since {state.started_at}, {'ready' if ready else 'not ready'}"
    click.echo(said, err=as_json)
    if not ready:
        raise DeployError("The service does not accept jobs; `imagegen deploy logs` shows why.")
    service = service_of(this).json("GET", "/api/status")
    if as_json:
        print_json(DeploymentState(this.name, state.status, str(state.started_at), ready, service))
    else:
        show_status(service)


@deploy.command()
@click.option("--follow", "-f", "follows", is_flag=True, help="Print new lines as they are written.")
@click.option("--tail", type=int, default=100, show_default=True, help="Number of lines from the end.")
@_about
def logs(this: Deployment, follows: bool, tail: int) -> None:
    """Show the service's log."""
    this.containers.show("logs", *(["--follow"] if follows else []), "--tail", str(tail), this.name)


@deploy.command()
@json_option
@_about
def down(this: Deployment, as_json: bool) -> None:
    """Let the running picture finish, then stop and remove the container. State and settings stay."""
    this.rollout(tell).tidy()
    if this.containers.state(this.name) is None:
        raise DeployError(f"There is no container {this.name}.")
    this.containers.ask("stop", this.name)
    this.containers.ask("rm", this.name)
    if as_json:
        print_json(DeploymentRemoved(this.name, this.volume, str(this.place.folder)))
        return
    click.echo(
        f"{this.name} is gone. Its state stays in the volume {this.volume}, its settings in {this.place.folder}."
    )
