"""The examples whose pages show something that goes on: the bank's transfers, and the checkout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.journeys.kinds import OpenPage
from tests.journeys.site_process import ExampleProcess

pytestmark = [pytest.mark.browser, pytest.mark.slow]

Open = Callable[[str, str], Page]


@pytest.fixture
def opened(new_page: OpenPage, tmp_path: Path) -> Iterator[Open]:
    running: list[ExampleProcess] = []
    heard: list[str] = []

    def open_example(name: str, panel: str) -> Page:
        running.append(ExampleProcess(name, "memory", tmp_path / name))
        page = new_page(width=390)
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.goto(running[-1].url)
        expect(page.locator("html")).to_have_attribute("data-connection", "connected")
        expect(page.locator(f"#panel-{panel}")).to_be_visible()
        return page

    yield open_example
    for one in running:
        one.end()
    assert heard == []


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name).first.click()


def test_a_transfer_is_seen_as_it_ends(opened: Open) -> None:  # EX-3
    page = opened("banking", "bank")
    for name, holder in (("ann", "Ann <b>"), ("bob", "Bob")):
        form = page.locator("form[action='/open']")
        form.get_by_label("Name").fill(name)
        form.get_by_label("Holder").fill(holder)
        press(page, "Open")
    change = page.locator("form[action='/change']")
    change.get_by_label("Account").fill("ann")
    change.get_by_label("Amount").fill("12.50")
    press(page, "Deposit")
    rows, told = page.locator("#panel-bank td"), page.locator("#panel-bank li")
    expect(rows).to_have_text(["ann", "Ann <b>", "12.50", "bob", "Bob", "0.00"])
    # The page is not loaded again: who looks sees the end of what began before.
    for amount, balances, said in (
        ("2.50", ("10.00", "2.50"), "2.50 from ann to bob: completed"),
        ("99", ("10.00", "2.50"), "99.00 from ann to bob: failed"),
    ):
        form = page.locator("form[action='/transfer']")
        for label, text in (("From", "ann"), ("To", "bob"), ("Amount", amount)):
            form.get_by_label(label).fill(text)
        press(page, "Transfer")
        expect(told.first).to_contain_text(said)
        expect(page.locator("#panel-bank td.cents")).to_have_text([*balances])
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_checkout_fails_or_crashes_and_each_state_is_seen(opened: Open) -> None:  # EX-30
    page = opened("checkout-page", "shop")
    newest = page.locator("#panel-shop li").first
    went = "Idle → PlacingOrder → ProcessingPayment"
    press(page, "Buy")
    expect(newest).to_contain_text("1 for 50.00: Idle")
    expect(newest).to_contain_text(
        f"{went} → ReservingInventory → Compensating (reserve: there is too little of chair)"
        " → Failed"
    )
    press(page, "Bring")
    expect(page.locator("#panel-shop")).to_contain_text("3 chairs in stock")

    # A crash behind what was stored: its supervisor starts it again, and nothing is done twice.
    press(page, "Buy")
    press(page, "Crash it")
    expect(newest).to_contain_text("its actor crashed, was started again and went on")
    expect(newest).to_contain_text(f"{went} → ReservingInventory → Completed")
    expect(page.locator("#panel-shop")).to_contain_text("2 chairs in stock")

    page.get_by_label("Paid with").select_option("poor")
    press(page, "Buy")
    expect(newest).to_contain_text(f"{went} → Compensating (pay: the card's limit is reached)")
    expect(newest).to_contain_text("Failed")
    expect(page.locator("#panel-shop")).to_contain_text("2 chairs in stock")

    # What is no order is told, and shown to nobody.
    page.get_by_label("Chairs").fill("0")
    press(page, "Buy")
    expect(page.get_by_role("status").first).to_have_text("One to 99 chairs are bought at once.")
    expect(page.locator("#panel-shop li")).to_have_count(3)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
