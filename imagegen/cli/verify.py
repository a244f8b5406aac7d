"""`imagegen verify`: who signed a picture, whether it was changed since, and from which pictures it was made."""

from __future__ import annotations

from typing import Any

import click

from imagegen.cli.arguments import PICTURE_MAX_BYTES, InputFile
from imagegen.cli.client import service_of, url_option
from imagegen.cli.errors import PartlyFailed, ServiceError
from imagegen.cli.output import json_option, print_json
from imagegen_client.wire import Request, read_json

ADDRESS = ("http://", "https://")
FETCH_TIMEOUT_S = 30.0
VERDICTS = {
    "intact": "intact: the file has not been changed since it was signed",
    "changed": "CHANGED since it was signed",
    "unreadable": "unreadable: there is a manifest, and it cannot be judged",
    "none": "no manifest: nobody says where this file comes from",
}
SOURCE_TYPES = {
    "trainedAlgorithmicMedia": "made by AI",
    "compositeWithTrainedAlgorithmicMedia": "made by AI from other pictures",
    "algorithmicallyEnhanced": "enlarged by a program",
}


class PictureOrAddress(InputFile):
    """A picture's file, or its http(s) address."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return value if str(value).startswith(ADDRESS) else super().convert(value, param, ctx)


@click.command()
@click.argument("picture", type=PictureOrAddress(), metavar="FILE|URL")
@json_option
@url_option
def verify(picture: Any, as_json: bool, url: str | None) -> None:
    """Say who signed a picture, and whether it was changed since.

    Ends with 0 if the picture is intact, else with 1.
    """
    data = _fetched(picture) if isinstance(picture, str) else picture.read_bytes()
    headers = {"Content-Type": "application/octet-stream"}
    found = service_of(url).run(read_json(Request("POST", "/api/verify", content=data, headers=headers)))
    if as_json:
        print_json(found)
    else:
        _show(found)
    if found["verdict"] != "intact":
        raise PartlyFailed(f"The picture is not intact: {found['verdict']}.", "not_intact")


def _show(found: dict[str, Any]) -> None:
    rows = {"verdict": VERDICTS[found["verdict"]]}
    if found["verdict"] == "intact":
        ours = "this service" if found["by_this_service"] else f"{found['signer']} (no authority vouches for the name)"
        rows["signed by"] = ours
    rows["program"] = found["generator"]
    kind = found["source_type"]
    marked = SOURCE_TYPES.get(kind, kind)
    rows["mark"] = f"{marked} (in XMP, which anyone can change)" if marked and found["verdict"] == "none" else marked
    rows |= found["drawing"]
    for source in found["sources"]:
        told = ", ".join(str(value) for value in source["drawing"].values() if value is not None)
        whose = (
            "of this service" if source["by_this_service"] else "signed" if source["signed"] else "without a manifest"
        )
        rows[source["relation"]] = f"a picture {whose}{f' ({told})' if told else ''}"
    for name, value in rows.items():
        if value is not None:
            click.echo(f"{name:<10} {value}")
    for problem in found["problems"]:
        click.echo(f"{'problem':<10} {problem}")


def _fetched(address: str) -> bytes:
    """The file at an address. Raises ServiceError."""
    import httpx

    data = b""
    try:
        with httpx.stream("GET", address, follow_redirects=True, timeout=FETCH_TIMEOUT_S) as answer:
            if not answer.is_success:
                raise ServiceError(f"{address} answered {answer.status_code}.", "fetch_failed")
            for part in answer.iter_bytes():
                data += part
                if len(data) > PICTURE_MAX_BYTES:
                    raise ServiceError(f"{address} has more than {PICTURE_MAX_BYTES >> 20} MiB.", "fetch_failed")
    except (httpx.HTTPError, httpx.InvalidURL) as broken:
        raise ServiceError(f"{address} cannot be read: {broken or type(broken).__name__}.", "fetch_failed") from None
    return data
