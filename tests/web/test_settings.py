"""Settings are read once, all problems at once, secrets never echoed."""

import base64
from pathlib import Path

import pytest

from actors.runtime import Secret
from web.settings import (
    SECRETS,
    VARIABLES,
    BadSettings,
    LabMode,
    LogFormat,
    LogLevel,
    MailSender,
    Settings,
    is_loopback,
    parse_origin,
    read_settings,
)

SECRET = base64.urlsafe_b64encode(bytes(range(64))).decode().rstrip("=")

# The one of SendGrid's own examples.
SENDGRID_KEY = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEDr2LjtURuePQzplybdC+u4CwrqDqBaWjcMMsTbhdbcwHBce"
    "pxo7yAQGhHPTnlvFYPAZFceEu/1FwCM/QmGUhA=="
)
KEY = base64.urlsafe_b64encode(bytes(32)).decode().rstrip("=")


def problems_of(environment: dict[str, str]) -> list[str]:
    with pytest.raises(BadSettings) as caught:
        read_settings(environment)
    return caught.value.problems


def test_an_empty_environment_gives_the_defaults() -> None:  # SITE-180
    assert read_settings({}) == Settings()
    assert read_settings(dict.fromkeys(VARIABLES, "")) == Settings()


def test_every_variable_is_read(tmp_path: Path) -> None:  # SITE-180
    script = tmp_path / "datastar.js"
    script.touch()
    roots = tmp_path / "roots.pem"
    roots.write_text("-----BEGIN CERTIFICATE-----")
    settings = read_settings(
        {
            "HOST": "127.0.0.2",
            "PORT": "0",
            "DATABASE_URL": "postgresql://u:p@db/greenroom",
            "SESSION_SECRET": SECRET,
            "SESSION_SECRET_PREVIOUS": SECRET,
            "PRIVATE_KEY": KEY,
            "PRIVATE_KEYS_PREVIOUS": f"{KEY}, {KEY}",
            "SESSION_CLEANUP_INTERVAL_SECS": "5",
            "DATABASE_WAIT_SECS": "5",
            "STORE_TIMELINE": "follow",
            "MIGRATE": "off",
            "CLUSTER": "on",
            "CLUSTER_NAME": "green",
            "CLUSTER_SECRET": SECRET,
            "CLUSTER_SECRET_PREVIOUS": SECRET,
            "NODE_NAME": "one",
            "NATS_URL": "nats://127.0.0.1:4222",
            "NATS_USER": "one",
            "NATS_PASSWORD_FILE": str(script),
            "NATS_TLS_CA": str(script),
            "NATS_TLS_CERT": str(script),
            "NATS_TLS_KEY": str(script),
            "REDIS_URL": "rediss://site:hunter2@redis.example.org/1",
            "REDIS_TLS_CA": str(script),
            "READ_MODELS": "redis",
            "READ_MODELS_CACHE": "on",
            "SEARCH_URL": "https://search.example.org:9201/behind",
            "SEARCH_TLS_CA": str(script),
            "SEARCH_API_KEY": "bmFtZTpodW50ZXIy",
            "SEARCH_PREFIX": "shop-",
            "BUS": "kafka",
            "BUS_RETENTION": "acked",
            "BUS_CLOUDEVENTS": "on",
            "KAFKA_BROKERS": "one:9092, [::1]:9093",
            "KAFKA_PREFIX": "green.",
            "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "KAFKA_USERNAME": "site",
            "KAFKA_PASSWORD": "hunter2",
            "KAFKA_TLS_CA": str(script),
            "KAFKA_TLS_CERT": str(script),
            "KAFKA_TLS_KEY": str(script),
            "DB_MAX_CONNECTIONS": "200",
            "LOG_FORMAT": "json",
            "LOG_LEVEL": "debug",
            "PUBLIC_ORIGIN": "https://example.org",
            "ALLOWED_ORIGINS": "https://a.example.org, https://b.example.org:8443",
            "TRUSTED_PROXIES": "10.0.0.0/8,::1/128",
            "LAB_MODE": "off",
            "LAB_LETTERS_PER_SECOND": "500",
            "COMPRESSION": "off",
            "TRACES": "off",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "https://collector.example.org:4318/a/",
            "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20hunter2, x-tenant=a=b",
            "OTEL_SERVICE_NAME": "site",
            "STATE_DIR": "here",
            "BACKUP_EVERY_SECS": "30",
            "DATASTAR_JS": str(script),
            "HEADING_FONT": "system",
            "CHAT_POSTS_PER_AUTHOR_MAX": "50",
            "CHAT_POSTS_PER_ADDRESS_MAX": "60",
            "CHAT_WAITING_PER_AUTHOR_MAX": "6",
            "CHAT_WAITING_PER_ADDRESS_MAX": "61",
            "STREAMS_PER_ADDRESS_MAX": "200",
            "SOCKETS_PER_ADDRESS_MAX": "70",
            "CONNECTIONS_MAX": "3",
            "REQUESTS_MAX": "3",
            "REQUESTS_PER_ADDRESS": "2",
            "OVERLOAD_LATE_MS": "200",
            "OVERLOAD_AFTER_MS": "2000",
            "OVERLOAD_PAGES_MS": "50",
            "DRAIN_BUDGET_SECS": "3",
            "PROJECTIONS_KEPT_SECS": "60",
            "HEALTH_OUTBOX_AGE_SECS": "5",
            "HEALTH_TIMERS_LATE_SECS": "5",
            "HEALTH_PROJECTION_LAG_SECS": "5",
            "HEALTH_PROJECTIONS_PASSED_OVER": "orders, votes",
            "MAIL_SENDER": "smtp",
            "MAIL_FROM": "Ada <ada@example.org>",
            "MAIL_FOLDER": "mails",
            "SMTP_HOST": "mail.example.org",
            "SMTP_PORT": "2525",
            "SMTP_SECURITY": "tls",
            "SMTP_PLAIN": "forced",
            "SMTP_USER": "ada",
            "SMTP_PASSWORD": "a password",
            "SMTP_CA_FILE": str(script),
            "MAILGUN_HOOK_KEY": "a signing key",
            "SENDGRID_HOOK_KEY": SENDGRID_KEY,
            "POSTMARK_HOOK_LOGIN": "postmark:a-password-of-16",
            "SES_TOPIC": "arn:aws:sns:eu-west-1:123456789012:mail",
            "METRICS_PORT": "9464",
            "METRICS_TOKEN": "sixteen-letters-and-more",
            "SIGN_IN_METHODS": "password, magic_link",
            "MAGIC_LINK_BIND_FLOW": "off",
            "FINGERPRINTS": "on",
            "RISK": "observe",
            "RISK_WEIGHTS": "travel=0.5",
            "RISK_LEVELS": "0.2,0.5,0.9",
            "RISK_PLACES": str(script),
            "RISK_BREACHED": str(script),
            "WEBAUTHN_RP_ID": "example.org",
            "WEBAUTHN_ROOTS": str(roots),
            "PASSWORD_PASSES": "3",
            "PASSWORD_MEMORY_KIB": "12288",
            "PASSWORD_THREADS": "2",
            "PASSWORDS_WAITING_MAX": "10",
        }
    )
    # A node says who it is in one way: `tests/web/test_linking.py` reads the others. Backups are
    # of the embedded database.
    others = {"NATS_NKEY_FILE", "NATS_TOKEN_FILE", "BACKUP_DIR"}
    same = [
        name
        for name, (field, _) in VARIABLES.items()
        if getattr(settings, field) == getattr(Settings(), field)
    ]
    assert set(same) == others
    assert settings.log_format is LogFormat.JSON
    assert settings.log_level is LogLevel.DEBUG
    assert settings.lab_mode is LabMode.OFF
    assert settings.session_secret == Secret(bytes(range(64)))
    assert settings.private_key == Secret(bytes(32))
    assert settings.private_keys_previous == (Secret(bytes(32)), Secret(bytes(32)))
    assert settings.is_https
    assert settings.otlp_endpoint == "https://collector.example.org:4318/a"
    assert settings.otlp_headers == Secret("authorization: Bearer hunter2\nx-tenant: a=b")


