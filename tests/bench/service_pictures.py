"""Pictures of the service's page over the sample's five servers, in a real browser.

    python tests/bench/service_pictures.py BUNDLE FOLDER

Writes edge-service.png, the README's picture, and others to look at: dark, a phone's width, the
welcome, the API page, a held tool. Ends with 1 where axe finds a fault on one of them.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "samples" / "desk_assistant"))
from servers import install, write_servers_json
from service.support import Service, start
from service.test_page import CHROMIUM
from workspace import make_workspace

REQUESTS = ("What does notes/shopping.txt say?", "Create a folder called archive")
DESKTOP, PHONE = {"width": 1240, "height": 900}, {"width": 390, "height": 844}
WAIT_MS = 120_000


class Pictures:
    """Takes pictures of pages, checked by axe."""

    def __init__(self, browser: Browser, service: Service, folder: Path) -> None:
        self._browser, self._service, self._folder = browser, service, folder
        self.faults: list[str] = []

    def open(self, size: dict[str, int], scheme: str, path: str = "/", *, key: bool = True) -> Page:
        """Open a page of the service, with its key."""
        context = self._browser.new_context(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.goto(f"{self._service.url}{path}" + (f"#key={self._service.key}" if key else ""))
        return page

    def take(self, page: Page, name: str) -> None:
        """Check and keep what is seen."""
        result = Axe().run(page)
        if result.violations_count:
            self.faults.append(f"{name}: {result.generate_report()}")
        page.screenshot(path=self._folder / f"{name}.png")


def talk(page: Page) -> None:
    """Ask for something that is only read, then for something that waits for an approval."""
    for request in REQUESTS:
        page.get_by_label("Your request").fill(request)
        page.keyboard.press("Enter")
        foot = page.locator("li.run").last.locator(".foot")
        expect(foot).to_contain_text("completed" if request is REQUESTS[0] else "waits")


def take_all(pictures: Pictures) -> None:
    page = pictures.open(DESKTOP, "light", key=False)
    expect(page.get_by_role("dialog")).to_be_visible()
    pictures.take(page, "key")
    page = pictures.open(DESKTOP, "light")
    expect(page.locator("#bundle")).not_to_have_text("not connected")
    pictures.take(page, "welcome")
    talk(page)
    page.get_by_role("button", name="Tools and charts").click()
    expect(page.get_by_role("img", name="Last stages")).to_be_visible()
    page.wait_for_timeout(500)
    pictures.take(page, "edge-service")
    page.emulate_media(color_scheme="dark")
    page.locator("details.toolset summary").first.click()
    pictures.take(page, "dark")
    page.get_by_role("button", name="Deny").click()
    expect(page.locator("li.run").last.locator(".foot")).to_contain_text("completed")
    pictures.take(page, "denied")
    for scheme in ("light", "dark"):
        page = pictures.open(PHONE, scheme)
        expect(page.locator("li.run").last.locator(".foot")).to_contain_text("completed")
        page.wait_for_timeout(300)
        pictures.take(page, f"phone-{scheme}")
        page.get_by_role("button", name="Tools and charts").click()
        page.wait_for_timeout(500)
        pictures.take(page, f"phone-{scheme}-tools")
    page = pictures.open(DESKTOP, "light", "/docs", key=False)
    page.locator(".docs details summary").nth(2).click()
    pictures.take(page, "api")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    install()
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        desk = Path(name).resolve() / "desk"
        desk.mkdir()
        context = make_workspace(desk)
        servers = write_servers_json(desk, Path(name) / "servers.json")
        service = start(given.bundle, Path(name), "--context", context, servers=servers)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        pictures = Pictures(browser, service, given.folder)
        try:
            take_all(pictures)
        finally:
            browser.close()
            service.stop()
    sys.stderr.write("\n".join(pictures.faults))
    return int(bool(pictures.faults))


if __name__ == "__main__":
    sys.exit(main())
