"""Reports of providers about addresses that take no mail: who signed, what is kept, and once."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from actors.runtime import Secret
from storage.memory import MemoryMailStates
from tests.journeys.visitor import Answer
from tests.logged import captured
from tests.patience import until
from tests.web.accounts.test_entering import form, get, register
from tests.web.whole_site import WholeSite, in_thread, open_whole_site
from web.mail.routes.bounces import REFUSED_PER_ADDRESS_MAX
from web.mail.routes.signed import (
    ADDRESSES_MAX,
    AHEAD_MAX,
    REPORT_KEPT,
    BadKey,
    BadReport,
    MailgunHook,
    NotSigned,
    PostmarkHook,
    SendGridHook,
    Why,
    public_key,
)
from web.mail.senders.memory import MemorySender
from web.mail.words import address_digest
from web.settings import Settings

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
KEY = "a-signing-key-of-a-test"
PRIVATE = ec.generate_private_key(ec.SECP256R1())
ADA = "ada@example.org"


def shown(key: ec.EllipticCurvePrivateKey) -> str:
    """The public half, as SendGrid's page shows it."""
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(public).decode()


def mailgun(
    to: str = ADA,
    *,
    at: datetime = NOW,
    key: str = KEY,
    token: str = "t" * 50,
    event: Mapping[str, str] | None = None,
) -> bytes:
    said = {"event": "failed", "severity": "permanent", "reason": "bounce", **(event or {})}
    stamp = str(int(at.timestamp()))
    signature = hmac.digest(key.encode(), (stamp + token).encode(), "sha256").hex()
    return msgspec.json.encode(
        {
            "signature": {"timestamp": stamp, "token": token, "signature": signature},
            "event-data": {**said, "recipient": to, "delivery-status": {"code": 550}},
        }
    )


def sendgrid(
    *events: Mapping[str, str], at: datetime = NOW, key: ec.EllipticCurvePrivateKey = PRIVATE
) -> tuple[dict[str, str], bytes]:
    body, stamp = json.dumps(events).encode() + b"\r\n", str(int(at.timestamp()))
    signature = key.sign(stamp.encode() + body, ec.ECDSA(SHA256()))
    return {
        "x-twilio-email-event-webhook-signature": base64.b64encode(signature).decode(),
        "x-twilio-email-event-webhook-timestamp": stamp,
    }, body


BOUNCE = {"event": "bounce", "email": ADA, "type": "bounce", "reason": "550 5.1.1", "sg": "x"}


def test_what_a_provider_says_is_read_by_its_own_words() -> None:
    # MAIL-7
    hook = MailgunHook(Secret(KEY))
    for event, why in (
        ({}, Why.BOUNCED),
        ({"reason": "suppress-bounce"}, Why.BOUNCED),
        ({"reason": "suppress-complaint"}, Why.COMPLAINED),
        ({"event": "complained"}, Why.COMPLAINED),
        ({"severity": "temporary"}, None),
        ({"reason": "old"}, None),
        ({"event": "delivered"}, None),
        ({"event": "something new"}, None),
    ):
        found = hook.read({}, mailgun(event=event), NOW).addresses
        assert found == ({} if why is None else {ADA: why}), event
    other = SendGridHook(shown(PRIVATE))
    for event, why in (
        (BOUNCE, Why.BOUNCED),
        ({**BOUNCE, "type": "blocked"}, None),
        ({"event": "dropped", "email": ADA, "reason": "Bounced Address"}, Why.BOUNCED),
        ({"event": "dropped", "email": ADA, "reason": "Invalid"}, Why.BOUNCED),
        ({"event": "dropped", "email": ADA, "reason": "Spam Reporting Address"}, Why.COMPLAINED),
        ({"event": "dropped", "email": ADA, "reason": "Unsubscribed Address"}, None),
        ({"event": "spamreport", "email": " ADA@Example.org "}, Why.COMPLAINED),
        ({"event": "deferred", "email": ADA}, None),
        ({**BOUNCE, "email": "no address\r\n"}, None),
        ({"event": "open"}, None),
    ):
        headers, body = sendgrid(event)
        assert other.read(headers, body, NOW).addresses == ({} if why is None else {ADA: why})


