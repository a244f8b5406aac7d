"""A real browser on the page: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DEVICES: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": {"width": 1280, "height": 800}},
    "phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
}
DEADLINE_MS = 60_000


@dataclass
class Watched:
    """A page, and what must not happen on it."""

    page: Any
    origin: str
    wrong: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    """Parts of lines of `wrong` that this test brings about itself."""

    def watch(self) -> None:
        page = self.page
        page.on(
            "console", lambda line: line.type in {"error", "warning"} and self.wrong.append(f"console: {line.text}")
        )
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        page.on("dialog", lambda dialog: self.wrong.append(f"dialog: {dialog.message}"))
        page.on("request", self._request)

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.origin, "blob:", "data:")):
            self.wrong.append(f"a request elsewhere: {request.url}")

    def check(self) -> None:
        unexpected = [line for line in self.wrong if not any(part in line for part in self.expected)]
        assert unexpected == []


OpenPage = Callable[..., Watched]


@pytest.fixture(scope="module")
def chromium(require) -> Iterator[Any]:
    """Chromium with a new empty profile. For one file: while Playwright runs, its thread has a running event loop,
    and tests of other files need one of their own."""
    binary = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    require("Chromium is not installed (apt-get install chromium)", binary is not None)
    require("Playwright is not installed (requirements/dev.txt has it)", find_spec("playwright") is not None)
    sync_api = import_module("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium) -> Iterator[OpenPage]:
    """`open_page(url, device=, scheme=)`: a page in a profile of its own; at the end nothing may have gone wrong."""
    opened: list[tuple[Any, Watched]] = []

    def open_one(url: str, device: str = "desktop", scheme: str = "light", **options: Any) -> Watched:
        context = chromium.new_context(color_scheme=scheme, **DEVICES[device], **options)
        context.set_default_timeout(DEADLINE_MS)
        watched = Watched(context.new_page(), url)
        watched.watch()
        opened.append((context, watched))
        watched.page.goto(url)
        watched.page.wait_for_selector("#prompt")
        return watched

    yield open_one
    for context, _watched in opened:
        context.close()
    for _context, watched in opened:
        watched.check()
