"""The broker that the bus's tests on Kafka share; without one they say "not run"."""

import os
from collections.abc import Iterator

import pytest

from tests.storage.kafka_broker import KafkaBroker


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker | None]:
    """The one broker of a run; None where `KAFKA_BROKERS` names another's."""
    if os.environ.get("KAFKA_BROKERS"):
        yield None
        return
    with KafkaBroker(tmp_path_factory.mktemp("kafka"), os.environ["KAFKA_JARS"]) as started:
        yield started


@pytest.fixture
def brokers(broker: KafkaBroker | None) -> str:
    """Where it is."""
    return os.environ["KAFKA_BROKERS"] if broker is None else broker.address


@pytest.fixture
def own_broker(broker: KafkaBroker | None) -> KafkaBroker:
    """A broker that is ours to kill, and to be refused by."""
    if broker is None:
        pytest.skip("not run: the broker of KAFKA_BROKERS is not ours to kill")
    return broker
