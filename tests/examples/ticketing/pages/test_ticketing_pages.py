"""The pages of the box office, as people without a script use them."""

from __future__ import annotations

import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
import trio
from werkzeug.datastructures import MultiDict

from actors.persistence import Refusal
from actors.persistence.beside_log.outbox import MAIL_KIND
from actors.runtime import Secret
from docs.examples.ticketing.http.options import TICKETS
from docs.examples.ticketing.pages.buying import wanted
from docs.examples.ticketing.pages.signing import page_after
from docs.examples.ticketing.pages.staging import plan_of, sections_in
from docs.examples.ticketing.pages.words import state_words
from docs.examples.ticketing.shows import Plan
from docs.examples.ticketing.site import PLAN
from storage.memory import MemoryDatabase
from tests.examples.ticketing.pages.pages_kit import (
    MAILING,
    Person,
    bought,
    code_of,
    come_in,
    held,
    hidden,
    on_sale,
    open_box_office,
    pay,
    verdict,
)
from tests.journeys.visitor import Visitor
from tests.patience import PATIENCE_S
from tests.web.whole_site import in_thread
from web.app import OwnSite, open_site
from web.mail.senders.memory import MemorySender
from web.views import picture_of


async def test_a_ticket_is_bought_comes_by_mail_is_passed_on_and_lets_one_in() -> None:
    # EX-47, EX-50
    database = MemoryDatabase()
    async with open_box_office(database) as site:
        owner = await come_in(site, "owner@example.org", "/organise")
        show = await on_sale(owner, title="Jazz <b> & friends")
        assert "Jazz &lt;b&gt; &amp; friends" in await owner.shown("/")
        ann = await come_in(site, "ann@example.org", f"/events/{show}")
        page = await ann.shown(f"/events/{show}")
        assert "3 of 3 free" in page
        assert "36.00" in page, "40 days before it is an early price"
        order = await held(ann, show, seat="Stalls/A2")
        waiting = await ann.shown(order)
        assert "Held until" in waiting
        assert "<b>A2</b>, 36.00" in waiting
        assert "2 of 3 free, 1 held" in await ann.shown(f"/events/{show}")
        # A card that is declined leaves the seats held, and another one is tried.
        assert (await pay(ann, order, "tok_declined")).status == 303
        assert "the card was declined. 2 more tries." in await ann.shown(order)
        paid = await pay(ann, order)
        assert paid.status == 303
        ticket = hidden_link(await ann.shown(order), "/tickets/")
        assert "Stalls, seat A2" in await ann.shown("/tickets")

        code = await code_of(ann, ticket)
        _, letter = await ann.letters(2)
        assert letter.subject == "Your ticket: Jazz <b> & friends"
        assert code in letter.text
        assert f"{site.url}{ticket}" in letter.text
        ((kind, picture),) = letter.pictures
        assert kind == "image/svg+xml"
        assert picture_of(code).path in picture.decode()
        # It is found by the correlation id of the request that paid, as its ticket is.
        issued = (await site.store.read_all(categories=["ticket"], limit=1)).events[0]
        kept = [row for row in database.outbox.values() if row.message.kind == MAIL_KIND]
        (row,) = [row for row in kept if row.message.headers["template"] == "ticket"]
        correlation_id = issued.metadata["correlation_id"]
        assert row.message.headers["correlation_id"] == correlation_id
        assert paid.headers["x-request-id"] == correlation_id
        svg = await ann.get(f"{ticket}/qr.svg")
        assert (svg.status, svg.headers["content-type"]) == (200, "image/svg+xml")
        assert svg.headers["cache-control"] == "no-store"
        assert svg.body == picture

        # Bob has a code of his own from now on; Ann's lets nobody in, and her page is gone.
        bob = await come_in(site, "bob@example.org")
        nobody = await ann.send(f"{ticket}/pass-on", {"to": "nobody@example.org"})
        assert (nobody.status, "Nobody has signed in here" in nobody.text) == (404, True)
        assert await ann.led_to(f"{ticket}/pass-on", {"to": bob.email}) == "/tickets?done=passed"
        assert (await ann.get(ticket)).status == 404
        other = await code_of(bob, ticket)
        _, letter = await bob.letters(2)
        assert other in letter.text
        former = "bad No The ticket was passed on; this code is of a former owner."
        assert await verdict(owner, show, code, "A") == former
        assert await verdict(owner, show, other, "A") == "good Welcome Seat A2"
        again = await verdict(owner, show, other, "B")
        assert re.fullmatch(r"used Already in It came in already, at \d\d:\d\d UTC, gate A.", again)
        assert "It came in at" in await bob.shown(ticket), "and its code is shown no more"
        assert (await bob.get(f"{ticket}/qr.svg")).status == 404
        assert len(await ann.letters(2)) == 2, "each owner is told once"


