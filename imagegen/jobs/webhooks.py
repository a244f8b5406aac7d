"""Webhooks: send an ended job to the address that its request or the operator named, as Standard Webhooks says.

A delivery that fails is tried again with growing pauses, also after a restart, until DAY_S after the job's end or until
the job expires. A receiver may get a message twice, for example if the service dies before it notes the delivery; both
have the same webhook-id.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx
from sqlalchemy import Row, select, update
from sqlalchemy.exc import DBAPIError

from imagegen.jobs.manager import JobManager
from imagegen.jobs.notifications import Changes
from imagegen.jobs.repository import REVISION
from imagegen.schemas import Job, Refused, Status
from imagegen.security.webhook_targets import BadTarget, Targets, key_of, parse_url
from imagegen.storage.database import Database, storage_failure
from imagegen.storage.errors import StorageError
from imagegen.storage.tables import jobs, webhooks

log = logging.getLogger("imagegen.webhooks")

AT_ONCE = 8
"""The most deliveries in progress."""
TIMEOUT_S = 10.0
"""The longest delivery, in seconds, from resolving the name to the answer's status."""
DAY_S = 86400.0
LONGEST_PAUSE_S = 3600.0
LOOK_AGAIN_S = 30.0
"""How often to look for due deliveries that no notification announced."""
ENDED = (Status.COMPLETE.value, Status.FAILED.value, Status.CANCELLED.value)


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The webhook-signature header. secret: `whsec_` and base64."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key_of(secret), signed, hashlib.sha256).digest()).decode()


def pause_s(attempts: int) -> float:
    """Seconds to wait after so many failed attempts: 2, 4, 8 … up to an hour."""
    return min(2.0 ** min(attempts, 20), LONGEST_PAUSE_S)


def trusted() -> ssl.SSLContext:
    """Trusts the public authorities, those of the system, and those in the file that SSL_CERT_FILE names."""
    context = httpx.create_ssl_context(trust_env=False)
    context.set_default_verify_paths()
    return context


