"""Read models on a search server: the suites of every engine, and what only such one can do."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

import msgspec
import pytest
import trio

from actors.persistence import (
    CachedProjections,
    Checkpoint,
    Cursor,
    Document,
    GenerationState,
    NotRetired,
    ProjectionBatch,
    ProjectionRunner,
    ProjectionTx,
    StoredEvent,
    StoreUnavailable,
    begin_rebuild,
    live_collection,
    swap_back,
    wait_until,
)
from actors.persistence.projections import filling, runner
from actors.runtime import open_actors
from storage.memory import MemoryDatabase, MemoryDeadLetters, MemoryProjections
from storage.postgres import Database
from storage.search import ReadModelLost, SearchClient, SearchProjections, open_search
from storage.search.questions import alias_of
from storage.testing import (
    ProjectionCrashSuite,
    ProjectionHaltSuite,
    ProjectionPartsSuite,
    ProjectionPoisonSuite,
    ProjectionRebuildSuite,
    ProjectionSuite,
    ProjectionWaitingSuite,
    ProjectionWishesSuite,
    SearchingSuite,
)
from storage.testing.kept import Kept, kept_in_memory, kept_in_postgres
from storage.testing.private import Place, place_in_memory
from storage.testing.projections.filling import A, B, Paid, Totals, paid
from storage.testing.projections.searching import FIELDS, Searching
from storage.testing.samples import PATIENCE_S
from tests.search_server import SearchServer
from tests.storage.beside_books import BesideBooksForgettingSuite, LookingPlace

T = TypeVar("T")

ALL = {"query": {"match_all": {}}, "size": 1000}


@pytest.fixture(autouse=True)
def pauses_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many retries and looks as ever, without their pauses: a server knows no virtual time."""
    monkeypatch.setattr(filling, "POISON_RETRIES_S", (0.0,) * len(filling.POISON_RETRIES_S))
    monkeypatch.setattr(filling, "AWAY_S", 0.02)
    monkeypatch.setattr(filling, "EMPTY_COMMIT_S", 0.05)
    monkeypatch.setattr(filling, "LEFT_S", 0.3)
    monkeypatch.setattr(runner, "AWAY_S", 0.02)
    monkeypatch.setattr(runner, "LOOK_S", 0.02)


class TestSearchProjections(
    ProjectionSuite,
    ProjectionCrashSuite,
    ProjectionPartsSuite,
    ProjectionPoisonSuite,
    ProjectionHaltSuite,
    ProjectionRebuildSuite,
    ProjectionWaitingSuite,
    ProjectionWishesSuite,
):
    # PROJ-10, PROJ-13

    @pytest.fixture
    def kept(self, client: SearchClient, prefix: str) -> Kept:
        kept = kept_in_memory()
        views = SearchProjections(client, kept.projections, prefix=prefix)
        return replace(kept, projections=views)


class TestSearchProjectionsOfPostgres:
    # PROJ-13: with the books that a site has, and a cache before it

    @pytest.fixture
    def kept(self, client: SearchClient, prefix: str, database: Database) -> Kept:
        kept = kept_in_postgres(database)
        views = CachedProjections(SearchProjections(client, kept.projections, prefix=prefix))
        return replace(kept, projections=views)

    async def test_events_become_documents(self, kept: Kept) -> None:
        await ProjectionSuite().test_events_become_documents_and_can_be_waited_for(kept)

    async def test_a_rebuild_can_be_undone(self, kept: Kept) -> None:
        await ProjectionSuite().test_a_rebuild_leaves_the_old_one_serving_and_can_be_undone(kept)

    async def test_whoever_is_killed_the_rows_are_the_same(self, kept: Kept) -> None:
        await ProjectionCrashSuite().test_killed_at_any_point_the_rows_are_those_of_the_log(kept, 5)


class TestSearching(SearchingSuite):
    # PROJ-13

    @pytest.fixture
    def searching(self, client: SearchClient, prefix: str) -> Searching:
        store = SearchProjections(client, MemoryProjections(), FIELDS, prefix=prefix)
        return Searching(store, store)


