"""Who counts as present: a page that is visible and was touched in the last 5 minutes."""

from __future__ import annotations

from served import Service


def test_a_page_that_nobody_touches_says_so_and_a_touch_takes_it_back(open_page, service: Service) -> None:
    watched = open_page(service.url)
    page = watched.page
    page.clock.install()  # before the page's own scripts run: time passes as the test says
    with page.expect_request(lambda request: request.url.endswith("/api/events?presence=1")):
        page.reload()
    page.wait_for_selector("#prompt")
    page.get_by_text("Draw").first.wait_for()
    with page.expect_request(lambda request: request.url.endswith("/api/events?presence=0")):
        page.clock.fast_forward("05:05")
    with page.expect_request(lambda request: request.url.endswith("/api/events?presence=1")):
        page.locator("#prompt").press("a")
    watched.check()
