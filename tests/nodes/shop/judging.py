"""What must hold of the shop, whatever was done to its nodes: from what is stored and printed."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from actors.persistence import inline_collection
from actors.sagas import SagaIndex
from tests.nodes.kit import Nodes
from tests.nodes.shop.words import ANSWERED, COLLECTION, COUNTED, LATE, NOTED

_EVENTS = """
SELECT stream_id, event_type AS type, event_id::text AS id,
    convert_from(event_data, 'UTF8') AS data FROM events
WHERE stream_id LIKE ANY($1) ORDER BY stream_id, version
"""
_DOCUMENTS = "SELECT key, document FROM documents WHERE collection = $1"


@dataclass(frozen=True)
class Said:
    """What the processes printed, those that were killed among them."""

    answered: Sequence[tuple[str, int]]
    late: Sequence[str]
    ends: Mapping[str, int]

    @classmethod
    def of(cls, lines: Iterable[Sequence[str]]) -> Said:
        """Call this with the lines of each process; the last count of each is counted."""
        answered, late, ends = [], [], Counter[str]()
        for said in lines:
            last: Sequence[str] = ()
            for words in (line.split() for line in said):
                match words:
                    case [word, till, amount] if word == ANSWERED:
                        answered.append((till, int(amount)))
                    case [word, *_] if word == LATE:
                        late.append(" ".join(words))
                    case [word, *counts] if word == COUNTED:
                        last = counts
            for one in last:
                name, _, count = one.partition("=")
                ends[name] += int(count)
        return cls(answered, late, ends)


@dataclass(frozen=True)
class Stored:
    """What is stored: amounts by till, ids of payments and of those noted, and documents."""

    tills: Mapping[str, Sequence[int]]
    paid: Sequence[str]
    noted: Sequence[str]
    documents: Mapping[str, Sequence[int]]


def read_stored(nodes: Nodes) -> Stored:
    """Call this for it as it is now."""
    tills, paid, noted = defaultdict[str, list[int]](list), [], []
    for row in nodes.rows(_EVENTS, ["till-%", "ledger-%"]):
        if row["type"] == NOTED:
            noted.append(row["data"])
        else:
            tills[row["stream_id"]].append(json.loads(row["data"])["amount"])
            paid.append(row["id"])
    documents = {
        row["key"]: json.loads(row["document"])["amounts"]
        for row in nodes.rows(_DOCUMENTS, COLLECTION)
    }
    return Stored(dict(tills), paid, noted, documents)


def judge_asks(said: Said, stored: Stored) -> list[str]:
    """Call this for asks that did not end, answers that are not true, payments that are double."""
    found = Counter(
        (till.removeprefix("till-"), amount)
        for till, amounts in stored.tills.items()
        for amount in amounts
    )
    return [
        *(f"an ask did not end: {line}" for line in said.late),
        *(f"{one} was answered and is lost" for one in said.answered if one not in found),
        *(f"{one} is there {count} times" for one, count in found.items() if count > 1),
    ]


def judge_readers(stored: Stored) -> list[str]:
    """Call this for records that were not handled, or twice, and documents that are no fold."""
    noted = Counter(stored.noted)
    return [
        *(f"{id_} was noted {count} times" for id_, count in noted.items() if count > 1),
        *(f"{id_} was never noted" for id_ in stored.paid if id_ not in noted),
        *(f"{id_} was never paid" for id_ in noted.keys() - set(stored.paid)),
        *(
            f"{till} is {len(stored.documents.get(till, ()))} of {len(amounts)} in its projection"
            for till, amounts in stored.tills.items()
            if list(stored.documents.get(till, ())) != list(amounts)
        ),
    ]


# By how a checkout ended: whether an order is left, whether it is paid, whether chairs are kept.
_COMPLETED = (("OrderPlaced",), ("PaymentCompleted",), ("InventoryReserved",))
_UNDONE = {
    "OrderPlaced": "OrderCancelled",
    "PaymentCompleted": "PaymentRefunded",
    "InventoryReserved": "InventoryReleased",
}


@dataclass(frozen=True)
class Sold:
    """One checkout: its status, and the events of its order, its payment and its chairs."""

    name: str
    status: str
    order: tuple[str, ...]
    payment: tuple[str, ...]
    stock: tuple[str, ...]


def read_sold(nodes: Nodes) -> list[Sold]:
    """Call this for all checkouts that ever began."""
    types: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in nodes.rows(_EVENTS, ["order-%", "payment-%", "inventory-main"]):
        place, _, number = str(row["stream_id"]).partition("-")
        if place == "inventory":
            if row["type"] == "StockCame":
                continue
            number = _order_of(json.loads(row["data"]))
        types[number][place].append(row["type"])
    sold = []
    for row in nodes.rows(_DOCUMENTS, inline_collection(SagaIndex())):
        told = json.loads(row["document"])
        number = str(told["saga"]).partition("-")[2]
        found = types[number]
        parts = (tuple(found[place]) for place in ("order", "payment", "inventory"))
        sold.append(Sold(number, told["status"], *parts))
    return sold


def _order_of(data: Mapping[str, object]) -> str:
    return str(data.get("order_id", ""))


def judge_sold(sold: Sequence[Sold]) -> list[str]:
    """Call this for checkouts that go on, are stuck, or are done by half."""
    wrong = []
    for one in sold:
        told = (one.order, one.payment, one.stock)
        if one.status == "completed":
            is_right = told == _COMPLETED and one.name.startswith("bought")
        elif one.status == "failed":
            is_right = all(_is_undone(events) for events in told)
        else:
            is_right = False
        if not is_right:
            wrong.append(f"{one}")
    return wrong


def _is_undone(events: Sequence[str]) -> bool:
    """Whether all that was done is undone, once each."""
    return all(events.count(undo) == events.count(done) <= 1 for done, undo in _UNDONE.items())