POSTMARK_LOGIN = "postmark:a-password-of-16"
HARD = {"RecordType": "Bounce", "Type": "HardBounce", "Email": ADA, "ID": 1, "Inactive": True}


def postmark(said: object, login: str = POSTMARK_LOGIN) -> tuple[dict[str, str], bytes]:
    shown = base64.b64encode(login.encode()).decode()
    return {"authorization": f"Basic {shown}"}, json.dumps(said).encode()


def test_who_shows_the_password_of_postmark_is_believed() -> None:
    # MAIL-7
    hook = PostmarkHook(Secret(POSTMARK_LOGIN))
    change = {"RecordType": "SubscriptionChange", "Recipient": ADA, "SuppressSending": True}
    for said, why in (
        (HARD, Why.BOUNCED),
        ({**HARD, "Type": "BadEmailAddress"}, Why.BOUNCED),
        ({**HARD, "Type": "SoftBounce"}, None),
        ({**HARD, "Type": "Transient"}, None),
        ({**HARD, "RecordType": "SpamComplaint", "Type": "SpamComplaint"}, Why.COMPLAINED),
        ({**change, "SuppressionReason": "HardBounce"}, Why.BOUNCED),
        ({**change, "SuppressionReason": "SpamComplaint"}, Why.COMPLAINED),
        ({**change, "SuppressionReason": "ManualSuppression"}, None),
        ({**change, "SuppressSending": False, "SuppressionReason": None}, None),
        ({"RecordType": "Open", "Recipient": ADA}, None),
    ):
        found = hook.read(*postmark(said), NOW).addresses
        assert found == ({} if why is None else {ADA: why}), said
    headers, body = postmark(HARD)
    shown = headers["authorization"].removeprefix("Basic ")
    for wrong in (
        {},
        {"authorization": ""},
        {"authorization": "Basic"},
        {"authorization": "Basic *"},
        {"authorization": "Basic \xe4"},
        {"authorization": f"Bearer {shown}"},
        postmark(HARD, "postmark:another")[0],
        postmark(HARD, POSTMARK_LOGIN + "\0")[0],
    ):
        with pytest.raises(NotSigned):
            hook.read(wrong, body, NOW)
    others: list[object] = [5, [], {}, {"RecordType": 5}]
    for nonsense in others:
        with pytest.raises(BadReport):
            hook.read(*postmark(nonsense), NOW)


@pytest.mark.slow
async def test_a_report_of_postmark_ends_the_mail_to_an_address() -> None:
    # MAIL-7, SEC-131
    settings = replace(with_keys(), postmark_hook_login=Secret(POSTMARK_LOGIN))
    async with open_whole_site(settings=settings, has_documents=False) as site:
        with captured() as lines:
            headers, body = postmark(HARD)
            wrong, _ = postmark(HARD, "postmark:a-password-of-17")
            assert (await report(site, "postmark", body, wrong)).status == 401
            for taken in (1, 0):
                answer = await report(site, "postmark", body, headers)
                assert (answer.status, json.loads(answer.body)) == (200, {"suppressed": taken})
        assert "a-password-of" not in repr(lines)
        assert len(site.accounts.database.suppressed) == 1