def hidden_link(page: str, begins: str) -> str:
    found = re.search(rf'href="({begins}[^"]+)"', page)
    assert found is not None, page
    return found[1]


async def test_of_two_gates_at_once_one_lets_in() -> None:
    # EX-50, SEC-65
    async with open_box_office() as site:
        owner = await come_in(site, "owner@example.org")
        show = await on_sale(owner, "Stalls; A 9-10; 45.00")
        order = await bought(owner, show, quantity="2")
        # The page at a gate may ask for the camera, and no other.
        for path, camera in ((f"/gate/{show}", "camera=(self),"), ("/tickets", "camera=(),")):
            assert (await owner.get(path)).headers["permissions-policy"].startswith(camera), path
        listed = re.findall(r"seat (A\d+)", await owner.shown("/tickets"))
        assert listed == ["A9", "A10"], "as they are in the hall"
        page = await owner.shown(order)
        code = ""
        for ticket in re.findall(r'href="(/tickets/[^"]+)"', page):
            code, told = await code_of(owner, ticket), list[str]()
            gates = [Person(site, "", Visitor(site.url, dict(owner.visitor.cookies))) for _ in "AB"]

            async def at(gate: Person, name: str, code: str, told: list[str]) -> None:
                told.append(await verdict(gate, show, code, name))

            async with trio.open_nursery() as nursery:
                for gate, name in zip(gates, "AB", strict=True):
                    nursery.start_soon(at, gate, name, code, told)
            used, let_in = sorted(told, reverse=True)
            assert (used[:15], let_in[:12]) == ("used Already in", "good Welcome")
        other = await on_sale(owner)
        assert await verdict(owner, other, code, "A") == "bad No This ticket is for another event."
        assert await verdict(owner, other, "x" * 2000, "A") == "bad No This is no ticket of ours."


@pytest.mark.slow
async def test_two_servers_show_the_same_seats_and_let_one_in(
    tmp_path: Path, database_url: str
) -> None:
    # EX-47, EX-50: what one of them sells the pages of the other show, and a ticket is mailed once
    key, seal = Secret(secrets.token_bytes(32)), Secret(secrets.token_bytes(32))
    settings = [
        replace(
            MAILING,
            database_url=Secret(database_url),
            state_dir=tmp_path / name,
            session_secret=key,
            private_key=seal,
        )
        for name in "ab"
    ]
    async with open_site(PLAN, settings[0]) as one, open_site(PLAN, settings[1]) as other:
        owner = await come_in(one, "owner@example.org")
        there = Person(other, owner.email, Visitor(other.url, dict(owner.visitor.cookies)))
        show = await on_sale(owner)
        page = await there.shown(f"/events/{show}")
        found = re.search(r"@get\('([^']+)'", page)
        assert found is not None
        path = found[1].replace("&amp;", "&")
        with await in_thread(partial(there.visitor.open_stream_at, path)) as stream:
            await in_thread(partial(stream.read_until, b"3 of 3 free"))
            order = await held(owner, show, quantity="2")
            await in_thread(partial(stream.read_until, b"1 of 3 free, 2 held"))
        assert (await pay(there, order)).status == 303
        assert "Ticket for seat" in await owner.shown(order)
        ticket = hidden_link(await there.shown(order), "/tickets/")
        code, told = await code_of(there, ticket), list[str]()

        async def at(gate: Person, name: str) -> None:
            told.append(await verdict(gate, show, code, name))

        async with trio.open_nursery() as nursery:
            for gate, name in ((owner, "A"), (there, "B")):
                nursery.start_soon(at, gate, name)
        used, let_in = sorted(told, reverse=True)
        assert (used[:15], let_in[:12]) == ("used Already in", "good Welcome")
        sent = await all_letters((one, other), owner.email, 3)
        assert sorted(sent).count("Your ticket: Jazz") == 2, "each ticket once, whoever sends it"


