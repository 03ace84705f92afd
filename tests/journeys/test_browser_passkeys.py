"""Passkeys in a real browser with an authenticator of its own: added, used, and removed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import CDPSession, Page, expect

from tests.journeys.checks import axe, found_by_axe
from tests.journeys.kinds import OpenPage
from tests.journeys.site_process import SiteProcess
from tests.journeys.test_browser_accounts import PASSWORD

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def with_authenticator(page: Page, *, has_verification: bool = True) -> tuple[CDPSession, str]:
    """Give a page's browser an authenticator that is built in."""
    session = page.context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2", "transport": "internal", "hasResidentKey": True,
        "hasUserVerification": has_verification, "isUserVerified": has_verification,
        "automaticPresenceSimulation": True,
    }  # fmt: skip
    added = session.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    return session, added["authenticatorId"]


def press(page: Page, name: str) -> None:
    """Press a button by the keyboard alone."""
    button = page.get_by_role("main").get_by_role("button", name=name, exact=True)
    button.focus()
    page.keyboard.press("Enter")


def test_a_passkey_is_added_signs_in_proves_and_is_removed(
    site: SiteProcess, new_page: OpenPage
) -> None:
    # AUTH-7, AUTH-8, AUTH-9, SEC-102, SEC-107: by the keyboard, at 390 px
    go_the_way(new_page(390, 844), site, "keyla", lambda: None)


def test_axe_finds_nothing_on_the_way(site: SiteProcess, new_page: OpenPage) -> None:
    # SITE-20
    page, source = new_page(390, 844), axe()

    def look() -> None:
        assert found_by_axe(page, source) == []

    go_the_way(page, site, "axela", look)


def go_the_way(page: Page, site: SiteProcess, name: str, look: Callable[[], None]) -> None:
    """Register, add a passkey, use it in each way, and remove it."""
    url = f"http://localhost:{site.url.rpartition(':')[2]}"
    session, authenticator = with_authenticator(page)
    page.goto(f"{url}/register?next=/account")
    page.get_by_label("Name").fill(name)
    page.get_by_label("E-mail address").fill(f"{name}@example.org")
    page.get_by_label("Password").fill(PASSWORD)
    press(page, "Create account")
    page.get_by_label("Name of the new passkey").fill("this phone")
    press(page, "Add a passkey")
    expect(page.get_by_role("heading", level=1)).to_have_text("Your recovery codes")
    page.goto(f"{url}/account")
    expect(page.get_by_text("this phone")).to_be_visible()
    look()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("button", name="Sign out").click()
    # Behind a password it is the second factor.
    page.goto(f"{url}/login?next=/account")
    look()
    page.get_by_label("E-mail address").fill(f"{name}@example.org")
    page.get_by_label("Password").fill(PASSWORD)
    press(page, "Sign in")
    expect(page.get_by_role("heading", level=1)).to_have_text("One more step")
    look()
    press(page, "Use a passkey")
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    page.get_by_role("button", name="Sign out").click()
    page.goto(f"{url}/login?next=/account")
    press(page, "Sign in by a passkey")
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    page.goto(f"{url}/account/prove?next=/account")
    look()
    press(page, "Use a passkey")
    expect(page).to_have_url(f"{url}/account")
    press(page, "Remove this phone")
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    expect(page.get_by_text("this phone")).to_have_count(0)
    # A device that cannot verify its user is not taken.
    session.send("WebAuthn.removeVirtualAuthenticator", {"authenticatorId": authenticator})
    with_authenticator(page, has_verification=False)
    press(page, "Add a passkey")
    expect(page.locator("[data-passkey=add] .problem")).to_contain_text("Nothing was done")
