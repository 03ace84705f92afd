"""How a broker is reached, and what its client's errors mean; without a broker."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from actors.persistence import InvalidField
from actors.persistence.bus import BusNotTrusted, BusRejected, BusUnavailable
from actors.runtime import Secret
from storage.bus.kafka_words import KafkaSecurity, KafkaSettings, refusal_of, word_of

WRONG = Secret("hunter2")
_HANDSHAKE = "ssl://127.0.0.1:1/bootstrap: SSL handshake failed: error:0A000086:SSL routines::"


def test_nonsense_is_refused_when_it_is_made() -> None:
    # BUS-11
    for brokers in ("", " ", "one:9092,,two:9092", None, "a\0"):
        with pytest.raises(InvalidField, match="brokers"):
            KafkaSettings(brokers)  # type: ignore[arg-type]
    for values in (("GSSAPI", "ada"), ("PLAIN", ""), ("PLAIN", "ada")):
        with pytest.raises(InvalidField):
            KafkaSecurity(*values)
    # A certificate without an authority would be no TLS at all.
    for files in (("", "cert", "key"), ("ca", "cert", ""), ("ca", "", "key")):
        ca, certificate, key = (name or None for name in files)
        with pytest.raises(InvalidField, match="together"):
            KafkaSecurity(ca_file=ca, certificate_file=certificate, key_file=key)
    assert "hunter2" not in repr(KafkaSecurity("PLAIN", "ada", WRONG))


@pytest.mark.parametrize(
    ("brokers", "is_taken"),
    [
        ("127.0.0.1:9092", True),
        ("localhost", True),
        (" LOCALHOST:9092 , [::1]:9092, 127.0.0.2", True),
        ("PLAINTEXT://localhost:9092", True),
        ("broker:9092", False),
        ("127.0.0.1:9092,10.0.0.1:9092", False),
        ("localhost.example:9092", False),
        ("localhost@evil:9092", False),
        ("[2001:db8::1]:9092", False),
        ("[", False),
        ("0.0.0.0:9092", False),
    ],
)
def test_a_password_goes_readable_to_no_other_machine(brokers: str, is_taken: bool) -> None:
    # BUS-11
    plain = KafkaSecurity("PLAIN", "ada", WRONG)
    if is_taken:
        KafkaSettings(brokers, security=plain)
    else:
        with pytest.raises(InvalidField, match="PLAIN sends the password readable") as told:
            KafkaSettings(brokers, security=plain)
        assert "hunter2" not in str(told.value)
    # SCRAM tells no secret, and TLS covers it.
    KafkaSettings(brokers, security=KafkaSecurity("SCRAM-SHA-256", "ada", WRONG))
    KafkaSettings(brokers, security=KafkaSecurity("PLAIN", "ada", WRONG, ca_file="ca.pem"))


@pytest.mark.parametrize(
    ("code", "said", "kind", "reason"),
    [
        (KafkaError._AUTHENTICATION, "SASL error for ada", BusRejected, "_AUTHENTICATION"),
        (
            KafkaError._SSL,
            f"{_HANDSHAKE}certificate verify failed: broker certificate could not be verified",
            BusNotTrusted,
            "certificate verify failed",
        ),
        (
            KafkaError._TRANSPORT,
            "Receive failed: error:0A000416:SSL routines::tlsv1 alert unknown ca: alert number 48",
            BusNotTrusted,
            "tlsv1 alert unknown ca",
        ),
        (
            KafkaError._TRANSPORT,
            "error:0A000412:SSL routines:ssl3_read_bytes:tlsv13 alert certificate required: SSL",
            BusNotTrusted,
            "tlsv13 alert certificate required",
        ),
        # Lost in the middle of a handshake: it may go well later.
        (KafkaError._SSL, f"{_HANDSHAKE}unexpected eof while reading", BusUnavailable, "_SSL"),
        (KafkaError._TRANSPORT, "Connection refused", BusUnavailable, "_TRANSPORT"),
        (KafkaError._ALL_BROKERS_DOWN, "certificate", BusUnavailable, "_ALL_BROKERS_DOWN"),
    ],
)
def test_an_error_is_told_by_what_is_to_be_done(
    code: int, said: str, kind: type[Exception], reason: str
) -> None:
    # BUS-11
    found = word_of(KafkaError(code, said), None)
    assert (type(found), found.reason) == (kind, reason)
    assert "ada" not in str(found)
    assert "127.0.0.1" not in str(found)


def test_what_was_told_before_says_why_there_is_no_connection() -> None:
    # BUS-11
    before = refusal_of(KafkaError(KafkaError._SSL, f"{_HANDSHAKE}certificate verify failed: x"))
    assert word_of(KafkaError(KafkaError._TRANSPORT), before) is before
