"""A real Kafka lets in who may come: secrets and certificates, right and wrong.

Run by `make kafka`; elsewhere the summary says "not run".
"""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from tests.storage.kafka_broker import SECRET, WRONG, KafkaBroker, missing

if reason := missing():
    pytest.skip(reason, allow_module_level=True)

from actors.persistence import InvalidField
from actors.persistence.bus import BusNotTrusted, BusRejected, BusState, OnFailure
from actors.runtime import Secret
from storage.bus import MemoryBus
from storage.bus.kafka import KafkaBus
from storage.bus.kafka_words import KafkaSecurity, KafkaSettings
from storage.postgres import Database
from storage.testing.bus import TOPIC, Heard, options, records, subscribed
from tests.storage.kafka_keys import Keys
from web.app.bus import BusRefused, check_bus, make_bus
from web.settings import Bus, SaslMechanism, Settings


def bus_with(address: str, security: KafkaSecurity) -> KafkaBus:
    beside = MemoryBus()
    return KafkaBus(
        KafkaSettings(address, prefix=f"{uuid4()}-", security=security, session_timeout_ms=6000),
        parking=beside.parking,
        dead_letters=beside.dead_letters,
    )


def scram(
    own_broker: KafkaBroker,
    secret: str = SECRET,
    authority: Path | None = None,
    mechanism: str = "SCRAM-SHA-256",
) -> KafkaSecurity:
    authority = authority or own_broker.keys.authority
    return KafkaSecurity(mechanism, "ada", Secret(secret), str(authority))


def certified(own_broker: KafkaBroker, files: tuple[Path, Path] | None) -> KafkaSecurity:
    certificate, key = (None, None) if files is None else map(str, files)
    return KafkaSecurity(
        ca_file=str(own_broker.keys.authority), certificate_file=certificate, key_file=key
    )


async def goes_round(bus: KafkaBus) -> None:
    """What is published is read."""
    heard = Heard()
    await bus.declare(TOPIC, 1)
    async with subscribed(bus, heard, options(on_failure=OnFailure.SKIP)):
        await bus.publish_batch(TOPIC, records(20))
        await heard.count(20)
    assert (await bus.health()).state is BusState.HEALTHY
    await bus.close()


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_a_secret_over_tls_lets_us_in(own_broker: KafkaBroker, mechanism: str) -> None:
    # BUS-11
    security = scram(own_broker, mechanism=mechanism)
    await goes_round(bus_with(own_broker.scram_address, security))


async def test_a_certificate_lets_us_in(own_broker: KafkaBroker) -> None:
    # BUS-11
    security = certified(own_broker, own_broker.keys.make("client"))
    await goes_round(bus_with(own_broker.mutual_address, security))


async def test_a_wrong_secret_is_told_and_not_shown(own_broker: KafkaBroker) -> None:
    # BUS-11, BUS-13
    plain = KafkaSecurity("PLAIN", "ada", Secret(WRONG))
    for address, security in [
        (own_broker.sasl_address, plain),
        (own_broker.scram_address, scram(own_broker, WRONG)),
        # It has no such mechanism.
        (own_broker.scram_address, scram(own_broker, mechanism="PLAIN")),
    ]:
        bus = bus_with(address, security)
        with pytest.raises(BusRejected, match="_AUTHENTICATION") as caught:
            await bus.topics()
        assert not isinstance(caught.value, BusNotTrusted)
        said = f"{caught.value} {security!r} {bus.__dict__} {await bus.health()}"
        assert WRONG not in said
        assert SECRET not in said
    security = KafkaSecurity("PLAIN", "ada", Secret(SECRET))
    await bus_with(own_broker.sasl_address, security).declare(TOPIC)


async def test_a_certificate_that_one_of_both_does_not_trust_is_told(
    own_broker: KafkaBroker, tmp_path: Path
) -> None:
    # BUS-11: each is an error of its own, and says which side does not trust the other
    strangers = Keys(tmp_path / "strangers")
    foreign = strangers.make("foreign")
    localhost = own_broker.scram_address.replace("127.0.0.1", "localhost")
    for address, security, words, is_ours in [
        (own_broker.scram_address, scram(own_broker, authority=strangers.authority), "verify", 0),
        # Right, but for another name than the one that it is called by.
        (localhost, scram(own_broker), "verify", 0),
        (own_broker.mutual_address, certified(own_broker, foreign), "certificate unknown", 1),
        (own_broker.mutual_address, certified(own_broker, None), "bad certificate", 1),
    ]:
        bus = bus_with(address, security)
        with pytest.raises(BusNotTrusted, match=words) as caught:
            await bus.topics()
        assert caught.value.is_ours == bool(is_ours)
        assert SECRET not in str(caught.value)
        assert (await bus.health()).state is BusState.DEGRADED


async def test_files_that_are_no_certificates_are_refused_when_it_is_made(
    own_broker: KafkaBroker, tmp_path: Path
) -> None:
    # BUS-11: before anybody is asked, by the name of the field
    certificate, key = map(str, own_broker.keys.make("client"))
    _, other = map(str, own_broker.keys.make("other"))
    ca, text = str(own_broker.keys.authority), tmp_path / "text"
    text.write_text("canary")
    for files, field in [
        ((str(text), certificate, key), "ca_file"),
        ((str(tmp_path / "absent"), certificate, key), "ca_file"),
        ((ca, str(text), key), "certificate_file"),
        ((ca, certificate, str(text)), "key_file"),
        ((ca, certificate, other), "key_file"),
    ]:
        with pytest.raises(InvalidField, match=f"^{field} is nothing that TLS can use") as caught:
            bus_with("127.0.0.1:1", KafkaSecurity(None, "", None, *files))
        assert "canary" not in str(caught.value)


async def test_a_site_says_which_setting_is_wrong(
    own_broker: KafkaBroker, database: Database, tmp_path: Path
) -> None:
    # BUS-11
    keys, strangers = own_broker.keys, Keys(tmp_path / "strangers")
    given = {
        "bus": Bus.KAFKA,
        "kafka_brokers": own_broker.scram_address,
        "kafka_sasl_mechanism": SaslMechanism.SCRAM_SHA_256,
        "kafka_username": "ada",
        "kafka_password": Secret(SECRET),
        "kafka_tls_ca": keys.authority,
    }
    certificate, key = strangers.make("foreign")
    mutual: dict[str, object] = {
        "kafka_brokers": own_broker.mutual_address,
        "kafka_sasl_mechanism": None,
        "kafka_tls_cert": certificate,
        "kafka_tls_key": key,
    }
    wrong: list[tuple[dict[str, object], str]] = [
        ({}, ""),
        ({"kafka_password": Secret(WRONG)}, "KAFKA_BROKERS: .*KAFKA_PASSWORD"),
        ({"kafka_tls_ca": strangers.authority}, "KAFKA_TLS_CA: "),
        (mutual, "KAFKA_TLS_CERT: "),
        ({**mutual, "kafka_tls_key": keys.make("other")[1]}, "KAFKA_TLS_KEY: "),
    ]
    for changed, setting in wrong:
        settings = Settings(**{**given, **changed})  # type: ignore[arg-type]
        if not setting:
            await check_bus(settings, make_bus(settings, database))
            continue
        with pytest.raises(BusRefused, match=f"^{setting}") as caught:
            await check_bus(settings, make_bus(settings, database))
        assert SECRET not in str(caught.value)
        assert WRONG not in str(caught.value)
