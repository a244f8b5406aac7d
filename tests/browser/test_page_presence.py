"""Who counts as present: a page that is visible and was touched in the last 5 minutes. And what typing loads."""

from __future__ import annotations

from served import Service


def test_a_page_that_nobody_touches_says_so_and_a_touch_takes_it_back(open_page, service: Service) -> None:
    watched = open_page(service.url)
    page = watched.page
    page.clock.install()  # before the page's own scripts run: time passes as the test says
    with page.expect_request(lambda request: request.url.endswith("/api/events?presence=1")):
        page.reload()
    page.wait_for_selector("#prompt")
    page.get_by_role("button", name="Draw", exact=True).wait_for()
    with page.expect_request(lambda request: request.url.endswith("/api/events?presence=0")):
        page.clock.fast_forward("05:05")
    with page.expect_request(lambda request: request.url.endswith("/api/events?presence=1")):
        page.locator("#prompt").press("a")
    watched.check()


def test_typing_and_the_button_load_the_model_that_is_chosen(open_page, service: Service) -> None:
    page = open_page(service.url).page
    asked: list[str] = []

    def warmed(route) -> None:
        """In the service's place: it need not load what the page asks for."""
        asked.append(route.request.url.removeprefix(service.url))
        route.fulfill(status=202, json=service.status())

    page.route("**/api/warm*", warmed)
    page.click("summary:has-text('More')")
    page.select_option("#model", "sketch")
    page.click(".chip")
    page.check("text=Load the model as soon as I type")
    with page.expect_response("**/api/warm*"):
        page.click("#model-panel >> text=Load sketch now")
    page.keyboard.press("Escape")
    with page.expect_response("**/api/warm*"):
        page.locator("#prompt").press_sequentially("a boat")
    assert asked == ["/api/warm?model=sketch"] * 2
