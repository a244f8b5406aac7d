"""The page's list of models: one is fetched, watched and removed, by keyboard, with what each costs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub import Fault, LoopbackHub, tiny_hub
from served import Service, new_home, until


@pytest.fixture(scope="module")
def hub(models_dir: Path) -> Iterator[LoopbackHub]:
    with tiny_hub(models_dir) as hub:
        yield hub


@pytest.fixture(scope="module")
def managed(hub: LoopbackHub, sd_server: Path, models_dir: Path, tmp_path_factory: Any) -> Iterator[Service]:
    """A service that fetches nothing by itself; its entry `far` is the tiny model, on the hub."""
    home = new_home(tmp_path_factory.mktemp("managed") / "home", models_dir)
    with pytest.MonkeyPatch.context() as patch:
        hub.offer_tiny(home, patch, shared=False)
        service = Service(home, sd_server, {"auto_fetch": "off"})
        service.start()
    yield service
    service.end()


def focus(page: Any) -> str:
    """The accessible name of the focused element."""
    return str(page.evaluate("document.activeElement.ariaLabel ?? document.activeElement.innerText"))


def press(page: Any, name: str) -> None:
    """Move the focus by Tab until it is on `name`, then press Enter (a checkbox: Space)."""
    page.get_by_role("button", name=name, exact=True).or_(page.get_by_role("checkbox", name=name)).first.wait_for()
    for _ in range(200):
        if focus(page).strip() == name:
            page.keyboard.press("Enter")
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not reach {name}; the focus is on {focus(page)!r}")


def opened(page: Any) -> Any:
    """The dialog, opened by keyboard."""
    page.focus(".chip")
    page.keyboard.press("Enter")
    press(page, "All models…")
    page.locator("#models[open]").wait_for()
    return page.locator("#models li[data-model=far]")


def test_a_model_is_fetched_watched_and_removed_by_keyboard(managed: Service, hub: LoopbackHub, open_page: Any) -> None:
    hub.licence = "cc-by-nc-4.0"
    hub.faults = [Fault(hold_after=1_000_000)]
    page = open_page(managed.url).page
    far = opened(page)
    press(page, "Fetch… Far away")
    far.get_by_text("does not allow commercial use. Have you read it, and do you accept it?").wait_for()
    until(lambda: focus(page) == "Fetch Far away", "the question has the focus")
    assert "3 files from the model hub." in far.inner_text()
    size = f"Fetch {round(sum(map(len, hub.files['owner/tiny'].values())) / 1e6)} MB"
    assert far.get_by_role("button", name=size).is_disabled(), "before the licence is accepted"
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    press(page, size)
    far.get_by_role("progressbar", name="Fetching Far away").wait_for()
    far.get_by_text("dit.gguf: ").wait_for()
    hub.release()
    far.get_by_text("far, installed").wait_for()
    assert page.locator("#model option[value=far]").is_enabled()

    press(page, "Remove… Far away")
    far.get_by_text("Deletes 3 of 3 files.").wait_for()
    press(page, "Cancel")
    until(lambda: focus(page) == "Remove… Far away", "the focus is back")
    press(page, "Remove… Far away")
    far.get_by_text("Deletes 3 of 3 files.").wait_for()
    press(page, f"Remove {size.removeprefix('Fetch ')}")
    far.get_by_text("far, not installed").wait_for()
    assert not (managed.home / "models" / "far").exists()
    page.keyboard.press("Escape")
    until(lambda: page.evaluate("document.activeElement.className") == "chip", "the focus is on the chip")


def test_a_refusal_is_shown_at_its_model_and_a_download_stops(
    managed: Service, hub: LoopbackHub, open_page: Any
) -> None:
    hub.hold_again()
    hub.licence, hub.listing_faults = "apache-2.0", [Fault(status=503)]
    hub.faults = [Fault(hold_after=1_000_000)]
    watched = open_page(managed.url, scheme="dark")
    watched.expected.append("503")
    page = watched.page
    far = opened(page)
    assert page.locator("#models li[data-model=realesrgan-x4plus] button").inner_text() == "Fetch…", "upscalers too"
    far.get_by_role("button", name="Fetch… Far away").click()
    far.locator("[role=alert] >> text=far cannot be fetched now. The hub is in trouble (HTTP 503).").wait_for()
    far.get_by_role("button", name="Fetch… Far away").click()
    far.get_by_role("button", name="Fetch 14 MB").click()
    far.get_by_role("button", name="Stop Far away").click()
    page.locator("#models [role=status] >> text=The download of far is stopped. Received bytes are kept.").wait_for()
    hub.release()
    far.get_by_text("far, not installed").wait_for()
    assert list((managed.home / "models" / "far").glob(".*.part")), "received bytes are kept"
