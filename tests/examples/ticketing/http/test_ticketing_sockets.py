"""What ticketing tells on its WebSockets: seats to everybody, news to whom they concern."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from docs.examples.ticketing.http import sockets as sockets_module
from docs.examples.ticketing.http import sockets_of
from docs.examples.ticketing.http.sockets import NOBODY, SILENT_S_MAX
from tests.examples.ticketing.http.ticketing_kit import (
    Heard,
    listening,
    open_ticketing,
    planned,
    refused,
    sign_in,
)
from web.app import OwnSite


async def seats(heard: Heard, *numbers: int) -> None:
    """Hear until a section has so many seats available, reserved and sold."""
    while True:
        told = await heard.read()
        if told["type"] == "ping":
            continue  # On a starved machine half a minute is soon over.
        assert told["type"] == "availability_update"
        if tuple(told[one] for one in ("available", "reserved", "sold")) == numbers:
            return


async def test_every_process_tells_every_change_to_whom_it_concerns(
    tmp_path: Path, database_url: str
) -> None:
    # EX-46: two servers on one database
    async with (
        open_ticketing(database_url, tmp_path / "one") as one,
        open_ticketing(database_url, tmp_path / "two") as two,
    ):
        owner, ann, bob = [
            await sign_in(one.port, f"{who}@example.com") for who in ("o", "ann", "bob")
        ]
        event = await planned(owner)
        ann_there, bob_there = ann.at(two.port), bob.at(two.port)
        async with (
            listening(one.port, f"/ws/availability/{event}") as here,
            listening(two.port, f"/ws/availability/{event}") as there,
            listening(two.port, "/ws/notifications", ann_there) as hers,
            listening(two.port, "/ws/notifications", bob_there) as his,
        ):
            for heard in (here, there):
                await seats(heard, 3, 0, 0)
            for heard in (hers, his):
                hello = await heard.read()
                assert (hello["reservation_id"], hello["status"]) == (NOBODY, "Connected")
            name = await ann.reserved(event, 2)
            for heard in (here, there):
                await seats(heard, 1, 2, 0)
            await ann_there.pay(name)
            for heard in (here, there):
                await seats(heard, 1, 0, 2)
            told = [await hers.read()]
            while told[-1]["status"] != "Completed":
                told.append(await hers.read())
            assert {one["reservation_id"] for one in told} == {name}
            kinds = [(one["type"], one["status"]) for one in told]
            assert ("payment_confirmation", "Captured") in kinds
            assert ("reservation_status", "PaymentPending") in kinds
            # All of this was before his pong, and he heard none of it.
            assert await his.is_quiet()


async def test_one_hears_news_at_one_place_and_nobody_those_of_others(memory_port: int) -> None:
    # EX-46
    ann = await sign_in(memory_port, "ann@example.com")
    async with listening(memory_port, "/ws/notifications", ann) as first:
        await first.read()
        async with listening(memory_port, "/ws/notifications", ann) as second:
            await second.read()
            assert await first.closed() == 4408
            assert await second.is_quiet()
    for path in ("/ws/notifications", f"/ws/availability/{NOBODY}", "/ws/availability/x"):
        assert await refused(memory_port, path) == (401 if "notifications" in path else 404)


async def test_what_is_no_word_is_told_and_no_more_than_ten_times(memory_port: int) -> None:
    # EX-46
    event = await planned(await sign_in(memory_port, "o@example.com"))
    async with listening(memory_port, f"/ws/availability/{event}") as heard:
        await seats(heard, 3, 0, 0)
        for wrong in ("{", '{"type":"subscribe"}', b"\0"):
            await heard.send(wrong)
            assert (await heard.read())["type"] == "error"
        assert await heard.is_quiet()
        for _ in range(8):
            await heard.send("x" * 100)
        assert await heard.closed() == 1008


async def test_no_more_than_a_thousand_are_open(
    memory_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # EX-46
    monkeypatch.setattr(sockets_module, "SOCKETS_MAX", 1)
    event = await planned(await sign_in(memory_port, "o@example.com"))
    async with listening(memory_port, f"/ws/availability/{event}"):
        assert await refused(memory_port, f"/ws/availability/{event}") == 503


async def test_who_is_silent_for_five_minutes_is_gone(memory_site: OwnSite) -> None:
    # EX-46
    event = await planned(await sign_in(memory_site.port, "o@example.com"))
    async with listening(memory_site.port, f"/ws/availability/{event}") as heard:
        await seats(heard, 3, 0, 0)
        sockets = sockets_of(memory_site)
        sockets.look(trio.current_time())
        assert (await heard.read())["type"] == "ping"
        sockets.look(trio.current_time() + SILENT_S_MAX)
        assert await heard.closed() == 4408
