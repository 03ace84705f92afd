"""A member on Kafka that is killed: its effect and its inbox row are one append on PostgreSQL."""

import sys

import trio

from storage.bus import PostgresBus
from storage.bus.kafka import KafkaBus
from storage.bus.kafka_words import KafkaSettings
from storage.postgres import Database, open_database
from tests.patience import PATIENT_POOL
from tests.storage.bus_member_process import subscription_on


def kafka_bus(database: Database, brokers: str, prefix: str) -> KafkaBus:
    """Call this for a bus whose members are taken for dead after six seconds."""
    beside = PostgresBus(database)
    settings = KafkaSettings(brokers, prefix=prefix, session_timeout_ms=6000)
    return KafkaBus(settings, parking=beside.parking, dead_letters=beside.dead_letters)


async def main(url: str, brokers: str, prefix: str) -> None:
    """Call this to handle records until killed."""
    async with open_database(url, part="member", settings=PATIENT_POOL) as database:
        await subscription_on(database, kafka_bus(database, brokers, prefix)).run()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], sys.argv[3])
