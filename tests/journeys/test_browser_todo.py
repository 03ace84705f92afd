"""The todo example in two tabs, on both stores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from docs.examples.todo import TITLE_CHARS_MAX
from tests.journeys.kinds import OpenPage
from tests.journeys.site_process import ExampleProcess

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(params=["memory", "postgres"])
def todo(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ExampleProcess]:
    running = ExampleProcess("todo", request.param, tmp_path / "state")
    yield running
    running.end()


def shows(page: Page, *titles: str) -> None:
    expect(page.locator("#panel-todos li > :first-child")).to_have_text([*titles])


def opened(new_page: OpenPage, todo: ExampleProcess, heard: list[str], width: int = 1280) -> Page:
    page = new_page(width=width)
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.goto(todo.url)
    expect(page.locator("html")).to_have_attribute("data-connection", "connected")
    return page


def add(page: Page, title: str) -> None:
    page.get_by_label("What is to be done?").fill(title)
    page.get_by_role("button", name="Add").click()


def test_two_tabs_are_in_step(todo: ExampleProcess, new_page: OpenPage) -> None:  # EX-2
    heard: list[str] = []
    desk, phone = opened(new_page, todo, heard), opened(new_page, todo, heard, width=390)
    add(desk, "milk <b>now</b>")
    shows(phone, "milk <b>now</b>")
    add(phone, "bread")
    for page in (desk, phone):
        shows(page, "milk <b>now</b>", "bread")
        expect(page.locator("#panel-todos p")).to_have_text("2 of 2 to be done")
    desk.get_by_role("button", name="Complete bread").click()
    for page in (desk, phone):
        expect(page.locator("#panel-todos s")).to_have_text(["bread"])
        expect(page.locator("#panel-todos p")).to_have_text("1 of 2 to be done")
    phone.get_by_role("button", name="Delete milk").click()
    for page in (desk, phone):
        shows(page, "bread")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    # A refusal is told to who asked, beside what was written, and nobody sees a change.
    add(phone, "x" * (TITLE_CHARS_MAX + 1))
    expect(phone.get_by_role("status").first).to_have_text("A title has at most 500 characters.")
    expect(phone.get_by_label("What is to be done?")).to_have_value("x" * (TITLE_CHARS_MAX + 1))
    for page in (desk, phone):
        shows(page, "bread")
    assert heard == []
