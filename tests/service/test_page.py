"""The page in a real browser (Debian's Chromium, headless) over the real service and model."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright
from service.proxy import Proxy
from service.support import ASK_TIME, PATIENCE_S, Service, clock_that_says, events

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WAIT_MS = PATIENCE_S * 1e3

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # As root, as in a container, Chromium runs without its sandbox only.
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser, service: Service) -> Iterator[Page]:
    yield from opened(browser, service)


def opened(browser: Browser, service: Service, **options: object) -> Iterator[Page]:
    """A page that fails the test for an error of its own, or a request to another host."""
    context = browser.new_context(**options)  # type: ignore[arg-type]
    context.set_default_timeout(WAIT_MS)
    expect.set_options(timeout=WAIT_MS)
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None if urlsplit(request.url).hostname == "127.0.0.1" else faults.append(request.url)
        ),
    )
    yield page
    context.close()
    assert faults == []


def connect(page: Page, url: str, key: str) -> None:
    """Open the page and give the key, with the keyboard alone."""
    page.goto(url)
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.type(key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_label("Your request")).to_be_focused()


def ask(page: Page, request: str = ASK_TIME) -> None:
    page.keyboard.type(request)
    page.keyboard.press("Enter")


def check_accessibility(page: Page) -> None:
    result = Axe().run(page)
    assert result.violations_count == 0, result.generate_report()


HOSTILE = '<img src="x" onerror="document.title = 1"><script>document.title = 2</script>'


def test_a_request_its_stages_an_approval_and_the_answer(
    page: Page, service: Service, service_folder: Path
) -> None:
    connect(page, service.url, service.new_key("browser"))
    with clock_that_says(service_folder, HOSTILE):
        approve_by_keyboard(page)
    run = page.get_by_role("list").locator("li.run").last
    expect(run.locator(".call pre").first).to_contain_text(HOSTILE)
    assert run.locator("img, script").count() == 0
    assert page.title() == "Device agent"
    page.emulate_media(color_scheme="dark")
    check_accessibility(page)


def approve_by_keyboard(page: Page) -> None:
    ask(page)
    run = page.get_by_role("list").locator("li.run").last
    select = run.locator("li.stage.select")
    expect(select).to_contain_text("select")
    expect(select).to_contain_text("get_current_time")
    expect(select).to_contain_text("%")
    expect(select).to_contain_text("reused")
    question = run.get_by_role("group", name="May I call time.get_current_time?")
    expect(question).to_contain_text("timezone")
    page.get_by_role("button", name="Tools and charts").click()
    expect(page.get_by_role("img", name="Last stages")).to_be_visible()
    page.locator("details.toolset summary").click()
    expect(page.get_by_text("asks first")).to_be_visible()
    check_accessibility(page)
    question.get_by_role("button", name="Approve").press("Enter")
    expect(run.locator(".call").first).to_contain_text("observed")
    expect(run.locator(".foot")).to_contain_text("completed")
    expect(run.locator(".said")).not_to_be_empty()
    expect(page.get_by_role("status")).to_contain_text("Answer")


def test_an_interrupted_stream_goes_on_without_a_gap_or_a_repetition(
    page: Page, service: Service
) -> None:
    key = service.new_key("traveller")
    with Proxy(service.url) as proxy, service.client(key) as client:
        connect(page, proxy.url, key)
        ask(page)
        expect(page.get_by_role("button", name="Approve")).to_be_visible()
        run = page.locator("li.run").last
        proxy.cut()
        assert proxy.cuts > 0
        expect(run).to_have_attribute("data-connection", "lost")
        (stored,) = client.get("/v1/runs").json()["data"]
        body = {"call_id": stored["pending"]["call_id"], "approve": False}
        assert client.post(f"/v1/runs/{stored['id']}/approval", json=body).status_code == 200
        expect(run.locator(".foot")).to_contain_text("completed")
        expect(run.locator(".call").first).to_contain_text("denied")
        with client.stream("GET", f"/v1/runs/{stored['id']}/events") as response:
            told = [kind for _, kind, _ in events(response)]
        assert run.locator("li.stage").count() == told.count("stage_started")
        assert run.locator("li.stage.running").count() == 0
        expect(run.locator(".said")).to_have_text(
            client.get(f"/v1/runs/{stored['id']}").json()["answer"]
        )
        page.reload()
        expect(page.locator("li.run .foot")).to_contain_text("completed")


def test_more_waiting_runs_than_a_browser_has_connections_can_all_be_approved(
    page: Page, service: Service
) -> None:
    key, runs = service.new_key("busy"), 7
    with service.client(key) as client:
        for _ in range(runs):
            assert client.post("/v1/runs", json={"request": ASK_TIME}).status_code < 300
        connect(page, service.url, key)
        for _ in range(runs):
            page.get_by_role("button", name="Approve").first.click()
        expect(page.locator("li.run .foot", has_text="completed")).to_have_count(runs)


def test_a_click_that_did_not_arrive_can_be_repeated_and_an_ended_run_asks_nothing(
    page: Page, service: Service
) -> None:
    connect(page, service.url, service.new_key("tunnel"))
    ask(page)
    run = page.locator("li.run").last
    approve, cancel = (run.get_by_role("button", name=name) for name in ("Approve", "Cancel"))
    for button, path in ((approve, "**/approval"), (cancel, "**/cancel")):
        page.route(path, lambda route: route.abort())
        button.click()
        expect(run.locator(".foot")).to_contain_text("Failed to fetch")
        expect(button).to_be_enabled()
        page.unroute(path)
    cancel.click()
    expect(run.locator(".foot")).to_contain_text("cancelled")
    expect(run.get_by_role("group")).to_have_count(0)


def test_a_held_tool_is_shown_with_its_hints(page: Page, service: Service) -> None:
    with service.client() as client:
        catalog = client.get("/v1/tools").json()
    tool = {**catalog["tool_sets"][0]["tools"][0], "read_only": False, "destructive": True}
    held = {"tool_set": "time", "since": "acceptance", "sha256": "0" * 64, "tool": tool}
    page.route("**/v1/tools", lambda route: route.fulfill(json={**catalog, "held": [held]}))
    connect(page, service.url, service.key)
    page.get_by_role("button", name="Tools and charts").click()
    shown = page.get_by_role("group", name="Held: time")
    expect(shown).to_contain_text("It says: changes things, may destroy")
    check_accessibility(page)


def test_a_phone_shows_everything_within_its_width(browser: Browser, service: Service) -> None:
    phone = {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark"}
    for page in opened(browser, service, **phone):
        connect(page, service.url, service.new_key("phone"))
        page.get_by_role("button", name="Tools and charts").click()
        expect(page.get_by_role("heading", name="Latency and memory")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("heading", name="Latency and memory")).to_be_hidden()
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 360
        check_accessibility(page)


def test_the_api_page_shows_every_operation(page: Page, service: Service) -> None:
    paths = httpx.get(f"{service.url}/openapi.json").json()["paths"]
    page.goto(f"{service.url}/docs")
    shown = page.locator(".docs details summary .verb")
    expect(shown).to_have_count(sum(len(verbs) for verbs in paths.values()))
    check_accessibility(page)
