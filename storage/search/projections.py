"""Read models in OpenSearch or Elasticsearch, found by words (PROJ-13).

How a batch comes here stands in `storage/beside_books.py`. An index holds a generation's documents
and tokens. Each has the version of its batch, the revision of the checkpoint, and a server keeps
the highest: who comes late, or comes again, is told that a newer one is there, and has done enough.
A position would not do: what was parked is applied without moving it.

Rule 1: a document that is removed leaves a mark with its version. A server forgets the version of
what is really removed after a minute, and a late batch would bring it back.
Rule 2: a document that is there for who asks by its key is there for who searches: an index is
refreshed before it is searched, once for all who ask meanwhile.
Rule 3: a document that the server refuses for good, as `SearchFields` has not, stops nothing: it
stands in the dead letters, and readers find none.

Beside the generations there is a name for those who are no program of ours: `PREFIX` and the
projection's name lead to what serves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

import msgspec
import trio

from actors.persistence import Checkpoint, Document, NewDeadLetter, ProjectionBatch, ProjectionStore
from actors.persistence.projections.projection import projection_of
from actors.persistence.projections.searching import (
    Found,
    Place,
    SearchFields,
    check_question,
    searchable,
)
from actors.persistence.projections.store import check_documents, serves
from actors.persistence.words import split_name
from actors.runtime import Log
from storage.beside_books import BesideBooks, ReadModelLost, Redo
from storage.search.answers import AllGot, Bulk, Hit, Index, Refreshed, Searched, Source
from storage.search.client import SearchClient, failure, kind_of
from storage.search.questions import (
    DOCUMENT,
    IS_DOCUMENT,
    REFUSED,
    REMOVED,
    TOKEN,
    alias_of,
    bulk_lines,
    by_key,
    by_words,
    id_of,
    index_of,
    made,
    number_of,
    removals,
    token_id,
)

PREFIX = "greenroom-"
# What one question for documents by their keys names.
_KEYS_MAX = 1000
# How often an index that is being made, or that moves, is asked again, and after how long.
READY_TRIES, READY_S = 20, 0.05
# Others may move a checkpoint meanwhile: a letter is for the next one then.
_LETTER_TRIES = 5
_NO_FIELDS = SearchFields(())
# An error of these says that the index is not there, or that only its name is.
_MISSING = frozenset({"index_not_found_exception", "alias_not_found_exception"})
# Not every copy is there: what is told would be a part of what there is.
# Without, a server would make an index of whatever it is given.
_BY_ALIAS = {"require_alias": "true"}
_WHOLE = {"allow_partial_search_results": "false"}

_log = Log("storage.search")


def _token(source: Source | None) -> str:
    return "" if source is None else source.token


def _utc_now() -> datetime:
    return datetime.now(UTC)


class _Refreshing:
    """Who asks for a refresh while one is under way waits for the next one, together."""

    def __init__(self) -> None:
        self.lock, self.asked, self.done = trio.Lock(), 0, 0


class SearchProjections(BesideBooks):
    """The port `ProjectionStore` on a `SearchClient`, with `books` that keep the checkpoints.

    `fields` say by the projection's name what is searched; of others documents are found by their
    keys alone. Two sites on one server need a `prefix` each: small letters, and a `-` at its end.
    """

    kind = "search"

    def __init__(
        self,
        client: SearchClient,
        books: ProjectionStore,
        fields: Mapping[str, SearchFields] | None = None,
        *,
        prefix: str = PREFIX,
        ids: Callable[[], UUID] = uuid4,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        super().__init__(books, ids=ids)
        self._client, self._prefix, self._now = client, prefix, now
        self._fields = dict(fields or {})
        # One for each generation that is searched.
        self._refreshing: dict[str, _Refreshing] = {}
        # By projection: the generation that the name for others leads to, as far as is known.
        self._pointed: dict[str, str] = {}

    # The port.

    async def query(
        self, collection: str, *, prefix: str = "", after: str | None = None, limit: int = 100
    ) -> Sequence[tuple[str, Document]]:
        """See `ProjectionStore.query`."""
        check_documents(collection, prefix, after, limit)
        hits = await self._search(collection, by_key(prefix, after, limit))
        return [(one.source.key, one.source.document or {}) for one in hits]

    async def search(
        self,
        collection: str,
        text: str = "",
        *,
        filters: Mapping[str, str] | None = None,
        after: Place | None = None,
        limit: int = 20,
    ) -> Sequence[Found]:
        """See `ReadModelSearch.search`."""
        fields = self._fields_of(collection)
        asked = check_question(fields, collection, text, filters or {}, after, limit)
        hits = await self._search(collection, by_words(text, asked, after, limit))
        found = list[Found]()
        for one in hits:
            order, key = one.sort
            place = (int(order), str(key))
            found.append(Found(one.source.key, one.source.document or {}, place))
        return found

    async def swap(self, projection: str, generation: int) -> None:
        """See `ProjectionStore.swap`."""
        await super().swap(projection, generation)
        await self._look(projection)

    async def _look(self, projection: str, *, opening: int | None = None) -> list[Checkpoint]:
        told = await super()._look(projection, opening=opening)
        serving = [one.collection for one in told if serves(one) and not one.is_outdated]
        if serving and self._pointed.get(projection) != serving[-1]:
            await self._point(projection, serving[-1])
        return told

    # What a server is asked.

    async def _tokens(self, parts: Sequence[Checkpoint]) -> list[str] | None:
        ids = [token_id(one.partition) for one in parts]
        found = await self._sources(parts[0].collection, ids)
        return None if found is None else [_token(found.get(id_)) for id_ in ids]

    async def _begin(self, parts: Sequence[Checkpoint], stale: Sequence[str] | None) -> None:
        collection = parts[0].collection
        alias = self._alias(collection)
        meta = {"collection": collection, "prefix": self._prefix}
        if stale is None:
            body = made(alias, meta, is_found=True)
            await self._make(index_of(alias, 0), body)
            return
        for old in await self._indices(alias):
            # Of however many who do this at once, one finds the old index still.
            new = index_of(alias, number_of(old) + 1)
            await self._make(new, made(alias, meta, is_found=False))
            change = [{"remove_index": {"index": old}}, {"add": {"index": new, "alias": alias}}]
            await self._client.told("POST", "/_aliases", {"actions": change})
        self._pointed.pop(parts[0].projection, None)

    async def _make(self, index: str, body: object) -> None:
        status, said = await self._client.told("PUT", f"/{index}", body)
        if status >= 400 and kind_of(said) != "resource_already_exists_exception":
            raise failure(status, kind_of(said))

    async def _write(self, collection: str, partition: int, redo: Redo) -> bool:
        found = await self._sources(collection, [token_id(partition)])
        if found is None:
            raise ReadModelLost(collection)
        if _token(found.get(token_id(partition))) != redo.before:
            return False
        refused = dict[str, str]()
        writes = redo.writes.items()
        items = [(key, self._source(collection, key, redo, text)) for key, text in writes]
        for keys, lines in bulk_lines(items, redo.revision):
            refused |= await self._bulk(collection, keys, lines)
        if refused:
            await self._set_aside(collection, partition, redo, refused)
        # Last of all: where it stands, everything does.
        await self._put_token(collection, partition, redo)
        return True

    async def _bulk(self, collection: str, keys: Sequence[str], lines: bytes) -> dict[str, str]:
        """Write these lines; gives the keys that were refused for good, and why."""
        path = f"/{self._alias(collection)}/_bulk"
        said = await self._client.ask("POST", path, lines, answer=Bulk, params=_BY_ALIAS)
        if said is None:
            raise ReadModelLost(collection)
        refused = dict[str, str]()
        for key, item in zip(keys, said.items if said.errors else (), strict=said.errors):
            [told] = item.values()
            # 409: there is one of this version, or a newer one.
            if told.status < 400 or told.status == 409:
                continue
            if told.kind in _MISSING:
                raise ReadModelLost(collection)
            error = failure(told.status, told.kind)
            if error.is_transient:
                raise error
            refused[key] = told.kind
        return refused

    async def _set_aside(
        self, collection: str, partition: int, redo: Redo, refused: Mapping[str, str]
    ) -> None:
        """Tell of documents that the server refuses, and put in each place that there is none."""
        _log.warning("search.documents_refused", collection=collection, count=len(refused))
        marks = [(key, self._mark(key, REFUSED, redo)) for key in refused]
        for keys, lines in bulk_lines(marks, redo.revision):
            for kind in (await self._bulk(collection, keys, lines)).values():
                raise failure(400, kind)
        letters = [
            NewDeadLetter(
                kind="projection",
                source=collection,
                message_id=id_of(key),
                error_message=f"the search server refuses the document {key}: {kind}",
            )
            for key, kind in refused.items()
        ]
        for _ in range(_LETTER_TRIES):
            for one in await self._kept_of(collection):
                if one.partition == partition and await self.behind.commit(
                    ProjectionBatch(one, one.cursor, letters=letters)
                ):
                    return

    async def _put_token(self, collection: str, partition: int, redo: Redo) -> None:
        version = {"version": str(redo.revision), "version_type": "external", **_BY_ALIAS}
        body = {"kind": TOKEN, "token": redo.token}
        path = f"/{self._alias(collection)}/_doc/{token_id(partition)}"
        status, said = await self._client.told("PUT", path, body, params=version)
        if kind_of(said) in _MISSING:
            raise ReadModelLost(collection)
        if status >= 400 and status != 409:
            raise failure(status, kind_of(said))

    async def _read(self, collection: str, keys: Sequence[str]) -> dict[str, Document]:
        read = dict[str, Document]()
        for begin in range(0, max(len(keys), 1), _KEYS_MAX):
            ids = {id_of(key): key for key in keys[begin : begin + _KEYS_MAX]}
            # One that is never there says whether the index is.
            found = await self._sources(collection, list(ids) or [token_id(0)])
            if found is None:
                await self._check_lost(collection)
                return {}
            read |= {
                ids[id_]: source.document
                for id_, source in found.items()
                if source.kind == DOCUMENT and source.document is not None
            }
        return read

    async def _remove_some(self, collection: str, limit: int) -> int:
        hits = await self._search(collection, by_key("", None, limit))
        keys = [one.source.key for one in hits]
        if len(keys) == limit:
            path = f"/{self._alias(collection)}/_bulk"
            await self._client.ask("POST", path, removals(keys), answer=Bulk, params=_BY_ALIAS)
        return len(keys)

    async def _remove_whole(self, collection: str) -> None:
        self._refreshing.pop(collection, None)
        self._pointed.pop(projection_of(collection)[0], None)
        for index in await self._indices(self._alias(collection)):
            await self._client.ask("DELETE", f"/{index}", answer=dict)

    async def _collections(self) -> list[str]:
        path = f"/{self._prefix}*/_mapping"
        told = await self._client.ask("GET", path, answer=dict[str, Index])
        metas = [one.mappings.meta for one in (told or {}).values()]
        # Another site's names may begin alike.
        mine = {one.collection for one in metas if one.prefix == self._prefix}
        return sorted(one for one in mine if one is not None)

    # Of one index.

    def _check(self, collection: str, document: Document) -> None:
        searchable(self._fields_of(collection), document)

    def _source(
        self, collection: str, key: str, redo: Redo, text: str | None
    ) -> Mapping[str, object]:
        if text is None:
            return self._mark(key, REMOVED, redo)
        found = searchable(self._fields_of(collection), msgspec.json.decode(text))
        return {
            **self._mark(key, DOCUMENT, redo),
            "document": msgspec.Raw(text.encode()),
            "texts": found.texts,
            "filters": found.filters,
            "order": found.order,
        }

    def _mark(self, key: str, kind: str, redo: Redo) -> dict[str, object]:
        written = int(self._now().timestamp() * 1000)
        return {"key": str(key), "kind": kind, "_cursor": redo.cursor, "_updated_at": written}

    def _fields_of(self, collection: str) -> SearchFields:
        name = projection_of(collection)[0]
        return self._fields.get(name) or self._fields.get(split_name(name)[1], _NO_FIELDS)

    def _alias(self, collection: str) -> str:
        return alias_of(self._prefix, collection)

    async def _sources(self, collection: str, ids: Sequence[str]) -> dict[str, Source] | None:
        """What stands under ids, as of this moment; None where there is no index."""
        path, tries = f"/{self._alias(collection)}/_mget", READY_TRIES
        while True:
            told = await self._client.ask("POST", path, {"ids": ids}, answer=AllGot)
            refusals = set() if told is None else {one.kind for one in told.docs if one.error}
            if told is None or refusals & _MISSING:
                return None
            if not refusals:
                return {one.id_: one.source for one in told.docs if one.source is not None}
            tries -= 1
            if not tries:
                raise failure(503, refusals.pop())
            # An index that somebody makes at this moment has a name, and no copy yet.
            await trio.sleep(READY_S)

    async def _search(self, collection: str, asked: Mapping[str, object]) -> list[Hit]:
        path = f"/{self._alias(collection)}"
        if await self._refresh(collection):
            path = f"{path}/_search"
            told = await self._client.ask("POST", path, asked, answer=Searched, params=_WHOLE)
            if told is not None:
                return told.hits.hits
        await self._check_lost(collection)
        return []

    async def _refresh(self, collection: str) -> bool:
        """Have all be found that was written before; False where there is no index."""
        one = self._refreshing.setdefault(collection, _Refreshing())
        one.asked += 1
        mine = one.asked
        async with one.lock:
            if one.done >= mine:
                return True
            until = one.asked
            path = f"/{self._alias(collection)}/_refresh"
            told = await self._client.ask("POST", path, answer=Refreshed)
            if told is None:
                return False
            if told.shards.failed:
                raise failure(503, "refresh")
            one.done = max(one.done, until)
        return True

    async def _indices(self, alias: str) -> list[str]:
        told = await self._client.ask("GET", f"/_alias/{alias}", answer=dict[str, object])
        return sorted(told or {})

    async def _point(self, projection: str, collection: str) -> None:
        """Have the name for others lead to a generation, and to no other, at once."""
        name = alias_of(self._prefix, projection)
        [new, *_] = await self._indices(self._alias(collection)) or [""]
        if not new:
            return
        old = [one for one in await self._indices(name) if one != new]
        actions: list[object] = [{"remove": {"index": one, "alias": name}} for one in old]
        actions.append({"add": {"index": new, "alias": name, "filter": IS_DOCUMENT}})
        # Refused when an index has gone meanwhile: the next look does it.
        status, said = await self._client.told("POST", "/_aliases", {"actions": actions})
        if status < 400:
            self._pointed[projection] = collection
        elif status != 404:
            raise failure(status, kind_of(said))
