"""A person mends their account behind links of mails, by the keyboard, at both widths."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime

import pytest
import trio
from playwright.sync_api import Page, expect

from actors.accounts.kept.factors import code_of_step, step_of
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


@pytest.mark.parametrize("width", [1440, 390])
def test_a_recovery_is_begun_and_stopped_and_done_by_a_code(
    site: SiteProcess, new_page: OpenPage, width: int
) -> None:
    # AUTH-10, SITE-20: both forms behind a link, and each page that mails lead to
    page, name = new_page(width, 900), f"loses{width}"
    email = f"{name}@example.org"

    def look() -> None:
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate(CHECKS) == []

    page.goto(f"{site.url}/register?next=/account")
    page.get_by_label("Name").fill(name)
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill("x9 qv, tz!")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Add an app").press("Enter")
    look()
    expect(page.get_by_role("img", name="The key, for the camera")).to_be_visible()
    secret = base64.b32decode(page.locator(".secret code").inner_text().replace(" ", ""))
    page.get_by_label("The code it shows now").fill(
        code_of_step(secret, step_of(datetime.now(UTC)))
    )
    page.keyboard.press("Enter")
    expect(page.locator("li code")).to_have_count(10)
    code = page.locator("li code").first.inner_text()
    page.goto(f"{site.url}/account")
    page.get_by_role("button", name="Sign out").first.press("Enter")
    expect(page.get_by_role("link", name="Sign in").first).to_be_visible()

    behind_link(site, page, email)
    look()
    page.get_by_role("button", name="Recover the account").press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Look at your mail in a day")
    look()
    page.goto(link_in_mail(site, email, "/login/recovery/stop"))
    look()
    go_on(page, "Stop it", "The recovery is stopped")
    look()
    page.get_by_role("link", name="Sign in by a link").press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in by a link")

    behind_link(site, page, email)
    page.get_by_label("A recovery code, if you have one").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("This was not begun")
    look()
    behind_link(site, page, email)
    page.get_by_label("A recovery code, if you have one").fill(code)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Your account is recovered")
    look()
    behind_link(site, page, email, "/account")
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    expect(page.get_by_text("nothing can be changed that opens it")).to_be_visible()
    look()


def behind_link(site: SiteProcess, page: Page, email: str, then: str = "") -> None:
    """Ask for a link and open it."""
    since = len(site.lines)
    page.goto(f"{site.url}/login/link?next={then}")
    page.get_by_label("E-mail address").fill(email)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Look at your mail")
    page.goto(link_in_mail(site, email, "/login/link/open", since))
    page.get_by_role("main").get_by_role("button", name="Sign in").press("Enter")


def go_on(page: Page, button: str, heading: str) -> None:
    """Press the button, which has the focus."""
    expect(page.get_by_role("main").get_by_role("button", name=button)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(heading)


def link_in_mail(site: SiteProcess, address: str, path: str, since: int = 0) -> str:
    """Wait for the mail that the site prints, as it does on a desk."""
    found: list[str] = []

    def is_there() -> bool:
        text = "\n".join(list(site.lines)[since:])
        found[:] = re.findall(rf"http://\S+{path}\?\S*token=[\w-]+", text)
        return address in text and bool(found)

    trio.run(until, is_there)
    return found[-1]