async def all_letters(sites: Sequence[OwnSite], email: str, count: int) -> list[str]:
    """The subjects of the mails that any of these has sent, once there are so many."""
    with trio.fail_after(PATIENCE_S):
        while True:
            found = list[str]()
            for site in sites:
                assert site.mail is not None
                assert isinstance(site.mail.sender, MemorySender)
                found += [one.mail.subject for one in site.mail.sender.outbox_of(email)]
            if len(found) >= count:
                return found
            await trio.sleep(0.02)


async def test_tickets_of_a_former_key_are_good(monkeypatch: pytest.MonkeyPatch) -> None:
    # EX-50
    first, second = (urlsafe_b64encode(secrets.token_bytes(32)).decode() for _ in "12")
    database = MemoryDatabase()
    monkeypatch.setenv(TICKETS, f"a:{first}")
    async with open_box_office(database) as site:
        owner = await come_in(site, "owner@example.org")
        show = await on_sale(owner)
        old = await code_of(
            owner, hidden_link(await owner.shown(await bought(owner, show)), "/tickets/")
        )
    monkeypatch.setenv(TICKETS, f"a:{first},b:{second}")
    async with open_box_office(database) as site:
        owner = await come_in(site, "owner@example.org")
        new = await code_of(
            owner, hidden_link(await owner.shown(await bought(owner, show)), "/tickets/")
        )
        assert (old.split(".")[4], new.split(".")[4]) == ("a", "b")
        for code in (old, new):
            assert (await verdict(owner, show, code, "A")).startswith("good Welcome")


async def test_money_goes_back_and_an_order_is_let_go() -> None:
    # EX-44
    async with open_box_office() as site:
        owner, ann = [await come_in(site, f"{who}@example.org") for who in ("owner", "ann")]
        show = await on_sale(owner)
        order = await held(ann, show, quantity="3")
        bob = await come_in(site, "bob@example.org")
        page = await bob.shown(f"/events/{show}")
        form = {"reservation": hidden(page, "reservation"), "section": "Stalls", "quantity": "1"}
        sold_out = await bob.send(f"/events/{show}/reserve", form)
        assert (sold_out.status, "Sold out: there are 0 of 1 seats." in sold_out.text) == (
            409,
            True,
        )
        assert await ann.led_to(f"{order}/cancel") == order
        assert "The seats are free for others" in await ann.shown(order)
        assert (await ann.send(f"{order}/cancel")).status == 409

        order = await bought(ann, show)
        page = await ann.shown(order)
        back = {"refund": hidden(page, "refund"), "reason": "I am ill"}
        ticket = hidden_link(page, "/tickets/")
        assert (await ann.send(f"{order}/refund", {**back, "reason": " "})).status == 409
        assert await ann.led_to(f"{order}/refund", back) == order
        assert "money that was paid goes back" in await ann.shown(order)
        # Called off, nobody buys, and what was bought goes back too.
        await bought(bob, show)
        assert await owner.led_to(f"/organise/{show}/call-off") == f"/organise/{show}"
        page = await until_shown(bob, f"/events/{show}", "not on sale")
        assert "It was called off." in page
        assert "sold out" not in page, "nobody has those seats"
        await until_shown(ann, ticket, "This ticket was taken back.")


