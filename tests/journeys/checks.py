"""What a page is checked with in a browser: our own checks, and axe-core where npm brought it."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

# What a page has to keep, written for the browser; its head says what it is.
CHECKS = Path(__file__).with_name("accessibility.js").read_text(encoding="utf-8")
CHECKS = CHECKS[CHECKS.index("() =>") :]

PATHS = [
    *("/", "/lab", "/lab#chat-demo", "/lab#operations"),
    *("/docs", "/docs?q=mailbox", "/docs/start/first-actor"),
    *("/work", "/work/chat-realtime", "/work/command-sse", "/work/operational-visibility"),
    *("/login", "/register", "/no-such-page", "/demo/errands"),
]
# The panels that are like others for a look at widths, and have words of their own.
PANELS = [f"/lab#{panel}" for panel in ("site", "burst", "connections", "sign-ins")]

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


def until_it_lives(page: Page) -> None:
    """Wait until a page that has a stream is connected, and its panel has its styles."""
    if page.locator("#connection-pill").count():
        expect(page.locator("#connection-pill")).to_have_attribute("data-state", "connected")
    if page.locator(".lab").count():
        expect(page.locator(".lab")).not_to_have_attribute("data-loading", "")
