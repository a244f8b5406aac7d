"""The deployed service as a client on this machine reaches it: its first picture, and the settings for clients."""

from __future__ import annotations

import json
import os
import socket
import time

import click

from imagegen.cli.client import Service, ServiceError
from imagegen.cli.delivery import check_complete, follow
from imagegen.cli.documents import Deployed
from imagegen.cli.output import print_json
from imagegen.cli.trust import pinned
from imagegen.deploy.containers import DeployError
from imagegen.deploy.deployment import Deployment

FIRST_PICTURE = {"prompt": "a red circle", "seed": 1}


def tell(words: str) -> None:
    click.echo(f"· {words}", err=True)


def certificate_sha256(this: Deployment) -> str | None:
    """The SHA-256 of the service's certificate, None for plain HTTP."""
    if this.tls.lower() == "off":
        return None
    shown = this.containers.ask("exec", this.name, "imagegen", "tls", "show")
    return shown.split("sha256", 1)[1].split()[0]


def service_of(this: Deployment) -> Service:
    """A client of the service at its published address."""
    choices = this.choices
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(choices.host, choices.host)  # noqa: S104 - compared, not bound
    pin = certificate_sha256(this)
    token = os.environ.get("IMAGEGEN_TOKEN") or this.place.token()
    context = None if pin is None else pinned(host, choices.port, pin)
    scheme = "http" if pin is None else "https"
    return Service(f"{scheme}://{f'[{host}]' if ':' in host else host}:{choices.port}", token, context)


def draw_first(service: Service) -> None:
    """Draw a picture and print the outcome. Raises DeployError."""
    tell("a picture is drawn; the first one waits for its model")
    began = time.monotonic()
    try:
        job = follow(service, service.json("POST", "/api/generate", json=FIRST_PICTURE))
        check_complete(job)
        image = job["images"][0]
        service.call("GET", f"/images/{image['id']}.png")
    except ServiceError as failed:
        raise DeployError(
            f"The service is up at {service.url}, but a picture could not be drawn: {failed}\n"
            "The token is that of IMAGEGEN_TOKEN in this shell, else the deploy's own."
        ) from None
    size = f"{image['width']}x{image['height']}"
    tell(f"drew {size} with {job['model']} in {time.monotonic() - began:.1f} s: {image['url']}")


def summary(this: Deployment, image: str, service: Service, as_json: bool = False) -> None:
    """Print where everything is, and the lines to add to Claude; or JSON."""
    pin = certificate_sha256(this)
    urls = [service.url]
    if this.beyond_loopback:
        scheme = service.url.partition(":")[0]
        urls.append(f"{scheme}://{socket.gethostname()}:{this.choices.port}")
    token_file = this.place.token_file
    if as_json:
        print_json(
            Deployed(
                urls=urls,
                container=this.name,
                runtime=this.containers.name,
                image=image,
                volume=this.volume,
                settings=str(this.place.env_file),
                token_file=str(token_file),
                tls_sha256=pin,
            )
        )
        return
    click.echo(f"service      {'  '.join(urls)}")
    click.echo(f"container    {this.name} ({this.containers.name}), image {image}")
    click.echo(f"state        volume {this.volume}")
    click.echo(f"settings     {this.place.env_file}")
    click.echo(f"token        in {token_file}; the page asks for it. More: docs/deploy.md")
    click.echo(f"certificate  {f'sha256 {pin}' if pin else 'none: plain HTTP'}")
    variables = {"IMAGEGEN_URL": urls[-1], "IMAGEGEN_TOKEN": f"$(cat {token_file})"}
    if pin:
        variables["IMAGEGEN_TLS_SHA256"] = pin
    options = " ".join(f'--env {name}="{value}"' for name, value in variables.items())
    click.echo("\nClaude Code, where imagegen-mcp is installed (docs/claude.md):")
    click.echo(f"  claude mcp add --transport stdio imagegen {options} -- imagegen-mcp")
    variables["IMAGEGEN_TOKEN"] = f"what {token_file} says"
    entry = {"mcpServers": {"imagegen": {"command": "imagegen-mcp", "env": variables}}}
    click.echo("Claude Desktop, in claude_desktop_config.json:")
    click.echo(f"  {json.dumps(entry)}")
