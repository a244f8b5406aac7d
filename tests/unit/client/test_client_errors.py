"""Every code of docs/http.md is an error of its own kind in the client."""

from __future__ import annotations

import json
import re

import pytest
from served import ROOT

from imagegen_client import errors

PAGE = (ROOT / "docs" / "http.md").read_text()
TABLE = PAGE[PAGE.index("## Codes") : PAGE.index("What a failed job's")]
ROWS = re.findall(r"^\| (\d{3}) \| ([^|]*) \|", TABLE, flags=re.MULTILINE)
CODES = [(int(status), code) for status, codes in ROWS for code in re.findall(r"`([a-z_]+)`", codes)]
GENERAL = {errors.ServiceError, errors.Refused}


def made(status: int, code: str) -> errors.ServiceError:
    found = errors.refusal(status, json.dumps({"code": code, "detail": "A sentence."}).encode(), "9")
    assert found is not None
    return found


@pytest.mark.parametrize(("status", "code"), CODES)
def test_a_code_of_the_page_has_a_kind(status: int, code: str) -> None:
    found = made(status, code)
    assert type(found) not in GENERAL
    assert (found.code, found.status, found.retry_after_s, str(found)) == (code, status, 9.0, "A sentence.")


def test_a_kind_by_code_is_for_a_code_of_the_page() -> None:
    assert set(errors.BY_CODE) <= {code for _, code in CODES}
    assert {status for status, _ in CODES} <= set(errors.BY_STATUS)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "unauthorized", errors.Unauthorized),
        (403, "foreign_host", errors.Forbidden),
        (404, "job_not_found", errors.NotFound),
        (409, "busy", errors.Busy),
        (409, "idempotency_conflict", errors.InvalidRequest),
        (409, "cancelled", errors.JobCancelled),
        (410, "expired", errors.Expired),
        (422, "unknown_model", errors.UnknownModel),
        (422, "unknown_image", errors.BadImage),
        (422, "size_out_of_range", errors.InvalidRequest),
        (429, "queue_full", errors.Busy),
        (503, "gpu_busy", errors.Busy),
        (503, "shutting_down", errors.Unavailable),
        (507, "storage_full", errors.InternalError),
        (422, "of_a_newer_service", errors.InvalidRequest),
        (418, "of_a_newer_service", errors.Refused),
        (599, "of_a_newer_service", errors.InternalError),
    ],
)
def test_the_kind_follows_from_the_code_else_the_status(
    status: int, code: str, kind: type[errors.ServiceError]
) -> None:
    assert type(made(status, code)) is kind


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"text"', b'{"code": "busy"}', b"\xff"])
def test_what_is_no_problem_document_is_no_refusal(body: bytes) -> None:
    assert errors.refusal(404, body) is None
