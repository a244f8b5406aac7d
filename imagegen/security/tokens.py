"""Access tokens. Each token has a name. A token file stores only SHA-256 digests.

Tokens come from IMAGEGEN_TOKENS, or from the file `tokens` of the state folder, which `imagegen token new` writes. The
service does not create a token at startup, because it would print a secret into a log.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from imagegen.setting_values import absolute
from imagegen.settings import Settings, SettingsError
from imagegen.storage import permissions

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
SHA256 = re.compile(r"[0-9a-f]{64}")
LEAST_CHARS = 16
"""Minimum length of a token that the user chooses, because the service does not limit wrong guesses."""
NEW_BYTES = 32
"""Random bytes of a new token: 256 bits."""


class Tokens:
    """Names and the SHA-256 digests of their tokens."""

    def __init__(self, digests: Mapping[str, bytes]) -> None:
        self._digests = dict(digests)

    def name_of(self, presented: str) -> str | None:
        """The name of a token, None if it is unknown. Takes constant time, whether it matches or not."""
        digest = hashlib.sha256(presented.encode()).digest()
        found = None
        for name, known in self._digests.items():
            if hmac.compare_digest(known, digest):
                found = name
        return found

    def digest_of(self, name: str) -> bytes | None:
        """The digest that a session of `name` is bound to. None if the token does not exist or was removed."""
        return self._digests.get(name)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._digests)


def for_service(settings: Settings) -> Tokens | None:
    """The tokens that the service accepts. None: it requires no token.

    Raises SettingsError if they cannot be read, or if there are none and other machines could reach the service.
    """
    tokens = load(settings)
    if tokens is None and not settings.allow_anonymous and not ipaddress.ip_address(settings.host).is_loopback:
        raise SettingsError(
            f"IMAGEGEN_HOST={settings.host} opens the service to other machines, and it has no token: every client "
            "there could use this GPU and see every picture. Make a token with `imagegen token new NAME`, keep to "
            "127.0.0.1, or set IMAGEGEN_ALLOW_ANONYMOUS=1 to serve without tokens."
        )
    return tokens


def load(settings: Settings) -> Tokens | None:
    """Load IMAGEGEN_TOKENS, else the state folder's file, else None. Raises SettingsError with a sentence."""
    listed = (settings.tokens or "").strip()
    if listed.startswith("@"):
        try:
            return _read(absolute(listed[1:]))
        except ValueError as wrong:
            raise SettingsError(f"IMAGEGEN_TOKENS={listed!r}: @FILE {wrong}.") from None
    if listed:
        return _parse_list(listed)
    return _read(settings.tokens_file) if os.path.lexists(settings.tokens_file) else None


def new(name: str, file: Path) -> str:
    """Create a token, append `name:sha256` to `file` (created with mode 0600), and return the token. It is not stored.

    Raises SettingsError for an invalid or taken name, OSError if the file cannot be written.
    """
    _check_name(name, "The name")
    if file.exists() and name in _digests(file):
        raise SettingsError(f"{file} has a token named {name} already. Remove its line first, or take another name.")
    token = secrets.token_urlsafe(NEW_BYTES)
    line = f"{name}:{hashlib.sha256(token.encode()).hexdigest()}\n"
    permissions.make_folder(file.parent)
    descriptor = permissions.open_private(file, os.O_RDWR | os.O_APPEND)
    with os.fdopen(descriptor, "r+", encoding="utf-8") as kept:
        text = kept.read()
        kept.write(line if not text or text.endswith("\n") else "\n" + line)
    return token


def _parse_list(text: str) -> Tokens:
    digests: dict[str, bytes] = {}
    for number, part in enumerate((p.strip() for p in text.split(",") if p.strip()), 1):
        name, colon, token = part.partition(":")
        where = f"IMAGEGEN_TOKENS, entry {number}"  # never the entry itself: it may be a secret
        if not colon:
            raise SettingsError(f"{where}: must be name:token (several are separated by commas), or @FILE.")
        _add(digests, name.strip(), token, where)
    if not digests:
        raise SettingsError("IMAGEGEN_TOKENS has no token in it. Write name:token, or @FILE, or leave it unset.")
    return Tokens(digests)


def _add(digests: dict[str, bytes], name: str, token: str, where: str) -> None:
    _check_name(name, where)
    if name in digests:
        raise SettingsError(f"{where}: there is another token of this name. Every token needs a name of its own.")
    if not (len(token) >= LEAST_CHARS and token.isascii() and token.isprintable() and " " not in token):
        raise SettingsError(
            f"{where}: a token must be at least {LEAST_CHARS} printable ASCII characters without spaces. "
            "`imagegen token new NAME` makes one."
        )
    digests[name] = hashlib.sha256(token.encode()).digest()


def _read(file: Path) -> Tokens:
    digests = _digests(file)
    if not digests:
        raise SettingsError(f"{file} has no token in it. Make one with `imagegen token new NAME`, or remove the file.")
    return Tokens(digests)


def _digests(file: Path) -> dict[str, bytes]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as failure:
        reason = failure.strerror if isinstance(failure, OSError) else "it is not text"
        raise SettingsError(f"The tokens cannot be read from {file}: {reason}. See IMAGEGEN_TOKENS.") from None
    digests: dict[str, bytes] = {}
    for number, line in enumerate((one.strip() for one in lines), 1):
        if not line or line.startswith("#"):
            continue
        name, _, sha256 = line.partition(":")
        where = f"{file}, line {number}"
        _check_name(name, where)
        if name in digests:
            raise SettingsError(f"{where}: there is another token named {name}.")
        if not SHA256.fullmatch(sha256.lower()):
            raise SettingsError(
                f"{where}: must be name:sha256, the SHA-256 of the token in 64 hexadecimal digits, and not the token."
            )
        digests[name] = bytes.fromhex(sha256)
    return digests


def _check_name(name: str, where: str) -> None:
    if not NAME.fullmatch(name):
        raise SettingsError(
            f"{where}: a token's name is 1 to 64 letters, digits and . _ @ - and begins with a letter or digit."
        )
