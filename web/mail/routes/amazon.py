"""Reports of Amazon SES, which come as messages of an SNS topic: who signed one, what it says.

The reading is pure. A message names the certificate that it is signed by: it is taken from the
host of the topic's own region only, by TLS, and kept. Anybody can have a topic at Amazon and its
signature, so only messages of the topic that is set are believed. That the topic asks to be let in
is told to the operator, who does so: no address that a message names is visited.
"""

import base64
import binascii
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from hashlib import sha256

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import load_pem_x509_certificate

from supervision import (
    ONCE,
    BreakerPolicy,
    BucketPolicy,
    BulkheadPolicy,
    Dependency,
    DependencyPolicy,
    DependencyTimeout,
    NotCalled,
)
from web.mail.routes.signed import (
    BadReport,
    NeedsCertificate,
    NotSigned,
    Report,
    Why,
    addresses_of,
    check_age,
    topic_origin,
)
from web.routing.outward import NoAnswer, ask
from web.server import BoundedMap

# A certificate of Amazon's is good for a year, and the next one overlaps it.
CERTIFICATES_MAX = 8
CERTIFICATE_BYTES_MAX = 64 * 1024
FETCH_S_MAX = 5.0
KEY_BITS_MIN = 2048

_CERTIFICATE_PATH = re.compile(r"/SimpleNotificationService-[0-9a-f]{16,64}\.pem")
# What is signed of each kind, in this order, where it is there.
_SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": (
        *("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    ),
}
_SIGNED["UnsubscribeConfirmation"] = _SIGNED["SubscriptionConfirmation"]


class _Recipient(msgspec.Struct, rename="camel"):
    email_address: str = ""


class _Bounce(msgspec.Struct, rename="camel"):
    bounce_type: str = ""
    bounced_recipients: list[_Recipient] = msgspec.field(default_factory=list)


class _Complaint(msgspec.Struct, rename="camel"):
    complaint_feedback_type: str | None = None
    complained_recipients: list[_Recipient] = msgspec.field(default_factory=list)


class _Said(msgspec.Struct, rename="camel"):
    """Set up for an identity it has a `notificationType`, for a set of rules an `eventType`."""

    notification_type: str = ""
    event_type: str = ""
    bounce: _Bounce = msgspec.field(default_factory=_Bounce)
    complaint: _Complaint = msgspec.field(default_factory=_Complaint)


class SesHook:
    """Amazon SES by SNS: RSA with SHA-256 (signature version 2) of what the message says."""

    provider = "ses"

    def __init__(self, topic: str) -> None:
        """Raises `BadTopic`."""
        self._topic, self._origin = topic, topic_origin(topic)
        self._certificates: BoundedMap[str, bytes] = BoundedMap(CERTIFICATES_MAX)

    def read(self, headers: Mapping[str, str], body: bytes, now: datetime) -> Report:
        """See `Hook.read`; raises `NeedsCertificate` too."""
        try:
            found = msgspec.json.decode(body, type=dict[str, str])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise NotSigned("no message with a signature") from None
        names = _SIGNED.get(found.get("Type", ""))
        if names is None or found.get("TopicArn") != self._topic:
            raise NotSigned("another topic")
        if found.get("SignatureVersion") != "2":
            raise NotSigned("signed by SHA-1: set signature version 2 at the topic")
        self._verify(found, names, now)
        check_age(_moment(found.get("Timestamp", "")), now)
        once = sha256(f"{self._topic} {found.get('MessageId')}".encode()).digest()
        if found["Type"] == "Notification":
            return Report(once, addresses_of(_read(found.get("Message", ""))))
        is_asked = found["Type"] == "SubscriptionConfirmation"
        return Report(once, {}, found.get("Token", "") if is_asked else "")

    def _verify(self, found: Mapping[str, str], names: Sequence[str], now: datetime) -> None:
        url = found.get("SigningCertURL", "")
        path = url.removeprefix(self._origin)
        if path == url or _CERTIFICATE_PATH.fullmatch(path) is None:
            raise NotSigned("a certificate of another host")
        pem = self._certificates.get(url)
        if pem is None:
            raise NeedsCertificate(url, partial(self._certificates.put, url))
        told = "".join(f"{name}\n{found[name]}\n" for name in names if name in found)
        try:
            signature = base64.b64decode(found.get("Signature", ""), validate=True)
            key = _key_of(pem, now)
            key.verify(signature, told.encode("utf-8", "surrogatepass"), PKCS1v15(), SHA256())
        except (InvalidSignature, binascii.Error, ValueError):
            raise NotSigned("another signature") from None


def _key_of(pem: bytes, now: datetime) -> RSAPublicKey:
    certificate = load_pem_x509_certificate(pem)
    key = certificate.public_key()
    is_now = certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
    if not is_now or not isinstance(key, RSAPublicKey) or key.key_size < KEY_BITS_MIN:
        raise ValueError("no certificate for this")
    return key


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise NotSigned("no time") from None
    if moment.tzinfo is None:
        raise NotSigned("no time")
    return moment


def _read(message: str) -> list[tuple[str, Why | None]]:
    try:
        said = msgspec.json.decode(message.encode("utf-8", "surrogatepass"), type=_Said)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # What SNS says when it is tried, and any other message of the topic.
        raise BadReport("it is no event of mail") from None
    kind = said.notification_type or said.event_type
    if kind == "Bounce" and said.bounce.bounce_type == "Permanent":
        return [(one.email_address, Why.BOUNCED) for one in said.bounce.bounced_recipients]
    if kind == "Complaint" and said.complaint.complaint_feedback_type != "not-spam":
        return [(one.email_address, Why.COMPLAINED) for one in said.complaint.complained_recipients]
    return []


class CertificateAway(Exception):
    """Raised when a certificate could not be fetched; the report comes again."""


# Where certificates are; see `FETCH_S_MAX`. What a report needs comes again with the report.
SNS = "sns"
SNS_POLICY = DependencyPolicy(
    deadline=FETCH_S_MAX,
    attempt=FETCH_S_MAX,
    bulkhead=BulkheadPolicy(concurrent=2, wait=FETCH_S_MAX, queue=10),
    breaker=BreakerPolicy(failures=5, open_for=30.0, successes=1),
    retry=ONCE,
    bucket=BucketPolicy(rate=1.0, burst=20),
)


def fetching(dependency: Dependency) -> Callable[[str], Awaitable[bytes]]:
    """Call this for what fetches certificates, behind its guards; raises `CertificateAway`."""

    async def fetch(url: str) -> bytes:
        try:
            return await dependency.call(partial(fetch_certificate, url))
        except (NotCalled, DependencyTimeout) as error:
            raise CertificateAway(type(error).__name__) from None

    return fetch


async def fetch_certificate(url: str) -> bytes:
    """Call this with an address that a hook has looked at; raises `CertificateAway`."""
    try:
        answer = await ask("GET", url, bytes_max=CERTIFICATE_BYTES_MAX, step_s_max=FETCH_S_MAX)
    except NoAnswer as error:
        raise CertificateAway(str(error)) from None
    if not answer.is_good:
        raise CertificateAway(f"status {answer.status}")
    return answer.body
