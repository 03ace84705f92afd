"""Reports of mail providers about addresses that take no mail: who signed one, and what it says.

Pure. Each provider signs in its own way, and calls what happened by its own words; here is what is
kept of it: which address takes no more mail, and whether it bounced or its reader complained.

SendGrid signs time and body with a key of the elliptic curve P-256. Mailgun signs a time and a
random token, and not the body: whoever could read one report could write another, so a token is
taken once (`Report.once`), and the site must be reached by TLS. Postmark signs nothing and shows a
password. Amazon's are in `amazon.py`.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Protocol

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from actors.runtime import Secret
from web.mail.words import BadMail, parse_address

# Both try again for a day at the longest when a site does not answer. Older ones are refused.
REPORT_KEPT = timedelta(days=1)
# A clock may be wrong by some seconds; a report from tomorrow is none.
AHEAD_MAX = timedelta(minutes=5)
# A report of SendGrid has some hundred events; each address is a statement.
ADDRESSES_MAX = 1000


_TOPIC = re.compile(
    r"arn:(aws|aws-cn|aws-us-gov):sns:([a-z]{2}(?:-[a-z]+)+-[0-9]):[0-9]{12}:[A-Za-z0-9_-]{1,256}"
)


class BadTopic(ValueError):
    """Raised for what is no name of a topic, such as `arn:aws:sns:eu-west-1:123456789012:mail`."""


def topic_origin(topic: str) -> str:
    """Call this for where a topic of Amazon's has its certificates; raises `BadTopic`."""
    found = _TOPIC.fullmatch(topic)
    if found is None:
        raise BadTopic("is no arn of an SNS topic")
    end = "amazonaws.com.cn" if found[1] == "aws-cn" else "amazonaws.com"
    return f"https://sns.{found[2]}.{end}"


class Why(StrEnum):
    """Why an address takes no more mail."""

    BOUNCED = "bounced"
    COMPLAINED = "complained"


class NotSigned(Exception):
    """Raised for a report that its provider has not signed, or long ago; nothing is believed."""


class BadReport(Exception):
    """Raised for a report that was signed, and is not understood; nothing of it was taken."""


class NeedsCertificate(Exception):
    """Raised when a report can be judged only by a certificate that is not there yet.

    `url` is where it is, as the hook allows it; give it to `learn` and read the report again.
    """

    def __init__(self, url: str, learn: Callable[[bytes], None]) -> None:
        super().__init__("a certificate is missing")
        self.url, self.learn = url, learn


@dataclass(frozen=True, slots=True)
class Report:
    """What a provider says: addresses in their one form. `once` names it: it is taken once.

    `asks` is a word by which an operator lets the provider report here; mostly there is none.
    """

    once: bytes
    addresses: Mapping[str, Why]
    asks: str = ""


class Hook(Protocol):
    """How the reports of a provider are read."""

    @property
    def provider(self) -> str:
        """As it stands in the path."""
        ...

    def read(self, headers: Mapping[str, str], body: bytes, now: datetime) -> Report:
        """Call this with the names of headers in small letters.

        Raises `NotSigned`, `BadReport`.
        """
        ...


# -- Mailgun -------------------------------------------------------------------------------------


class _Signature(msgspec.Struct):
    timestamp: str | int
    token: str
    signature: str


class _MailgunEvent(msgspec.Struct):
    event: str
    severity: str = ""
    reason: str = ""
    recipient: str = ""


class _Mailgun(msgspec.Struct, rename={"event": "event-data"}):
    signature: _Signature
    event: _MailgunEvent


_MAILGUN_GONE = frozenset({"bounce", "suppress-bounce"})


class MailgunHook:
    """Mailgun: HMAC-SHA256 of time and token, in hexadecimal, by the webhook signing key."""

    provider = "mailgun"

    def __init__(self, key: Secret[str]) -> None:
        self._key = key

    def read(self, headers: Mapping[str, str], body: bytes, now: datetime) -> Report:
        """See `Hook.read`."""
        try:
            found = msgspec.json.decode(body, type=_Mailgun)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise NotSigned("no report with a signature") from None
        signed = found.signature
        told = f"{signed.timestamp}{signed.token}".encode("utf-8", "surrogatepass")
        right = hmac.digest(self._key.reveal().encode(), told, "sha256").hex()
        if not hmac.compare_digest(
            right.encode(), signed.signature.lower().encode("utf-8", "surrogatepass")
        ):
            raise NotSigned("another signature")
        _check_time(str(signed.timestamp), now)
        return Report(
            sha256(told).digest(), addresses_of([(found.event.recipient, _of(found.event))])
        )


def _of(event: _MailgunEvent) -> Why | None:
    is_final = event.event == "failed" and event.severity == "permanent"
    if event.event == "complained" or (is_final and event.reason == "suppress-complaint"):
        return Why.COMPLAINED
    return Why.BOUNCED if is_final and event.reason in _MAILGUN_GONE else None


# -- SendGrid ------------------------------------------------------------------------------------

_SIGNATURE = "x-twilio-email-event-webhook-signature"
_TIMESTAMP = "x-twilio-email-event-webhook-timestamp"


