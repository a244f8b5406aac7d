"""Client of the model hub: lists a repository and reads one file. The only module that uses the hub's protocol.

`huggingface_hub` provides the listing, the token (HF_TOKEN, or a login), the endpoint (HF_ENDPOINT), offline mode
(HF_HUB_OFFLINE) and the HTTP session. This module reads the bytes itself, because the library's downloads cannot be
stopped and, since https://github.com/huggingface/huggingface_hub/pull/4228, restart from zero after a crash. It uses
plain HTTP, or Xet (`xet.py`) for files that the hub does not serve over HTTP.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from imagegen.models.download import xet
from imagegen_client.address import unusable_proxy

REVISION = "main"
SILENCE_S = 10.0
"""Timeout of a silent connection: huggingface_hub's default."""


def is_offline() -> bool:
    """Whether the environment sets offline mode, as huggingface_hub reads it."""
    told = os.environ.get("HF_HUB_OFFLINE", os.environ.get("TRANSFORMERS_OFFLINE", ""))
    return told.upper() in {"1", "ON", "YES", "TRUE"}


class HubError(Exception):
    """The hub refused or cannot be reached. The message is a sentence.

    retry_s: seconds until a retry makes sense, else None. now: the reason in a few words, shown until the retry.
    """

    def __init__(self, detail: str, retry_s: float | None = None, now: str = "") -> None:
        super().__init__(detail)
        self.retry_s, self.now = retry_s, now or detail

    @property
    def passing(self) -> str | None:
        """`now` if a retry makes sense, else None."""
        return None if self.retry_s is None else self.now


@dataclass(frozen=True)
class HubFile:
    """A file of a repository. The hub states a sha256 for large files, and git's blob SHA-1 for others."""

    path: str
    size_bytes: int | None
    sha256: str | None
    git_sha1: str | None


@dataclass(frozen=True)
class Listing:
    """A repository at one commit. `licence`: as its page states."""

    repo: str
    commit: str
    files: tuple[HubFile, ...]
    licence: str | None


@dataclass(frozen=True)
class Body:
    """Bytes of a file from `offset` on. `offset` differs from the requested one if the server ignores ranges.

    An empty chunk means that no bytes have arrived for a moment.
    """

    offset: int
    chunks: Iterator[bytes]