def test_backups_are_of_the_embedded_database() -> None:  # OPS-1
    given = {"BACKUP_DIR": "/mnt/backups", "BACKUP_EVERY_SECS": "30"}
    settings = read_settings(given)
    assert (settings.backup_dir, settings.backup_every_s) == (Path("/mnt/backups"), 30)
    (problem,) = problems_of({**given, "DATABASE_URL": "postgres://db/greenroom"})
    assert problem.startswith("BACKUP_DIR: is for the embedded database")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("BACKUP_DIR", " "),
        ("BACKUP_EVERY_SECS", "4"),
        ("BACKUP_EVERY_SECS", "3601"),
        ("WEBAUTHN_RP_ID", "127.0.0.1"),
        ("WEBAUTHN_RP_ID", "elsewhere.example"),
        ("WEBAUTHN_ROOTS", "/nowhere"),
        ("REDIS_URL", "http://redis"),
        ("REDIS_URL", "redis://"),
        ("REDIS_URL", "redis://127.0.0.1:99999"),
        ("REDIS_URL", "redis://127.0.0.1/x"),
        ("REDIS_URL", "redis://hunter2@127.0.0.1"),
        ("REDIS_URL", "redis://[127"),
        # In the clear beyond this machine.
        ("REDIS_URL", "redis://redis.example.org"),
        ("REDIS_TLS_CA", "/nowhere"),
        ("READ_MODELS", "mysql"),
        ("READ_MODELS_CACHE", "yes"),
        ("SEARCH_URL", "redis://127.0.0.1"),
        ("SEARCH_URL", "http://"),
        ("SEARCH_URL", "http://127.0.0.1?x=hunter2"),
        ("SEARCH_URL", "http://hunter2@127.0.0.1"),
        ("SEARCH_URL", "http://127.0.0.1:0"),
        ("SEARCH_URL", "http://[127"),
        # Beyond this machine nothing is said in the clear.
        ("SEARCH_URL", "http://search.example.org"),
        ("SEARCH_TLS_CA", "/nowhere"),
        ("SEARCH_API_KEY", "hunter2\r\nx: y"),
        ("SEARCH_PREFIX", "Shop-"),
        ("SEARCH_PREFIX", "*-"),
        ("SEARCH_PREFIX", "shop"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("PORT", "3000 "),
        ("PORT", "³"),
        ("HOST", "a b"),
        ("DATABASE_URL", "mysql://db"),
        ("DATABASE_URL", "postgres://db:99999"),
        ("SESSION_SECRET", "short"),
        ("SESSION_SECRET", SECRET + "="),
        ("SESSION_SECRET", "*" * 90),
        ("SESSION_SECRET_PREVIOUS", "short"),
        ("PRIVATE_KEY", SECRET),
        ("PRIVATE_KEY", "*" * 43),
        ("PRIVATE_KEYS_PREVIOUS", f"{KEY},short"),
        ("SESSION_CLEANUP_INTERVAL_SECS", "0"),
        ("MAIL_SENDER", "sendmail"),
        ("MAIL_FROM", "ada"),
        ("MAIL_FROM", "ada@example.org\nBcc: eve@example.org"),
        ("SMTP_PORT", "0"),
        ("SMTP_SECURITY", "ssl"),
        ("SMTP_PLAIN", "yes"),
        ("SMTP_USER", "a\r\nb"),
        ("SMTP_PASSWORD", "x" * 1025),
        ("SMTP_CA_FILE", "/no/such/file"),
        ("MAILGUN_HOOK_KEY", "x" * 1025),
        ("SENDGRID_HOOK_KEY", "AAAA"),
        ("POSTMARK_HOOK_LOGIN", "postmark"),
        ("POSTMARK_HOOK_LOGIN", "postmark:short"),
        ("POSTMARK_HOOK_LOGIN", "postmark:a-passw\u00f6rd-of-16"),
        ("SES_TOPIC", "mail"),
        ("SES_TOPIC", "arn:aws:sns:evil.example:123456789012:mail"),
        ("SIGN_IN_METHODS", "password,smoke"),
        ("SIGN_IN_METHODS", "magic_link"),
        ("MAGIC_LINK_BIND_FLOW", "no"),
        ("FINGERPRINTS", "all"),
        ("RISK", "on"),
        ("RISK_WEIGHTS", "speed=1"),
        ("RISK_LEVELS", "0.9,0.1"),
        ("RISK_PLACES", "/nowhere/places.csv"),
        ("RISK_BREACHED", "/nowhere/breached.txt"),
        ("SMTP_HOST", "a b"),
        ("DB_MAX_CONNECTIONS", "0"),
        ("DB_MAX_CONNECTIONS", "201"),
        ("LOG_FORMAT", "JSON"),
        ("LOG_LEVEL", "trace"),
        ("PUBLIC_ORIGIN", "https://example.org/path"),
        ("PUBLIC_ORIGIN", "example.org"),
        ("ALLOWED_ORIGINS", "*"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("LAB_MODE", "on"),
        ("BUS", "rabbit"),
        ("BUS_RETENTION", "forever"),
        ("BUS_CLOUDEVENTS", "yes"),
        ("KAFKA_BROKERS", "one"),
        ("KAFKA_BROKERS", "one:9092,"),
        ("KAFKA_BROKERS", "one:99999"),
        ("KAFKA_BROKERS", "kafka://one:9092"),
        ("KAFKA_BROKERS", "user:word@one:9092"),
        ("KAFKA_PREFIX", "a b"),
        ("KAFKA_SASL_MECHANISM", "GSSAPI"),
        ("KAFKA_USERNAME", "a\nb"),
        ("KAFKA_TLS_CA", "no/such/file.pem"),
        ("COMPRESSION", "br"),
        ("TRACES", "10"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "127.0.0.1:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://127.0.0.1:4317"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://key@collector.example.org"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector.example.org/?key=1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[127"),
        # In the clear beyond this machine.
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.example.org:4318"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=b,"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=b%0D%0Ac: d"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "Host=elsewhere"),
        ("OTEL_SERVICE_NAME", "a\nb"),
        ("DATASTAR_JS", "no/such/file.js"),
        ("CHAT_POSTS_PER_AUTHOR_MAX", "0"),
        ("CHAT_WAITING_PER_AUTHOR_MAX", "0"),
        ("OVERLOAD_LATE_MS", "9"),
        ("OVERLOAD_LATE_MS", "99"),
        ("OVERLOAD_LATE_MS", "1001"),
        ("DRAIN_BUDGET_SECS", "soon"),
    ],
)
def test_a_bad_value_is_one_line_with_its_name(name: str, text: str) -> None:  # SITE-180
    (line,) = problems_of({name: text})
    assert line.startswith(f"{name}: ")
    assert "\n" not in line


def test_a_broker_is_named_whole(tmp_path: Path) -> None:
    # BUS-11
    (line,) = problems_of({"BUS": "kafka"})
    assert line.startswith("KAFKA_BROKERS: ")
    given = {"BUS": "kafka", "KAFKA_BROKERS": "one:9092"}
    assert read_settings(given).kafka_brokers == "one:9092"
    lines = problems_of({**given, "KAFKA_SASL_MECHANISM": "PLAIN"})
    assert [line.partition(":")[0] for line in lines] == ["KAFKA_USERNAME", "KAFKA_PASSWORD"]
    key = tmp_path / "key.pem"
    key.touch()
    lines = problems_of({**given, "KAFKA_TLS_KEY": str(key)})
    assert [line.partition(":")[0] for line in lines] == ["KAFKA_TLS_CA", "KAFKA_TLS_CERT"]


def test_all_problems_are_told_at_once() -> None:  # SITE-180
    names = ["PORT", "LOG_LEVEL", "LAB_MODE"]
    assert [line.partition(":")[0] for line in problems_of(dict.fromkeys(names, "?"))] == names


def test_no_secret_is_echoed() -> None:  # SITE-180
    lines = problems_of(
        {
            "DATABASE_URL": "http://user:hunter2@db",
            "SESSION_SECRET": "hunter2",
            "SESSION_SECRET_PREVIOUS": "hunter2hunter2=",
        }
    )
    assert len(lines) == 3
    assert "hunter2" not in "".join(lines)


def test_an_exposed_host_needs_origin_and_secret() -> None:
    lines = problems_of({"HOST": "0.0.0.0"})  # noqa: S104 - this is the value under test
    assert [line.partition(":")[0] for line in lines] == ["PUBLIC_ORIGIN", "SESSION_SECRET"]


def test_https_mode_needs_a_secret() -> None:  # SEC-125
    (line,) = problems_of({"PUBLIC_ORIGIN": "https://example.org"})
    assert line.startswith("SESSION_SECRET: ")
    assert read_settings(
        {"PUBLIC_ORIGIN": "https://example.org", "SESSION_SECRET": SECRET}
    ).is_https


@pytest.mark.parametrize(
    ("origin", "is_good"),
    [
        ("http://localhost", True),
        ("http://localhost:3000", True),
        ("http://127.0.0.1:3000", True),
        ("http://[::1]:3000", True),
        ("https://example.org", True),
        ("https://example.org:8443", True),
        ("http://localhost.evil.test", False),
        ("http://127.0.0.1.evil.test", False),
        ("http://example.org", False),
        ("http://192.168.0.1", False),
        ("http://localhost@evil.test", False),
        ("ftp://localhost", False),
    ],
)
def test_plain_http_is_for_loopback_only(origin: str, is_good: bool) -> None:  # SEC-2
    if is_good:
        assert parse_origin(origin) == origin
    else:
        with pytest.raises(ValueError, match=r"must be|only for"):
            parse_origin(origin)


@pytest.mark.parametrize(
    ("origin", "normal"),
    [
        ("https://example.org:443", "https://example.org"),
        ("http://localhost:80", "http://localhost"),
        ("https://Example.ORG./", "https://example.org"),
        ("HTTPS://example.org:8443/", "https://example.org:8443"),
    ],
)
def test_an_origin_has_one_form(origin: str, normal: str) -> None:  # WEB-11
    assert parse_origin(origin) == normal


@pytest.mark.parametrize(
    "origin", ["https://a/b", "https://a?b", "https://a#", "https://a,b", "https://ü.test", "https://u@a"]
)  # fmt: skip
def test_what_is_more_than_an_origin_is_refused(origin: str) -> None:  # SEC-2
    with pytest.raises(ValueError, match=r"must be an origin"):
        parse_origin(origin)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_loopback_hosts(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.org", "localhost.evil.test"])  # noqa: S104 - refused on purpose
def test_other_hosts(host: str) -> None:
    assert not is_loopback(host)


def test_mail_leaves_by_what_is_named() -> None:  # MAIL-3
    server = {"SMTP_HOST": "mail.example.org", "MAIL_FROM": "g@example.org"}
    web = {"PUBLIC_ORIGIN": "https://example.org", "SESSION_SECRET": SECRET}
    assert read_settings({}).mail_by is MailSender.CONSOLE
    assert read_settings(web).mail_by is MailSender.OFF
    assert read_settings(server | web).mail_by is MailSender.SMTP
    assert read_settings(server | {"MAIL_SENDER": "off"}).mail_by is MailSender.OFF
    ports = [
        read_settings(server | {"SMTP_SECURITY": word, "SMTP_PLAIN": "forced"}).smtp_port_or_usual
        for word in ("starttls", "tls", "none")
    ]
    assert ports == [587, 465, 25]


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({"MAIL_SENDER": "smtp", "MAIL_FROM": "g@x.org"}, "SMTP_HOST: is required"),
        ({"SMTP_HOST": "mail.x.org"}, "MAIL_FROM: is required"),
        ({"SMTP_USER": "ada"}, "SMTP_PASSWORD: is required"),
        ({"SMTP_PASSWORD": "words"}, "SMTP_USER: is required"),
        (
            {"MAIL_SENDER": "console", "PUBLIC_ORIGIN": "https://x.org", "SESSION_SECRET": SECRET},
            "MAIL_SENDER: console prints what mails say",
        ),
        (
            {"SMTP_HOST": "mail.x.org", "MAIL_FROM": "g@x.org", "SMTP_SECURITY": "none"},
            "SMTP_SECURITY: none sends mails and the login readable",
        ),
    ],
)
def test_what_of_mail_does_not_go_together_is_told(
    environment: dict[str, str], problem: str
) -> None:  # MAIL-2, MAIL-3
    (line,) = problems_of(environment)
    assert line.startswith(problem)
    assert "words" not in line


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({"READ_MODELS": "redis"}, "REDIS_URL: is required with READ_MODELS=redis"),
        ({"SEARCH_API_KEY": "hunter2"}, "SEARCH_URL: is required with SEARCH_API_KEY"),
        (
            {"SEARCH_API_KEY": "hunter2", "SEARCH_URL": "http://a:b@127.0.0.1"},
            "SEARCH_API_KEY: is given beside a user in SEARCH_URL",
        ),
    ],
)
def test_what_of_read_models_does_not_go_together_is_told(
    environment: dict[str, str], problem: str
) -> None:  # PROJ-13
    (line,) = problems_of(environment)
    assert line.startswith(problem)
    assert "hunter2" not in line


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    # SEC-125, BUS-11
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    settings = read_settings({"SESSION_SECRET_FILE": str(file)})
    assert settings.session_secret is not None
    assert settings.session_secret.reveal() == bytes(range(64))
    file.write_text("hunter2\r\n")
    kafka = {
        "BUS": "kafka",
        "KAFKA_BROKERS": "one:9092",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "KAFKA_USERNAME": "ada",
    }
    settings = read_settings({**kafka, "KAFKA_PASSWORD_FILE": str(file)})
    assert settings.kafka_password is not None
    assert settings.kafka_password.reveal() == "hunter2"
    assert set(SECRETS) <= VARIABLES.keys()


