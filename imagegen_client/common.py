"""What both clients share: the address, the retries, and the pictures of a request."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from imagegen_client.address import Address, address_of
from imagegen_client.errors import BadImage
from imagegen_client.pictures import ADDRESS, ID, ImageLike, Picture, reference
from imagegen_client.wire import Retries

RETRY_S = 30.0
Images: TypeAlias = "ImageLike | Sequence[ImageLike]"


class Configured:
    """The address and the retries of a client."""

    retries: Retries

    def __init__(self, address: Address, retry_s: float, answered: Callable[[], bool]) -> None:
        self.address = address
        self.retries = Retries(retry_s, answered)

    @property
    def url(self) -> str:
        """The address of the service."""
        return self.address.url

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.url}>"


def configured(
    url: str | None,
    token: str | None,
    tls_sha256: str | None,
    tls_ca: str | os.PathLike[str] | None,
    verify: ssl.SSLContext | None,
) -> Address:
    """The address from a client's arguments and the environment. Raises ServiceError `invalid_request`."""
    found = address_of(url, token, tls_sha256=tls_sha256, tls_ca=tls_ca)
    return found if verify is None else Address(found.url, found.token, context=verify)


def _references(images: Images) -> list[str | bytes]:
    if isinstance(images, Iterable) and not isinstance(images, str | bytes | bytearray):
        return [reference(one) for one in images]
    return [reference(images)]


def loaded(images: Images | None, mask: ImageLike | None) -> tuple[list[str | bytes], str | bytes | None]:
    """What is sent for the pictures and the mask of a request. Blocks. Raises BadImage."""
    return [] if images is None else _references(images), None if mask is None else reference(mask)


def id_of(image: Picture | str) -> str:
    """The id of a picture of the service, from the picture, its id or its address. Raises BadImage."""
    if isinstance(image, Picture):
        return image.id
    address = ADDRESS.fullmatch(image)
    if address is None and not ID.fullmatch(image):
        raise BadImage("bad_image", f"{image[:80]!r} is no id and no address of a picture of this service.")
    return address[1] if address else image


def keep_wish(board: str | None, note: str | None) -> dict[str, str | None]:
    """What a request to keep a picture says; what is None stays as it is."""
    return {name: value for name, value in {"board": board, "note": note}.items() if value is not None}


def file_of(image: ImageLike) -> bytes:
    """The file to upload. Raises BadImage."""
    if isinstance(image, Picture):
        return image.bytes
    found = reference(image)
    if isinstance(found, str):
        raise BadImage("bad_image", f"{found} is already stored: use it as it is.")
    return found