class Hub:
    """A model hub, `endpoint` or the one that HF_ENDPOINT names. Blocks; every method raises HubError."""

    def __init__(self, endpoint: str | None = None) -> None:
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # else the library first fetches /api/agent-harnesses
        from huggingface_hub import constants  # slow to import, and most commands do not use the hub

        self.endpoint = (endpoint or constants.ENDPOINT).rstrip("/")

    def listing(self, repo: str) -> Listing:
        """The current contents of `repo`'s main branch."""
        from huggingface_hub import HfApi

        api = HfApi(endpoint=self.endpoint, library_name="imagegen")
        try:
            with self._hub_errors(repo):
                info = api.model_info(repo, revision=REVISION, files_metadata=True, timeout=SILENCE_S)
            if not info.sha:
                raise ValueError("no commit")
            card: Any = info.card_data or {}
            licence = card.get("license")
            if licence == "other":  # then `license_name` has its name
                licence = card.get("license_name") or licence
            files = tuple(_file(one) for one in info.siblings or ())
        except (ValueError, KeyError, TypeError, AttributeError) as odd:
            raise HubError(
                f"{self.endpoint} does not list {repo} as a model hub does ({type(odd).__name__}): check HF_ENDPOINT."
            ) from None
        return Listing(repo, info.sha, files, licence if isinstance(licence, str) else None)

    @contextlib.contextmanager
    def read(self, repo: str, commit: str, path: str, size_bytes: int, offset: int) -> Iterator[Body]:
        """Stream the file's bytes from `offset` on. A broken connection raises HubError with `retry_s`.

        size_bytes: of the whole file. A large file is read through Xet if the hub stores it there.
        """
        from huggingface_hub import get_session, hf_hub_url
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

        url = hf_hub_url(repo, path, revision=commit, endpoint=self.endpoint)
        headers = build_hf_headers(library_name="imagegen") | {"accept-encoding": "identity"}
        with self._hub_errors(repo):
            large = self._in_xet(url, size_bytes, headers) if size_bytes > xet.LARGEST_PLAIN_BYTES else None
            if large is not None:
                with xet.stream(large, offset, SILENCE_S) as chunks:
                    yield Body(offset, chunks)
                return
            if offset:
                headers["range"] = f"bytes={offset}-"
            with get_session().stream("GET", url, headers=headers, timeout=SILENCE_S) as answer:
                hf_raise_for_status(answer)
                if answer.headers.get("content-encoding", "identity") != "identity":
                    raise HubError(
                        f"{self.endpoint} sends {path} compressed, which cannot be resumed: use another hub."
                    )
                yield Body(offset if answer.status_code == 206 else 0, answer.iter_raw())

    def _in_xet(self, url: str, size_bytes: int, headers: dict[str, str]) -> xet.XetFile | None:
        """The file's location in Xet. None on a hub without Xet."""
        from huggingface_hub import get_hf_file_metadata

        stored = get_hf_file_metadata(url, timeout=SILENCE_S, headers=headers, endpoint=self.endpoint).xet_file_data
        if stored is None:
            return None
        return xet.XetFile(stored.file_hash, size_bytes, stored.refresh_route, headers)

    @contextlib.contextmanager
    def _hub_errors(self, repo: str) -> Iterator[None]:
        """Convert the library's exceptions to HubError."""
        import httpx2  # huggingface_hub's HTTP client: huggingface_hub does not wrap its errors
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

        try:
            yield
        except OfflineModeIsEnabled:
            raise HubError(
                "HF_HUB_OFFLINE is set, so nothing is fetched. Unset it, or put the files in place by hand."
            ) from None
        except HfHubHTTPError as refused:
            raise self._refusal(repo, refused.response) from None
        except xet.XetError as broken:
            raise HubError(
                f"The hub's Xet store does not serve a file of {repo} ({broken}). "
                + ("Check HF_TOKEN and the model's entry." if broken.final else "Try again later."),
                retry_s=None if broken.final else 1.0,
                now=f"the hub's Xet store cannot be reached, or its connection broke ({broken})",
            ) from None
        except httpx2.TransportError as broken:
            reason = str(broken) or type(broken).__name__
            raise HubError(
                f"The model hub {self.endpoint} cannot be reached, or its connection broke ({reason}). "
                "Check the network, HF_ENDPOINT and the proxy.",
                retry_s=1.0,
                now=f"the model hub cannot be reached, or its connection broke ({reason})",
            ) from None
        except (ImportError, ValueError) as wrong:  # httpx2 refuses a proxy when it creates the client
            sentence = unusable_proxy(wrong) if "proxy" in str(wrong).lower() else None
            if sentence is None:
                raise
            raise HubError(sentence) from None
        except httpx2.InvalidURL as wrong:
            raise HubError(
                f"{self.endpoint} is not an address ({wrong}): check HF_ENDPOINT and the proxy variables."
            ) from None

    def _refusal(self, repo: str, answer: Any) -> HubError:
        status, error = answer.status_code, answer.headers.get("x-error-code", "")
        if error == "GatedRepo" or status == 403:
            return HubError(
                f"The hub gives {repo} only to those who accepted its terms (HTTP {status}). Accept them on its page, "
                "then set HF_TOKEN to a token of that account."
            )
        if status == 401:
            return HubError(
                f"The hub wants a valid token for {repo}, or has no such repository (HTTP 401). "
                "Set HF_TOKEN to one that may read it."
            )
        if status == 404:
            return HubError(f"The hub has no {repo}, or no such file in it (HTTP 404). Check the model's entry.")
        if status in {408, 429, 500, 502, 503, 504}:
            what = "takes no more requests now" if status == 429 else "is in trouble"
            asked_s = _wait_s(answer.headers)
            now = f"the hub {what} (HTTP {status})" + ("" if asked_s is None else " and asks to wait")
            return HubError(f"The hub {what} (HTTP {status}). Try again later.", asked_s or 1.0, now)
        return HubError(f"The hub answered HTTP {status} for {repo}.")


def _file(sibling: Any) -> HubFile:
    large = sibling.lfs
    if large is not None:
        return HubFile(sibling.rfilename, large.size, large.sha256, None)
    return HubFile(sibling.rfilename, sibling.size, None, sibling.blob_id)


def _wait_s(headers: Any) -> float | None:
    """Seconds until a retry, from the headers of a refusal."""
    from huggingface_hub.utils import parse_ratelimit_headers

    limit = parse_ratelimit_headers(headers)
    if limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds + 1)
    told = headers.get("retry-after", "")
    return float(told) if told.isdigit() else None
