"""What an operator can set: one frozen record, read from the environment once, at the door.

`read_settings` is pure: it opens nothing, and tells every problem at once. Past it the
values are true. The table in docs/reference/settings.md is checked against `VARIABLES`.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from urllib.parse import unquote, urlsplit

from actors.accounts import Method
from actors.accounts.kept.risk.rules import (
    WEIGHTS,
    RiskRules,
    RiskWeights,
    parse_levels,
    parse_weights,
)
from actors.accounts.kept.risk.words import RiskMode
from actors.accounts.ways.provider.words import Provider
from actors.cluster import NODE_NAME_BYTES_MAX
from actors.persistence.errors import InvalidField
from actors.runtime import Secret
from web.accounts.hashing import MEMORY_KIB, PASSES, WAITING_MAX, is_strong
from web.accounts.ways.provider.configured import SECRET as PROVIDER_SECRET
from web.accounts.ways.provider.configured import read_providers
from web.mail.routes.signed import (
    LOGIN_PASSWORD_CHARS_MIN,
    BadKey,
    BadTopic,
    public_key,
    topic_origin,
)
from web.mail.words import BadMail, MailAddress, SmtpSecurity, parse_sender

Network = IPv4Network | IPv6Network

# 512 bits: two keys of 256 bits could be cut from it without deriving.
SECRET_BYTES_MIN = 64
# What opens a stream or signs in may take so many times the part of a turn that pages may; a
# command half of that.
KEPT_OF_PAGES = 4
# As many as the digest has that frames between nodes are signed with.
CLUSTER_SECRET_BYTES_MIN = 32
# Where servers of NATS listen when nothing else is said.
NATS_PORT = 4222
NATS_USER_LENGTH_MAX = 255
# As many brokers as anybody lists, and the longest name of one who may use them.
BROKERS_BYTES_MAX, USERNAME_CHARS_MAX = 4096, 255
# The usual ports of mail servers: for programs, for programs encrypted from the start, and for
# servers among each other.
SMTP_PORTS = {SmtpSecurity.STARTTLS: 587, SmtpSecurity.TLS: 465, SmtpSecurity.NONE: 25}
# Whoever guesses is told nothing; so many cannot be guessed.
TOKEN_CHARS_MIN, TOKEN_CHARS_MAX = 16, 512
# Tokens of providers are the longest of what they take.
SMTP_LOGIN_CHARS_MAX = 1024
SERVICE_NAME_CHARS_MAX = 100
# A key of AES-256.
PRIVATE_KEY_BYTES = 32

# From when on what waits is late. What drives an outbox or timers looks when something is due,
# and takes over from one that died within 15 s (outbox) or 30 s (timers): what waits for longer
# than that, and a restart, waits for nobody.
OUTBOX_AGE_S_MAX = 60
TIMERS_LATE_S_MAX = 60
# PROJ-5: by then people see that what they did is missing.
PROJECTION_LAG_S_MAX = 30


class BadSettings(Exception):
    """Raised when the environment holds settings that cannot be; nothing was opened.

    `problems` has one line `NAME: reason` for each. No value of a secret is among them.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class LogFormat(StrEnum):
    """How log lines are printed."""

    PRETTY = "pretty"
    JSON = "json"


class LogLevel(StrEnum):
    """The least grave log line that is printed."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class HeadingFont(StrEnum):
    """What headings are set in: the font that is fetched at set-up, or the system's serif."""

    FETCHED = "fetched"
    SYSTEM = "system"


class ReadModels(StrEnum):
    """Where the documents of read models of a site of one's own are kept."""

    DATABASE = "database"
    REDIS = "redis"


class StoreTimeline(StrEnum):
    """What a start does on a database that began a new timeline since the last one."""

    REFUSE = "refuse"
    FOLLOW = "follow"


class Migrate(StrEnum):
    """Whether a start brings the schema up, or only looks whether another job has."""

    APPLY = "apply"
    OFF = "off"


class Cluster(StrEnum):
    """Whether this process serves its store together with others, as a node."""

    OFF = "off"
    ON = "on"


class Bus(StrEnum):
    """What carries records to other programs."""

    POSTGRES = "postgres"
    KAFKA = "kafka"


class BusRetention(StrEnum):
    """How long the bus in the database keeps a record: seven days, or until all have read it."""

    TIME = "time"
    ACKED = "acked"


class Switch(StrEnum):
    """Whether something that is left out by default is there."""

    OFF = "off"
    ON = "on"


class SaslMechanism(StrEnum):
    """How a broker is shown who we are."""

    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"


class LabMode(StrEnum):
    """What visitors may do in the lab."""

    PUBLIC = "public"
    READONLY = "readonly"
    OFF = "off"


class MailSender(StrEnum):
    """How mail leaves: not at all, by a server, or printed, written or kept for who works here."""

    OFF = "off"
    SMTP = "smtp"
    CONSOLE = "console"
    FILE = "file"
    MEMORY = "memory"


class SmtpPlain(StrEnum):
    """Whether mail may go unencrypted to this machine only, or to any."""

    LOOPBACK = "loopback"
    FORCED = "forced"


class Fingerprints(StrEnum):
    """Whether client programs may show their device when they sign in."""

    ON = "on"
    OFF = "off"


class MagicLinkFlow(StrEnum):
    """Whether a link that signs in is bound to the browser that asked for it."""

    ON = "on"
    OFF = "off"


class Tracing(StrEnum):
    """Whether spans are recorded."""

    ON = "on"
    OFF = "off"


