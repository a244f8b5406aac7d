"""A blank picture is no success: the page says so first, and folds the technical cause."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import recording_engine


def test_a_blank_picture_is_said_first_and_its_cause_is_folded(
    serve: Any, open_page: Any, tmp_path: Path, sd_server: Path
) -> None:
    recording = recording_engine.install(tmp_path, sd_server, flat=[True])
    page = open_page(serve(sd_server=recording.binary).url).page
    draft = '{"size": "64x64", "steps": "1", "seed": "7", "locked": true, "prompt": "a red boat"}'
    page.evaluate("draft => sessionStorage.setItem('imagegen.draft', draft)", draft)
    page.reload()
    page.click(".compose .primary")
    page.wait_for_selector(".toast:has-text('The picture does not show what was asked for.')")
    warning = page.locator(".result .warning.warn")
    assert warning.inner_text().startswith("The picture does not show what was asked for. It is ")
    assert page.locator(".result .warning.warn + .said").inner_text() == "a red boat"
    cause = warning.locator("details p")
    assert not cause.is_visible()
    warning.locator("summary").click()
    cause.wait_for(state="visible")
    assert "(NaN)" in cause.inner_text()
