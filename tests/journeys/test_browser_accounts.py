"""A person with a browser: registers, signs out and in, with and without scripts."""

from __future__ import annotations

import json
import re

import pytest
import trio
from playwright.sync_api import Browser, Page, expect

from tests.journeys.kinds import OpenContext, StartSite
from tests.journeys.site_process import SiteProcess
from tests.patience import PATIENCE_S, until

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PASSWORD = "x9 qv, tz!"


def register(page: Page, site: SiteProcess, name: str) -> None:
    page.goto(f"{site.url}/register?next=/account")
    page.get_by_label("Name").fill(name)
    page.get_by_label("E-mail address").fill(f"{name}@example.org")
    page.get_by_label("Password").fill("football")
    page.get_by_role("main").get_by_role("button", name="Create account").click()
    expect(page.locator("#register-password-problem")).to_contain_text("Many people")
    expect(page.get_by_label("Name")).to_have_value(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("main").get_by_role("button", name="Create account").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)


def test_a_person_registers_and_other_tabs_follow(
    site: SiteProcess, new_context: OpenContext
) -> None:
    # SITE-33, SITE-40, SITE-43, SITE-45
    context = new_context()
    lab, page = context.new_page(), context.new_page()
    lab.goto(f"{site.url}/lab")
    expect(lab.locator("#connection-pill")).to_have_attribute("data-state", "connected")
    register(page, site, "ada")
    expect(lab.locator("#connection-pill")).to_contain_text("load this page again")
    lab.get_by_role("button", name="load again").click()
    expect(lab.locator(".viewer")).to_contain_text("ada")
    expect(lab.locator("#connection-pill")).to_have_attribute("data-state", "connected")
    lab.locator("#chat-you-draft").fill("as myself")
    lab.locator("#chat-you-draft").press("Enter")
    expect(lab.locator("#chat-you-list > li").last).to_contain_text("as myself")
    expect(lab.locator("#chat-you-list > li .author").last).to_have_text("ada")
    expect(lab.locator("#chat-you-list > li").last).to_have_class(re.compile("is-own"))
    # SITE-75: another room of the same page, and the first one again.
    lab.get_by_role("tab", name="Chat").click()
    rooms = lab.locator(".room-switch")
    rooms.get_by_role("button", name="Support").click()
    expect(lab.get_by_role("heading", name="Room: Support")).to_be_visible()
    expect(lab.locator("#chat-you-list > li")).to_have_count(0)
    lab.locator("#chat-you-draft").fill("to members")
    lab.locator("#chat-you-draft").press("Enter")
    expect(lab.locator("#chat-you-list > li")).to_contain_text("to members")
    rooms.get_by_role("button", name="Lobby").click()
    expect(lab.locator("#chat-you-list > li").last).to_contain_text("as myself")
    password = page.locator("#change-current_password")
    page.get_by_role("button", name="Show").first.click()
    expect(password).to_have_attribute("type", "text")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("link", name="Create account")).to_be_visible()
    page.go_back()
    # SEC-22: nothing of a member's page is kept
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    expect(lab.locator("#connection-pill")).to_contain_text("load this page again")


def _sign_in(page: Page, site: SiteProcess, name: str) -> None:
    page.goto(f"{site.url}/login?next=/lab")
    page.get_by_label("E-mail address").fill(f"{name}@example.org")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("main").get_by_role("button", name="Sign in").click()
    expect(page.locator(".viewer")).to_contain_text(name)


def _draft(page: Page, text: str) -> None:
    expect(page.locator("#connection-pill")).to_have_attribute("data-state", "connected")
    page.locator("#chat-you-draft").fill(text)


def _is_put_away(page: Page) -> None:
    expect(page.locator("#chat-you-draft")).to_have_value("")
    expect(page.locator("#chat-you-draft")).not_to_be_editable()
    expect(page.locator("#chat-you-note")).to_contain_text("comes back to who wrote it")


DRAFTS = "Object.keys(sessionStorage).filter((key) => key.startsWith('draft '))"


