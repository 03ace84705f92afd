"""What the link over NATS is given and what it says: settings, faults, and when to try again."""

from __future__ import annotations

import asyncio
import math
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from nats import errors

from actors.cluster.link import LinkError, LinkMisuse
from actors.runtime import Log

DEFAULT_PORT = 4222

# A peer that is stopped is noticed after the fourth: within 4 s. The library's own
# values are two minutes.
PING_INTERVAL_S = 1.0
PINGS_MAX = 3
# For each step of connecting: a server that accepts and says nothing is left after this.
STEP_S_MAX = 2
# TCP, TLS, the greeting, the answer: as one.
ATTEMPT_S_MAX = 4.0
# A server that starts together with its nodes is there by then.
FIRST_CONNECT_S_MAX = 30.0
# While nothing answers: soon at first, as after a restart of the server; then a node that lost its
# network for an hour disturbs nobody.
RETRY_S = 0.1
RETRY_S_MAX = 2.0
PATIENT_AFTER_S = 10.0
# In which what is not mended yet doubles its pause.
_DOUBLES_IN_S = 5.0

# What waits for the loop, and what waits there for the socket: two windows of a peer (CLU-52), so
# that a server that stands still is felt by who sends and not by memory.
OUTGOING_BYTES_MAX = 4 * 1024 * 1024
# What waits for trio: what the documented file lets a node be behind at the server.
INCOMING_BYTES_MAX = 8 * 1024 * 1024
# What else a message costs while it waits.
OVERHEAD_BYTES = 200
# Handed to trio in one go; each hearer only puts it where somebody waits for it.
BATCH = 256

LOG_EVERY_S = 10.0
_TEXT_LENGTH_MAX = 200

_log = Log("storage.link")


@dataclass(frozen=True, slots=True)
class NatsCredentials:
    """How a node says who it is: at most one of a key, a user with a password, and a token.

    Each is a file, read at every connection: who changes one need not start the node again.
    """

    nkey_file: Path | None = None
    user: str = ""
    password_file: Path | None = None
    token_file: Path | None = None

    def __post_init__(self) -> None:
        if bool(self.user) is not (self.password_file is not None):
            raise LinkMisuse("a user", "and a password's file are given together")
        ways = (self.nkey_file, self.password_file, self.token_file)
        if sum(one is not None for one in ways) > 1:
            raise LinkMisuse("credentials", "are a key, a user with a password, or a token")

    @property
    def is_given(self) -> bool:
        """Whether there are any."""
        return bool(self.nkey_file or self.user or self.token_file)


@dataclass(frozen=True, slots=True)
class NatsTls:
    """Files for TLS: whom to trust (else the system's), and a certificate of this node's own."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def __post_init__(self) -> None:
        if bool(self.cert_file) is not bool(self.key_file):
            raise LinkMisuse("a certificate", "and its key are given together")

    def context(self) -> ssl.SSLContext:
        """Call this for what a connection needs; raises `OSError` for files that cannot be used."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.cert_file is not None:
            # A password would be asked for on the terminal.
            context.load_cert_chain(self.cert_file, self.key_file, password="")
        return context


@dataclass(frozen=True, slots=True)
class NatsSettings:
    """Which servers, and who this is there; `servers` are `nats://host:port` or `tls://`.

    With one `tls://` all are reached by TLS only: of servers that are one cluster none is a
    weaker door than the others. `probe` are subjects that the node needs.
    """

    servers: tuple[str, ...]
    name: str = "node"
    prefix: str = "gr.greenroom"
    credentials: NatsCredentials = NatsCredentials()
    tls: NatsTls = NatsTls()
    payload_bytes_min: int = 0
    ping_interval_s: float = PING_INTERVAL_S

    def __post_init__(self) -> None:
        if not self.servers:
            raise LinkMisuse("servers", "are at least one")
        for server in self.servers:
            check_server(server)
        if not self.ping_interval_s > 0:
            raise LinkMisuse("the interval of pings", "is above 0")

    @property
    def needs_tls(self) -> bool:
        """Whether nothing is said without TLS."""
        return any(server.startswith("tls://") for server in self.servers)

    @property
    def urls(self) -> list[str]:
        """Each server with its scheme and port."""
        scheme = "tls" if self.needs_tls else "nats"
        return [f"{scheme}://{place_of(server)}" for server in self.servers]

    @property
    def places(self) -> str:
        """All of them, for people."""
        return ", ".join(place_of(server) for server in self.servers)


def check_server(server: str) -> None:
    """Call this with one server's address; raises `LinkMisuse`."""
    if not _is_server(server):
        raise LinkMisuse("a server", "is nats://host:port or tls://host:port")
    if "@" in server:
        raise LinkMisuse("a server", "is named without a user or a password: they are in files")


def _is_server(server: str) -> bool:
    try:
        parts = urlsplit(server)
        is_reachable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    rest = parts.path.rstrip("/") or parts.query or parts.fragment
    return is_reachable and parts.scheme in {"nats", "tls"} and not rest


