"""What a page is checked with in a browser: our own checks, and axe-core where npm brought it."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.journeys.site_process import SiteProcess

# What a page has to keep, written for the browser; its head says what it is.
CHECKS = Path(__file__).with_name("accessibility.js").read_text(encoding="utf-8")
CHECKS = CHECKS[CHECKS.index("() =>") :]

PATHS = [
    *("/", "/lab", "/lab#chat-demo", "/lab#operations"),
    *("/docs", "/docs?q=mailbox", "/docs/learn/first-steps", "/docs/explain/consistency"),
    *("/docs/reference/api/storage", "/docs/runbooks/saga"),
    *("/work", "/work/chat-realtime", "/work/command-sse", "/work/operational-visibility"),
    *("/login", "/register", "/no-such-page", "/demo/errands"),
    *("/login/link", "/login/link?sent=1", "/login/link/open?token=none"),
]
# The panels that are like others for a look at widths, and have words of their own.
PANELS = [f"/lab#{panel}" for panel in ("site", "burst", "connections", "sign-ins", "sagas")]

# Installed by `make conformance`; what is not there is told, never passed.
_AXE = Path(__file__).parents[2] / "build" / "node" / "node_modules" / "axe-core" / "axe.min.js"
# Beside what is on by itself: rules that axe leaves off because they are young.
_RUN = """async () => {
  const rules = Object.fromEntries(
    ["label-content-name-mismatch", "target-size", "css-orientation-lock", "p-as-heading"].map(
      (name) => [name, { enabled: true }]));
  const { violations } = await axe.run(document, { resultTypes: ["violations"], rules });
  return violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.target).join(", ")}`);
}"""


def axe() -> str:
    """The source of axe-core; skips the test where it is not installed."""
    if not _AXE.is_file():
        pytest.skip("AXE IS MISSING: `make conformance` installs it")
    return _AXE.read_text(encoding="utf-8")


def found_by_axe(page: Page, source: str) -> list[str]:
    """What axe has to say of a page as it stands."""
    page.evaluate(source)
    found: list[str] = page.evaluate(_RUN)
    return found


# What only a member, or a moderator among them, is shown.
MEMBERS = ["/protected", "/account", "/account/prove", "/demo/chat/moderation", "/demo/chat/audit"]


def become_moderator(page: Page, site: SiteProcess, name: str) -> None:
    """Register, leave a message that another moderator may decide about, and get the role."""
    page.goto(f"{site.url}/lab#chat-demo")
    page.locator("#chat-demo-draft").fill("A link, which waits: https://example.org/" + "x" * 400)
    page.locator("#chat-demo-composer button").click()
    expect(page.locator("#chat-demo-list .is-pending").last).to_be_visible()
    # Somebody else: what was written here is not for this person to decide.
    page.context.clear_cookies()
    page.goto(f"{site.url}/register")
    page.get_by_label("Name").fill(name)
    page.get_by_label("E-mail address").fill(f"{name}@example.org")
    page.get_by_label("Password").fill("x9 qv, tz!")
    page.get_by_role("main").get_by_role("button", name="Create account").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(name)
    site.run("roles", "grant", "moderator", name, "--yes")


def until_it_lives(page: Page) -> None:
    """Wait until a page that has a stream is connected, and its panel has its styles."""
    if page.locator("#connection-pill").count():
        expect(page.locator("#connection-pill")).to_have_attribute("data-state", "connected")
    if page.locator(".lab").count():
        expect(page.locator(".lab")).not_to_have_attribute("data-loading", "")
