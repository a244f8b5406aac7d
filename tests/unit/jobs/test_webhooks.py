"""The signature of a webhook, its pauses, and which jobs have a row."""

from __future__ import annotations

from pathlib import Path

import pytest
from state_folder import TTL_S, on_both, opened

from imagegen.jobs.webhooks import pause_s, signature
from imagegen.schemas import WebhookState
from imagegen.security.webhook_targets import Webhook

HOOK = Webhook("https://hooks.example/", "whsec_" + "A" * 32)


PING = b'{"event_type":"ping","data":{"success":true}}'
PUBLISHED = [
    (
        *("whsec_plJ3nmyCDGBKInavdOK15jsl", "msg_loFOjxBNrRLzqYUf", 1731705121, PING),
        "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
    ),
    (
        *(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1614265330,
            b'{"test": 2432232314}',
        ),
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    ),
]
"""Examples of the standard's documents: secret, id, timestamp, body, signature."""


@pytest.mark.parametrize(("secret", "message_id", "timestamp", "body", "expected"), PUBLISHED)
def test_a_signature_is_the_one_that_the_standard_shows(
    secret: str, message_id: str, timestamp: int, body: bytes, expected: str
) -> None:
    assert signature(secret, message_id, timestamp, body) == expected


def test_pauses_double_up_to_an_hour() -> None:
    assert [pause_s(attempts) for attempts in (1, 2, 3, 11, 12, 5000)] == [2, 4, 8, 2048, 3600, 3600]


@on_both
async def test_a_webhook_is_part_of_its_job_and_expires_with_it(folder: Path) -> None:
    async with opened(folder) as state:
        plain, job = await state.submit(), await state.submit(webhook=HOOK)
        assert (plain.webhook, job.webhook) == (None, WebhookState(url=HOOK.url))
        assert (await state.jobs.get(job.id)).webhook == job.webhook
        assert [one.webhook for one in await state.jobs.list(5)] == [job.webhook, None]
        await state.jobs.cancel(job.id)
        await state.jobs.sweep()
        assert state.run("SELECT count(*) FROM webhooks") == [(1,)]
        state.clock.now += TTL_S + 1
        await state.jobs.sweep()
        assert state.run("SELECT count(*) FROM webhooks") == [(0,)]