class Compression(StrEnum):
    """Whether pages, files and streams are compressed for who takes gzip."""

    ON = "on"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of the site. Times in seconds; None means: made or derived at start."""

    host: str = "127.0.0.1"
    port: int = 3000
    database_url: Secret[str] | None = None
    session_secret: Secret[bytes] | None = None
    session_secret_previous: Secret[bytes] | None = None
    private_key: Secret[bytes] | None = None
    private_keys_previous: tuple[Secret[bytes], ...] = ()
    session_cleanup_interval_s: int = 3600
    db_connections_max: int = 10
    log_format: LogFormat = LogFormat.PRETTY
    log_level: LogLevel = LogLevel.INFO
    public_origin: str | None = None
    allowed_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[Network, ...] = ()
    lab_mode: LabMode = LabMode.PUBLIC
    lab_letters_per_s: int = 1000
    compression: Compression = Compression.ON
    state_dir: Path = Path(".greenroom")
    # Where the embedded database is backed up to, with its log a write is at most so long away.
    backup_dir: Path | None = None
    backup_every_s: int = 60
    datastar_js: Path | None = None
    heading_font: HeadingFont = HeadingFont.FETCHED
    chat_posts_per_author_max: int = 5
    chat_posts_per_address_max: int = 20
    chat_waiting_per_author_max: int = 10
    chat_waiting_per_address_max: int = 50
    streams_per_address_max: int = 100
    sockets_per_address_max: int = 50
    requests_max: int = 1000
    requests_per_address: int = 8
    overload_late_ms: int = 100
    overload_after_ms: int = 1000
    overload_pages_ms: int = 25
    connections_max: int = 10_000
    drain_budget_s: int = 10
    password_passes: int = PASSES
    password_memory_kib: int = MEMORY_KIB
    password_threads: int | None = None
    passwords_waiting_max: int = WAITING_MAX
    database_wait_s: int = 30
    projections_kept_s: int = 24 * 3600
    store_timeline: StoreTimeline = StoreTimeline.REFUSE
    migrate: Migrate = Migrate.APPLY
    health_outbox_age_s: int = OUTBOX_AGE_S_MAX
    health_timers_late_s: int = TIMERS_LATE_S_MAX
    health_projection_lag_s: int = PROJECTION_LAG_S_MAX
    health_projections_passed_over: tuple[str, ...] = ()
    cluster: Cluster = Cluster.OFF
    cluster_name: str = "greenroom"
    cluster_secret: Secret[bytes] | None = None
    cluster_secret_previous: Secret[bytes] | None = None
    node_name: str | None = None
    nats_url: tuple[str, ...] = ()
    nats_nkey_file: Path | None = None
    nats_user: str = ""
    nats_password_file: Path | None = None
    nats_token_file: Path | None = None
    nats_tls_ca: Path | None = None
    nats_tls_cert: Path | None = None
    nats_tls_key: Path | None = None
    # Where tries are counted, when not in the database.
    redis_url: Secret[str] | None = None
    redis_tls_ca: Path | None = None
    # Of a site of one's own: where documents are, whether memory has some, who searches them.
    read_models: ReadModels = ReadModels.DATABASE
    read_models_cache: Switch = Switch.OFF
    search_url: Secret[str] | None = None
    search_tls_ca: Path | None = None
    search_api_key: Secret[str] | None = None
    search_prefix: str = "greenroom-"
    bus: Bus = Bus.POSTGRES
    bus_retention: BusRetention = BusRetention.TIME
    bus_cloudevents: Switch = Switch.OFF
    kafka_brokers: str | None = None
    kafka_prefix: str = ""
    kafka_sasl_mechanism: SaslMechanism | None = None
    kafka_username: str = ""
    kafka_password: Secret[str] | None = None
    kafka_tls_ca: Path | None = None
    kafka_tls_cert: Path | None = None
    kafka_tls_key: Path | None = None
    mail_sender: MailSender | None = None
    mail_from: MailAddress | None = None
    mail_folder: Path | None = None
    smtp_host: str | None = None
    smtp_port: int | None = None
    smtp_security: SmtpSecurity = SmtpSecurity.STARTTLS
    smtp_plain: SmtpPlain = SmtpPlain.LOOPBACK
    smtp_user: str | None = None
    smtp_password: Secret[str] | None = None
    smtp_ca_file: Path | None = None
    # Providers report what bounced, signed by these.
    mailgun_hook_key: Secret[str] | None = None
    sendgrid_hook_key: str | None = None
    # Or shown with a password, or come by a topic.
    postmark_hook_login: Secret[str] | None = None
    ses_topic: str | None = None
    sign_in_methods: tuple[Method, ...] | None = None
    magic_link_bind_flow: MagicLinkFlow = MagicLinkFlow.ON
    fingerprints: Fingerprints = Fingerprints.OFF
    # Whether the risk of a sign-in is acted on, only written down, or not looked at.
    risk: RiskMode = RiskMode.ENFORCE
    risk_weights: RiskWeights = WEIGHTS
    # From which score a sign-in is of medium, high and critical risk.
    risk_levels: tuple[float, float, float] = (0.30, 0.60, 0.80)
    # Where addresses of the network are; a file.
    risk_places: Path | None = None
    # Who is given `/metrics`: whoever comes to this port of the machine itself, or shows a token.
    metrics_port: int | None = None
    metrics_token: Secret[str] | None = None
    # Whether it is recorded what took how long in each request.
    tracing: Tracing = Tracing.ON
    # Who is handed those that are kept; what it is told with each request, a header a line.
    otlp_endpoint: str | None = None
    otlp_headers: Secret[str] | None = None
    otel_service_name: str = "greenroom"
    # Addresses of mail that were in a breach; a file.
    risk_breached: Path | None = None
    # The domain that passkeys are of, where it is a wider one than that of the site's address.
    webauthn_rp_id: str | None = None
    webauthn_roots: Path | None = None
    providers: tuple[Provider, ...] = ()

    @property
    def mail_by(self) -> MailSender:
        """Call this for how mail leaves: by the server that is named, else printed on a desk."""
        if self.mail_sender is not None:
            return self.mail_sender
        if self.smtp_host is not None:
            return MailSender.SMTP
        return MailSender.CONSOLE if self.is_desk else MailSender.OFF

    @property
    def is_desk(self) -> bool:
        """Call this for whether this machine alone reaches the site: that of a developer."""
        return not self.is_https and is_loopback(self.host)

    @property
    def passkey_domain(self) -> str | None:
        """Call this for the domain that passkeys are of; None where there can be none.

        Browsers know none of a site that is reached by the number of an address.
        """
        if self.webauthn_rp_id is not None:
            return self.webauthn_rp_id
        host = "localhost" if self.public_origin is None else _host_of(self.public_origin)
        return host if is_domain(host) else None

    def passkey_origins(self, own_origin: str) -> frozenset[str]:
        """Call this with the origin of the site for those whose pages may ask for passkeys.

        On loopback it is by the name alone: a number is no domain.
        """
        if self.public_origin is not None:
            return frozenset({self.public_origin})
        port = urlsplit(own_origin).port
        return frozenset({"http://localhost" + ("" if port is None else f":{port}")})

    @property
    def smtp_port_or_usual(self) -> int:
        """Call this for the port of the mail server."""
        return self.smtp_port or SMTP_PORTS[self.smtp_security]

    @property
    def has_metrics(self) -> bool:
        """Call this for whether anybody is given figures; without, no times are taken for them."""
        return self.metrics_port is not None or self.metrics_token is not None

    @property
    def projections_kept(self) -> timedelta:
        """Call this for how long a former generation of a projection is kept."""
        return timedelta(seconds=self.projections_kept_s)

    @property
    def risk_rules(self) -> RiskRules:
        """Call this for weights and borders of risk, as they are set."""
        return RiskRules(self.risk_weights, *self.risk_levels)

    @property
    def is_https(self) -> bool:
        """Call this to learn the mode: HTTPS (production), else loopback."""
        return self.public_origin is not None and self.public_origin.startswith("https://")


class _Bad(ValueError):
    """One setting's value cannot be; the text is the reason."""