def test_a_draft_leaves_with_who_signs_out(start_site: StartSite, new_context: OpenContext) -> None:
    # SITE-64, SEC-13: it is in no tab of this browser any more, and the page says so
    # A site of its own: five of one address may register within an hour.
    site = start_site()
    context = new_context()
    page, lab, away = context.new_page(), context.new_page(), context.new_page()
    register(page, site, "hedy")
    lab.goto(f"{site.url}/lab")
    _draft(lab, "what nobody shall see")
    # A page whose line is gone hears of it as well.
    away.goto(f"{site.url}/lab")
    _draft(away, "nor this")
    away.route("**/events**", lambda route: route.abort())
    page.get_by_role("button", name="Sign out").click()
    for one in (lab, away):
        _is_put_away(one)
        assert one.evaluate(DRAFTS) == []
    _sign_in(lab, site, "hedy")
    expect(lab.locator("#connection-pill")).to_have_attribute("data-state", "connected")
    expect(lab.locator("#chat-you-draft")).to_have_value("")


def test_a_draft_leaves_with_an_account(start_site: StartSite, new_context: OpenContext) -> None:
    # SITE-64, SITE-47: the name is free, and whoever takes it in this tab finds nothing
    site = start_site()
    context = new_context()
    page, lab = context.new_page(), context.new_page()
    register(page, site, "vera")
    lab.goto(f"{site.url}/lab")
    _draft(lab, "what nobody shall see")
    page.goto(f"{site.url}/account")
    # SEC-136: before it goes it is taken away, without leaving the page.
    export = page.locator("form[action='/account/export']")
    export.locator("input[type=password]").fill(PASSWORD)
    with page.expect_download() as taken:
        export.get_by_role("button", name="Download").click()
    assert taken.value.suggested_filename == "greenroom-account.json"
    assert json.loads(taken.value.path().read_bytes())["profile"]["username"] == "vera"
    form = page.locator("form[action='/account/delete']")
    form.locator("input[type=password]").fill("not this one")
    form.get_by_role("button", name="Delete").click()
    expect(lab.locator("#chat-you-draft")).to_have_value("what nobody shall see")
    form.locator("input[type=password]").fill(PASSWORD)
    form.get_by_role("button", name="Delete").click()
    _is_put_away(lab)
    register(lab, site, "vera")
    lab.goto(f"{site.url}/lab")
    expect(lab.locator("#connection-pill")).to_have_attribute("data-state", "connected")
    expect(lab.locator("#chat-you-draft")).to_have_value("")


def test_a_draft_waits_for_its_writer_whose_sign_in_is_over(
    start_site: StartSite, new_context: OpenContext
) -> None:
    # SITE-64, SEC-13: the next person does not see it, who wrote it does. On a device that is new
    # to the account nobody ends what is signed in elsewhere, but where risk is only observed.
    site = start_site(RISK="observe")
    context, elsewhere = new_context(), new_context()
    page, lab = context.new_page(), context.new_page()
    register(page, site, "joan")
    lab.goto(f"{site.url}/lab")
    _draft(lab, "half a thought")
    register(elsewhere.new_page(), site, "mary")
    ender = new_context().new_page()
    _sign_in(ender, site, "joan")
    ender.goto(f"{site.url}/account")
    ender.get_by_role("button", name="others").click()
    _is_put_away(lab)
    lab.get_by_role("button", name="load again").click()
    expect(lab.locator("#chat-you-draft")).to_have_count(0)
    _sign_in(lab, site, "mary")
    expect(lab.locator("#connection-pill")).to_have_attribute("data-state", "connected")
    expect(lab.locator("#chat-you-draft")).to_have_value("")
    context.clear_cookies()
    _sign_in(lab, site, "joan")
    expect(lab.locator("#chat-you-draft")).to_have_value("half a thought")


