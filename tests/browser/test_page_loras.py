"""LoRAs in the form: chosen and weighed by keyboard, kept over a reload, and only those that the model can use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from loras import pair, put, safetensors
from served import Service, until

DRAFT = "draft => sessionStorage.setItem('imagegen.draft', JSON.stringify(draft))"
SMALL = {"prompt": "a bell", "size": "64x64", "steps": "1"}
FOCUS = "document.activeElement.getAttribute('aria-label')"


@pytest.fixture
def service(service: Service) -> Iterator[Service]:
    """The shared service with two LoRAs for its model, and one for another."""
    for name in ("soft", "hard"):
        put(service.home, name, safetensors(pair(), {"modelspec.trigger_phrase": "wtr"}))
    put(service.home, "other", safetensors(pair("transformer_blocks.0.attn.add_q_proj", 3072, 3072)))
    yield service
    for file in (service.home / "loras").iterdir():
        file.unlink()


@pytest.fixture
def page(service: Service, open_page: Any) -> Any:
    page = open_page(service.url).page
    page.evaluate(DRAFT, SMALL)
    page.reload()
    page.click("summary:has-text('More')")
    page.wait_for_selector("#lora")
    return page


def newest(service: Service, prompt: str) -> dict[str, Any]:
    """The newest job, once it has this prompt."""

    def jobs() -> list[dict[str, Any]]:
        items = service.http.get("/api/jobs?limit=1").json()["items"]
        return [job for job in items if job["prompt"] == prompt]

    until(lambda: bool(jobs()), "the job is there")
    return jobs()[0]


def test_a_lora_is_added_with_the_keyboard_and_kept(service: Service, page: Any) -> None:
    assert page.locator("#lora option").all_inner_texts() == ["hard", "soft"]
    page.focus("#lora")
    page.keyboard.press("s")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    until(lambda: page.evaluate(FOCUS) == "Strength of soft", "the slider has the focus")
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    page.wait_for_selector("[data-lora=soft] output:text-is('0.8')")
    assert "Trigger words: wtr" in page.locator("[data-lora=soft]").inner_text()
    assert page.locator("#lora option").all_inner_texts() == ["hard"]
    page.reload()
    page.wait_for_selector("[data-lora=soft]")
    page.fill("#prompt", "a soft bell")
    page.keyboard.press("Control+Enter")
    assert newest(service, "a soft bell")["params"]["loras"] == [{"name": "soft", "strength": 0.8}]
    page.wait_for_selector("dd:has-text('soft, strength 0.8')", state="attached")
    page.click("[aria-label='Remove soft']")
    page.wait_for_selector("[data-lora=soft]", state="detached")


def test_a_lora_that_the_model_cannot_use_is_left_out(service: Service, page: Any) -> None:
    page.click("text=Add LoRA")
    page.wait_for_selector("[data-lora=hard]")
    page.select_option("#model", "sketch")
    page.wait_for_selector("[data-lora=hard] >> text=cannot use it: it is left out.")
    assert page.locator("#lora").count() == 0
    page.select_option("#model", "tiny")
    page.wait_for_selector("[data-lora=hard] >> text=Trigger words")
    (service.home / "loras" / "hard.safetensors").unlink()
    page.focus("#lora")
    page.wait_for_selector("[data-lora=hard] >> text=cannot use it: it is left out.")
    page.fill("#prompt", "a plain bell")
    page.keyboard.press("Control+Enter")
    assert newest(service, "a plain bell")["params"]["loras"] == []