def is_loopback(host: str) -> bool:
    """Call this to decide whether a host is this machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_domain(host: str) -> bool:
    """Call this for whether a host is a name that passkeys can be of, and no number."""
    is_name = re.fullmatch(r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63}){0,10}", host) is not None
    return is_name and not host.rpartition(".")[2].isdigit()


def _host_of(origin: str) -> str:
    return urlsplit(origin).hostname or ""


def _domain(text: str) -> str:
    if not is_domain(text):
        raise _Bad(f"must be a domain such as example.org, in small letters, got {text!r}")
    return text


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise _Bad(f"must be a whole number from {low} to {high}, got {text!r}")
        return int(text)

    return parse


def _word(kind: type[StrEnum]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        try:
            return kind(text)
        except ValueError:
            raise _Bad(f"must be one of {', '.join(kind)}, got {text!r}") from None

    return parse


def _host(text: str) -> str:
    if not text or any(character.isspace() or character == "/" for character in text):
        raise _Bad(f"must be an address or a host name, got {text!r}")
    return text


def _database_url(text: str) -> Secret[str]:
    # Never echoed: it may hold a password.
    try:
        parts = urlsplit(text)
        known = parts.scheme in {"postgres", "postgresql"} and parts.port != 0
    except ValueError:
        known = False
    if not known:
        raise _Bad("must be postgres://... or postgresql://... with a valid port")
    return Secret(text)


def _redis_url(text: str) -> Secret[str]:
    # Never echoed: it may hold a password.
    rule = "must be redis://host:port/number or rediss://host:port/number"
    try:
        parts = urlsplit(text)
        known = parts.scheme in {"redis", "rediss"} and parts.port != 0
    except ValueError:
        raise _Bad(rule) from None
    number = parts.path.removeprefix("/") or "0"
    known = known and bool(parts.hostname) and re.fullmatch("[0-9]{1,5}", number) is not None
    if not known or parts.query or parts.fragment:
        raise _Bad(rule)
    if parts.username and not parts.password:
        raise _Bad("must give a user's password, too")
    if parts.scheme == "redis" and not is_loopback(parts.hostname or ""):
        raise _Bad("must be rediss:// beyond this machine: nothing is said in the clear there")
    return Secret(text)


def _search_url(text: str) -> Secret[str]:
    # Never echoed: it may hold a password.
    rule = "must be http://host:port or https://host:port, with a path at most"
    try:
        parts = urlsplit(text)
        known = parts.scheme in {"http", "https"} and parts.port != 0 and bool(parts.hostname)
    except ValueError:
        raise _Bad(rule) from None
    if not known or parts.query or parts.fragment:
        raise _Bad(rule)
    if bool(parts.username) != bool(parts.password):
        raise _Bad("must give a user with a password")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise _Bad("must be https:// beyond this machine: nothing is said in the clear there")
    return Secret(text)


def _search_api_key(text: str) -> Secret[str]:
    # It is a header's value.
    if not text.isascii() or not text.isprintable() or len(text) > 4096 or " " in text:
        raise _Bad("must be at most 4096 letters, digits and signs")
    return Secret(text)


def _search_prefix(text: str) -> str:
    if re.fullmatch("[a-z][a-z0-9_-]{0,38}-", text, re.ASCII) is None:
        raise _Bad("must be at most 40 small letters, digits, _ and -, a letter first, - last")
    return text


def _otlp_endpoint(text: str) -> str:
    # Not echoed either: a key may stand in it by mistake.
    rule = "must be http://host:port or https://host:port, with a path at most"
    try:
        parts = urlsplit(text)
        known = parts.scheme in {"http", "https"} and parts.port != 0 and bool(parts.hostname)
    except ValueError:
        raise _Bad(rule) from None
    is_plain = text.isascii() and text.isprintable() and " " not in text
    if not known or not is_plain or "@" in parts.netloc or "?" in text or "#" in text:
        raise _Bad(rule)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise _Bad("must be https:// beyond this machine: nothing is said in the clear there")
    return text.rstrip("/")


# What says how a request is to be read, and so is not the operator's to say.
_OTLP_OWN = frozenset(
    {"connection", "content-encoding", "content-length", "content-type", "host",
     "transfer-encoding"}
)  # fmt: skip


def _otlp_headers(text: str) -> Secret[str]:
    lines = []
    for part in text.split(","):
        name, equals, value = part.partition("=")
        name, value = name.strip().lower(), unquote(value.strip())
        is_name = re.fullmatch(r"[!#$%&'*+.^_`|~0-9a-z-]{1,100}", name) is not None
        is_value = value.isascii() and value.isprintable() and value == value.strip()
        if not is_name or not equals or not is_value or name in _OTLP_OWN:
            raise _Bad("must be name=value, separated by commas, the values percent-encoded")
        lines.append(f"{name}: {value}")
    return Secret("\n".join(lines))


def _service_name(text: str) -> str:
    if not text.isprintable() or len(text) > SERVICE_NAME_CHARS_MAX:
        raise _Bad(f"must be one line of at most {SERVICE_NAME_CHARS_MAX} characters")
    return text


def _secret(text: str) -> Secret[bytes]:
    secret = _base64url(text)
    if len(secret) < SECRET_BYTES_MIN:
        raise _Bad(f"must hold at least {SECRET_BYTES_MIN} bytes, got {len(secret)}")
    return Secret(secret)


def _cluster_secret(text: str) -> Secret[bytes]:
    secret = _base64url(text)
    if len(secret) < CLUSTER_SECRET_BYTES_MIN:
        raise _Bad(f"must hold at least {CLUSTER_SECRET_BYTES_MIN} bytes, got {len(secret)}")
    return Secret(secret)


def _cluster_name(text: str) -> str:
    if re.fullmatch(r"[a-z0-9-]{1,32}", text) is None:
        raise _Bad(f"must be 1 to 32 of a-z, 0-9 and -, got {text!r}")
    return text


def _node_name(text: str) -> str:
    if not text.isprintable() or not 1 <= len(text.encode()) <= NODE_NAME_BYTES_MAX:
        raise _Bad(f"must be 1 to {NODE_NAME_BYTES_MAX} bytes that can be printed, got {text!r}")
    return text


_NATS_URL_RULE = "must be nats://host:port or tls://host:port, several separated by commas"


def _nats_url(text: str) -> tuple[str, ...]:
    servers = tuple(part.strip() for part in text.split(",") if part.strip())
    if not servers:
        raise _Bad("must name at least one server")
    return tuple(_nats_server(server) for server in servers)


def _nats_server(server: str) -> str:
    # Never echoed: it may hold a password.
    if "@" in server:
        raise _Bad("must not hold a user or a password; they are given as files of their own")
    try:
        parts = urlsplit(server)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _Bad(_NATS_URL_RULE) from None
    rest = parts.path.rstrip("/") + parts.query + parts.fragment
    if not host or rest or port == 0 or parts.scheme not in {"nats", "tls"}:
        raise _Bad(_NATS_URL_RULE)
    # Beyond this machine nothing is said in the clear, whatever the scheme.
    scheme = parts.scheme if is_loopback(host) else "tls"
    bare = f"[{host}]" if ":" in host else host
    return f"{scheme}://{bare}:{NATS_PORT if port is None else port}"


def _nats_user(text: str) -> str:
    if not text.isprintable() or len(text) > NATS_USER_LENGTH_MAX:
        raise _Bad(f"must be at most {NATS_USER_LENGTH_MAX} characters that can be printed")
    return text


def _brokers(text: str) -> str:
    names = [one.strip() for one in text.split(",")]
    if len(text.encode()) > BROKERS_BYTES_MAX or not all(map(_is_broker, names)):
        raise _Bad(f"must be brokers such as one:9092,two:9092, got {text!r}")
    return ",".join(names)


def _is_broker(name: str) -> bool:
    try:
        parts = urlsplit(f"//{name}")
        return bool(parts.hostname and parts.port) and parts.netloc == name and "@" not in name
    except ValueError:
        return False


def _prefix(text: str) -> str:
    if re.fullmatch(r"[a-zA-Z0-9._-]{1,40}", text) is None:
        raise _Bad(f"must be 1 to 40 letters, digits, '.', '_' and '-', got {text!r}")
    return text


def _username(text: str) -> str:
    if not text.isprintable() or len(text) > USERNAME_CHARS_MAX:
        raise _Bad(f"must be at most {USERNAME_CHARS_MAX} characters that can be printed")
    return text


def _mail_from(text: str) -> MailAddress:
    try:
        return parse_sender(text)
    except BadMail:
        raise _Bad(
            "must be an address such as greenroom@example.org, or Name <greenroom@example.org>"
        ) from None


def _line(text: str) -> str:
    if not text.isprintable() or len(text) > SMTP_LOGIN_CHARS_MAX:
        raise _Bad(f"must be one line of at most {SMTP_LOGIN_CHARS_MAX} characters")
    return text


def _token(text: str) -> Secret[str]:
    is_plain = text.isascii() and text.isprintable() and " " not in text
    if not is_plain or not TOKEN_CHARS_MIN <= len(text) <= TOKEN_CHARS_MAX:
        raise _Bad(f"must be {TOKEN_CHARS_MIN} to {TOKEN_CHARS_MAX} letters, digits and signs")
    return Secret(text)


def _password(text: str) -> Secret[str]:
    return Secret(_line(text))


def _sendgrid_key(text: str) -> str:
    try:
        public_key(text)
    except BadKey as error:
        raise _Bad(str(error)) from error
    return text


def _hook_login(text: str) -> Secret[str]:
    name, colon, password = text.partition(":")
    is_ascii = text.isascii() and text.isprintable() and len(text) <= SMTP_LOGIN_CHARS_MAX
    if not is_ascii or not name or not colon or len(password) < LOGIN_PASSWORD_CHARS_MIN:
        least = LOGIN_PASSWORD_CHARS_MIN
        raise _Bad(f"must be name:password in ASCII, the password of {least} characters or more")
    return Secret(text)


def _ses_topic(text: str) -> str:
    try:
        topic_origin(text)
    except BadTopic as error:
        raise _Bad(str(error)) from None
    return text


def _key(text: str) -> Secret[bytes]:
    key = _base64url(text)
    if len(key) != PRIVATE_KEY_BYTES:
        raise _Bad(f"must hold {PRIVATE_KEY_BYTES} bytes, got {len(key)}")
    return Secret(key)


def _keys(text: str) -> tuple[Secret[bytes], ...]:
    return tuple(_key(part.strip()) for part in text.split(",") if part.strip())


def _base64url(text: str) -> bytes:
    try:
        if "=" in text or "+" in text or "/" in text:
            raise _Bad("must be base64url without padding (letters, digits, - and _)")
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        if isinstance(error, _Bad):
            raise
        raise _Bad("must be base64url without padding (letters, digits, - and _)") from None


def parse_origin(text: str) -> str:
    """Call this to check `https://host[:port]`, or `http://` for loopback; raises ValueError."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise _Bad(f"must be an origin such as https://example.org, got {text!r}") from None
    host = (parts.hostname or "").removesuffix(".")
    bare = f"[{host}]" if ":" in host else host
    # Only an origin is left when what may be written in two ways is taken away (WEB-11): the
    # scheme's own port, a dot at the end of the name, a slash, capital letters.
    rest = parts.path.rstrip("/") + parts.query + parts.fragment
    is_whole = not (rest or "@" in parts.netloc or "?" in text or "#" in text)
    # A name that is not ASCII is sent by browsers in its other form (`xn--...`): give that one.
    is_whole = is_whole and re.fullmatch(r"[0-9a-z._~-]+|[0-9a-f:.]+", host) is not None
    if parts.scheme not in {"http", "https"} or not host or not is_whole:
        raise _Bad(f"must be an origin such as https://example.org, without path; got {text!r}")
    default = 443 if parts.scheme == "https" else 80
    origin = f"{parts.scheme}://{bare}" + (f":{port}" if port not in (None, default) else "")
    if parts.scheme == "http" and host not in {"localhost", "127.0.0.1", "::1"}:
        raise _Bad("http:// is only for localhost, 127.0.0.1 and [::1]; use https://")
    return origin


