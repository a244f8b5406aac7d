"""Webhooks of a running service: an ended job arrives at a real receiver, signed, also after failures and a restart."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hook_receiver import Message, Receiver, receiving
from served import Service, new_home, until

from imagegen.security import tls

KEY = b"a key of twenty-four byte"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
OPERATORS_KEY = b"the key of the operator is this"
OPERATORS_SECRET = "whsec_" + base64.b64encode(OPERATORS_KEY).decode()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tls.Files:
    """A receiver's certificate for `localhost` alone, which no authority signed."""
    folder = tmp_path_factory.mktemp("receiver")
    files = tls.Files(folder / "own.pem", folder / "key.pem")
    files.key.write_bytes(tls.new_key())
    tls.renew(files, ["localhost"])
    return files


@pytest.fixture(scope="module")
def hooked(
    tmp_path_factory: pytest.TempPathFactory, models_dir: Path, sd_server: Path, certificate: tls.Files
) -> Iterator[Service]:
    """One service whose webhooks may go to 127.0.0.1, with one of the operator's own."""
    with receiving() as closed:
        own = f"http://127.0.0.1:{closed.port}/operator"
    settings = {"webhook_allow": "127.0.0.1,localhost", "webhook_url": own, "webhook_secret": OPERATORS_SECRET}
    home = new_home(tmp_path_factory.mktemp("hooks") / "home", models_dir)
    service = Service(home, sd_server, settings | {"shutdown_grace_s": 0})
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SSL_CERT_FILE", str(certificate.certificate))
        service.start()
        yield service
        service.end()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def wish(receiver: Receiver, secret: str | None = SECRET) -> dict[str, str]:
    url = {"url": f"http://127.0.0.1:{receiver.port}/hook?of=mine"}
    return url if secret is None else url | {"secret": secret}


def delivered(service: Service, job_id: str) -> dict[str, Any]:
    """The job, once its webhook is delivered."""
    until(lambda: service.job(job_id)["webhook"]["delivered_at"] is not None, "the webhook is delivered")
    return service.job(job_id)


def check_signed(message: Message, key: bytes) -> None:
    signed = f"{message.headers['webhook-id']}.{message.headers['webhook-timestamp']}.".encode() + message.body
    digest = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert message.headers["webhook-signature"] == f"v1,{digest}"


def test_a_complete_job_arrives_signed(hooked: Service, receiver: Receiver) -> None:
    accepted = hooked.submit(webhook=wish(receiver))
    assert accepted["webhook"] == {"url": wish(receiver)["url"], "delivered_at": None, "attempts": 0, "error": None}
    job = delivered(hooked, accepted["job_id"])
    [message] = receiver.of(job["job_id"])
    check_signed(message, KEY)
    assert (message.path, message.headers["host"]) == ("/hook?of=mine", f"127.0.0.1:{receiver.port}")
    assert message.headers["content-type"] == "application/json"
    changed = {"webhook", "revision"}
    assert {name: message.job[name] for name in job.keys() - changed} == {n: job[n] for n in job.keys() - changed}
    assert message.job["status"] == "complete"
    assert (job["webhook"]["attempts"], job["webhook"]["error"]) == (1, None)
    assert job["revision"] > message.job["revision"]
    assert SECRET not in str(job) + message.body.decode() + hooked.log.read_text()


def test_a_failed_delivery_is_repeated(hooked: Service, receiver: Receiver) -> None:
    receiver.statuses = [500]
    job = delivered(hooked, hooked.submit(webhook=wish(receiver, None))["job_id"])
    first, second = receiver.of(job["job_id"])
    assert "webhook-signature" not in first.headers, "there is no secret"
    assert second.job["webhook"]["error"] == "The receiver answered 500."
    assert (job["webhook"]["attempts"], job["webhook"]["error"]) == (2, None)


def test_a_redirect_is_not_followed(hooked: Service, receiver: Receiver) -> None:
    receiver.statuses = [307]
    job = delivered(hooked, hooked.submit(webhook=wish(receiver))["job_id"])
    assert [message.path for message in receiver.messages] == ["/hook?of=mine"] * 2
    said = receiver.messages[1].job["webhook"]["error"]
    assert (said, job["webhook"]["attempts"]) == ("The receiver answered 307. Redirects are not followed.", 2)


