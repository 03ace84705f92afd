"""A mail with a link lies sealed in the outbox, and leaves as it was written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import uuid4

import msgspec
import pytest

from actors.persistence import NotSent, OutboxMessage
from actors.runtime import Secret
from storage.memory import MemoryDatabase, MemoryMailStates, MemoryOutbox
from tests.engines import virtual_environment
from web.mail.delivering import MailDelivery
from web.mail.mails import Mails
from web.mail.sealing import SEALED, CannotOpen, MailSeal
from web.mail.senders.memory import MemorySender
from web.mail.templates import MAGIC_LINK, ORDER, SECURITY_ALERT, MagicLink
from web.mail.words import MailAddress

KEY, OTHER = Secret(b"k" * 32), Secret(b"o" * 32)
LINK = "https://greenroom.example/login/link/open?token=CANARY"


def message_of(seal: MailSeal | None) -> OutboxMessage:
    mails = Mails(MemoryOutbox(MemoryDatabase()), seal=seal)
    over_at = datetime(2025, 3, 1, tzinfo=UTC)
    (message,) = mails.magic_link("ada@example.org", MagicLink("ada", LINK, over_at), "key")
    return message


def test_what_lies_in_the_outbox_has_no_link_in_it() -> None:
    # SEC-83, SEC-131
    plain, sealed = message_of(None), message_of(MailSeal(KEY))
    assert b"CANARY" in plain.payload
    assert b"CANARY" not in sealed.payload
    assert b"ada@example.org" not in sealed.payload
    opened = MailSeal(KEY).open(sealed.headers[SEALED], sealed.message_id, sealed.payload)
    assert b"CANARY" in opened
    assert message_of(MailSeal(KEY)).payload != sealed.payload
    mails = Mails(MemoryOutbox(MemoryDatabase()), seal=MailSeal(KEY))
    (alert,) = mails.security_alert("ada@example.org", SECURITY_ALERT.sample, "k")
    assert SEALED in alert.headers, "what disavows a change is nobody else's (AUTH-16)"
    (order,) = mails.order("ada@example.org", ORDER.sample, "k")
    assert SEALED not in order.headers


def test_it_opens_in_its_place_and_with_its_key_only() -> None:
    # SEC-83
    seal, message_id = MailSeal(KEY), uuid4()
    sealed = seal.seal(message_id, b"a mail")
    newer = MailSeal(OTHER, [KEY])
    assert newer.open(seal.key_id, message_id, sealed) == b"a mail"
    cut, changed = sealed[:-1], bytes([sealed[0] ^ 1]) + sealed[1:]
    for wrong in (
        partial(seal.open, seal.key_id, uuid4(), sealed),
        partial(seal.open, seal.key_id, message_id, cut),
        partial(seal.open, seal.key_id, message_id, changed),
        partial(seal.open, seal.key_id, message_id, b""),
        partial(MailSeal(OTHER).open, seal.key_id, message_id, sealed),
        partial(seal.open, newer.key_id, message_id, sealed),
    ):
        with pytest.raises(CannotOpen):
            wrong()
    assert "kkkk" not in repr(seal)


async def test_it_leaves_as_it_was_written_and_without_its_key_is_given_up() -> None:
    # SEC-83, MAIL-5
    for opener, is_sent in ((MailSeal(KEY), True), (MailSeal(OTHER), False), (None, False)):
        database, env, sender = MemoryDatabase(), virtual_environment(), MemorySender()
        outbox = MemoryOutbox(database)
        mails = Mails(outbox, seal=MailSeal(KEY))
        over_at = env.clock.now() + timedelta(minutes=10)
        assert await mails.send("ada@example.org", MAGIC_LINK, MagicLink("ada", LINK, over_at), "k")
        (part,) = [number for number, rows in database.unsent.items() if rows]
        epochs = await outbox.lease("test", [part])
        (entry,) = await outbox.next_batch(part, epochs[part], limit=5)
        address = MailAddress("greenroom@example.org")
        delivery = MailDelivery(sender, address, MemoryMailStates(database), env, opener)
        if is_sent:
            await delivery.send(entry)
            (got,) = sender.outbox_of("ada@example.org")
            assert LINK in got.mail.text
        else:
            with pytest.raises(NotSent) as caught:
                await delivery.send(entry)
            assert caught.value.retry_in is None
            assert b"CANARY" not in msgspec.json.encode(str(caught.value))
