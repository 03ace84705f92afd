"""What the link over NATS is given, how faults are told apart, and when it tries again."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from nats import errors
from nats.aio.errors import ErrStaleConnection

from actors.cluster.link import Link, LinkMisuse
from storage.link.nats_session import LOST_AGAIN_S, Troubles
from storage.link.nats_words import (
    LOG_EVERY_S,
    PATIENT_AFTER_S,
    RETRY_S_MAX,
    BadCredentials,
    Faults,
    LinkFault,
    NatsCredentials,
    NatsSettings,
    NatsTls,
    NoTls,
    PayloadTooSmall,
    fault_of,
    retry_delay_s,
    words_of,
)
from tests.logged import captured
from tests.nats_server import documented

HERE = Path(__file__)


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (errors.AuthorizationError(), LinkFault.CREDENTIALS),
        (errors.Error("nats: 'Authorization Violation'"), LinkFault.CREDENTIALS),
        (errors.Error("nats: 'user authentication expired'"), LinkFault.CREDENTIALS),
        (errors.Error("nats: 'authentication timeout'"), LinkFault.CONNECT),
        (BadCredentials("x"), LinkFault.CREDENTIALS),
        (ssl.SSLCertVerificationError("x"), LinkFault.CERTIFICATE),
        (NoTls("x"), LinkFault.CERTIFICATE),
        (errors.Error("nats: permissions violation for publish to gr.x"), LinkFault.PERMISSION),
        (PayloadTooSmall("x"), LinkFault.PAYLOAD),
        (errors.Error("nats: 'slow consumer'"), LinkFault.SLOW_CONSUMER),
        (ConnectionRefusedError(), LinkFault.CONNECT),
        (TimeoutError(), LinkFault.CONNECT),
        (errors.UnexpectedEOF(), LinkFault.CONNECT),
        (ErrStaleConnection(), LinkFault.CONNECT),
        (errors.NoServersError(), LinkFault.CONNECT),
        (errors.ProtocolError(), LinkFault.PROTOCOL),
        (ValueError("x"), LinkFault.PROTOCOL),
    ],
)
def test_what_goes_wrong_is_told_apart(error: Exception, fault: LinkFault) -> None:
    # CLU-23
    assert fault_of(error) is fault


def test_each_kind_of_fault_is_counted_and_logged_once_per_ten_seconds() -> None:
    # CLU-23
    now = [0.0]
    faults = Faults(lambda: now[0])
    with captured() as lines:
        for _ in range(100):
            faults.note(LinkFault.CONNECT, "away", "n1")
        faults.note(LinkFault.PERMISSION, "no", "n1")
        now[0] = LOG_EVERY_S
        faults.note(LinkFault.CONNECT, "away", "n1")
    assert faults.counts == {LinkFault.CONNECT: 101, LinkFault.PERMISSION: 1}
    assert [(line["kind"], line["count"]) for line in lines] == [
        ("connect", 1),
        ("permission", 1),
        ("connect", 100),
    ]


def test_it_tries_again_soon_at_first_and_then_more_and_more_seldom() -> None:
    # CLU-23
    assert [retry_delay_s(0, draw) for draw in (0.0, 1.0)] == [0.05, 0.1]
    assert retry_delay_s(PATIENT_AFTER_S, 1.0) == 0.1
    pauses = [retry_delay_s(down_s, 1.0) for down_s in range(0, 200, 5)]
    assert pauses == sorted(pauses)
    assert retry_delay_s(1e9, 1.0) == RETRY_S_MAX
    assert retry_delay_s(-1, 0.5) <= 0.1


def test_who_is_up_for_a_moment_only_is_still_in_trouble() -> None:
    # CLU-23
    troubles = Troubles()
    troubles.went_down(0.0)
    troubles.up_at = 5.0
    troubles.went_down(6.0)
    assert troubles.pause_s(40.0, 1.0) == RETRY_S_MAX
    troubles.up_at = 50.0
    troubles.went_down(50.0 + PATIENT_AFTER_S)
    assert troubles.pause_s(61.0, 1.0) == 0.1
    # A crash is served at once, the next one within 10 s not.
    troubles.lost(100.0)
    assert troubles.pause_s(61.0, 1.0) == 0.1
    troubles.lost(101.0)
    assert troubles.pause_s(61.0, 1.0) == LOST_AGAIN_S
    troubles.lost(112.0)
    assert troubles.pause_s(61.0, 1.0) == 0.1


def test_settings_that_cannot_be_are_refused() -> None:
    for servers in ((), ("n1",), ("http://n1",), ("nats://",), ("nats://n1:0",), ("nats://n1/x",)):
        with pytest.raises(LinkMisuse):
            NatsSettings(servers)
    with pytest.raises(LinkMisuse) as told:
        NatsSettings(("nats://ada:hunter2@n1",))
    assert "hunter2" not in str(told.value)
    with pytest.raises(LinkMisuse):
        NatsSettings(("nats://n1",), ping_interval_s=0)
    for given in ({"user": "ada"}, {"password_file": HERE}):
        with pytest.raises(LinkMisuse):
            NatsCredentials(**given)
    with pytest.raises(LinkMisuse):
        NatsCredentials(nkey_file=HERE, token_file=HERE)
    with pytest.raises(LinkMisuse):
        NatsTls(cert_file=HERE)


def test_one_server_by_tls_means_all_of_them() -> None:
    # CLU-55
    of = NatsSettings(("nats://n1", "tls://[::1]:1"))
    assert of.needs_tls
    assert of.urls == ["tls://n1:4222", "tls://[::1]:1"]
    assert of.places == "n1:4222, [::1]:1"
    assert not NatsSettings(("nats://n1",)).needs_tls


def test_what_an_error_says_is_one_short_line() -> None:
    assert words_of(errors.Error("nats: 'a\nb'")) == "a b"
    assert words_of(TimeoutError()) == "it says nothing"
    assert len(words_of(ValueError("x" * 1000))) == 200


def test_the_port_keeps_nothing_and_its_server_is_asked_to_keep_nothing() -> None:
    # CLU-57
    calls = {name for name in vars(Link) if not name.startswith("_")}
    assert calls == {"publish", "subscribe", "status", "watch"}
    assert "jetstream" not in documented().lower()
    for file in (HERE.parents[3] / "storage" / "link").glob("*.py"):
        assert "jetstream" not in file.read_text().lower()