class TestSearchForgetting(BesideBooksForgettingSuite):
    # STORE-44, PROJ-13: what was made of a forgotten subject's fields is removed here too

    @pytest.fixture
    def place(self, client: SearchClient, prefix: str) -> Place:
        place = place_in_memory()

        async def dump() -> bytes:
            await client.told("POST", f"/{prefix}*/_refresh")
            return await place.dump() + (await client.told("POST", f"/{prefix}*/_search", ALL))[1]

        views = SearchProjections(client, place.projections, prefix=prefix)
        return LookingPlace(
            place.keys, place.events, place.snapshots, views, dump, place.audited
        )  # fmt: skip


async def filled(
    client: SearchClient, prefix: str, documents: Mapping[str, Document | None] | None = None
) -> tuple[SearchProjections, Checkpoint]:
    """A generation with two documents, of books of its own."""
    store = SearchProjections(client, MemoryProjections(MemoryDatabase()), prefix=prefix)
    begun = await store.open("totals", 1, 1, GenerationState.LIVE)
    made = {"a": {"n": 1}, "b": {"n": 2}} if documents is None else documents
    assert await store.commit(ProjectionBatch(begun, Cursor(5, 1), made))
    return store, begun


async def remove(client: SearchClient, alias: str) -> None:
    """Remove an index, as a server loses it."""
    for index in (await client.ask("GET", f"/_alias/{alias}", answer=dict)) or {}:
        await client.ask("DELETE", f"/{index}", answer=dict)


async def reached(kept: Kept, wanted: dict[str, int], collection: str) -> None:
    """Wait until a generation serves, and holds that."""
    with trio.fail_after(PATIENCE_S):
        while True:
            with suppress(StoreUnavailable):
                if await live_collection(kept.projections, "totals") == collection:
                    found = await kept.projections.query(collection)
                    if {key: one["sum"] for key, one in found} == wanted:
                        return
            await kept.projections.changed(0.05)


async def test_a_server_that_is_killed_loses_nothing_and_an_emptied_one_is_filled_anew(
    own_server: SearchServer,
) -> None:
    # PROJ-13: in the middle of the filling; what is read is never half of it
    async with open_search(own_server.settings) as client, open_actors() as system:
        kept = kept_in_memory()
        kept = replace(kept, projections=SearchProjections(client, kept.projections))
        await kept.events.append(A, paid(*[1] * 150))
        await system.start(ProjectionRunner, Totals(), kept.events, kept.projections)
        await reached(kept, {A: 150}, "totals__g1")
        own_server.kill()
        await kept.events.append(B, paid(7))
        with pytest.raises(StoreUnavailable):
            await kept.projections.query("totals__g1")
        await trio.to_thread.run_sync(own_server.start)
        await reached(kept, {A: 150, B: 7}, "totals__g1")
        own_server.kill()
        own_server.empty()
        await kept.events.append(B, paid(1))
        await trio.to_thread.run_sync(own_server.start)
        await reached(kept, {A: 150, B: 8}, "totals__g2")
        with pytest.raises(ReadModelLost):
            await kept.projections.get("totals__g1", A)
        last = await kept.events.append(A, paid(1))
        await wait_until(kept.projections, "totals", last.cursor, timeout_s=PATIENCE_S)
        assert await kept.projections.get("totals__g2", A) == {"sum": 151}


async def test_what_is_lost_is_not_told_to_be_missing(client: SearchClient, prefix: str) -> None:
    # PROJ-13: whatever is asked; nothing is written to an index that is not there
    store, begun = await filled(client, prefix)
    [now] = await store.checkpoints("totals")
    assert await store.commit(ProjectionBatch(now, Cursor(6, 1), {"c": {"n": 3}}))
    await remove(client, f"{prefix}totals__g1")
    asked: list[Coroutine[object, None, object]] = [
        store.query(begun.collection),
        store.search(begun.collection, "x"),
        store.get(begun.collection, "a"),
        store.get_many(begun.collection, ["a"]),
        store.exists(begun.collection, "a"),
    ]
    for one in asked:
        with pytest.raises(ReadModelLost):
            await one
    [now] = await store.checkpoints("totals")
    assert now.is_outdated
    with pytest.raises(ReadModelLost):
        await store.commit(ProjectionBatch(now, Cursor(9, 1), {"a": {"n": 9}}))
    assert await client.ask("GET", f"/_alias/{prefix}totals__g1", answer=dict) is None
    assert await begin_rebuild(store, Totals()) == 2
    await store.swap("totals", 2)
    await store.swap("totals", 1)
    assert await live_collection(store, "totals") == "totals__g2"
    with pytest.raises(NotRetired):
        await swap_back(store, "totals")


