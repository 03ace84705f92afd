"""How a Kafka or Redpanda is reached, and what its client's errors mean here."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import urlsplit

from confluent_kafka import KafkaError, KafkaException

from actors.persistence import InvalidField
from actors.persistence.bus import BusNotTrusted, BusRejected, BusUnavailable
from actors.persistence.words import check_a, check_integer, check_text
from actors.runtime import Secret

T = TypeVar("T")

# Of all brokers, as a list with commas.
BROKERS_BYTES_MAX = 4096
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
# Less than the relay's 10 s: a send that was given up is not still under way.
MESSAGE_TIMEOUT_MS, LINGER_MS = 8000, 5
SESSION_TIMEOUT_MS = 10_000
# One question to a broker.
REQUEST_S_MAX = 5.0
# Who asks how the bus is waits for 2 s: a broker that is away is told as that before.
HEALTH_S_MAX = 1.5


@dataclass(frozen=True, slots=True)
class KafkaSecurity:
    """How to be let in: SASL with a name and a secret, TLS with files, or both."""

    mechanism: str | None = None
    username: str = ""
    password: Secret[str] | None = None
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None

    def __post_init__(self) -> None:
        if self.mechanism is not None:
            if self.mechanism not in MECHANISMS:
                raise InvalidField("mechanism", f"is none of {', '.join(MECHANISMS)}")
            if not self.username or self.password is None:
                raise InvalidField("security", "has a mechanism, and no username or password")
        own = (self.certificate_file, self.key_file)
        if own != (None, None) and None in (*own, self.ca_file):
            # Without the authority nothing would be encrypted.
            raise InvalidField("security", "needs ca_file, certificate_file and key_file together")

    @property
    def tells_secret(self) -> bool:
        """Whether the secret goes over the line as it is."""
        return self.mechanism == "PLAIN" and self.ca_file is None

    @property
    def config(self) -> dict[str, str]:
        """Call this for the client's settings; the secret is among them."""
        is_tls = self.ca_file is not None
        if self.mechanism is None and not is_tls:
            return {}
        sasl = "SASL_" if self.mechanism is not None else ""
        found = {"security.protocol": f"{sasl}{'SSL' if is_tls else 'PLAINTEXT'}"}
        if self.mechanism is not None and self.password is not None:
            found["sasl.mechanism"] = self.mechanism
            found["sasl.username"] = self.username
            found["sasl.password"] = self.password.reveal()
        files = {
            "ssl.ca.location": self.ca_file,
            "ssl.certificate.location": self.certificate_file,
            "ssl.key.location": self.key_file,
        }
        return found | {name: path for name, path in files.items() if path is not None}


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """Which brokers, and how; `prefix` stands before all topics and groups on the wire."""

    brokers: str
    prefix: str = ""
    security: KafkaSecurity = KafkaSecurity()
    session_timeout_ms: int = SESSION_TIMEOUT_MS

    def __post_init__(self) -> None:
        check_text("brokers", self.brokers, BROKERS_BYTES_MAX)
        if not all(one.strip() for one in self.brokers.split(",")):
            raise InvalidField("brokers", "has an empty name; give host:port, or several")
        check_text("prefix", self.prefix)
        check_a("security", self.security, KafkaSecurity)
        if self.security.tells_secret and not all(map(_is_here, self.brokers.split(","))):
            raise InvalidField(
                "mechanism",
                "PLAIN sends the password readable for all on the way: beyond this machine give "
                "the authority of TLS (ca_file), or use SCRAM",
            )
        check_integer("session_timeout_ms", self.session_timeout_ms, 1000, 300_000)

    def common(self, on_error: Callable[[KafkaError], None]) -> dict[str, object]:
        """Call this for what all clients are set to."""
        return {
            "bootstrap.servers": self.brokers,
            "error_cb": on_error,
            "allow.auto.create.topics": False,
            # Away is told by our health; the client's own lines go nowhere.
            "log_level": 0,
            "reconnect.backoff.ms": 250,
            "reconnect.backoff.max.ms": 2000,
            **self.security.config,
        }

    def producing(self, on_error: Callable[[KafkaError], None]) -> dict[str, object]:
        """Call this for a producer's settings; the partition is named by us."""
        return {
            **self.common(on_error),
            "acks": "all",
            "enable.idempotence": True,
            "compression.type": "lz4",
            "message.timeout.ms": MESSAGE_TIMEOUT_MS,
            "linger.ms": LINGER_MS,
        }

    def consuming(self, on_error: Callable[[KafkaError], None], group: str) -> dict[str, object]:
        """Call this for a member's settings.

        The newer group protocol leaves the detection of dead members to the broker (45 s).
        """
        return {
            **self.common(on_error),
            "group.id": self.prefix + group,
            "group.protocol": "classic",
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": self.session_timeout_ms,
            "heartbeat.interval.ms": self.session_timeout_ms // 4,
            "max.poll.interval.ms": 300_000,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            # What the client holds beside our buffer.
            "queued.min.messages": 100,
            "queued.max.messages.kbytes": 16_384,
        }


def _is_here(broker: str) -> bool:
    """Whether a broker is on this machine; what cannot be read is not."""
    try:
        host = urlsplit(f"//{broker.strip().rpartition('://')[2]}").hostname or ""
    except ValueError:
        return False
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def word_of(error: KafkaError, refusal: BusRejected | None) -> BusUnavailable | BusRejected:
    """Call this for an error of the client in the words of the bus: by its name alone.

    `refusal` is what the client was told beside it: it says only that it has no connection.
    """
    return refusal or refusal_of(error) or BusUnavailable(error.name())


_REFUSED = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)
# In OpenSSL's words, which are the same whoever says them and name nobody. Of the errors of a
# handshake only these: a connection that is lost in the middle of one is an error too.
_NOT_TRUSTED = re.compile(
    r"SSL routines:[^:]*:(certificate verify failed"
    r"|[a-z0-9/]+ alert (?:[a-z]+ certificate|certificate [a-z]+|unknown ca))"
)


def refusal_of(error: KafkaError) -> BusRejected | None:
    """Call this to learn whether an error says that the broker or we will not have the other."""
    if error.code() in _REFUSED:
        return BusRejected(error.name())
    found = _NOT_TRUSTED.search(error.str() or "")
    if found is None:
        return None
    return BusNotTrusted(found[1], is_ours="alert" in found[1])


_FILES = {
    "ssl.ca.location": "ca_file",
    "ssl.certificate.location": "certificate_file",
    "ssl.key.location": "key_file",
}
_UNUSABLE = re.compile(r"(ssl\.[a-z]+\.location) failed: (?:.*:)?([^:]+)$")


def misfit_of(raised: KafkaException) -> InvalidField:
    """Call this when the client takes no settings: which of them, and why; never what it is."""
    error = error_of(raised)
    found = _UNUSABLE.search(error.str() or "")
    if found is None:
        return InvalidField("security", f"is refused by the client ({error.name()})")
    return InvalidField(_FILES[found[1]], f"is nothing that TLS can use: {found[2]}")


def error_of(raised: KafkaException) -> KafkaError:
    """Call this for what a raised exception of the client is about."""
    error = raised.args[0]
    assert isinstance(error, KafkaError), "the client raises nothing else"
    return error


def text_headers(headers: Mapping[str, str]) -> list[tuple[str, bytes]]:
    """Call this for headers as the client takes them."""
    return [(name, text.encode()) for name, text in headers.items()]
