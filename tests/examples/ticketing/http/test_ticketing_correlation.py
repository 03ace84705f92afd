"""What one request leads to carries its correlation id, through every stream and process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from email import message_from_bytes
from pathlib import Path
from uuid import uuid4

import pytest
import trio

from actors.persistence import START
from actors.persistence.beside_log.outbox import MAIL_KIND
from actors.persistence.bus import Part, Record, StartAt, read_record
from docs.examples.ticketing.http.bus import TOPIC, bus_of
from docs.examples.ticketing.reading import sales
from docs.examples.ticketing.reading.rows import Rows
from docs.examples.ticketing.reading.sales import PaymentRow, ReservationRow, TicketRow
from storage.memory import MemoryDatabase
from tests.examples.orders.orders_kit import text, told
from tests.examples.ticketing.http.ticketing_kit import (
    PATIENT,
    listening,
    open_ticketing,
    planned,
    sign_in,
)
from tests.patience import PATIENCE_S
from web.app import OwnSite
from web.mail.senders.memory import MemorySender
from web.settings import MailSender

CATEGORIES = ("reservation", "buyer", "inventory", "payment", "bank", "ticket")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
MAILING = replace(PATIENT, mail_sender=MailSender.MEMORY)


@pytest.mark.parametrize("bus", ["memory", pytest.param("postgres", marks=pytest.mark.slow)])
async def test_all_that_a_purchase_leads_to_has_the_id_of_its_requests(
    bus: str, tmp_path: Path, database_url: str
) -> None:
    # EX-47: answer, saga, log, bus, rows, sockets, mail and trace
    database, url = MemoryDatabase(), None if bus == "memory" else database_url
    opened = open_ticketing(url, tmp_path, memory=database, settings=MAILING, bus=bus)
    await has_the_id_of_its_requests(opened, database if url is None else None)


async def has_the_id_of_its_requests(
    opened: AbstractAsyncContextManager[OwnSite], database: MemoryDatabase | None
) -> None:
    """Buy at a site; its mails are looked at in the outbox too where it lies in a `database`."""
    async with opened as site:
        spans = site.system.trace()
        owner, ann = [await sign_in(site.port, f"{who}@example.com") for who in ("o", "ann")]
        # What opens the sales may be readable a moment after the answer, and is the owner's.
        owner.headers["X-Correlation-ID"] = planning = str(uuid4())
        event = await planned(owner)
        one = str(uuid4())
        ann.headers["X-Correlation-ID"] = one
        ann.headers["traceparent"] = f"00-{TRACE}-00f067aa0ba902b7-01"
        async with (
            listening(site.port, "/ws/notifications", ann) as heard,
            listening(site.port, f"/ws/availability/{event}") as hall,
        ):
            assert "correlation_id" not in await heard.read(), "nothing has led to it"
            reply = await ann.reserve(event, 2)
            assert reply.headers["x-correlation-id"] == one
            name = text(told(reply), "reservation_id")
            assert await ann.decided(reply) == 201
            paid = await ann.pay(name)
            assert (paid.status, paid.headers["x-correlation-id"]) == (201, one)
            notes = [await heard.read()]
            while notes[-1]["status"] != "Completed":
                notes.append(await heard.read())
            # Of what planned it the hall may be told yet; whoever buys changes the numbers later.
            seats = [await hall.read()]
            while seats[-1]["sold"] != 2:
                seats.append(await hall.read())
            held = [told["correlation_id"] for told in seats if told["reserved"] or told["sold"]]
            assert {*held} == {one}
        assert {note["type"] for note in notes} == {"reservation_status", "payment_confirmation"}
        assert {note["correlation_id"] for note in notes} == {one}
        page = await site.store.read_all(categories=["event", *CATEGORIES], limit=1000)
        found = [stored for stored in page.events if _id(stored.metadata) != planning]
        assert {stored.stream_id.partition("-")[0] for stored in found} == {*CATEGORIES}
        assert {_id(stored.metadata) for stored in found} == {one}
        records = await published(site, len(page.events))
        assert [record.event_id for record in records] == [one_.event_id for one_ in page.events]
        assert {_id(record.headers) for record in records} == {planning, one}
        await rows_have(site, name, one)
        await mails_have(site, database, one)
        below = [span for span in map(spans.read, spans.ring) if span.trace == TRACE]
        assert {span.correlation_id for span in below} == {one}
        names = {span.name for span in below}
        assert names >= {"bus.publish", "bus.handle", "projection.apply", "store.append"}, names


def _id(told: Mapping[str, str]) -> str | None:
    return told.get("correlation_id")


async def published(site: OwnSite, count: int) -> Sequence[Record]:
    """All that stands on the bus, once there is so much."""
    engine = bus_of(site).bus.engine
    with trio.fail_after(PATIENCE_S):
        member = await engine.join("reader", [TOPIC], StartAt.EARLIEST)
        # Nobody else is in its group; a broker may take a moment to give it what there is.
        while Part(TOPIC, 0) not in (await member.renew()).held:  # noqa: ASYNC110
            await trio.sleep(0.05)
        while len(raws := await member.fetch(Part(TOPIC, 0), START, 1000, 2**24)) < count:
            await member.wait(Part(TOPIC, 0), 0.1)
    await member.leave()
    return [read_record(raw) for raw in raws]


async def rows_have(site: OwnSite, name: str, one: str) -> None:
    """Wait until the newest rows say which request they are of."""
    rows = Rows(site.beside.projections, sales.NAME)
    with trio.fail_after(PATIENCE_S):
        while True:
            reservation = await rows.one(f"reservations/{name}", ReservationRow)
            if reservation is not None and reservation.status == "Completed":
                break
            await site.beside.projections.changed(0.05)
    payment = await rows.one(f"payments/{name}", PaymentRow)
    ticket = await rows.one(f"tickets/{name}-1", TicketRow)
    assert payment is not None
    assert ticket is not None
    assert {row.correlation_id for row in (reservation, payment, ticket)} == {one}


async def mails_have(site: OwnSite, database: MemoryDatabase | None, one: str) -> None:
    """Each ticket came by mail, which its sending is found by."""
    assert site.mail is not None
    assert isinstance(site.mail.sender, MemorySender)
    with trio.fail_after(PATIENCE_S):
        while len(outbox := site.mail.sender.outbox_of("ann@example.com")) < 3:  # noqa: ASYNC110
            await trio.sleep(0.02)
    if database is not None:
        kept = [row.message for row in database.outbox.values() if row.message.kind == MAIL_KIND]
        tickets = [mail for mail in kept if mail.headers["template"] == "ticket"]
        assert [mail.headers["correlation_id"] for mail in tickets] == [one, one]
    sent = [message_from_bytes(mail.data) for mail in outbox if mail.mail.template == "ticket"]
    assert [mail["X-Correlation-ID"] for mail in sent] == [one, one]
