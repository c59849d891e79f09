"""The contact sheet as people see it, in headless Chromium, wide and on a phone."""

import io
import json
from datetime import UTC, datetime

import pytest
from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from assetgen_pipeline.adapters.pillow_images import PillowImageCodec
from assetgen_pipeline.domain.contact_sheet import contact_sheet_html, sheet_pages
from assetgen_pipeline.domain.outcome import ImageStatus
from assetgen_pipeline_tests.domain.test_contact_sheet import HOSTILE, an_outcome, image, row
from assetgen_pipeline_tests.installed_programs import require_program
from assetgen_pipeline_tests.ports import free_port
from assetgen_pipeline_tests.processes import DEADLINE_S, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

STARTS = 3
DESKTOP, PHONE = (1400, 900), (390, 844)
FAILED = ImageStatus.FAILED


@pytest.fixture(scope="module")
def jpeg():
    codec, png = PillowImageCodec(), io.BytesIO()
    Image.new("RGB", (640, 360), "teal").save(png, "PNG")
    try:
        return codec.inspect(png.getvalue()).thumbnail
    finally:
        codec.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    program = require_program("chromium", "chromium")
    driver = require_program("chromedriver", "chromium-driver")

    def start():
        try:
            options = chromium(program, tmp_path_factory.mktemp("profile"))
            service = webdriver.ChromeService(driver, port=free_port())
            return webdriver.Chrome(options=options, service=service)
        except WebDriverException as error:
            # On a busy machine it may take longer to start than its driver waits.
            failures.append(error)
            if len(failures) == STARTS:
                raise
            return None

    failures = []
    started = until(start)
    started.set_script_timeout(DEADLINE_S)
    yield started
    started.quit()


def chromium(program, profile):
    """Options of a headless browser that asks nobody for anything by itself."""
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-dev-shm-usage", "--disable-background-networking", f"--user-data-dir={profile}",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    return options


@pytest.fixture
def show(browser, jpeg, tmp_path):
    """Write the sheet's files, open the first at a size, and forget what was logged before."""

    def opened(*rows, size=DESKTOP, images_per_page=1000):
        outcome = an_outcome(*rows)
        for one in sheet_pages(outcome, images_per_page=images_per_page):
            html = contact_sheet_html(
                outcome,
                thumbnails=lambda _name: jpeg,
                title=outcome.batch_id,
                generated_at=datetime(2026, 3, 1, tzinfo=UTC),
                page=one,
            )
            (tmp_path / one.file).write_text("".join(html), encoding="utf-8")
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE},
        )
        for kind in ("performance", "browser"):
            browser.get_log(kind)
        browser.get((tmp_path / "contact-sheet.html").as_uri())
        return browser

    return opened


SOME_ROWS = (
    row(image(1), image(2), image(3), scene="kitchen", prompt="A cosy kitchen"),
    row(image(1), image(2, status=FAILED, code="provider-rejected"), scene="harbour"),
    row(image(status=ImageStatus.BLOCKED, code="provider-blocked"), scene="duel", prompt=HOSTILE),
)


def shown(browser):
    """The scenes that are visible, in order."""
    cards = browser.find_elements(By.CSS_SELECTOR, ".card")
    return [c.find_element(By.TAG_NAME, "h2").text for c in cards if c.is_displayed()]


def press(browser, *keys):
    browser.switch_to.active_element.send_keys(*keys)


def background(browser):
    return browser.execute_script("return getComputedStyle(document.body).backgroundColor")


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_picture_is_there_and_nothing_sticks_out_of_the_window(show, size):
    browser = show(*SOME_ROWS, size=size)

    assert shown(browser) == ["kitchen", "harbour", "duel"]
    for picture in browser.find_elements(By.TAG_NAME, "img"):
        browser.execute_script("arguments[0].scrollIntoView()", picture)
        browser.execute_script("return arguments[0].decode()", picture)
        assert picture.size["width"] > 40
    width = browser.execute_script("return document.documentElement.scrollWidth")
    assert width <= size[0]
    tops = {p.location["y"] for p in browser.find_elements(By.CSS_SELECTOR, "img")[:3]}
    assert len(tops) == 1


def test_the_page_asks_the_network_for_nothing_and_no_hostile_text_runs(show):
    browser = show(*SOME_ROWS, size=DESKTOP)

    requests = [
        json.loads(entry["message"])["message"]["params"]["request"]["url"]
        for entry in browser.get_log("performance")
        if '"Network.requestWillBeSent"' in entry["message"]
    ]
    assert [url.partition(":")[0] for url in requests if not url.startswith("data:")] == ["file"]
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    assert browser.find_element(By.CSS_SELECTOR, ".card:nth-of-type(3) .prompt").text == HOSTILE


def test_rows_are_filtered_by_status_and_searched_by_words(show):
    browser = show(*SOME_ROWS)

    browser.find_element(By.CSS_SELECTOR, "input[value=failed]").click()
    failed = shown(browser)
    browser.find_element(By.CSS_SELECTOR, "input[value=all]").click()
    browser.find_element(By.NAME, "find").send_keys("COSY kit")

    assert failed == ["harbour"]
    assert shown(browser) == ["kitchen"]
    assert browser.find_element(By.TAG_NAME, "output").text == "1 of 3 rows"


def test_everything_is_reached_from_the_keyboard(show):
    browser = show(*SOME_ROWS)

    press(browser, "j", "j")
    second = browser.switch_to.active_element.find_element(By.TAG_NAME, "h2").text
    press(browser, "k")
    first = browser.switch_to.active_element.find_element(By.TAG_NAME, "h2").text
    press(browser, "/")
    press(browser, "duel")
    found = shown(browser)
    press(browser, Keys.ESCAPE)
    everything = shown(browser)
    press(browser, Keys.TAB)
    press(browser, "f")

    assert (first, second, found) == ("kitchen", "harbour", ["duel"])
    assert everything == ["kitchen", "harbour", "duel"]
    assert shown(browser) == ["kitchen", "harbour"]


@pytest.mark.parametrize("system", ["light", "dark"])
def test_colours_follow_the_system_until_somebody_turns_them(show, system):
    show(*SOME_ROWS).execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": system}]},
    )
    browser = show(*SOME_ROWS)

    def forgotten():
        # What an earlier test chose outlives one clearing now and then: a page may load before it.
        browser.execute_script("sessionStorage.clear()")
        browser.refresh()
        return browser.execute_script("return document.documentElement.dataset.theme") == "system"

    until(forgotten)
    light, dark = "rgb(244, 242, 237)", "rgb(19, 19, 18)"

    of_system = background(browser)
    button = browser.find_element(By.CSS_SELECTOR, ".theme")
    button.click()
    first = background(browser)
    press(browser, "t")
    second = background(browser)

    assert of_system == {"light": light, "dark": dark}[system]
    assert (first, second) == (light, dark)
    assert button.get_attribute("aria-label") == "Colours: dark"


def test_pages_lead_to_one_another(show):
    rows = [row(image(scene=f"S{n}"), scene=f"S{n}") for n in range(5)]
    browser = show(*rows, images_per_page=2)

    browser.find_element(By.CSS_SELECTOR, ".pages a[href='contact-sheet-3.html']").click()

    until(lambda: browser.current_url.endswith("contact-sheet-3.html"))
    assert shown(browser) == ["S4"]


def test_a_thousand_images_can_be_filtered(show):
    rows = [row(*[image(v) for v in range(1, 3)], scene=f"S{n}") for n in range(500)]
    browser = show(*rows)

    browser.find_element(By.NAME, "find").send_keys("S499")

    assert shown(browser) == ["S499"]
