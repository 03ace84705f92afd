"""Reports of Amazon SES: by the key of the one topic, whose certificate is had from one host."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from actors.runtime.words.showing import redact_names, redact_text
from storage.memory import MemoryMailStates
from tests.logged import captured
from tests.web.mail.test_bounces import NOW, report
from tests.web.routing.https_host import Authority, answer_of, https_hosts
from tests.web.whole_site import in_thread, open_whole_site
from web.mail.routes import bounces
from web.mail.routes.amazon import SesHook
from web.mail.routes.signed import (
    AHEAD_MAX,
    REPORT_KEPT,
    BadReport,
    BadTopic,
    NeedsCertificate,
    NotSigned,
    Why,
)
from web.mail.words import address_digest
from web.settings import Settings

ADA = "ada@example.org"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:mail"
HOST = "https://sns.eu-west-1.amazonaws.com"
PEM_AT = f"{HOST}/SimpleNotificationService-{'0a' * 16}.pem"
KEY = rsa.generate_private_key(65537, 2048)
BOUNCE = {
    "notificationType": "Bounce",
    "bounce": {"bounceType": "Permanent", "bouncedRecipients": [{"emailAddress": ADA}]},
    "mail": {"messageId": "x"},
}
ORDER = ("Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn")


def certificate(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = KEY,
    begins: datetime = NOW - timedelta(days=100),
    days: int = 10_000,
) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(begins).not_valid_after(begins + timedelta(days=days))
        .sign(key, SHA256())
    )  # fmt: skip
    return made.public_bytes(Encoding.PEM)


def message(
    said: object = BOUNCE,
    *,
    at: datetime = NOW,
    key: rsa.RSAPrivateKey = KEY,
    after: Mapping[str, str] | None = None,
    **more: str,
) -> bytes:
    """A message as SNS sends it; `more` is signed, `after` put in behind the signature."""
    text = said if isinstance(said, str) else json.dumps(said)
    fields = {
        "Type": "Notification",
        "MessageId": "m-1",
        "TopicArn": TOPIC,
        "Message": text,
        "Timestamp": at.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "SignatureVersion": "2",
        "SigningCertURL": PEM_AT,
        **more,
    }
    names = [*(name for name in ORDER if name in fields), "Type"]
    told = "".join(f"{name}\n{fields[name]}\n" for name in names)
    signature = base64.b64encode(key.sign(told.encode(), PKCS1v15(), SHA256())).decode()
    return json.dumps({**fields, "Signature": signature, **(after or {})}).encode()


def taught(pem: bytes | None = None) -> SesHook:
    """A hook that has the certificate already."""
    hook = SesHook(TOPIC)
    with pytest.raises(NeedsCertificate) as missing:
        hook.read({}, message(), NOW)
    assert missing.value.url == PEM_AT
    missing.value.learn(certificate() if pem is None else pem)
    return hook


def test_what_amazon_says_is_read_by_its_own_words() -> None:
    # MAIL-7
    hook = taught()
    bounce, complaint = BOUNCE["bounce"], {"complainedRecipients": [{"emailAddress": ADA}]}
    assert isinstance(bounce, dict)
    for said, why in (
        (BOUNCE, Why.BOUNCED),
        ({"eventType": "Bounce", "bounce": bounce}, Why.BOUNCED),
        ({**BOUNCE, "bounce": {**bounce, "bounceType": "Transient"}}, None),
        ({**BOUNCE, "bounce": {**bounce, "bounceType": "Undetermined"}}, None),
        ({"notificationType": "Complaint", "complaint": complaint}, Why.COMPLAINED),
        (
            {
                "eventType": "Complaint",
                "complaint": {**complaint, "complaintFeedbackType": "not-spam"},
            },
            None,
        ),
        ({"eventType": "Delivery"}, None),
    ):
        assert hook.read({}, message(said), NOW).addresses == ({} if why is None else {ADA: why})
    assert hook.read({}, message(Subject="Amazon SES Email Event Notification"), NOW).addresses
    for nonsense in ("Successfully validated SNS topic", "[" * 50_000, "[]", '{"bounce": 5}'):
        with pytest.raises(BadReport):
            hook.read({}, message(nonsense), NOW)


def test_only_the_topic_is_believed_and_only_what_it_signed() -> None:
    # MAIL-7
    hook, other = taught(), rsa.generate_private_key(65537, 2048)
    assert hook.read({}, message(), NOW).addresses
    for wrong in (
        b"", b"{}", b"[", b"\xff", b"[" * 100_000, b'{"Type": 1}',
        message(key=other),
        message(TopicArn="arn:aws:sns:eu-west-1:999999999999:mail"),
        message(SignatureVersion="1"),
        message(Type="Another"),
        message(after={"Message": json.dumps(BOUNCE).replace("ada", "bob")}),
        message(after={"MessageId": "m-2"}),
        message(after={"Subject": "put in"}),
        message(after={"Timestamp": "2026-03-01T12:00:01.000Z"}),
        message(after={"Signature": "AAAA"}),
        message(after={"Signature": "*"}),
        message(after={"Message": "\ud800"}),
        message(Timestamp="yesterday"),
        message(Timestamp="2026-03-01T12:00:00"),
    ):  # fmt: skip
        with pytest.raises(NotSigned):
            hook.read({}, wrong, NOW)
    second = timedelta(seconds=1)
    for at, is_good in (
        (NOW - REPORT_KEPT, True),
        (NOW - REPORT_KEPT - second, False),
        (NOW + AHEAD_MAX, True),
        (NOW + AHEAD_MAX + second, False),
    ):
        read = partial(hook.read, {}, message(at=at), NOW)
        if is_good:
            read()
        else:
            with pytest.raises(NotSigned):
                read()


@pytest.mark.parametrize(
    "url",
    [
        "",
        PEM_AT.replace("https", "http"),
        PEM_AT.replace("eu-west-1", "us-east-1"),
        PEM_AT.replace("amazonaws.com", "amazonaws.com.evil.example"),
        PEM_AT.replace("https://", "https://evil.example/"),
        PEM_AT.replace("https://", "https://evil.example@"),
        PEM_AT.replace(".com/", ".com:444/"),
        PEM_AT.replace(".com/", ".com/../"),
        PEM_AT.replace("Simple", "x/Simple"),
        PEM_AT + "?x=1",
        PEM_AT + "#x",
        PEM_AT.replace(".com", ".com\\@evil.example"),
        PEM_AT.replace("https", "HTTPS"),
        PEM_AT + "\n",
        "https://[sns",
    ],
)
def test_a_certificate_is_had_from_one_host_only(url: str) -> None:
    # MAIL-7: whoever sends a message chooses no address that the site visits
    with pytest.raises(NotSigned):
        SesHook(TOPIC).read({}, message(SigningCertURL=url), NOW)


def test_a_certificate_that_is_none_signs_nothing() -> None:
    # MAIL-7
    for pem in (
        b"",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        certificate(ec.generate_private_key(ec.SECP256R1())),
        certificate(rsa.generate_private_key(65537, 1024)),
        certificate(begins=NOW - timedelta(days=9), days=8),
        certificate(begins=NOW + timedelta(days=1)),
    ):
        with pytest.raises(NotSigned):
            taught(pem).read({}, message(), NOW)


@pytest.mark.parametrize(
    "topic", ["", "mail", TOPIC + "\n", TOPIC.replace("eu-west-1", "x.y"), TOPIC.upper()]
)
def test_what_is_no_topic_is_refused(topic: str) -> None:
    # MAIL-7
    with pytest.raises(BadTopic):
        SesHook(topic)


@pytest.mark.slow
async def test_a_message_of_the_topic_ends_the_mail_to_an_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # MAIL-7: through the running site, that fetches the certificate over HTTPS from a host of
    # Amazon's name, which an authority of this test speaks for
    authority, name = Authority(tmp_path / "trusted"), urlsplit(HOST).netloc
    settings = Settings(port=0, overload_late_ms=60_000, overload_after_ms=60_000, ses_topic=TOPIC)
    async with (
        https_hosts(authority.roots, {name: authority.context(name)}, monkeypatch) as host,
        open_whole_site(settings=settings, has_documents=False) as site,
    ):
        pem, path = certificate(begins=datetime.now(UTC) - timedelta(days=1)), urlsplit(PEM_AT).path
        states = MemoryMailStates(site.accounts.database)
        text = {"content-type": "text/plain; charset=UTF-8", "x-amz-sns-message-type": "x"}
        send = partial(report, site, "ses", headers=text)
        body = message(at=datetime.now(UTC))
        assert (await send(body)).status == 503
        host.answers[path] = answer_of(pem)
        for taken in (1, 0):
            answer = await send(body)
            assert (answer.status, json.loads(answer.body)) == (200, {"suppressed": taken})
        assert host.asked == {path: 2}, "kept from then on"
        assert await states.maybe_suppression(address_digest(ADA)) is not None
        assert (await send(message(key=rsa.generate_private_key(65537, 2048)))).status == 401
        with captured() as lines:
            asked = message(
                "Visit the address below.",
                at=datetime.now(UTC),
                Type="SubscriptionConfirmation",
                Token="2336412f37fb687f",
                MessageId="asks",
                SubscribeURL="https://evil.example/",
            )
            assert (await send(asked)).status == 200
        (told,) = (one for one in lines if one["event"] == "mail.report_wants_consent")
        # As a line of the log it is whole, and nothing that it says is visited.
        shown = {name: redact_text(str(value)) for name, value in redact_names(dict(told)).items()}
        assert shown["confirm_by"] == "2336412f37fb687f"
        assert host.asked == {path: 2}
        # Other certificates of that host are asked for some times, and no more.
        host.answers.clear()
        others = [PEM_AT.replace("0a", f"{number:02}") for number in range(bounces.FETCHES_MAX)]
        answers = [(await send(message(SigningCertURL=other))).status for other in others]
        assert (answers, host.asked.total()) == ([503, 503, 503, 429, 429], bounces.FETCHES_MAX)
        # No other path takes text, and no page of another site sends it.
        assert (await report(site, "mailgun", b"x", text)).status == 415
        foreign = {**text, "origin": "https://evil.example"}
        assert (await report(site, "ses", body, foreign)).status == 403
        post = partial(site.visitor().request, "POST", "/login", b"x", text)
        assert (await in_thread(post)).status == 415