def test_only_what_the_provider_signed_is_believed() -> None:
    # MAIL-7
    hook, own = MailgunHook(Secret(KEY)), mailgun()
    assert hook.read({}, own, NOW).addresses
    found = json.loads(own)
    for change in ({"token": "u" * 50}, {"timestamp": "1"}, {"signature": "0" * 64}):
        wrong = {**found, "signature": {**found["signature"], **change}}
        with pytest.raises(NotSigned):
            hook.read({}, json.dumps(wrong).encode(), NOW)
    lone = {"timestamp": "1", "token": "\ud800", "signature": "\ud800"}
    hostile = json.dumps({**found, "signature": lone}).encode()
    for body in (hostile, b"", b"{}", b"[", b"\xff", b"[" * 100_000, mailgun(key="another key")):
        with pytest.raises(NotSigned):
            hook.read({}, body, NOW)
    other, (headers, body) = SendGridHook(shown(PRIVATE)), sendgrid(BOUNCE)
    assert other.read(headers, body, NOW).addresses
    stamp, signature = "x-twilio-email-event-webhook-timestamp", next(iter(headers))
    for wrong_headers, given in (
        (headers, body.replace(b"ada", b"bob")),
        ({**headers, stamp: str(int(headers[stamp]) + 1)}, body),
        ({**headers, signature: "AAAA"}, body),
        ({**headers, signature: "\xe4"}, body),
        ({**headers, stamp: "\u20ac"[:0]}, body),
        ({stamp: headers[stamp]}, body),
        ({}, body),
        sendgrid(BOUNCE, key=ec.generate_private_key(ec.SECP256R1())),
    ):
        with pytest.raises(NotSigned):
            other.read(wrong_headers, given, NOW)


def test_a_report_is_good_for_a_day_by_the_clock_of_who_signed() -> None:
    # MAIL-7
    hook, other = MailgunHook(Secret(KEY)), SendGridHook(shown(PRIVATE))
    second = timedelta(seconds=1)
    for at, is_good in (
        (NOW - REPORT_KEPT, True),
        (NOW - REPORT_KEPT - second, False),
        (NOW + AHEAD_MAX, True),
        (NOW + AHEAD_MAX + second, False),
        (datetime(5000, 1, 1, tzinfo=UTC), False),
    ):
        for read in (
            partial(hook.read, {}, mailgun(at=at), NOW),
            partial(other.read, *sendgrid(BOUNCE, at=at), NOW),
        ):
            if is_good:
                read()
            else:
                with pytest.raises(NotSigned):
                    read()


def test_a_report_that_was_signed_and_is_not_understood() -> None:
    # MAIL-7
    other = SendGridHook(shown(PRIVATE))
    many = [{**BOUNCE, "email": f"a{n}@example.org"} for n in range(ADDRESSES_MAX + 1)]
    assert len(other.read(*sendgrid(*many[1:]), NOW).addresses) == ADDRESSES_MAX
    with pytest.raises(BadReport, match="over 1000 addresses"):
        other.read(*sendgrid(*many), NOW)
    stamp = str(int(NOW.timestamp()))
    for body in (b"{}", b"[1]", b"", b"\xff"):
        signature = PRIVATE.sign(stamp.encode() + body, ec.ECDSA(SHA256()))
        headers = {
            "x-twilio-email-event-webhook-signature": base64.b64encode(signature).decode(),
            "x-twilio-email-event-webhook-timestamp": stamp,
        }
        with pytest.raises(BadReport):
            other.read(headers, body, NOW)


def test_the_example_that_sendgrid_gives_is_read() -> None:
    # MAIL-7: key, time and signature as they stand in its own library's tests
    key = public_key(
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEDr2LjtURuePQzplybdC+u4CwrqDqBaWjcMMsTbhdbcwHBce"
        "pxo7yAQGhHPTnlvFYPAZFceEu/1FwCM/QmGUhA=="
    )
    signature = (
        "MEUCIQCtIHJeH93Y+qpYeWrySphQgpNGNr/U+UyUlBkU6n7RAwIgJTz2C+8a8xonZGi6BpSzoQsbVRamr2nl"
        "xFDWYNH2j/0="
    )
    said = {"category": "example_payload", "event": "test_event", "message_id": "message_id"}
    body = json.dumps(said, separators=(",", ":")).encode()
    key.verify(base64.b64decode(signature), b"1588788367" + body, ec.ECDSA(SHA256()))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "AAAA",
        base64.b64encode(b"x" * 91).decode(),
        shown(ec.generate_private_key(ec.SECP384R1())),
    ],
)
def test_what_is_no_key_of_sendgrid_is_refused(text: str) -> None:
    # MAIL-7
    with pytest.raises(BadKey):
        public_key(text)


async def report(
    site: WholeSite, provider: str, body: bytes, headers: Mapping[str, str] | None = None
) -> Answer:
    sent = {"content-type": "application/json", **(headers or {})}
    path = f"/mail/bounce/{provider}"
    return await in_thread(partial(site.visitor().request, "POST", path, body, sent))