def test_a_receivers_certificate_is_checked_against_its_name(hooked: Service, certificate: tls.Files) -> None:
    with receiving(tls=(certificate.certificate, certificate.key)) as receiver:
        by_name, by_address = (
            hooked.submit(webhook={"url": f"https://{host}:{receiver.port}/"})["job_id"]
            for host in ("localhost", "127.0.0.1")
        )
        assert delivered(hooked, by_name)["webhook"]["attempts"] == 1
        [message] = receiver.messages
        assert message.headers["host"] == f"localhost:{receiver.port}"
        until(lambda: hooked.job(by_address)["webhook"]["error"], "the other name was tried")
        said = hooked.job(by_address)["webhook"]["error"]
        assert "certificate is not trusted: IP address mismatch" in said
        assert receiver.of(by_address) == []


def test_410_ends_the_attempts(hooked: Service, receiver: Receiver) -> None:
    receiver.statuses = [410]
    job_id = hooked.submit(webhook=wish(receiver))["job_id"]
    until(lambda: hooked.job(job_id)["webhook"]["error"] is not None, "the delivery was tried")
    later = hooked.submit(webhook=wish(receiver, None))["job_id"]
    delivered(hooked, later)
    assert len(receiver.of(job_id)) == 1
    assert hooked.job(job_id)["webhook"]["error"] == "The receiver answered 410."


def test_an_edit_sent_as_a_form_and_a_cancelled_job_arrive(hooked: Service, receiver: Receiver) -> None:
    picture = hooked.png(hooked.draw())
    fields = {"prompt": "make it blue", "width": "64", "height": "64", "steps": "1"}
    fields |= {f"webhook.{name}": value for name, value in wish(receiver).items()}
    answer = hooked.http.post("/api/edit", data=fields, files={"image": picture})
    assert answer.status_code == 202, answer.text
    hooked.http.delete(f"/api/jobs/{answer.json()['job_id']}")
    job = delivered(hooked, answer.json()["job_id"])
    [message] = receiver.of(job["job_id"])
    check_signed(message, KEY)
    assert (message.job["kind"], message.job["status"]) == ("edit", job["status"])
    assert job["status"] in {"cancelled", "complete"}


def test_a_draft_sends_none_until_it_is_kept(hooked: Service, receiver: Receiver) -> None:
    draft = hooked.ended(hooked.submit(webhook=wish(receiver), draft=True)["job_id"])
    delivered(hooked, hooked.submit(webhook=wish(receiver))["job_id"])
    assert receiver.of(draft["job_id"]) == []
    assert hooked.http.delete(f"/api/jobs/{draft['job_id']}/draft").status_code == 200
    assert delivered(hooked, draft["job_id"])["webhook"]["attempts"] == 1


@pytest.mark.parametrize(
    "webhook",
    [
        {"url": "http://127.0.0.2/"},
        {"url": "http://169.254.169.254/"},
        {"url": "http://2130706434/"},
        {"url": "http://[::1]/"},
        {"url": "ftp://127.0.0.1/"},
        {"url": "http://127.0.0.1/", "secret": "not-one"},
    ],
    ids=lambda webhook: "-".join(webhook.values()),
)
def test_a_webhook_that_cannot_be_used_is_refused(hooked: Service, webhook: dict[str, str]) -> None:
    for path in ("/api/generate", "/api/check"):
        answer = hooked.http.post(path, json={"prompt": "a red circle", "webhook": webhook})
        assert (answer.status_code, answer.json()["code"]) == (422, "webhook_refused"), answer.text
        assert "not-one" not in answer.text


def test_a_restart_between_the_attempts_delivers(hooked: Service) -> None:
    """Without a webhook of its own, a job goes to the operator's, where nobody listens at first."""
    job = hooked.draw()
    port = int(job["webhook"]["url"].rsplit(":", 1)[1].split("/")[0])
    until(lambda: hooked.job(job["job_id"])["webhook"]["error"] is not None, "the delivery was tried")
    assert hooked.job(job["job_id"])["webhook"]["error"] == "The receiver cannot be reached: ConnectError."
    hooked.kill()
    with receiving(port) as receiver:
        hooked.start()
        after = delivered(hooked, job["job_id"])
        assert (after["status"], after["webhook"]["error"]) == ("complete", None)
        message = receiver.of(job["job_id"])[-1]
        check_signed(message, OPERATORS_KEY)
        assert message.path == "/operator"
    assert OPERATORS_SECRET not in hooked.log.read_text() + str(after)