class CutOff:
    """A client whose connection is lost, or that stands still, when a batch is to be written."""

    def __init__(self, client: SearchClient, *, at: str, is_late: bool = False) -> None:
        self._client, self._at, self.told = client, at, client.told
        self.has_come, self.may_go = trio.Event(), trio.Event()
        if not is_late:
            self.may_go.set()
        self._is_late = is_late

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        answer: type[T],
        params: Mapping[str, str] | None = None,
    ) -> T | None:
        """Ask, but for what writes documents."""
        is_bulk = path.endswith("/_bulk")
        if is_bulk and self._at == "before":
            await self._stand()
        said = await self._client.ask(method, path, body, answer=answer, params=params)
        if is_bulk and self._at == "after":
            await self._stand()
        return said

    async def _stand(self) -> None:
        self.has_come.set()
        await self.may_go.wait()
        if not self._is_late:
            raise StoreUnavailable("cut off")


def through(cut_off: CutOff, store: SearchProjections, prefix: str) -> SearchProjections:
    """The same documents and books by another client."""
    return SearchProjections(cut_off, store.behind, prefix=prefix)  # type: ignore[arg-type]


@pytest.mark.parametrize("at", ["before", "after"])
async def test_a_batch_that_is_half_written_is_completed_by_the_next_look(
    client: SearchClient, prefix: str, at: str
) -> None:
    # PROJ-2, PROJ-13: killed, or cut off, before its documents or before its token; once
    store, begun = await filled(client, prefix)
    [now] = await store.checkpoints("totals")
    batch = ProjectionBatch(now, Cursor(6, 1), {"a": {"n": 2}, "b": None, "ü": {"x": [1.5, None]}})
    with pytest.raises(StoreUnavailable):
        await through(CutOff(client, at=at), store, prefix).commit(batch)
    assert not await store.commit(replace(batch, documents={"a": {"n": 9}}))
    seen = list[Checkpoint]()

    async def look(one: SearchProjections) -> None:
        seen.extend(await one.checkpoints("totals"))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(look, SearchProjections(client, store.behind, prefix=prefix))
    assert {(one.cursor, one.is_outdated) for one in seen} == {(Cursor(6, 1), False)}
    found = await store.query(begun.collection)
    assert found == [("a", {"n": 2}), ("ü", {"x": [1.5, None]})]
    assert await store.commit(ProjectionBatch(seen[0], Cursor(7, 1), {"b": {"n": 4}}))
    assert await store.exists(begun.collection, "b")


async def test_a_batch_that_comes_late_writes_nothing_over_a_later_one(
    client: SearchClient, prefix: str
) -> None:
    # PROJ-2, PROJ-13: nor does it bring back what was removed meanwhile
    store, begun = await filled(client, prefix)
    [now] = await store.checkpoints("totals")
    late, told = CutOff(client, at="before", is_late=True), list[bool]()
    batch = ProjectionBatch(now, Cursor(6, 1), {"a": {"n": 2}, "b": {"n": 2}, "c": {"n": 2}})

    async def commit() -> None:
        told.append(await through(late, store, prefix).commit(batch))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(commit)
        await late.has_come.wait()
        [now_] = await store.checkpoints("totals")
        writes: dict[str, Document | None] = {"a": {"n": 3}, "b": None}
        assert await store.commit(ProjectionBatch(now_, Cursor(7, 1), writes))
        # What it was is forgotten by then: a server keeps that of a removed one for a minute.
        path = f"/{prefix}totals__g1/_settings"
        await client.ask("PUT", path, {"index": {"gc_deletes": "0s"}}, answer=dict)
        late.may_go.set()
    assert told == [True]
    assert await store.query(begun.collection) == [("a", {"n": 3}), ("c", {"n": 2})]
    [now] = await store.checkpoints("totals")
    assert (now.cursor, now.is_outdated) == (Cursor(7, 1), False)


async def test_what_another_life_left_is_not_read(client: SearchClient, prefix: str) -> None:
    # PROJ-13: a new database beside a server that is full of another's documents
    await filled(client, prefix)
    store, begun = await filled(client, prefix, {"z": {"n": 1}})
    assert [key for key, _ in await store.query(begun.collection)] == ["z"]
    [now] = await store.checkpoints("totals")
    assert not now.is_outdated
    assert await store.commit(ProjectionBatch(now, Cursor(6, 1), {"y": {"n": 1}}))


