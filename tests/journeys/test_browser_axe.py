"""axe-core on every page, tab, theme and state."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest
import trio
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from actors.accounts.kept.factors import code_of_step, step_of
from actors.persistence import NewDeadLetter
from storage.postgres import PostgresDeadLetters, find_embedded, open_database
from tests.journeys.checks import (
    MEMBERS,
    PANELS,
    PATHS,
    axe,
    become_moderator,
    found_by_axe,
    until_it_lives,
)
from tests.journeys.kinds import OpenPage, moving
from tests.journeys.site_process import SiteProcess
from tests.patience import PATIENT_POOL

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.mark.parametrize(
    ("width", "scheme", "forced"),
    [(1440, "light", "none"), (390, "dark", "none"), (1440, "light", "active")],
)
def test_axe_finds_nothing_on_any_page(
    site: SiteProcess,
    browser: Browser,
    width: int,
    scheme: Literal["light", "dark"],
    forced: Literal["active", "none"],
) -> None:
    """SITE-20, LAB-83"""
    source = axe()
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, forced_colors=forced
    )
    told = []
    member = context.new_page()
    become_moderator(member, site, f"axel-{scheme}-{forced}")
    for path in (*PATHS, *PANELS, *MEMBERS):
        page = context.new_page()
        page.goto(site.url + path)
        until_it_lives(page)
        told += [f"{path}: {problem}" for problem in found_by_axe(page, source)]
        page.close()
    told += [f"refused: {problem}" for problem in _refused(context.new_page(), site, source)]
    context.close()
    assert told == []


def _refused(page: Page, site: SiteProcess, source: str) -> list[str]:
    """What axe finds in forms that come back: fields that are wrong, and a sign-in that failed."""
    page.context.clear_cookies()
    told = []
    for path in ("/register", "/login"):
        page.goto(site.url + path)
        for field in page.locator("main form.panel input:not([type=hidden])").all():
            field.fill("x@" if field.get_attribute("name") == "email" else "x")
        page.locator("main form.panel").evaluate("(form) => { form.noValidate = true; }")
        with page.expect_navigation():
            page.locator("main form.panel button[type=submit]").click()
        told += found_by_axe(page, source)
    return told


@moving
def test_axe_finds_nothing_while_things_go_wrong(site: SiteProcess, new_page: OpenPage) -> None:
    """SITE-20, LAB-83, SITE-98: after a give-up, and while the page is not connected."""
    source = axe()
    page = new_page(1440, 900)
    page.goto(f"{site.url}/lab")
    expect(page.locator("#stage-state")).to_have_attribute("data-access", "open")
    page.locator("#chip-crew-beta").click()
    crash = page.locator(".inspector [data-act=crash]")
    known = page.locator("#stories > li[data-place='crew-beta'][data-decision]")
    for number in range(1, 7):
        expect(crash).to_have_attribute("aria-disabled", "false")
        with page.expect_response("**/crash") as answered:
            crash.click()
        assert answered.value.status == 202
        # The next one may be sent when this one is over.
        expect(known.filter(has_text=re.compile("running|gives up"))).to_have_count(number)
    expect(page.locator("#stories > li.is-give-up").first).to_be_attached()
    # What is played passes within two seconds; while it does, chips are half seen on purpose.
    expect(page.locator(".chip[data-play]")).to_have_count(0)
    expect(page.locator(".tape-marks button").first).to_be_visible()
    # A mark stands at its time, so two of one second lie over each other (WCAG 2.5.8, essential).
    assert [one for one in found_by_axe(page, source) if "li[data-story" not in one] == []
    page.context.set_offline(True)
    expect(page.locator("#stale")).to_be_visible()
    assert [one for one in found_by_axe(page, source) if "li[data-story" not in one] == []


# What is read from a mail, and what is made of a mail that is none any more.
MAILED = [
    *("/login/recovery", "/login/recovery/stop?token=none", "/login/recovery/finish?token=none"),
    *("/account/not-me?token=none", "/account/allow?token=none"),
    *("/account/address/confirm?token=none", "/account/address/back?token=none"),
    "/dev/mail",
]
OPERATORS = [
    *("/ops", "/ops/sessions", "/ops/audit", "/ops/traces", "/ops/outside"),
    *("/ops/dead", "/ops/dead/1", "/lab/failures"),
]


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_axe_finds_nothing_in_what_operators_see_and_mails_lead_to(
    tmp_path: Path, browser: Browser, width: int, scheme: Literal["light", "dark"]
) -> None:
    """SITE-20, AUTH-42: and in the parts of an account that are filled"""
    source = axe()
    site = SiteProcess(tmp_path / "state", RISK="off")
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    try:
        page, name = context.new_page(), f"operator-{scheme}"
        page.goto(f"{site.url}/register")
        page.get_by_label("Name").fill(name)
        page.get_by_label("E-mail address").fill(f"{name}@example.org")
        page.get_by_label("Password").fill("x9 qv, tz!")
        page.get_by_role("main").get_by_role("button", name="Create account").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text(name)
        site.run("roles", "grant", "admin", name, "--yes")
        trio.run(_leave_a_letter, tmp_path / "state")
        told: list[str] = []

        def hear(line: ConsoleMessage) -> None:
            told.append(f"{page.url}: says {line.text}")

        page.on("console", hear)
        for path in (*MAILED, *OPERATORS):
            page.goto(site.url + path)
            until_it_lives(page)
            assert page.locator("main h1").count() == 1, path
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
            told += [f"{path}: {problem}" for problem in found_by_axe(page, source)]
        # What is refused below is said by the browser itself.
        page.remove_listener("console", hear)
        page.goto(f"{site.url}/account")
        # Each of these forms is answered by a page of its own.
        for action in ("/account/tokens", "/account/factors/app/new"):
            page.goto(f"{site.url}/account")
            form = page.locator(f"form[action='{action}']")
            for field in form.locator("input[type=text], input:not([type])").all():
                field.fill("a program")
            for box in form.locator("input[type=checkbox]").all()[:1]:
                box.check()
            with page.expect_navigation():
                form.locator("button[type=submit], button:not([type])").first.click()
            told += [f"behind {action}: {problem}" for problem in found_by_axe(page, source)]
        told += [f"recovery codes: {problem}" for problem in _codes_of_an_app(page, source)]
        page.goto(f"{site.url}/account")
        told += [f"/account, filled: {problem}" for problem in found_by_axe(page, source)]
        told += [f"second factor: {problem}" for problem in _half_in(page, site, name, source)]
        assert told == []
    finally:
        context.close()
        site.end()


async def _leave_a_letter(state: Path) -> None:
    """One that is wide: what nobody could send says so in one long word."""
    url = find_embedded(state)
    assert url is not None
    async with open_database(url, settings=PATIENT_POOL) as database:
        payload = b'{"body": "' + b"wide" * 500 + b'"}'
        letter = NewDeadLetter("outbox", "t", "1", "x" * 300, "a chain\n" * 20, payload)
        assert (await PostgresDeadLetters(database).add(letter)) == 1


def _codes_of_an_app(page: Page, source: str) -> list[str]:
    """What axe finds where recovery codes are shown: the page that offers an app is open."""
    shown = page.locator(".secret code").inner_text().replace(" ", "")
    code = code_of_step(base64.b32decode(shown), step_of(datetime.now(UTC)))
    page.locator("input[name=code]").fill(code)
    with page.expect_navigation():
        page.locator("form[action='/account/factors/app'] button").first.click()
    expect(page.locator("main li code")).to_have_count(10)
    return found_by_axe(page, source)


def _half_in(page: Page, site: SiteProcess, name: str, source: str) -> list[str]:
    """What axe finds behind a password, where a second factor is asked for, and was wrong."""
    page.context.clear_cookies()
    page.goto(f"{site.url}/login")
    page.get_by_label("E-mail address").fill(f"{name}@example.org")
    page.get_by_label("Password", exact=True).fill("x9 qv, tz!")
    with page.expect_navigation():
        page.locator("form[action='/login'] button[type=submit]").click()
    expect(page.locator("form[action='/login/second']")).to_be_attached()
    told = found_by_axe(page, source)
    page.locator("input[name=code]").fill("000000")
    with page.expect_navigation():
        page.locator("form[action='/login/second'] button").first.click()
    return told + found_by_axe(page, source)
