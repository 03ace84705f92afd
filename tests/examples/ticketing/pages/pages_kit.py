"""The box office with its pages, in memory, and people who fill in forms without a script."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from email import message_from_bytes
from email.policy import default
from functools import partial
from urllib.parse import parse_qs, urlsplit

import trio

from docs.examples.ticketing.site import PLAN
from storage.memory import MemoryDatabase
from tests.examples.ticketing.http.ticketing_kit import PATIENT
from tests.journeys.visitor import Answer, Visitor
from tests.patience import PATIENCE_S
from tests.web.whole_site import in_thread
from web.app import OwnSite, open_site
from web.mail.senders.memory import MemorySender
from web.settings import MailSender, Settings

MAILING = replace(PATIENT, mail_sender=MailSender.MEMORY)


@asynccontextmanager
async def open_box_office(
    database: MemoryDatabase | None = None, settings: Settings = MAILING
) -> AsyncIterator[OwnSite]:
    async with open_site(PLAN, settings, store=database or MemoryDatabase()) as site:
        yield site


@dataclass
class Person:
    """Somebody with a browser that runs no script."""

    site: OwnSite
    email: str
    visitor: Visitor

    async def get(self, path: str) -> Answer:
        return await in_thread(partial(self.visitor.get, path))

    async def shown(self, path: str) -> str:
        answer = await self.get(path)
        assert answer.status == 200, (path, answer.status, answer.text)
        return answer.text

    async def send(self, path: str, fields: Mapping[str, str] | None = None) -> Answer:
        return await in_thread(partial(self.visitor.form, path, dict(fields or {})))

    async def led_to(self, path: str, fields: Mapping[str, str] | None = None) -> str:
        """Where a form leads."""
        answer = await self.send(path, fields)
        assert answer.status == 303, (path, answer.status, answer.text)
        return answer.headers["location"]

    async def letters(self, count: int) -> list[Letter]:
        """The mails that have come, once there are so many."""
        mail = self.site.mail
        assert mail is not None
        assert isinstance(mail.sender, MemorySender)
        with trio.fail_after(PATIENCE_S):
            while True:
                sent = mail.sender.outbox_of(self.email)
                if len(sent) >= count:
                    return [letter_of(one.data) for one in sent]
                # What sends them is behind an answer: it takes the others' turns.
                await trio.sleep(0.02)


@dataclass
class Letter:
    """A mail as its reader has it."""

    subject: str
    text: str
    pictures: Sequence[tuple[str, bytes]]


def letter_of(data: bytes) -> Letter:
    mail = message_from_bytes(data, policy=default)
    text = mail.get_body(("plain",))
    assert text is not None
    files = [(one.get_content_type(), one.get_content()) for one in mail.iter_attachments()]
    return Letter(str(mail["Subject"]), text.get_content(), files)


async def come_in(site: OwnSite, email: str, after: str = "/") -> Person:
    """Sign in as people do: an address, a mail, its link, and a button."""
    person = Person(site, email, Visitor(site.url))
    answer = await person.send("/sign-in", {"email": email, "next": after})
    assert answer.status == 200, answer.text
    (letter,) = await person.letters(1)
    assert "in the browser it was asked for" not in letter.text, "it opens wherever it is read"
    link = re.search(r"http\S+", letter.text)
    assert link is not None
    parts = urlsplit(link[0])
    assert f"{parts.scheme}://{parts.netloc}" == site.url
    await person.shown(f"{parts.path}?{parts.query}")
    asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
    assert await person.led_to(parts.path, asked) == after
    return person


def hidden(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]+)"', page)
    assert found is not None, (name, page)
    return found[1]


async def on_sale(owner: Person, sections: str = "Stalls; A 1-3; 45.00", **more: str) -> str:
    """Plan an event, publish it and open its sales, by forms; gives its id."""
    page = await owner.shown("/organise")
    form = {name: hidden(page, name) for name in ("show",)}
    for name in ("starts_at", "ends_at"):
        found = re.search(rf'id="{name}"[^>]* value="([^"]+)"', page)
        assert found is not None
        form[name] = found[1]
    form |= {"title": "Jazz", "venue_name": "Hall", "sections": sections, **more}
    place = (await owner.led_to("/organise", form)).partition("?")[0]
    for step in ("publish", "open-sales"):
        assert await owner.led_to(f"{place}/{step}") == place
    return place.rpartition("/")[2]


async def held(person: Person, show: str, **order: str) -> str:
    """Hold seats; gives the path of the order."""
    page = await person.shown(f"/events/{show}")
    form = {"reservation": hidden(page, "reservation"), "section": "Stalls", "quantity": "1"}
    return await person.led_to(f"/events/{show}/reserve", {**form, **order})


async def pay(person: Person, order: str, card: str = "tok_visa") -> Answer:
    page = await person.shown(order)
    return await person.send(f"{order}/pay", {"attempt": hidden(page, "attempt"), "card": card})


async def bought(person: Person, show: str, **order: str) -> str:
    """Hold seats and pay for them; gives the path of the order once its tickets are there."""
    place = await held(person, show, **order)
    answer = await pay(person, place)
    assert answer.status == 303, answer.text
    assert "Ticket for seat" in await person.shown(place), "the answer waits for the tickets"
    return place


async def code_of(person: Person, ticket: str) -> str:
    found = re.search(r"<code>([^<]+)</code>", await person.shown(ticket))
    assert found is not None
    return found[1]


async def verdict(owner: Person, show: str, code: str, gate: str) -> str:
    """What a gate is told, as it is shown."""
    answer = await owner.send(f"/gate/{show}", {"gate": gate, "code": code})
    assert answer.status == 200, answer.text
    found = re.search(
        r'class="verdict (\w+)" id="verdict"><h2 class="verdict-word">([^<]+)</h2><p>([^<]+)',
        answer.text,
    )
    assert found is not None, answer.text
    return " ".join(found.groups())