async def test_a_document_tells_its_cursor_and_when_it_was_written(
    client: SearchClient, prefix: str
) -> None:
    # PROJ-11: to whoever looks by the projection's own name, which leads to what serves
    store, _ = await filled(client, prefix)
    await begin_rebuild(store, Totals())
    [_, second] = await store.checkpoints("totals")
    assert await store.commit(ProjectionBatch(second, Cursor(8, 2), {"x": {"n": 3}, "y": None}))

    async def looked() -> list[dict[str, object]]:
        await client.told("POST", f"/{prefix}totals/_refresh")
        _, said = await client.told("POST", f"/{prefix}totals/_search", ALL)
        found: list[dict[str, object]] = [
            hit["_source"] for hit in msgspec.json.decode(said)["hits"]["hits"]
        ]
        return found

    assert sorted(str(one["key"]) for one in await looked()) == ["a", "b"]
    await store.swap("totals", 2)
    [one] = await looked()
    assert (one["key"], one["_cursor"], one["document"]) == ("x", "8-2", {"n": 3})
    assert isinstance(one["_updated_at"], int)
    await store.swap("totals", 1)
    assert sorted(str(one["key"]) for one in await looked()) == ["a", "b"]


class Concerts(Totals):
    """Breaks what is searched when somebody has paid less than nothing."""

    name = "concerts"
    is_strict = False

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        paid = self.types.decode(event)
        assert isinstance(paid, Paid)
        year = str(paid.amount) if paid.amount < 0 else paid.amount
        tx.put(event.stream_key, {"title": f"tour {abs(paid.amount)}", "year": year})


async def test_an_event_whose_document_cannot_be_searched_is_parked(
    client: SearchClient, prefix: str
) -> None:
    # PROJ-7, PROJ-13: with its stream, and the others go on
    kept = kept_in_memory()
    store = SearchProjections(client, kept.projections, FIELDS, prefix=prefix)
    async with open_actors() as system:
        await system.start(ProjectionRunner, Concerts(), kept.events, store)
        for stream, amount in ((A, 1), (A, -5), (A, 2), (B, 3)):
            last = await kept.events.append(stream, paid(amount))
            await wait_until(store, "concerts", last.cursor, timeout_s=PATIENCE_S)
    assert [one.key for one in await store.search("concerts__g1", "tour")] == [B, A]
    letters = await kept.dead_letters.list(kind="projection")
    assert [one.letter.payload for one in letters] == [b'{"amount": -5}', b'{"amount": 2}']
    assert "year is no whole number" in letters[0].letter.error_message


async def test_a_document_that_the_server_refuses_is_a_dead_letter_and_stops_nothing(
    client: SearchClient, prefix: str
) -> None:
    # PROJ-7, PROJ-13: somebody has made the index otherwise; the letter quotes nothing of it
    database = MemoryDatabase()
    store = SearchProjections(client, MemoryProjections(database), FIELDS, prefix=prefix)
    begun = await store.open("concerts", 1, 1, GenerationState.LIVE)
    alias = alias_of(prefix, "concerts__g1")
    [index] = (await client.ask("GET", f"/_alias/{alias}", answer=dict)) or {}
    await client.ask("DELETE", f"/{index}", answer=dict)
    kinds = {name: {"type": "keyword"} for name in ("key", "kind", "token", "_cursor", "filters")}
    others = {"texts": {"type": "long"}, "document": {"type": "object", "enabled": False}}
    mappings = {
        "_meta": {"collection": "concerts__g1", "prefix": prefix},
        "properties": kinds | others,
    }
    made = {"aliases": {alias: {}}, "mappings": mappings}
    await client.ask("PUT", f"/{index}", made, answer=dict)
    writes: dict[str, Document | None] = {"a": {"title": "secret"}, "b": {"title": "7"}}
    assert await store.commit(ProjectionBatch(begun, Cursor(5, 1), writes))
    assert await store.query("concerts__g1") == [("b", {"title": "7"})]
    assert await store.get("concerts__g1", "a") is None
    [letter] = await MemoryDeadLetters(database).list(kind="projection")
    assert letter.letter.source == "concerts__g1"
    assert "refuses the document a" in letter.letter.error_message
    assert "secret" not in repr(letter)
    # And on it goes, for whoever looks.
    for one in (store, SearchProjections(client, store.behind, FIELDS, prefix=prefix)):
        [now] = await one.checkpoints("concerts")
        assert not now.is_outdated
        reached = Cursor(now.cursor.txid + 1, 1)
        assert await one.commit(ProjectionBatch(now, reached, {"a": {"title": "8"}}))
        assert await store.get("concerts__g1", "a") == {"title": "8"}


