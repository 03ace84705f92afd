"""Ticketing on a broker of Kafka: told by it, and from the log while it does not answer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.examples.ticketing.http.test_ticketing_correlation import (
    MAILING,
    has_the_id_of_its_requests,
)
from tests.examples.ticketing.http.test_ticketing_sockets import seats
from tests.examples.ticketing.http.ticketing_kit import (
    PATIENT,
    listening,
    open_ticketing,
    planned,
    sign_in,
)
from tests.storage.kafka_broker import KafkaBroker, missing

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    if "KAFKA_JARS" not in os.environ:
        pytest.skip("not run: the broker of KAFKA_BROKERS is not ours to stop")
    with KafkaBroker(tmp_path_factory.mktemp("kafka"), os.environ["KAFKA_JARS"]) as started:
        yield started


async def test_all_that_a_purchase_leads_to_has_its_id_on_kafka(
    broker: KafkaBroker, tmp_path: Path, database_url: str
) -> None:
    # EX-47
    settings = replace(MAILING, kafka_brokers=broker.address, kafka_prefix="one-")
    opened = open_ticketing(database_url, tmp_path, settings=settings, bus="kafka")
    await has_the_id_of_its_requests(opened, None)


async def test_two_processes_are_told_by_one_broker_and_by_the_log_while_it_hangs(
    broker: KafkaBroker, tmp_path: Path, database_url: str
) -> None:
    # EX-46, EX-47
    settings = replace(PATIENT, kafka_brokers=broker.address, kafka_prefix="two-")
    async with (
        open_ticketing(database_url, tmp_path / "one", settings=settings, bus="kafka") as one,
        open_ticketing(database_url, tmp_path / "two", settings=settings, bus="kafka") as two,
    ):
        owner, ann = [await sign_in(one.port, f"{who}@example.com") for who in ("o", "ann")]
        event = await planned(owner)
        async with (
            listening(one.port, f"/ws/availability/{event}") as here,
            listening(two.port, f"/ws/availability/{event}") as there,
        ):
            name = await ann.reserved(event)
            for heard in (here, there):
                await seats(heard, 2, 1, 0)
            broker.hang()
            try:
                # Nobody waits for it: neither who pays, nor who looks on.
                assert (await ann.pay(name)).status == 201
                for heard in (here, there):
                    await seats(heard, 2, 0, 1)
            finally:
                broker.go_on()
            await ann.at(two.port).reserved(event)
            for heard in (here, there):
                await seats(heard, 1, 1, 1)