def place_of(server: str) -> str:
    """Call this for `host:port` of a server's address."""
    parts = urlsplit(server)
    host = parts.hostname or ""
    return f"{f'[{host}]' if ':' in host else host}:{parts.port or DEFAULT_PORT}"


def retry_delay_s(down_s: float, draw: float) -> float:
    """Call this for the pause before the next attempt, down for so long; `draw` is from 0 to 1."""
    late_s = min(max(0.0, down_s - PATIENT_AFTER_S), 3600.0)
    pause_s = min(RETRY_S_MAX, RETRY_S * math.exp2(late_s / _DOUBLES_IN_S))
    # Nodes that lost one server at once do not come back at once.
    return pause_s * (0.5 + 0.5 * draw)


class LinkLost(LinkError):
    """Raised by `NatsLink.serve` when its connection is over for good, or its loop is lost.

    What was under way may be lost. Serve again: a new connection is made.
    """

    code = "link_lost"

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}; the link needs a new connection")
        self.reason = reason


class LinkFault(StrEnum):
    """What went wrong at the server or on the way: the label of a counter, so a closed list."""

    CREDENTIALS = "credentials"
    CERTIFICATE = "certificate"
    PERMISSION = "permission"
    PAYLOAD = "payload"
    SLOW_CONSUMER = "slow_consumer"
    CONNECT = "connect"
    PROTOCOL = "protocol"


# What waiting does not mend.
REFUSALS = frozenset(
    {LinkFault.CREDENTIALS, LinkFault.CERTIFICATE, LinkFault.PERMISSION, LinkFault.PAYLOAD}
)
_CREDENTIAL_WORDS = ("authorization violation", "authentication", "credentials", "revoked")


class PayloadTooSmall(errors.Error):
    """Raised for a server that takes less than a frame may be."""


class NoTls(errors.Error):
    """Raised before anything was said to a server that offers no TLS where it is needed."""


class BadCredentials(errors.Error):
    """Raised for a file of credentials that cannot be read or is none."""


def fault_of(error: BaseException) -> LinkFault:
    """Call this to learn what an error of the client means."""
    text = str(error).lower()
    match error:
        case PayloadTooSmall():
            return LinkFault.PAYLOAD
        case BadCredentials() | errors.AuthorizationError():
            return LinkFault.CREDENTIALS
        case ssl.SSLError() | ssl.CertificateError() | NoTls():
            return LinkFault.CERTIFICATE
        case errors.SlowConsumerError():
            return LinkFault.SLOW_CONSUMER
        case OSError() | errors.UnexpectedEOF() | errors.StaleConnectionError():
            return LinkFault.CONNECT
        case TimeoutError() | asyncio.TimeoutError() | errors.NoServersError():
            return LinkFault.CONNECT
        case _ if "permissions violation" in text:
            return LinkFault.PERMISSION
        # The server's own limit for who says nothing.
        case _ if "authentication timeout" in text:
            return LinkFault.CONNECT
        case _ if any(words in text for words in _CREDENTIAL_WORDS):
            return LinkFault.CREDENTIALS
        case _ if "slow consumer" in text:
            return LinkFault.SLOW_CONSUMER
        case _ if "stale connection" in text or "empty response" in text:
            return LinkFault.CONNECT
        case _:
            return LinkFault.PROTOCOL


def words_of(error: BaseException) -> str:
    """Call this for what an error says, short and on one line."""
    if isinstance(error, TimeoutError):
        return "it says nothing"
    text = str(error).removeprefix("nats: ").strip("'") or type(error).__name__
    return " ".join(text.split())[:_TEXT_LENGTH_MAX]


_WHY = {
    LinkFault.CREDENTIALS: "does not let this node in ({}): check the credentials on both sides",
    LinkFault.CERTIFICATE: "and this node do not agree on TLS ({}): check both certificates",
    LinkFault.PERMISSION: "does not allow what nodes need ({}): permit {} both ways",
    LinkFault.PAYLOAD: "takes too little in one message ({}): raise its max_payload",
}


def why_refused(fault: LinkFault, said: str, everything: str) -> str:
    """Call this for the sentence of a refusal; `everything` is the pattern of what nodes need."""
    return _WHY[fault].format(said, everything)


@dataclass(slots=True)
class Faults:
    """Counts faults, and has each kind logged once per 10 s; `clock` gives seconds."""

    clock: Callable[[], float]
    counts: Counter[LinkFault] = field(default_factory=Counter)
    _logged: dict[LinkFault, tuple[float, int]] = field(default_factory=dict)

    def note(self, fault: LinkFault, said: str, server: str) -> None:
        """Call this for each fault."""
        self.counts[fault] += 1
        now = self.clock()
        at, count = self._logged.get(fault, (float("-inf"), 0))
        if now - at < LOG_EVERY_S:
            return
        self._logged[fault] = now, self.counts[fault]
        _log.warning(
            "link.fault",
            kind=fault.value,
            said=said,
            server=server,
            count=self.counts[fault] - count,
        )