def _origins(text: str) -> tuple[str, ...]:
    return tuple(parse_origin(part.strip()) for part in text.split(",") if part.strip())


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _methods(text: str) -> tuple[Method, ...]:
    try:
        found = tuple(Method(part) for part in _names(text))
    except ValueError:
        known = ", ".join(Method)
        raise _Bad(f"must be some of {known}, separated by commas, got {text!r}") from None
    if Method.PASSWORD not in found:
        raise _Bad("must name password: accounts of this program have one")
    return found


def _networks(text: str) -> tuple[Network, ...]:
    try:
        return tuple(_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise _Bad(f"must be networks such as 10.0.0.0/8, separated by commas: {error}") from None


def _network(text: str) -> Network:
    """Read one; of version 4 in the clothes of version 6 it is the former, as peers are."""
    found = ip_network(text)
    if isinstance(found, IPv6Network) and found.prefixlen >= 96:
        mapped = found.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, found.prefixlen - 96))
    return found


def _folder(text: str) -> Path:
    if "\0" in text or not text.strip():
        raise _Bad("must be a folder's path")
    return Path(text)


def _file(text: str) -> Path:
    path = Path(text)
    if "\0" in text or not path.is_file():
        raise _Bad(f"there is no file {text!r}")
    return path


def _certificates(text: str) -> Path:
    path = _file(text)
    if b"-----BEGIN CERTIFICATE-----" not in path.read_bytes():
        raise _Bad(f"has no certificate in PEM form: {text!r}")
    return path