async def until_shown(person: Person, path: str, words: str) -> str:
    with trio.fail_after(PATIENCE_S):
        while True:
            page = await person.shown(path)
            if words in page:
                return page
            await trio.sleep(0.02)


async def test_what_is_not_ones_own_is_not_there() -> None:
    async with open_box_office() as site:
        owner, ann, eve = [await come_in(site, f"{who}@example.org") for who in ("o", "ann", "eve")]
        show = await on_sale(owner)
        order = await bought(ann, show)
        ticket = hidden_link(await ann.shown(order), "/tickets/")
        foreign = (order, ticket, f"{ticket}/qr.svg", f"/gate/{show}", f"/organise/{show}")
        for path in (*foreign, f"/events/{uuid4()}", "/reservations/x", "/tickets/x"):
            assert (await eve.get(path)).status == 404, path
        for path in (f"{order}/pay", f"{order}/cancel", f"{order}/refund", f"{ticket}/pass-on"):
            assert (await eve.send(path, {"to": eve.email})).status == 404, path
        for path in (f"/gate/{show}", f"/organise/{show}/call-off", f"/organise/{show}/change"):
            assert (await eve.send(path)).status == 404, path
        # Nor does a stream tell of an order that is another's.
        live = "/live?tab=" + str(uuid4()) + "&panel=reservation:" + order.rpartition("/")[2]
        assert (await eve.get(live)).status == 400
        guest = Person(site, "", Visitor(site.url))
        assert (await guest.get(live)).status == 400
        for path in (*foreign, "/tickets", "/organise"):
            answer = await guest.get(path)
            assert (answer.status, answer.headers["location"][:14]) == (303, "/sign-in?next="), path
        # A draft is its organiser's alone.
        page = await owner.shown("/organise")
        draft = {"show": hidden(page, "show"), "title": "Secret", "venue_name": "Hall"}
        times = {"starts_at": "2999-01-01T19:00", "ends_at": "2999-01-01T20:00"}
        await owner.led_to("/organise", {**draft, **times, "sections": "Stalls; 2; 5"})
        assert (await eve.get(f"/events/{draft['show']}")).status == 404
        assert "Secret" not in await eve.shown("/")


async def test_forms_that_make_no_sense_are_told_and_change_nothing() -> None:
    async with open_box_office() as site:
        owner = await come_in(site, "owner@example.org")
        show = await on_sale(owner)
        good = {"reservation": str(uuid4()), "section": "Stalls", "quantity": "1"}
        for wrong, status in (
            ({"reservation": "x"}, 422),
            ({"section": "Nowhere"}, 422),
            ({"quantity": "9"}, 422),
            ({"quantity": "0"}, 422),
            ({"seat": "Stalls/Z9"}, 409),
        ):
            answer = await owner.send(f"/events/{show}/reserve", {**good, **wrong})
            assert (answer.status, 'role="alert"' in answer.text) == (status, True), wrong
        order = await held(owner, show)
        for wrong in ({"attempt": "x", "card": "tok_visa"}, {"attempt": str(uuid4()), "card": "x"}):
            assert (await owner.send(f"{order}/pay", wrong)).status == 422, wrong
        assert (await owner.send("/sign-in", {"email": "no address"})).status == 422
        unknown = await owner.send("/sign-in/open", {"token": "x" * 43})
        assert (unknown.status, "This link is over or was used." in unknown.text) == (401, True)
        assert (await owner.send("/organise", {"title": "x"})).status == 422
        assert (await owner.send(f"/organise/{show}/publish")).status == 409
        assert (await owner.send(f"/organise/{show}/change", {"title": " "})).status == 422
        # An address on another site is nowhere to go on to.
        assert await owner.led_to("/sign-out") == "/?done=out"
        away = await in_thread(partial(owner.visitor.get, "/sign-in?next=//evil.example"))
        assert 'name="next" value="/"' in away.text


