"""Read a file's C2PA manifest, in a process of its own: the file may come from anyone.

Run as a program: the first line of its input is JSON (`media_type`, `anchors`, `memory_bytes`), the rest is the file.
It prints a `Reading` as JSON. The process may use MEMORY_BYTES and CPU_S; `read` waits for at most DEADLINE_S. Nothing
is fetched from a network.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import resource
import sys
from dataclasses import dataclass
from typing import Any

from PIL import Image

MEMORY_BYTES = 1 << 30
CPU_S = 20
DEADLINE_S = 30.0
ANSWER_MAX_BYTES = 2 * 1024 * 1024
AT_ONCE = 2
SOURCE_TYPE = re.compile(rb"digitalsourcetype/([A-Za-z]{3,64})")
MEDIA_TYPES = {
    "PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "TIFF": "image/tiff", "GIF": "image/gif",
    "AVIF": "image/avif",
}  # fmt: skip
"""By Pillow's name of a format, those in which a manifest can be."""


@dataclass(frozen=True)
class Reading:
    """`manifest`: the library's report. `error`: why there is none although the file has one, or could not be read."""

    manifest: dict[str, Any] | None = None
    error: str | None = None
    xmp_source_type: str | None = None


class Reader:
    """Reads files, AT_ONCE at a time."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(AT_ONCE)

    async def read(self, data: bytes, media_type: str, anchors: bytes) -> Reading:
        """What the file says of itself. A file that breaks the reader has an `error`."""
        header = json.dumps(
            {"media_type": media_type, "anchors": anchors.decode(), "memory_bytes": MEMORY_BYTES}
        ).encode()
        async with self._places:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "imagegen.images.provenance.reader"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
            try:
                async with asyncio.timeout(DEADLINE_S):
                    said, _ = await process.communicate(header + b"\n" + data)
            except TimeoutError:
                return Reading(error=f"It takes longer than {DEADLINE_S:g} s to read.")
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        if process.returncode != 0 or len(said) > ANSWER_MAX_BYTES:
            return Reading(error="It is too large, or damaged in a way that breaks the reader.")
        return Reading(**json.loads(said))


def main() -> None:
    header = json.loads(sys.stdin.buffer.readline())
    resource.setrlimit(resource.RLIMIT_AS, (header["memory_bytes"], header["memory_bytes"]))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    data = sys.stdin.buffer.read()
    manifest, error = _manifest(data, header["media_type"], header["anchors"])
    print(json.dumps({"manifest": manifest, "error": error, "xmp_source_type": _xmp_source_type(data)}))


def _manifest(data: bytes, media_type: str, anchors: str) -> tuple[dict[str, Any] | None, str | None]:
    try:
        import c2pa
    except (ImportError, OSError, RuntimeError):
        return None, "The C2PA library cannot be loaded on this machine."
    settings: dict[str, Any] = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_trust": True}}
    if anchors:
        settings["trust"] = {"user_anchors": anchors}
    try:
        with (
            c2pa.Context.from_dict(settings) as context,
            c2pa.Reader(media_type, io.BytesIO(data), context=context) as r,
        ):
            return json.loads(r.json()), None
    except c2pa.C2paError.ManifestNotFound:
        return None, None
    except c2pa.C2paError as broken:
        said = str(broken)
        if said.startswith("Remote"):  # the library has no class for this one
            return None, "The manifest is not in the file but at an address, which is not fetched."
        return None, said


def _xmp_source_type(data: bytes) -> str | None:
    """The IPTC digital source type of the file's XMP, by its short name."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            xmp = image.info.get("xmp") or b""
    except Exception:  # a decoder may raise anything on bad input
        return None
    found = SOURCE_TYPE.search(xmp if isinstance(xmp, bytes) else str(xmp).encode())
    return None if found is None else found[1].decode()


if __name__ == "__main__":
    main()
