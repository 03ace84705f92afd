"""A person changes their address and takes it back, by the keyboard, at both widths."""

from __future__ import annotations

import re

import pytest
import trio
from playwright.sync_api import Page, expect

from tests.journeys.checks import CHECKS
from tests.journeys.kinds import OpenPage
from tests.journeys.site_process import SiteProcess
from tests.patience import until

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.mark.parametrize("width", [1440, 390])
def test_an_address_is_changed_and_taken_back(
    site: SiteProcess, new_page: OpenPage, width: int
) -> None:
    # AUTH-11, AUTH-16, SITE-20: each page holds its focus and fits, and nothing is found
    page, name = new_page(width, 900), f"moves{width}"
    new = f"{name}.new@example.org"

    def look() -> None:
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate(CHECKS) == []

    page.goto(f"{site.url}/register?next=/account")
    page.get_by_label("Name").fill(name)
    page.get_by_label("E-mail address").fill(f"{name}@example.org")
    page.get_by_label("Password").fill("x9 qv, tz!")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    page.get_by_label("New e-mail address").fill("nowhere")
    page.locator("form[action='/account/address']").evaluate("(form) => { form.noValidate = true }")
    page.keyboard.press("Enter")
    expect(page.locator("#address-new_email-problem")).to_be_visible()
    expect(page.get_by_label("New e-mail address")).to_be_focused()
    page.get_by_label("New e-mail address").fill(new)
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="a link is on its way")).to_be_visible()
    look()
    page.goto(link_in_mail(site, new, "/account/address/confirm"))
    look()
    go_on(page, "Confirm", "Your address is changed")
    look()
    page.goto(link_in_mail(site, f"{name}@example.org", "/account/address/back"))
    look()
    go_on(page, "This was not me", "You are signed out everywhere")
    look()
    page.get_by_role("link", name="Ask for a link").press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in by a link")


def go_on(page: Page, button: str, heading: str) -> None:
    """Press the button, which has the focus."""
    expect(page.get_by_role("main").get_by_role("button", name=button)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(heading)


def link_in_mail(site: SiteProcess, address: str, path: str) -> str:
    """Wait for the mail that the site prints, as it does on a desk."""
    found: list[str] = []

    def is_there() -> bool:
        text = "\n".join(site.lines)
        found[:] = re.findall(rf"http://\S+{path}\?token=[\w-]+", text)
        return address in text and bool(found)

    trio.run(until, is_there)
    return found[-1]