@pytest.mark.parametrize(
    ("text", "seats"),
    [
        ("Stalls; 3; 45", ("1", "2", "3")),
        (" Stalls ;A 1-2, B 9-10; 45.50", ("A1", "A2", "B9", "B10")),
        ("Stalls; A 3-1; 45", None),
        ("Stalls; 0; 45", None),
        ("Stalls; 99999; 45", None),
        ("Stalls; A 1-99999; 45", None),
        ("Stalls; A 1-10000, B 1-10000; 45", None),
        ("Stalls; 3; 45.001", None),
        ("Stalls; 3; NaN", None),
        ("Stalls; 3; 1e999", None),
        ("Stalls; 3", None),
        ("Stalls; ²; 4", None),
        ("", None),
        ("\n".join(["a; 1; 1"] * 101), None),
    ],
)
def test_a_section_is_a_line(text: str, seats: tuple[str, ...] | None) -> None:
    found = sections_in(text)
    assert (None if isinstance(found, Refusal) else found[0].seats) == seats


def test_a_plan_is_read_from_a_form() -> None:
    form = {
        "show": str(uuid4()), "title": " Jazz ", "venue_name": "Hall", "description": "a\r\nb",
        "starts_at": "2030-01-01T19:30", "ends_at": "2030-01-01T21:30",
        "sections": "Stalls; 2; 45\nBalcony; 3; 20",
    }  # fmt: skip
    plan = plan_of(form, "owner")
    assert isinstance(plan, Plan)
    assert plan.starts_at == datetime(2030, 1, 1, 19, 30, tzinfo=UTC)
    assert (plan.title, plan.description, plan.capacity, plan.price_cents) == (
        "Jazz",
        "a\nb",
        5,
        2000,
    )
    for wrong in ({"show": "x"}, {"starts_at": "soon"}, {"ends_at": ""}, {"sections": "x"}):
        assert isinstance(plan_of({**form, **wrong}, "owner"), Refusal), wrong


def test_seats_that_are_chosen_say_how_many_and_where() -> None:
    chosen = MultiDict([("section", "Balcony"), ("seat", "Stalls/A1"), ("seat", "Stalls/A2")])
    assert wanted(chosen) == ("Stalls", 2, ["A1", "A2"])
    chosen.add("seat", "Balcony/1")
    assert wanted(chosen)[0] == "", "an order is for one section"
    assert wanted(MultiDict({"section": "Stalls", "quantity": "3"})) == ("Stalls", 3, ())
    for text in ("", "0", "10", "-1", "x", "²"):
        assert wanted(MultiDict({"section": "Stalls", "quantity": text}))[1] == 0


def test_each_status_of_a_reservation_has_words() -> None:
    # EX-42: as `status_of` and `Office.status` name them
    for status in (
        *("Initiated", "SeatsReserved", "PaymentPending", "PaymentCompleted", "Completed"),
        *("PaymentFailed", "Compensated", "Expired", "Cancelled", "Failed"),
    ):
        word, text, _ = state_words(status, "Sold out.")
        assert word != status, status
        assert text, status
    assert state_words("Failed", "Sold out.") == ("Not held.", "Sold out.", "tone-bad")


def test_who_signs_in_goes_on_to_a_page_of_ours() -> None:
    for ours in ("/", "/tickets", "/events/01a224e8-ac01-7510-a072-a64462d98abf"):
        assert page_after(ours) == ours
    for other in ("", "//evil.example", "/\\evil", "https://x", "/a?b", "/a\r\nb", "/" + "a" * 300):
        assert page_after(other) == "/"
