"""What the page says while a model is fetched: the bytes, at the job and in the model's panel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hub import Fault, tiny_hub
from served import until


def test_a_download_is_shown_with_its_bytes(
    serve: Any, open_page: Any, home: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tiny_hub(models_dir) as hub:
        hub.faults = [Fault(hold_after=1_000_000), *(99 * [Fault(hold_after=0)])]
        hub.offer_tiny(home, monkeypatch)
        service = serve(auto_fetch="on")
        service.submit("a slow start", model="far")
        page = open_page(service.url).page
        page.get_by_text("Fetching the model: dit.gguf: ").wait_for()
        page.locator(".chip >> text=/fetching \\d+ %/").wait_for()
        page.locator(".compose .hint >> text=/waits for the model's files: dit.gguf: .* of /").wait_for()
        until(lambda: page.title().startswith("fetching "), "the tab's title tells the download")
        page.locator("[popovertarget=model-panel]").click()
        panel = page.locator("#model-panel")
        panel.get_by_text("Fetching far: dit.gguf: ").wait_for()
        total = sum(map(len, hub.files["owner/tiny"].values()))
        assert f"of {total / 1e6:.1f} MB" in panel.inner_text()
        assert panel.get_by_label("Fetching").count() == 1
