"""What is asked and stored at the tills of the shop; what its processes say."""

from __future__ import annotations

from actors.persistence import StreamId
from actors.runtime import Ask, message
from storage.testing.projections.parts import Receipts

TILLS = 24
TOPIC, GROUP, NOTED = "paid-events", "ledger", "Noted"
TOPIC_PARTITIONS = 3
COLLECTION = f"{Receipts.name}__g1"
# How long an ask may take, and by how many ticks of its own process it may be told late: one that
# was stopped meanwhile has not lived in that time.
ASK_S, TICK_S, LATE_TICKS = 3.0, 0.1, 20
# Begins a line of an ask that was answered; its till and what was paid follow.
ANSWERED, LATE, COUNTED = "answered", "LATE", "counted"
# Checkouts, by how they are to end: the first word of their names.
STORIES = ("bought", "poor", "sold")


@message(remote=True, name="shop.Pay")
class Pay(Ask[int]):
    """Pay so much, which nobody else does; gives the version of the till."""

    amount: int


def till_stream(id_: str) -> StreamId:
    """Call this for where a till's payments are stored."""
    return StreamId(f"till-{id_}")


def ledger_stream(partition: int) -> StreamId:
    """Call this for where it is noted which records of a partition were handled."""
    return StreamId(f"ledger-{partition}")