@pytest.mark.parametrize(
    ("held", "why"),
    [
        (b"", "holds nothing"),
        (b"\n", "holds nothing"),
        (b"hunter2\xff", "holds no text"),
        (b"hunter2" * 10_000, "holds more than 65536 bytes"),
        (None, "cannot be read (No such file or directory)"),
    ],
)
def test_a_file_that_holds_no_secret_is_told_and_nothing_of_it(
    tmp_path: Path, held: bytes | None, why: str
) -> None:
    # SEC-125
    file = tmp_path / "secret"
    if held is not None:
        file.write_bytes(held)
    given = {"PUBLIC_ORIGIN": "https://example.org", "SESSION_SECRET_FILE": str(file)}
    (line,) = problems_of(given)
    assert line == f"SESSION_SECRET: SESSION_SECRET_FILE {file} {why}"


def test_a_secret_is_given_once(tmp_path: Path) -> None:
    # SEC-125
    file = tmp_path / "secret"
    file.write_text("hunter2")
    twice = {"SMTP_PASSWORD": "hunter3", "SMTP_PASSWORD_FILE": str(file)}
    assert "SMTP_PASSWORD: is given twice, here and by SMTP_PASSWORD_FILE; keep one" in problems_of(
        twice
    )
    short = problems_of({"SESSION_SECRET_FILE": str(file)})
    assert [line.partition(":")[0] for line in short] == ["SESSION_SECRET_FILE"]
    assert "hunter2" not in short[0]
    assert problems_of({"PRIVATE_KEY_FILE": "a\0b"}) == [
        "PRIVATE_KEY: PRIVATE_KEY_FILE must be a file's path"
    ]


def test_a_trusted_network_is_one_however_it_is_written() -> None:
    # SEC-110: a peer of version 4 is told as such, also where it came by a socket of version 6
    found = read_settings({"TRUSTED_PROXIES": "::ffff:10.0.0.0/104, ::ffff:192.0.2.1, ::/0"})
    assert [str(one) for one in found.trusted_proxies] == ["10.0.0.0/8", "192.0.2.1/32", "::/0"]