def _risk_weights(text: str) -> RiskWeights:
    try:
        return parse_weights(text)
    except InvalidField as error:
        raise _Bad(str(error)) from None


def _risk_levels(text: str) -> tuple[float, float, float]:
    try:
        return parse_levels(text)
    except InvalidField as error:
        raise _Bad(str(error)) from None


# NAME -> (field of Settings, parser of its text)
VARIABLES: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "HOST": ("host", _host),
    "PORT": ("port", _integer(0, 65535)),
    "DATABASE_URL": ("database_url", _database_url),
    "SESSION_SECRET": ("session_secret", _secret),
    "SESSION_SECRET_PREVIOUS": ("session_secret_previous", _secret),
    "PRIVATE_KEY": ("private_key", _key),
    "PRIVATE_KEYS_PREVIOUS": ("private_keys_previous", _keys),
    "SESSION_CLEANUP_INTERVAL_SECS": ("session_cleanup_interval_s", _integer(1, 10**9)),
    "DATABASE_WAIT_SECS": ("database_wait_s", _integer(0, 600)),
    "PROJECTIONS_KEPT_SECS": ("projections_kept_s", _integer(0, 10**9)),
    # A day without a message, a timer or a read model is no lateness any more.
    "HEALTH_OUTBOX_AGE_SECS": ("health_outbox_age_s", _integer(1, 86_400)),
    "HEALTH_TIMERS_LATE_SECS": ("health_timers_late_s", _integer(1, 86_400)),
    "HEALTH_PROJECTION_LAG_SECS": ("health_projection_lag_s", _integer(1, 86_400)),
    "HEALTH_PROJECTIONS_PASSED_OVER": ("health_projections_passed_over", _names),
    "CLUSTER": ("cluster", _word(Cluster)),
    "CLUSTER_NAME": ("cluster_name", _cluster_name),
    "CLUSTER_SECRET": ("cluster_secret", _cluster_secret),
    "CLUSTER_SECRET_PREVIOUS": ("cluster_secret_previous", _cluster_secret),
    "NODE_NAME": ("node_name", _node_name),
    "NATS_URL": ("nats_url", _nats_url),
    "NATS_NKEY_FILE": ("nats_nkey_file", _file),
    "NATS_USER": ("nats_user", _nats_user),
    "NATS_PASSWORD_FILE": ("nats_password_file", _file),
    "NATS_TOKEN_FILE": ("nats_token_file", _file),
    "NATS_TLS_CA": ("nats_tls_ca", _file),
    "NATS_TLS_CERT": ("nats_tls_cert", _file),
    "NATS_TLS_KEY": ("nats_tls_key", _file),
    "REDIS_URL": ("redis_url", _redis_url),
    "REDIS_TLS_CA": ("redis_tls_ca", _file),
    "READ_MODELS": ("read_models", _word(ReadModels)),
    "READ_MODELS_CACHE": ("read_models_cache", _word(Switch)),
    "SEARCH_URL": ("search_url", _search_url),
    "SEARCH_TLS_CA": ("search_tls_ca", _file),
    "SEARCH_API_KEY": ("search_api_key", _search_api_key),
    "SEARCH_PREFIX": ("search_prefix", _search_prefix),
    "BUS": ("bus", _word(Bus)),
    "BUS_RETENTION": ("bus_retention", _word(BusRetention)),
    "BUS_CLOUDEVENTS": ("bus_cloudevents", _word(Switch)),
    "KAFKA_BROKERS": ("kafka_brokers", _brokers),
    "KAFKA_PREFIX": ("kafka_prefix", _prefix),
    "KAFKA_SASL_MECHANISM": ("kafka_sasl_mechanism", _word(SaslMechanism)),
    "KAFKA_USERNAME": ("kafka_username", _username),
    "KAFKA_PASSWORD": ("kafka_password", Secret),
    "KAFKA_TLS_CA": ("kafka_tls_ca", _file),
    "KAFKA_TLS_CERT": ("kafka_tls_cert", _file),
    "KAFKA_TLS_KEY": ("kafka_tls_key", _file),
    "STORE_TIMELINE": ("store_timeline", _word(StoreTimeline)),
    "MIGRATE": ("migrate", _word(Migrate)),
    "DB_MAX_CONNECTIONS": ("db_connections_max", _integer(1, 200)),
    "LOG_FORMAT": ("log_format", _word(LogFormat)),
    "LOG_LEVEL": ("log_level", _word(LogLevel)),
    "PUBLIC_ORIGIN": ("public_origin", parse_origin),
    "ALLOWED_ORIGINS": ("allowed_origins", _origins),
    "TRUSTED_PROXIES": ("trusted_proxies", _networks),
    "LAB_MODE": ("lab_mode", _word(LabMode)),
    # Fifty is what one flooded actor handles.
    "LAB_LETTERS_PER_SECOND": ("lab_letters_per_s", _integer(50, 100_000)),
    "COMPRESSION": ("compression", _word(Compression)),
    "STATE_DIR": ("state_dir", _folder),
    "BACKUP_DIR": ("backup_dir", _folder),
    # Each costs a file: more often, they cost more than what happens; an hour is for who copies.
    "BACKUP_EVERY_SECS": ("backup_every_s", _integer(5, 3600)),
    "DATASTAR_JS": ("datastar_js", _file),
    "HEADING_FONT": ("heading_font", _word(HeadingFont)),
    "CHAT_POSTS_PER_AUTHOR_MAX": ("chat_posts_per_author_max", _integer(1, 10**6)),
    "CHAT_POSTS_PER_ADDRESS_MAX": ("chat_posts_per_address_max", _integer(1, 10**6)),
    "CHAT_WAITING_PER_AUTHOR_MAX": ("chat_waiting_per_author_max", _integer(1, 10**6)),
    "CHAT_WAITING_PER_ADDRESS_MAX": ("chat_waiting_per_address_max", _integer(1, 10**6)),
    # No more than all of them, which is what the process takes.
    "STREAMS_PER_ADDRESS_MAX": ("streams_per_address_max", _integer(1, 10_000)),
    "SOCKETS_PER_ADDRESS_MAX": ("sockets_per_address_max", _integer(1, 10_000)),
    "CONNECTIONS_MAX": ("connections_max", _integer(1, 1_000_000)),
    "REQUESTS_MAX": ("requests_max", _integer(1, 100_000)),
    # Further ones wait; as many as all may have are no limit.
    "REQUESTS_PER_ADDRESS": ("requests_per_address", _integer(1, 100_000)),
    # A clock is noticed some milliseconds late on any loaded machine; nobody waits a minute.
    "OVERLOAD_LATE_MS": ("overload_late_ms", _integer(10, 60_000)),
    "OVERLOAD_AFTER_MS": ("overload_after_ms", _integer(10, 60_000)),
    "OVERLOAD_PAGES_MS": ("overload_pages_ms", _integer(1, 15_000)),
    "DRAIN_BUDGET_SECS": ("drain_budget_s", _integer(1, 600)),
    "MAIL_SENDER": ("mail_sender", _word(MailSender)),
    "MAIL_FROM": ("mail_from", _mail_from),
    "MAIL_FOLDER": ("mail_folder", _folder),
    "SMTP_HOST": ("smtp_host", _host),
    "SMTP_PORT": ("smtp_port", _integer(1, 65535)),
    "SMTP_SECURITY": ("smtp_security", _word(SmtpSecurity)),
    "SMTP_PLAIN": ("smtp_plain", _word(SmtpPlain)),
    "SMTP_USER": ("smtp_user", _line),
    "SMTP_PASSWORD": ("smtp_password", _password),
    "SMTP_CA_FILE": ("smtp_ca_file", _file),
    "MAILGUN_HOOK_KEY": ("mailgun_hook_key", _password),
    "SENDGRID_HOOK_KEY": ("sendgrid_hook_key", _sendgrid_key),
    "POSTMARK_HOOK_LOGIN": ("postmark_hook_login", _hook_login),
    "SES_TOPIC": ("ses_topic", _ses_topic),
    "SIGN_IN_METHODS": ("sign_in_methods", _methods),
    "MAGIC_LINK_BIND_FLOW": ("magic_link_bind_flow", _word(MagicLinkFlow)),
    "FINGERPRINTS": ("fingerprints", _word(Fingerprints)),
    "RISK": ("risk", _word(RiskMode)),
    "RISK_WEIGHTS": ("risk_weights", _risk_weights),
    "RISK_LEVELS": ("risk_levels", _risk_levels),
    "RISK_PLACES": ("risk_places", _file),
    "METRICS_PORT": ("metrics_port", _integer(1, 65535)),
    "TRACES": ("tracing", _word(Tracing)),
    # As OpenTelemetry names them for every program.
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("otlp_endpoint", _otlp_endpoint),
    "OTEL_EXPORTER_OTLP_HEADERS": ("otlp_headers", _otlp_headers),
    "OTEL_SERVICE_NAME": ("otel_service_name", _service_name),
    "METRICS_TOKEN": ("metrics_token", _token),
    "RISK_BREACHED": ("risk_breached", _file),
    "WEBAUTHN_RP_ID": ("webauthn_rp_id", _domain),
    "WEBAUTHN_ROOTS": ("webauthn_roots", _certificates),
    "PASSWORD_PASSES": ("password_passes", _integer(1, 100)),
    # A gigabyte a hash is more than anybody has for strangers.
    "PASSWORD_MEMORY_KIB": ("password_memory_kib", _integer(1, 2**20)),
    "PASSWORD_THREADS": ("password_threads", _integer(1, 256)),
    "PASSWORDS_WAITING_MAX": ("passwords_waiting_max", _integer(1, 10_000)),
}


