"""Signs pictures with c2pa-python. Every method is synchronous and thread-safe.

The library (23 MB) is loaded with the first signature.
"""

from __future__ import annotations

import io
import logging
import threading
from typing import Any

from PIL import Image

from imagegen.images.pixels import saved
from imagegen.images.png import manifest_bytes, without_manifest
from imagegen.images.provenance.keys import Credentials, KeyTrouble, OwnKeys, given, utc_now
from imagegen.images.provenance.manifest import Facts, definition, ingredient
from imagegen.setting_values import SettingsError
from imagegen.settings import Settings

log = logging.getLogger("imagegen.provenance")

INHERITED_MAX_BYTES = 12_000
"""The largest manifest of a source that is carried along: a longer chain of edits ends there."""
NO_THUMBNAIL_NO_NETWORK: dict[str, Any] = {
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
}


NO_LIBRARY = "The C2PA library cannot be loaded on this machine."


class NotSigned(Exception):
    """A picture could not be signed. The message is a sentence."""


class Signer:
    """Signs for this service. `IMAGEGEN_PROVENANCE=c2pa` has one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._credentials: Credentials | None = None
        self._own = OwnKeys(settings.provenance_dir)

    def check(self) -> None:
        """Try the operator's certificate on a small picture. Raises SettingsError. The service's own needs no trial."""
        if self._settings.provenance_cert is None:
            return
        try:
            self.sign(saved(Image.new("RGB", (1, 1)), "PNG"), "image/png", Facts("drawn", {}))
        except NotSigned as trouble:
            raise SettingsError(f"IMAGEGEN_PROVENANCE_CERT: {trouble}") from None

    def anchors(self) -> bytes:
        """PEM certificates by which this service's signatures are known. Raises NotSigned."""
        return self._current().anchors

    def sign(self, data: bytes, media_type: str, facts: Facts) -> bytes:
        """The picture with a signed manifest. Raises NotSigned."""
        try:
            import c2pa
        except (ImportError, OSError, RuntimeError) as missing:  # no wheel for this machine, or its system is too old
            raise NotSigned(NO_LIBRARY) from missing
        credentials = self._current()
        info = c2pa.C2paSignerInfo(credentials.algorithm.encode(), credentials.chain, credentials.key, None)
        trust = {"user_anchors": credentials.anchors.decode()}  # for the manifests of sources
        signed = io.BytesIO()
        try:
            with (
                c2pa.Signer.from_info(info) as signer,
                c2pa.Context.from_dict({**NO_THUMBNAIL_NO_NETWORK, "trust": trust}) as context,
                c2pa.Builder(definition(facts, media_type), context) as builder,
            ):
                for number, source in enumerate(facts.sources):
                    long = manifest_bytes(source) > INHERITED_MAX_BYTES
                    png = without_manifest(source) if long else source
                    builder.add_ingredient(ingredient(number), "image/png", io.BytesIO(png))
                builder.sign(signer, media_type, io.BytesIO(data), signed)
        except c2pa.C2paError as error:
            raise NotSigned(f"The picture could not be signed: {error}") from error
        return signed.getvalue()

    def _current(self) -> Credentials:
        """The credentials; the service's own are renewed when that is due. Raises NotSigned."""
        certificate, key = self._settings.provenance_cert, self._settings.provenance_key
        with self._lock:
            if self._credentials is None or utc_now() >= self._credentials.renew_at:
                try:
                    self._credentials = given(certificate, key) if certificate and key else self._own.load()
                except KeyTrouble as trouble:
                    raise NotSigned(str(trouble)) from None
            return self._credentials
