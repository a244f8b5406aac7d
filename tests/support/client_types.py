"""Uses imagegen_client as a program does. mypy checks in `make lint` that the types are as stated; it is never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

from PIL import Image

from imagegen_client import (
    AsyncClient,
    AsyncJob,
    Check,
    Client,
    Inspection,
    Job,
    Model,
    Picture,
    Preview,
    Provenance,
    Update,
)


def blocking(client: Client) -> None:
    job = client.draw("a cat", width=64, seed=7, speed="fast", preview="auto", webhook={"url": "https://example.org"})
    assert_type(job, Job)
    assert_type(job.save("cat.png"), Path)
    assert_type(job.pictures, list[Picture])
    assert_type([update for update in job], list[Update])  # noqa: C416
    assert_type(client.edit([Path("a.png"), b"png"], "blue", mask=job.picture, fit="cover").cancel(), Job)
    assert_type(client.upscale(job.picture.pil, factor=2).picture, Picture)
    assert_type(client.edit("a.png", "blue", strength=0.4), Job)
    assert_type(client.vary(job.picture, n=4, seed=1), Job)
    assert_type(client.inspect("a.png"), Inspection)
    assert_type(client.verify("a.png"), Provenance)
    assert_type(client.cancel_all(), list[Job])
    assert_type(client.check("a cat"), Check)
    assert_type(client.models(), list[Model])
    assert_type(client.status(), dict[str, Any])
    assert_type(client.images()[0].pil, Image.Image)
    client.draw("a cat", width="64")  # type: ignore[arg-type]
    client.draw("a cat", weight=64)  # type: ignore[call-arg]
    client.upscale("a.png", factor=3)  # type: ignore[arg-type]
    client.edit("a.png", "blue", fit="crop")  # type: ignore[arg-type]


async def awaited(client: AsyncClient) -> None:
    job = await client.draw("a cat", n=2)
    assert_type(job, AsyncJob)
    assert_type(await job, list[Picture])
    async for update in job:
        assert_type(update.preview, Preview | None)
    assert_type(await client.vary(job), AsyncJob)
    assert_type(await client.inspect(b"png"), Inspection)
    assert_type(await client.verify(b"png"), Provenance)
    assert_type(await job.cancel(), AsyncJob)
    assert_type(await client.read((await client.images())[0]), Picture)