def unreachable(error: BaseException) -> str:
    """Why a receiver could not be asked, without what could be read from its network."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"The receiver's certificate is not trusted: {cause.verify_message}"
        cause = cause.__cause__ or cause.__context__
    return f"The receiver cannot be reached: {type(error).__name__}."


class Webhooks:
    """The task that delivers webhooks. One per process."""

    def __init__(
        self,
        database: Database,
        manager: JobManager,
        targets: Targets,
        body: Callable[[Job], bytes],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """body: the job as `GET /api/jobs/{id}` answers it."""
        self._database, self._jobs, self._targets = database, manager, targets
        self._body, self._clock = body, clock

    async def run(self) -> None:
        """Deliver until cancelled."""
        with self._jobs.changes.subscribe_all() as heard:
            limits = httpx.Limits(max_keepalive_connections=0)  # two names may share an address
            async with httpx.AsyncClient(
                trust_env=False, verify=await asyncio.to_thread(trusted), limits=limits, timeout=TIMEOUT_S
            ) as client:
                while True:
                    heard.take()
                    left_s = await self._round(client)
                    await self._something_ended(heard, left_s)

    async def _something_ended(self, heard: Changes, seconds: float) -> None:
        """Wait for the end of a job, at most `seconds`. Progress of running jobs does not count."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    await heard.event.wait()
                    if any(key != "engine" and not self._jobs.is_active(key) for key in heard.take()):
                        return
        except TimeoutError:
            return

    async def _round(self, client: httpx.AsyncClient) -> float:
        """Make the deliveries that are due. Returns the seconds until the next one is."""
        try:
            rows = await self._open()
            now = self._clock()
            due = [row for row in rows if row.next_at <= now]
            await asyncio.gather(*(self._deliver(client, row) for row in due))
            if due:
                return 0.0
            return min([LOOK_AGAIN_S, *(row.next_at - now for row in rows)])
        except (DBAPIError, StorageError) as failure:
            log.warning("webhooks are put off: %s", storage_failure(failure))
        except Exception:  # if this loop ended, no webhook would be sent any more
            log.exception("internal error while sending webhooks")
        return LOOK_AGAIN_S

    async def _open(self) -> Sequence[Row[Any]]:
        """The next AT_ONCE deliveries of ended jobs, the most urgent first. Drafts have none."""
        query = (
            select(webhooks, jobs.c.finished_at)
            .join(jobs, jobs.c.id == webhooks.c.job_id)
            .where(
                webhooks.c.next_at.is_not(None), jobs.c.status.in_(ENDED), ~jobs.c.draft, jobs.c.expired_at.is_(None)
            )
            .order_by(webhooks.c.next_at)
            .limit(AT_ONCE)
        )
        return await self._database.fetch(query)

    async def _deliver(self, client: httpx.AsyncClient, row: Row[Any]) -> None:
        """Try one delivery and write down how it went."""
        try:
            job = await self._jobs.get(row.job_id, renew=False)
        except Refused:  # it has expired; its row goes with the next sweep
            return
        ahead = {"attempts": row.attempts + 1, "next_at": self._clock() + pause_s(row.attempts + 1)}
        await self._write(row.job_id, ahead)  # first: a disk that refuses what follows must not repeat the message
        try:
            async with asyncio.timeout(TIMEOUT_S):
                failure, final = await self._send(client, row, self._body(job))
        except BadTarget as refused:
            failure, final = f"Not sent: {refused}.", False
        except TimeoutError:
            failure, final = f"No answer within {TIMEOUT_S:g} s.", False
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as broken:
            failure, final = unreachable(broken), False
        await self._note(row, failure, final)

    async def _send(self, client: httpx.AsyncClient, row: Row[Any], body: bytes) -> tuple[str | None, bool]:
        """POST `body`. Returns why it failed (None: delivered), and whether no further attempt makes sense."""
        target, now = parse_url(row.url), int(self._clock())
        headers = {"host": target.netloc, "content-type": "application/json", "user-agent": "imagegen"}
        headers |= {"webhook-id": row.job_id, "webhook-timestamp": str(now)}
        if row.secret is not None:
            headers["webhook-signature"] = signature(row.secret, row.job_id, now, body)
        addresses = await self._targets.resolve(target)
        address = addresses[row.attempts % len(addresses)]  # another one each time: this machine may lack IPv6
        extensions = {"sni_hostname": target.host.rstrip(".")}  # the certificate is checked against the name
        request = client.build_request("POST", target.at(address), content=body, headers=headers, extensions=extensions)
        answer = await client.send(request, stream=True, follow_redirects=False)
        await answer.aclose()  # the body is not read
        if answer.is_success:
            return None, True
        redirect = " Redirects are not followed." if answer.is_redirect else ""
        return f"The receiver answered {answer.status_code}.{redirect}", answer.status_code == 410

    async def _note(self, row: Row[Any], failure: str | None, final: bool) -> None:
        """Write the attempt. When no attempt follows, the row forgets its secret."""
        now, attempts = self._clock(), row.attempts + 1
        next_at = now + pause_s(attempts)
        values: dict[str, Any] = {"error": failure, "next_at": next_at}
        if failure is None:
            values["delivered_at"] = now
        if final or next_at > (row.finished_at or now) + DAY_S:
            values |= {"next_at": None, "secret": None}
        await self._write(row.job_id, values)
        log.info("job %s webhook attempt=%d delivered=%s", row.job_id, attempts, failure is None)
        self._jobs.changes.notify(row.job_id)

    async def _write(self, job_id: str, values: dict[str, Any]) -> None:
        async with self._database.writing() as connection:
            await connection.execute(update(webhooks).where(webhooks.c.job_id == job_id).values(values))
            await connection.execute(update(jobs).where(jobs.c.id == job_id).values(REVISION))
