"""The box office in a browser: bought by the keys alone on a telephone, seen live on a desk."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Literal
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.journeys.checks import CHECKS, axe, found_by_axe
from tests.journeys.kinds import OpenPage
from tests.journeys.site_process import ExampleProcess

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# More stops than any of these pages has.
STOPS_MAX = 60
# Of five minutes, just begun.
_A_FEW_MINUTES = re.compile(r"[45]:[0-5]\d")


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExampleProcess]:
    state = tmp_path_factory.mktemp("office")
    running = ExampleProcess("ticketing", "memory", state, TICKETING_TEST_LINKS="on")
    yield running
    running.end()


def enter(page: Page, office: ExampleProcess, who: str, after: str) -> None:
    """Sign in by the link that a mail would have."""
    body = json.dumps({"email": f"{who}@example.org"}).encode()
    asked = Request(
        f"{office.url}/auth/magic-link/request", body, {"content-type": "application/json"}
    )
    with urlopen(asked) as answer:
        token = json.load(answer)["magic_link_token"]
    page.goto(f"{office.url}/sign-in/open?token={token}&next={after}")
    page.get_by_role("main").get_by_role("button", name="Sign in").click()


def plan(page: Page, office: ExampleProcess, title: str) -> str:
    """Plan an event of six seats, and open its sales; gives its id."""
    enter(page, office, "owner", "/organise")
    page.get_by_label("Title").fill(title)
    page.get_by_label("Venue").fill("Old Hall")
    page.get_by_label("Sections").fill("Stalls; A 1-4; 45.00\nBalcony; 2; 20.00")
    for name in ("Keep it as a draft", "Publish", "Open sales"):
        page.get_by_role("button", name=name).click()
    expect(page.locator("[id^=panel-stand-]")).to_contain_text("Stalls")
    return page.url.rpartition("/")[2]


def walk_to(page: Page, wanted: Locator) -> None:
    """Press Tab until it is there: what cannot be reached so, cannot be bought."""
    for _ in range(STOPS_MAX):
        page.keyboard.press("Tab")
        if wanted.evaluate("(one) => one === document.activeElement"):
            return
    raise AssertionError("no key leads there")


def is_well(page: Page) -> None:
    """It has names for all, contrast, room for fingers; and nothing goes over its side."""
    assert page.evaluate(CHECKS) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_ticket_is_bought_by_keys_alone_while_others_look_on(
    office: ExampleProcess, browser: Browser, new_page: OpenPage
) -> None:
    # EX-47, EX-50
    heard: list[str] = []
    desk = new_page(1440)
    show = plan(desk, office, "Nights of Jazz <b>")
    is_well(desk)
    desk.goto(f"{office.url}/events/{show}")
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, color_scheme="dark", reduced_motion="reduce"
    )
    try:
        phone = context.new_page()
        for page in (desk, phone):
            page.on("pageerror", lambda error: heard.append(str(error)))
        enter(phone, office, "ann", f"/events/{show}")
        for page in (desk, phone):
            expect(page.locator("html")).to_have_attribute("data-connection", "connected")
        # Somebody chooses among the seats that another one is about to take.
        desk.get_by_text("Choose seats").first.click()
        desk.get_by_role("checkbox", name="A3").check()
        expect(desk.get_by_label("How many")).to_have_value("1")

        walk_to(phone, phone.locator("#plan-1 summary"))
        phone.keyboard.press("Enter")
        for seat in ("A1", "A2"):
            walk_to(phone, phone.get_by_role("checkbox", name=seat))
            phone.keyboard.press("Space")
        is_well(phone)
        walk_to(phone, phone.get_by_role("button", name="Hold the seats"))
        phone.keyboard.press("Enter")
        order = phone.locator("[id^=panel-reservation-]")
        expect(order).to_contain_text("Seats A1, A2, 72.00")
        expect(phone.locator("[data-left]")).to_have_text(_A_FEW_MINUTES)
        is_well(phone)

        # The other window hears of it, and keeps what was opened and chosen there.
        expect(desk.locator("#free-1")).to_contain_text("2 of 4 free, 2 held")
        expect(desk.get_by_role("checkbox", name="A1 taken")).to_be_disabled()
        expect(desk.get_by_role("checkbox", name="A3")).to_be_checked()
        is_well(desk)

        walk_to(phone, phone.get_by_role("button", name="Pay 72.00"))
        phone.keyboard.press("Enter")
        link = phone.get_by_role("link", name="Ticket for seat A1")
        expect(link).to_be_visible()
        expect(phone.get_by_role("button", name="Pay")).to_be_hidden()
        walk_to(phone, link)
        phone.keyboard.press("Enter")
        expect(phone.get_by_role("img", name="The code of this ticket")).to_be_visible()
        is_well(phone)
        code = phone.locator(".code code").text_content() or ""
    finally:
        context.close()

    # Two gates, the second a moment later; a reader types and ends with Enter.
    gate = desk.context.new_page()
    gate.set_viewport_size({"width": 390, "height": 844})
    for name, word in (("A", "Welcome"), ("B", "Already in")):
        gate.goto(f"{office.url}/gate/{show}?gate={name}")
        expect(gate.get_by_label("Code of the ticket")).to_be_focused()
        gate.keyboard.insert_text(code)
        gate.keyboard.press("Enter")
        expect(gate.locator("#verdict")).to_contain_text(word)
        is_well(gate)
    expect(gate.locator("#verdict")).to_contain_text("gate A")
    assert heard == []


def test_an_order_that_is_let_go_says_so_where_it_is_still_open(
    office: ExampleProcess, new_page: OpenPage
) -> None:
    # EX-47
    page = new_page(390)
    show = plan(page, office, "Blues")
    page.goto(f"{office.url}/events/{show}")
    page.get_by_role("button", name="Hold the seats").click()
    expect(page.get_by_role("button", name="Pay")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("data-connection", "connected")
    other = page.context.new_page()
    other.goto(page.url)
    other.get_by_role("button", name="Let the seats go").click()
    # Nobody is left with a form for seats that others have.
    expect(page.locator(".state")).to_contain_text("The seats are free for others")
    expect(page.get_by_role("button", name="Pay")).to_be_hidden()


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_axe_finds_nothing_at_the_box_office(
    office: ExampleProcess, browser: Browser, width: int, scheme: Literal["light", "dark"]
) -> None:
    source, told = axe(), list[str]()
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    try:
        page = context.new_page()
        page.goto(f"{office.url}/sign-in")
        told += found_by_axe(page, source)
        show = plan(page, office, "Swing")
        told += found_by_axe(page, source)
        page.goto(f"{office.url}/events/{show}")
        page.get_by_text("Choose seats").first.click()
        told += found_by_axe(page, source)
        page.get_by_role("button", name="Hold the seats").click()
        page.get_by_label("Card").select_option("tok_declined")
        page.get_by_role("button", name="Pay").click()
        expect(page.locator(".problem")).to_contain_text("declined")
        told += found_by_axe(page, source)
        page.get_by_role("button", name="Pay").click()
        page.get_by_role("link", name="Ticket for seat").first.click()
        told += found_by_axe(page, source)
        for path in ("/", "/tickets", "/organise", f"/gate/{show}?gate=A", "/events/none"):
            page.goto(office.url + path)
            told += [f"{path}: {one}" for one in found_by_axe(page, source)]
    finally:
        context.close()
    assert told == []