def with_keys() -> Settings:
    return Settings(
        port=0,
        overload_late_ms=60_000,
        overload_after_ms=60_000,
        mailgun_hook_key=Secret(KEY),
        sendgrid_hook_key=shown(PRIVATE),
    )


@pytest.mark.slow
async def test_an_address_that_bounced_gets_one_link_a_day_and_no_other_mail() -> None:
    # MAIL-7
    sender, now = MemorySender(), datetime.now(UTC)
    async with open_whole_site(settings=with_keys(), sender=sender, has_documents=False) as site:
        visitor = await register(site)
        states = MemoryMailStates(site.accounts.database)
        body = mailgun(at=now)
        answer = await report(site, "mailgun", body)
        assert (answer.status, json.loads(answer.body)) == (200, {"suppressed": 1})
        held = await states.maybe_suppression(address_digest(ADA))
        assert held is not None
        assert held.reason == "bounced, told by mailgun"
        await states.lift(address_digest(ADA))
        again = await report(site, "mailgun", body)
        assert (again.status, json.loads(again.body)) == (200, {"suppressed": 0}), "once"
        assert await states.maybe_suppression(address_digest(ADA)) is None
        headers, events = sendgrid(BOUNCE, at=now)
        assert (await report(site, "sendgrid", events, headers)).status == 200
        for _ in range(2):
            await get(visitor, "/login/link")
            assert (await form(visitor, "/login/link", email=ADA)).status == 303
        mails = site.accounts.database.mails

        def settled() -> int:
            return sum(known.state.value in {"sent", "suppressed"} for known in mails.values())

        await until(lambda: settled() == 2)
        assert len(sender.outbox_of(ADA)) == 1, "the second of a day is held back"


@pytest.mark.slow
async def test_who_is_no_provider_changes_nothing_and_is_heard_no_more() -> None:
    # MAIL-7
    async with open_whole_site(settings=with_keys(), has_documents=False) as site:
        suppressed = site.accounts.database.suppressed
        for provider in ("postmark", "ses", "nobody", "..", "MAILGUN"):
            assert (await report(site, provider, mailgun())).status == 404, provider
        own = {"sec-fetch-site": "cross-site"}
        assert (await report(site, "mailgun", mailgun(at=datetime.now(UTC)), own)).status == 403
        form_typed = {"content-type": "application/x-www-form-urlencoded"}
        assert (await report(site, "mailgun", b"a=b", form_typed)).status == 415
        for _ in range(REFUSED_PER_ADDRESS_MAX):
            answer = await report(site, "mailgun", mailgun(key="another"))
            assert answer.status == 401
            assert ADA not in answer.text
        refused = await report(site, "sendgrid", b"[]")
        assert refused.status == 429
        assert int(refused.headers["retry-after"]) <= 60
        # AUTH-40: programs are told which limit it was
        assert refused.headers["ratelimit-policy"] == '"refused-reports";q=30;w=60'
        assert refused.headers["ratelimit"].startswith('"refused-reports";r=0;t=')
        assert suppressed == {}
        assert (await report(site, "mailgun", mailgun(at=datetime.now(UTC)))).status == 200


@pytest.mark.slow
async def test_a_report_that_was_not_kept_is_taken_when_it_comes_again() -> None:
    # MAIL-7
    async with open_whole_site(settings=with_keys(), has_documents=False) as site:
        states = site.mail_states
        assert isinstance(states, MemoryMailStates)
        body = mailgun(at=datetime.now(UTC))
        states.fail_next()
        assert (await report(site, "mailgun", body)).status == 503
        again = await report(site, "mailgun", body)
        assert json.loads(again.body) == {"suppressed": 1}
        assert len(site.accounts.database.suppressed) == 1


@pytest.mark.slow
async def test_without_a_key_there_is_no_hook() -> None:
    # MAIL-7
    async with open_whole_site(has_documents=False) as site:
        for provider in ("mailgun", "sendgrid"):
            assert (await report(site, provider, mailgun())).status == 404