async def test_any_document_and_any_key_come_back_as_they_were(
    client: SearchClient, prefix: str
) -> None:
    # PROJ-10, PROJ-13: numbers of any size, depth, names that mean something to a server
    nested: object = "end"
    for _ in range(200):
        nested = [nested]
    documents: dict[str, Document | None] = {
        "": {},
        "k" * 1024: {"key": 1},
        "ключ/../_all?*": {"_id": "x", "_source": {"a.b": 1, "a": {"b": 2}}, "": ".", ".": ""},
        "numbers": {"large": 10**300, "small": -(2**64), "float": 1e-300, "tenth": 0.1},
        "deep": {"at": nested},
        "text": {"long": "x" * 1_000_000, "signs": '\u2028\u0001\ud7ff🎹"\\', "none": None},
    }
    store, begun = await filled(client, prefix, documents)
    assert dict(await store.query(begun.collection)) == documents
    assert await store.get_many(begun.collection, list(documents)) == documents
    for key, document in documents.items():
        assert await store.get(begun.collection, key) == document


async def test_collections_with_any_name_are_apart(client: SearchClient, prefix: str) -> None:
    # PROJ-10: a server takes no capitals, and few signs; tenants have names of their own
    store = SearchProjections(client, MemoryProjections(), prefix=prefix)
    names = ["orders", "Orders", "ORDERS", "or ders", "órders", "@acme/orders", "x" * 200, "a-b"]
    for number, name in enumerate(names):
        begun = await store.open(name, 1, 1, GenerationState.LIVE)
        batch = ProjectionBatch(begun, Cursor(5, 1), {"a": {"n": number}})
        assert await store.commit(batch)
    for number, name in enumerate(names):
        assert await store.get(f"{name}__g1", "a") == {"n": number}
    assert await store.tenants("orders__g1") == ["acme"]


async def test_a_site_whose_name_begins_alike_is_left_alone(
    client: SearchClient, prefix: str
) -> None:
    # PROJ-13: what nobody knows of is removed, but for what is not ours
    store, begun = await filled(client, f"{prefix}other-")
    mine = SearchProjections(client, MemoryProjections(), prefix=prefix)
    left, _ = await filled(client, prefix)
    assert await mine.purge(older_than=timedelta(0)) == 2
    assert await client.ask("GET", f"/_alias/{prefix}totals__g1", answer=dict) is None
    assert len(await store.query(begun.collection)) == 2
    with pytest.raises(StoreUnavailable):
        await left.query(begun.collection)


async def test_many_documents_are_written_and_removed_in_pieces(
    client: SearchClient, prefix: str
) -> None:
    # PROJ-13: five hundred at once; what is retired goes with its index
    many: dict[str, Document | None] = {f"k{number:04}": {"n": number} for number in range(1203)}
    store, begun = await filled(client, prefix, many)
    assert len(await store.query(begun.collection, limit=10_000)) == 1203
    assert len(await store.get_many(begun.collection, list(many))) == 1203
    await store.open("totals", 2, 2, GenerationState.BUILDING)
    await store.swap("totals", 2)
    assert await store.purge(1000, older_than=timedelta(0)) == 1000
    assert await store.query(begun.collection, limit=1) != []
    assert await store.purge(1000, older_than=timedelta(0)) == 204
    assert await client.ask("GET", f"/_alias/{prefix}totals__g1", answer=dict) is None


async def test_those_who_search_at_once_share_a_refresh(client: SearchClient, prefix: str) -> None:
    # PROJ-13
    store, begun = await filled(client, prefix)
    before = client.statistics().asked
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(store.query, begun.collection)
    assert client.statistics().asked - before <= 20 + 3
    assert client.statistics().failed == 0


async def test_what_is_cancelled_leaves_nothing_behind(client: SearchClient, prefix: str) -> None:
    # PROJ-13: wherever it is cut; a connection that was given up serves nobody else
    store, begun = await filled(client, prefix)
    for steps in range(30):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.query, begun.collection)
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                scope.cancel()
        assert [key for key, _ in await store.query(begun.collection)] == ["a", "b"]
