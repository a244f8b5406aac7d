"""How the page tells that a job is done: a notification offered at a long job, the tab's icon; and its manifest."""

from __future__ import annotations

import json
from urllib.parse import urljoin

from served import Service, until

LONG = {"prompt": "a long one", "size": "256x256", "steps": "100", "n": 4}
NOTED = """() => {
  const Real = window.Notification;
  window.told = [];
  window.asked = 0;
  window.Notification = class extends Real {
    constructor(title, options) { super(title, options); window.told.push({ title, ...options }); }
    static requestPermission() { window.asked += 1; return Real.requestPermission(); }
  };
}"""
DRAFT = "draft => sessionStorage.setItem('imagegen.draft', JSON.stringify(draft))"
ICON = "document.querySelector('link[rel=icon]').href"


def test_a_long_job_offers_a_notification_and_its_end_sends_it(service: Service, open_page) -> None:
    page = open_page(service.url, permissions=["notifications"]).page
    page.add_init_script(f"({NOTED})()")
    page.clock.install()
    page.evaluate(DRAFT, LONG)
    page.reload()
    page.wait_for_selector(".dot:not(.offline)")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("[data-job]")
    job = service.http.get("/api/jobs", params={"limit": 1}).json()["items"][0]["job_id"]
    with service.engine_held(job):
        offer = page.get_by_role("button", name="Notify me when it is done")
        page.clock.fast_forward("00:25")
        offer.wait_for()
        assert page.evaluate("window.asked") == 0, "nothing is asked before the button is pressed"
        assert page.evaluate(ICON).startswith("blob:"), "the icon shows the progress"
        offer.click()
        offer.wait_for(state="detached")
    service.http.delete(f"/api/jobs/{job}")
    until(lambda: page.evaluate(ICON).endswith("favicon.svg"), "the plain icon is back")
    page.evaluate(DRAFT, {"prompt": "a quick one", "size": "64x64", "steps": "2"})
    page.reload()
    page.wait_for_selector(".dot:not(.offline)")
    page.evaluate("Object.defineProperty(document, 'hidden', { get: () => true, configurable: true })")
    page.keyboard.press("Control+Enter")
    until(lambda: page.evaluate("window.told.length") > 0, "the notification is sent")
    assert page.evaluate("window.told.map(one => [one.title, one.body])") == [["The picture is done", "a quick one"]]
    page.click(".chip")
    page.get_by_label("Notify me when a picture is done").uncheck()
    assert not page.get_by_label("Play a sound when a picture is done").is_checked(), "a sound is off by default"
    page.reload()
    page.click(".chip")
    assert not page.get_by_label("Notify me when a picture is done").is_checked()


def test_the_page_can_be_installed(service: Service) -> None:
    answer = service.http.get("/static/manifest.webmanifest")
    assert answer.headers["content-type"] == "application/manifest+json"
    manifest = json.loads(answer.text)
    address = f"{service.url}/static/manifest.webmanifest"
    assert urljoin(address, manifest["start_url"]) == urljoin(address, manifest["scope"]) == f"{service.url}/"
    for icon in manifest["icons"]:
        assert service.http.get(urljoin(address, icon["src"])).headers["content-type"] == icon["type"]