def test_without_scripts_it_is_the_same(site: SiteProcess, browser: Browser) -> None:
    # SITE-19
    context = browser.new_context(java_script_enabled=False, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(PATIENCE_S * 1000)
    register(page, site, "grace")
    page.get_by_role("button", name="Sign out").click()
    page.goto(f"{site.url}/protected")
    page.get_by_label("E-mail address").fill("grace@example.org")
    page.get_by_label("Password").fill("wrong words")
    page.get_by_role("main").get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert").last).to_contain_text("do not go together")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("main").get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("You are in, grace")
    context.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_without_scripts_other_rooms_are_reached(
    site: SiteProcess, browser: Browser, width: int
) -> None:
    # SITE-19, SITE-20, SITE-75: the switch of the rooms is a form then, and readable on a phone
    context = browser.new_context(
        java_script_enabled=False,
        reduced_motion="reduce",
        viewport={"width": width, "height": 844},
    )
    try:
        page = context.new_page()
        register(page, site, f"room{width}")
        page.goto(f"{site.url}/lab")
        switch = page.locator("#chat-demo form.room-switch")
        expect(switch.get_by_role("button")).to_have_count(3)
        switch.get_by_role("button", name="Demo").click()
        expect(page.locator("#chat-title")).to_have_text("Room: Demo")
        expect(switch.locator("[aria-current]")).to_have_text("Demo")
        page.locator("#chat-you-composer textarea").fill(f"from {width}")
        page.locator("#chat-you-composer").get_by_role("button").first.click()
        expect(page.locator("#chat-title")).to_have_text("Room: Demo")
        expect(page.locator("#chat-you-list .body").last).to_have_text(f"from {width}")
        for button in switch.get_by_role("button").all():
            box = button.bounding_box()
            assert box is not None
            assert box["height"] >= 24
            assert box["x"] + box["width"] <= width
        switch.get_by_role("button", name="Lobby").click()
        expect(page.locator("#chat-title")).to_have_text("Room: Lobby")
    finally:
        context.close()


def test_a_person_signs_in_by_a_link_with_the_keyboard_alone(
    site: SiteProcess, browser: Browser
) -> None:
    # AUTH-1, SEC-82, SITE-19, SITE-20: no script, no mouse, both widths
    for width in (1440, 390):
        kind = {"viewport": {"width": width, "height": 900}, "java_script_enabled": False}
        asking, other = (browser.new_context(**kind) for _ in range(2))  # type: ignore[arg-type]
        page, address = asking.new_page(), f"by.link.{width}@example.org"
        page.goto(f"{site.url}/login")
        page.get_by_role("link", name="have a link sent").press("Enter")
        expect(page.get_by_label("E-mail address")).to_be_focused()
        page.keyboard.type(address)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("Look at your mail")
        code = page.locator("main strong").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        link = _link_in_mail(site, address)
        elsewhere = other.new_page()
        elsewhere.goto(link)
        expect(elsewhere.get_by_label("Code")).to_be_focused()
        elsewhere.keyboard.type("00000000")
        elsewhere.keyboard.press("Enter")
        expect(elsewhere.locator(".banner")).to_contain_text("opens nothing")
        assert elsewhere.evaluate("document.documentElement.scrollWidth <= innerWidth")
        elsewhere.get_by_label("Code").fill(code)
        elsewhere.keyboard.press("Enter")
        expect(elsewhere.get_by_role("button", name="Sign out")).to_be_visible()
        elsewhere.goto(f"{site.url}/account")
        expect(elsewhere.get_by_role("main")).to_contain_text(address)
        page.goto(link)
        page.get_by_role("main").get_by_role("button", name="Sign in").press("Enter")
        expect(page.locator(".banner")).to_contain_text("opens nothing")
        for context in (asking, other):
            context.close()


def _link_in_mail(site: SiteProcess, address: str) -> str:
    """Wait for the mail that the site prints, as it does on a desk."""
    found: list[str] = []

    def is_there() -> bool:
        text = "\n".join(site.lines)
        found[:] = re.findall(r"http://\S+/login/link/open\?\S*token=[\w-]{43}", text)
        return address in text and bool(found)

    trio.run(until, is_there)
    return found[-1]
