"""A person signs in by a provider, links it, and leaves both, by the keyboard on a small screen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Literal

import pytest
import trio
from playwright.sync_api import Page, expect

from tests.journeys.checks import CHECKS, axe, found_by_axe
from tests.journeys.kinds import OpenPage, StartSite
from tests.patience import PATIENCE_S
from tests.web.accounts.provider.lying import CLIENT, SECRET, LyingProvider, open_provider

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@contextmanager
def running_provider() -> Iterator[LyingProvider]:
    """Run the provider beside the browser, which is driven without trio."""
    ready: SimpleQueue[tuple[LyingProvider, trio.lowlevel.TrioToken, trio.Event]] = SimpleQueue()

    async def serve() -> None:
        async with open_provider() as provider:
            over = trio.Event()
            ready.put((provider, trio.lowlevel.current_trio_token(), over))
            await over.wait()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    provider, token, over = ready.get(timeout=PATIENCE_S)
    try:
        yield provider
    finally:
        token.run_sync_soon(over.set)
        thread.join(PATIENCE_S)


def press(page: Page, role: Literal["button", "link"], name: str) -> None:
    """Go on by the keyboard alone."""
    page.get_by_role(role, name=name).focus()
    page.keyboard.press("Enter")


def test_a_person_comes_by_a_provider_and_leaves_it_too(
    start_site: StartSite, new_page: OpenPage
) -> None:
    # AUTH-4, AUTH-6, AUTH-13: no form of ours leads to another site (SEC-91)
    go_the_way(new_page(390, 844), start_site, lambda: None)


def test_axe_finds_nothing_on_the_way(start_site: StartSite, new_page: OpenPage) -> None:
    # SITE-20
    page, source = new_page(390, 844), axe()

    def look() -> None:
        assert found_by_axe(page, source) == []

    go_the_way(page, start_site, look)


def go_the_way(page: Page, start_site: StartSite, look_too: Callable[[], None]) -> None:
    """Sign in by a provider, unlink and link it, sign out of both, and find it away."""

    def look() -> None:
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate(CHECKS) == []
        look_too()

    with running_provider() as provider:
        provider.has_end_session = True
        site = start_site(
            OAUTH_EXAMPLE_ISSUER=provider.issuer,
            OAUTH_EXAMPLE_CLIENT_ID=CLIENT,
            OAUTH_EXAMPLE_CLIENT_SECRET=SECRET,
        )
        page.goto(f"{site.url}/login?next=/account")
        look()
        press(page, "link", "Sign in with Example")
        expect(page).to_have_url(f"{site.url}/account")
        expect(page.get_by_role("button", name="Unlink Example")).to_be_visible()
        look()
        press(page, "button", "Unlink Example")
        press(page, "link", "Link Example")
        expect(page.get_by_role("button", name="Unlink Example")).to_be_visible()
        # Signing out leads to the provider, and back.
        press(page, "button", "Sign out")
        expect(page).to_have_url(f"{site.url}/")
        assert provider.calls["/leave"] == 1
        # One that is away: the other ways in are there.
        provider.lies.status["/token"] = 500
        page.goto(f"{site.url}/login?next=/account")
        press(page, "link", "Sign in with Example")
        expect(page.locator("p.banner")).to_contain_text("does not answer just now")
        expect(page.get_by_label("Password")).to_be_visible()
        look()