class _SendGridEvent(msgspec.Struct):
    event: str = ""
    email: str = ""
    type: str = ""
    reason: str = ""


class BadKey(ValueError):
    """Raised for what is no public key of SendGrid: P-256, as its page shows it, in base64."""


class SendGridHook:
    """SendGrid: ECDSA of time and body; the public key is the one that its page shows."""

    provider = "sendgrid"

    def __init__(self, key: str) -> None:
        """Raises `BadKey`."""
        self._key = public_key(key)

    def read(self, headers: Mapping[str, str], body: bytes, now: datetime) -> Report:
        """See `Hook.read`."""
        at = headers.get(_TIMESTAMP, "")
        try:
            signature = base64.b64decode(headers.get(_SIGNATURE, ""), validate=True)
            self._key.verify(signature, at.encode("latin-1") + body, ECDSA(SHA256()))
        except (InvalidSignature, binascii.Error, ValueError):
            raise NotSigned("another signature") from None
        _check_time(at, now)
        try:
            events = msgspec.json.decode(body, type=list[_SendGridEvent])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise BadReport("it is no list of events") from None
        told = addresses_of([(one.email, _of_sendgrid(one)) for one in events])
        # Not of the signature: it can be written in two ways.
        return Report(sha256(at.encode("latin-1") + body).digest(), told)


def _of_sendgrid(event: _SendGridEvent) -> Why | None:
    reason = event.reason.lower()
    if event.event == "spamreport":
        return Why.COMPLAINED
    if event.event == "dropped":
        # It sends nothing to such an address, and will not.
        is_complaint = reason.startswith("spam reporting")
        is_gone = reason.startswith(("bounced", "invalid"))
        return Why.COMPLAINED if is_complaint else Why.BOUNCED if is_gone else None
    # A mail that is blocked was refused for what it is, or where it comes from.
    return Why.BOUNCED if event.event == "bounce" and event.type != "blocked" else None


def public_key(text: str) -> EllipticCurvePublicKey:
    """Call this with a key as SendGrid shows it; raises `BadKey`."""
    try:
        key = load_der_public_key(base64.b64decode(text, validate=True))
    except (ValueError, UnsupportedAlgorithm):
        raise BadKey("is no public key in base64") from None
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise BadKey("is no key of the curve P-256")
    return key


# -- Postmark ------------------------------------------------------------------------------------

# Types of bounces after which it sends nothing to an address any more.
_POSTMARK_GONE = frozenset({"HardBounce", "BadEmailAddress"})
LOGIN_PASSWORD_CHARS_MIN = 16


class _Postmark(msgspec.Struct, rename="pascal"):
    record_type: str
    type: str = ""
    email: str = ""
    recipient: str = ""
    suppress_sending: bool = False
    suppression_reason: str | None = None


class PostmarkHook:
    """Postmark: who shows the name and password of the address that it was given."""

    provider = "postmark"

    def __init__(self, login: Secret[str]) -> None:
        """`login` is `name:password`."""
        self._login = login

    def read(self, headers: Mapping[str, str], body: bytes, now: datetime) -> Report:
        """See `Hook.read`. No time is signed: a report is good whenever it comes."""
        kind, _, given = headers.get("authorization", "").partition(" ")
        try:
            shown = base64.b64decode(given.strip(), validate=True)
        except (binascii.Error, ValueError):
            raise NotSigned("no login") from None
        is_right = hmac.compare_digest(shown, self._login.reveal().encode())
        if kind.lower() != "basic" or not is_right:
            raise NotSigned("another login")
        try:
            found = msgspec.json.decode(body, type=_Postmark)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise BadReport("it is no report of mail") from None
        to = found.recipient or found.email
        return Report(sha256(body).digest(), addresses_of([(to, _of_postmark(found))]))


def _of_postmark(found: _Postmark) -> Why | None:
    kind = found.type
    if found.record_type == "SubscriptionChange" and found.suppress_sending:
        kind = found.suppression_reason or ""
    elif found.record_type not in {"Bounce", "SpamComplaint"}:
        return None
    if kind == "SpamComplaint":
        return Why.COMPLAINED
    return Why.BOUNCED if kind in _POSTMARK_GONE else None


# -- all ----------------------------------------------------------------------------------------


def _check_time(text: str, now: datetime) -> None:
    if not (text.isascii() and text.isdigit() and len(text) <= 11):
        raise NotSigned("no time")
    check_age(datetime.fromtimestamp(int(text), UTC), now)


def check_age(at: datetime, now: datetime) -> None:
    """Call this with the time that was signed; raises `NotSigned`."""
    age = now - at
    if not -AHEAD_MAX <= age <= REPORT_KEPT:
        raise NotSigned("signed too long ago, or yet to come")


def addresses_of(told: Sequence[tuple[str, Why | None]]) -> Mapping[str, Why]:
    """Call this with what is said of addresses as they were written; raises `BadReport`."""
    found: dict[str, Why] = {}
    for text, why in told:
        if why is None:
            continue
        try:
            found[parse_address(text)] = why
        except BadMail:
            continue  # no mail of ours has gone to such an address
        if len(found) > ADDRESSES_MAX:
            raise BadReport(f"it is about over {ADDRESSES_MAX} addresses")
    return found