# Each is given as it is, or in a file that its name with `_FILE` behind it names (SEC-125).
SECRETS = (
    "DATABASE_URL",
    "SESSION_SECRET",
    "SESSION_SECRET_PREVIOUS",
    "PRIVATE_KEY",
    "PRIVATE_KEYS_PREVIOUS",
    "CLUSTER_SECRET",
    "CLUSTER_SECRET_PREVIOUS",
    "REDIS_URL",
    "SEARCH_URL",
    "SEARCH_API_KEY",
    "KAFKA_PASSWORD",
    "SMTP_PASSWORD",
    "MAILGUN_HOOK_KEY",
    "POSTMARK_HOOK_LOGIN",
    "METRICS_TOKEN",
    "OTEL_EXPORTER_OTLP_HEADERS",
)
# Far more than the longest of them: a list of former keys.
SECRET_FILE_BYTES_MAX = 65_536


def _given(name: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """The name under which a setting is given, and its text."""
    text, by_file = environment.get(name, ""), f"{name}_FILE"
    is_secret = name in SECRETS or name.endswith(f"_{PROVIDER_SECRET}")
    file = environment.get(by_file, "") if is_secret else ""
    if not file:
        return name, text
    if text:
        raise _Bad(f"is given twice, here and by {by_file}; keep one")
    try:
        return by_file, _text_in(file)
    except _Bad as error:
        raise _Bad(f"{by_file} {error}") from None


def _text_in(file: str) -> str:
    """What a file holds, without the end of its line; nothing of it is ever told."""
    try:
        with Path(file).open("rb") as opened:
            held = opened.read(SECRET_FILE_BYTES_MAX + 1)
        text = held.decode().rstrip("\r\n")
    except OSError as error:
        raise _Bad(f"{file} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise _Bad(f"{file} holds no text") from None
    except ValueError:
        raise _Bad("must be a file's path") from None
    if not text:
        raise _Bad(f"{file} holds nothing")
    if len(held) > SECRET_FILE_BYTES_MAX:
        raise _Bad(f"{file} holds more than {SECRET_FILE_BYTES_MAX} bytes")
    return text


# A node hands over what it owns before anything else, for 3 s at most, and may wait for its link at
# the end: five seconds more than a process alone is given.
NODE_DRAIN_S = 15


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Call this to read all settings; raises `BadSettings` with every problem at once.

    An empty value counts as not given, as a line `NAME=` in an environment file means.
    """
    values: dict[str, object] = {}
    problems: list[str] = []
    bad = set[str]()
    for name, (field, parse) in VARIABLES.items():
        given = name
        try:
            given, text = _given(name, environment)
            if text:
                values[field] = parse(text)
        except _Bad as error:
            problems.append(f"{given}: {error}")
            bad.add(name)
    values["providers"], wrong = read_providers(
        environment, lambda one: _given(one, environment)[1]
    )
    problems += wrong
    # Each parser gives its own field's type; the table cannot say so.
    settings = replace(Settings(), **values)  # type: ignore[arg-type]
    if settings.cluster is Cluster.ON and "drain_budget_s" not in values:
        settings = replace(settings, drain_budget_s=NODE_DRAIN_S)
    problems += _combined_problems(settings, bad)
    if problems:
        raise BadSettings(problems)
    return settings


def _combined_problems(settings: Settings, already_bad: set[str]) -> list[str]:
    problems = []
    is_exposed = not is_loopback(settings.host)
    if is_exposed and settings.public_origin is None and "PUBLIC_ORIGIN" not in already_bad:
        problems.append("PUBLIC_ORIGIN: is required when HOST is not a loopback address")
    needs_secret = settings.is_https or is_exposed
    if needs_secret and settings.session_secret is None and "SESSION_SECRET" not in already_bad:
        problems.append(
            "SESSION_SECRET: is required with an https:// PUBLIC_ORIGIN or a HOST that is not "
            f"loopback; give {SECRET_BYTES_MIN} random bytes as base64url without padding"
        )
    if not is_strong(settings.password_passes, settings.password_memory_kib):
        problems.append(
            "PASSWORD_MEMORY_KIB: must be 19456 or more with 2 PASSWORD_PASSES, 12288 with 3, "
            "47104 with 1; hashes of less are broken too soon"
        )
    pages_ms, late_ms = settings.overload_pages_ms, settings.overload_late_ms
    if pages_ms * KEPT_OF_PAGES > late_ms or late_ms > settings.overload_after_ms:
        problems.append(
            f"OVERLOAD_LATE_MS: must be at least {KEPT_OF_PAGES} times OVERLOAD_PAGES_MS, and at "
            f"most OVERLOAD_AFTER_MS; got {late_ms}, {pages_ms} and {settings.overload_after_ms}"
        )
    if settings.cluster is Cluster.ON:
        problems += _cluster_problems(settings, already_bad)
    problems += _nats_problems(settings, already_bad)
    if settings.bus is Bus.KAFKA:
        problems += _kafka_problems(settings, already_bad)
    problems += _read_model_problems(settings, already_bad)
    problems += _mail_problems(settings, already_bad)
    problems += _passkey_problems(settings)
    # In a server of one's own the data outlive this machine, and a key made here would not.
    if settings.backup_dir is not None and settings.database_url is not None:
        problems.append(
            "BACKUP_DIR: is for the embedded database; a server of one's own is backed up by its "
            "own means"
        )
    needs_key = needs_secret and settings.database_url is not None
    if needs_key and settings.private_key is None and "PRIVATE_KEY" not in already_bad:
        problems.append(
            "PRIVATE_KEY: is required with a DATABASE_URL where SESSION_SECRET is; give "
            f"{PRIVATE_KEY_BYTES} random bytes as base64url without padding"
        )
    return problems


def _kafka_problems(settings: Settings, already_bad: set[str]) -> list[str]:
    problems = []
    if settings.kafka_brokers is None and "KAFKA_BROKERS" not in already_bad:
        problems.append("KAFKA_BROKERS: is required with BUS=kafka; such as one:9092,two:9092")
    if settings.kafka_sasl_mechanism is not None:
        given = {
            "KAFKA_USERNAME": settings.kafka_username,
            "KAFKA_PASSWORD": settings.kafka_password,
        }
        problems += [
            f"{name}: is required with KAFKA_SASL_MECHANISM"
            for name, value in given.items()
            if not value and name not in already_bad
        ]
    if settings.kafka_tls_cert is not None or settings.kafka_tls_key is not None:
        files = {
            "KAFKA_TLS_CA": settings.kafka_tls_ca,
            "KAFKA_TLS_CERT": settings.kafka_tls_cert,
            "KAFKA_TLS_KEY": settings.kafka_tls_key,
        }
        problems += [
            f"{name}: is required where a client certificate is given"
            for name, file in files.items()
            if file is None and name not in already_bad
        ]
    return problems


def _read_model_problems(settings: Settings, already_bad: set[str]) -> list[str]:
    problems = []
    needs_redis = settings.read_models is ReadModels.REDIS and settings.redis_url is None
    if needs_redis and "REDIS_URL" not in already_bad:
        problems.append("REDIS_URL: is required with READ_MODELS=redis")
    url, key = settings.search_url, settings.search_api_key
    if key is not None and url is None and "SEARCH_URL" not in already_bad:
        problems.append("SEARCH_URL: is required with SEARCH_API_KEY")
    if key is not None and url is not None and "@" in urlsplit(url.reveal()).netloc:
        problems.append("SEARCH_API_KEY: is given beside a user in SEARCH_URL; one of them is who")
    return problems


def _passkey_problems(settings: Settings) -> list[str]:
    domain = settings.passkey_domain
    host = "localhost" if settings.public_origin is None else _host_of(settings.public_origin)
    if domain is None and Method.PASSKEY in (settings.sign_in_methods or ()):
        return ["SIGN_IN_METHODS: passkey needs a PUBLIC_ORIGIN with a name, not an address"]
    if domain is not None and host != domain and not host.endswith(f".{domain}"):
        return [f"WEBAUTHN_RP_ID: must be the host of PUBLIC_ORIGIN, {host}, or a domain above it"]
    return []


def _mail_problems(settings: Settings, already_bad: set[str]) -> list[str]:
    problems = []
    by = settings.mail_by
    if by is MailSender.SMTP and settings.smtp_host is None and "SMTP_HOST" not in already_bad:
        problems.append("SMTP_HOST: is required with MAIL_SENDER=smtp")
    if by is MailSender.SMTP and settings.mail_from is None and "MAIL_FROM" not in already_bad:
        problems.append("MAIL_FROM: is required with a mail server; from whom mails come")
    if by is MailSender.CONSOLE and (settings.is_https or not is_loopback(settings.host)):
        problems.append(
            "MAIL_SENDER: console prints what mails say, links that sign in too; it is only for a "
            "site on loopback without https"
        )
    if (settings.smtp_user is None) != (settings.smtp_password is None):
        name = "SMTP_PASSWORD" if settings.smtp_password is None else "SMTP_USER"
        if name not in already_bad:
            problems.append(f"{name}: is required with the other one of the login")
    if by is MailSender.OFF and Method.MAGIC_LINK in (settings.sign_in_methods or ()):
        problems.append("SIGN_IN_METHODS: magic_link needs mail; give SMTP_HOST and MAIL_FROM")
    if not settings.providers and Method.OAUTH in (settings.sign_in_methods or ()):
        problems.append("SIGN_IN_METHODS: oauth needs a provider; give OAUTH_GOOGLE_CLIENT_ID")
    is_far = settings.smtp_host is not None and not is_loopback(settings.smtp_host)
    is_plain = settings.smtp_security is SmtpSecurity.NONE
    if is_far and is_plain and settings.smtp_plain is not SmtpPlain.FORCED:
        problems.append(
            "SMTP_SECURITY: none sends mails and the login readable for all on the way; take "
            "starttls or tls, or say SMTP_PLAIN=forced"
        )
    return problems


def _cluster_problems(settings: Settings, already_bad: set[str]) -> list[str]:
    problems = []
    if settings.database_url is None and "DATABASE_URL" not in already_bad:
        problems.append("DATABASE_URL: is required with CLUSTER=on; an embedded one is one node's")
    if settings.cluster_secret is None and "CLUSTER_SECRET" not in already_bad:
        problems.append(
            f"CLUSTER_SECRET: is required with CLUSTER=on; give {CLUSTER_SECRET_BYTES_MIN} random "
            "bytes as base64url without padding, the same on all nodes"
        )
    return problems


def _nats_problems(settings: Settings, already_bad: set[str]) -> list[str]:
    problems = []
    needs_url = settings.cluster is Cluster.ON and not settings.nats_url
    if needs_url and "NATS_URL" not in already_bad:
        problems.append(
            "NATS_URL: is required with CLUSTER=on; nodes speak through a NATS server, such as "
            f"nats://127.0.0.1:{NATS_PORT}"
        )
    ways = {
        "NATS_NKEY_FILE": settings.nats_nkey_file is not None,
        "NATS_USER": bool(settings.nats_user),
        "NATS_TOKEN_FILE": settings.nats_token_file is not None,
    }
    given = [name for name, is_given in ways.items() if is_given]
    if len(given) > 1:
        problems.append(f"{given[1]}: is given beside {given[0]}; a node says who it is in one way")
    pairs = (
        (
            ("NATS_USER", bool(settings.nats_user)),
            ("NATS_PASSWORD_FILE", settings.nats_password_file is not None),
        ),
        (
            ("NATS_TLS_CERT", settings.nats_tls_cert is not None),
            ("NATS_TLS_KEY", settings.nats_tls_key is not None),
        ),
    )
    for (one, has_one), (other, has_other) in pairs:
        if has_one is not has_other and not already_bad & {one, other}:
            problems.append(f"{one}: and {other} are given together")
    hosts = (urlsplit(server).hostname or "" for server in settings.nats_url)
    is_beyond = any(not is_loopback(host) for host in hosts)
    if is_beyond and not given and not already_bad & (ways.keys() | {"NATS_PASSWORD_FILE"}):
        problems.append(
            "NATS_URL: names a server beyond this machine, which needs NATS_NKEY_FILE, "
            "NATS_USER with NATS_PASSWORD_FILE, or NATS_TOKEN_FILE"
        )
    return problems
