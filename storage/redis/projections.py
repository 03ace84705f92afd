"""Read models in Redis, beside the books of a store that loses nothing (PROJ-12).

The documents are here. Checkpoints, parked events and who has been forgotten stay in the *books*,
another `ProjectionStore`: PostgreSQL's. A commit is the books': with the checkpoint they keep what
the batch writes, until the next batch. Then one script writes it here, with a token of its own, and
only over the token of the batch before. Whoever was killed in between left a batch that is in the
books alone: the next look at the checkpoints, by whomever, writes it here before it tells of it.

Rule 1: no checkpoint is told before its documents are here.
Rule 2: a token that is neither the last one of the books nor the one before says that documents are
missing: a server that was emptied, or went back to an old copy. Its generation is outdated then,
which has its runner build another one, and until that serves its documents cannot be read.
Rule 3: a token is read before the books and after them: one that has moved meanwhile is no loss.

One hash holds a generation's documents and tokens, so a server cannot lose some of them; a sorted
set beside it holds the keys in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import msgspec

from actors.persistence import (
    Checkpoint,
    Document,
    GenerationState,
    ProjectionBatch,
    ProjectionStore,
    StoreUnavailable,
    WritesRefused,
)
from actors.persistence.event_store import check_limit
from actors.persistence.projections.projection import check_key, encoded, is_key, projection_of
from actors.persistence.projections.store import (
    RETIRED_KEPT,
    InFrontOfProjections,
    check_documents,
    serves,
)
from actors.persistence.words import check_a, check_list, split_name
from storage.redis.client import RedisClient
from storage.redis.codec import Part, Reply
from storage.redis.words import Script

PREFIX = "greenroom:model:"

# No key of a document has a NUL: the tokens are beside the documents, and are none.
_MARK = "\x00"
# A look that is overtaken so often looks at a generation that is filled: nothing is lost there.
_LOOKS_MAX = 5

_TOKENS = Script("""
local mark = redis.call('HGET', KEYS[1], '\\0')
if not mark or not redis.call('ZSCORE', KEYS[2], '\\0') then return {} end
return redis.call('HMGET', KEYS[1], unpack(ARGV))
""")

# Also over what is left of another life, whose tokens are told: of no generation in the books.
_BEGIN = Script("""
local stale = redis.call('HMGET', KEYS[1], unpack(ARGV, 2))
local told = ''
for _, token in ipairs(stale) do told = told .. '/' .. (token or '') end
local is_whole = redis.call('HEXISTS', KEYS[1], '\\0') == 1
    and redis.call('ZSCORE', KEYS[2], '\\0')
if is_whole and told ~= ARGV[1] then return 0 end
redis.call('UNLINK', KEYS[1], KEYS[2])
redis.call('HSET', KEYS[1], '\\0', '1')
redis.call('ZADD', KEYS[2], 0, '\\0')
return 1
""")

# 1: it is written now; 0: it was, or more than it; -1: there is nothing that it could follow.
_APPLY = Script("""
if redis.call('HEXISTS', KEYS[1], '\\0') == 0 or not redis.call('ZSCORE', KEYS[2], '\\0') then
    return -1
end
local field, before, token, cursor = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if (redis.call('HGET', KEYS[1], field) or '') ~= before then return 0 end
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local head = '{"_cursor":"' .. cursor .. '","_updated_at":' .. now .. ',"document":'
-- First what a full server refuses: behind any other write it would let it pass.
redis.call('HSET', KEYS[1], field, token)
for at = 5, #ARGV, 2 do
    if ARGV[at + 1] == '' then
        redis.call('HDEL', KEYS[1], ARGV[at])
        redis.call('ZREM', KEYS[2], ARGV[at])
    else
        redis.call('HSET', KEYS[1], ARGV[at], head .. ARGV[at + 1] .. '}')
        redis.call('ZADD', KEYS[2], 0, ARGV[at])
    end
end
return 1
""")

_QUERY = Script("""
if redis.call('HEXISTS', KEYS[1], '\\0') == 0 or not redis.call('ZSCORE', KEYS[2], '\\0') then
    return false
end
local limit, found = tonumber(ARGV[3]), {}
for _, key in ipairs(redis.call('ZRANGEBYLEX', KEYS[2], ARGV[1], ARGV[2], 'LIMIT', 0, limit + 1)) do
    if key ~= '\\0' and #found < limit * 2 then
        found[#found + 1] = key
        found[#found + 1] = redis.call('HGET', KEYS[1], key)
    end
end
return found
""")

_REMOVE = Script("""
local removed = 0
for _, key in ipairs(redis.call('ZRANGE', KEYS[2], 0, tonumber(ARGV[1]))) do
    if key ~= '\\0' and removed < tonumber(ARGV[1]) then
        redis.call('HDEL', KEYS[1], key)
        redis.call('ZREM', KEYS[2], key)
        removed = removed + 1
    end
end
return removed
""")


class ReadModelLost(StoreUnavailable):
    """Raised for a generation whose documents the server has lost; nothing was read or written.

    Its runner builds another one, which serves as soon as it has caught up: ask again then.
    """

    code = "read_model_lost"

    def __init__(self, collection: str) -> None:
        super().__init__(f"{collection} was lost and is built anew", nothing_written=True)
        self.collection = collection


class _Redo(msgspec.Struct, frozen=True):
    """What a batch writes, as the books keep it until the next one; None removes."""

    token: str
    before: str
    revision: int
    cursor: str
    writes: dict[str, str | None]


class _Stored(msgspec.Struct, frozen=True):
    document: dict[str, object]


class RedisProjections(InFrontOfProjections):
    """The port `ProjectionStore` on a `RedisClient`, with `books` that keep the checkpoints.

    Two sites on one server need a `prefix` each. A generation that was filled without Redis is one
    whose documents are missing here: it is built anew. `statements` are the books'.

    What was made of a forgotten subject's fields and serves nobody is removed by the next look at
    the checkpoints, of which a runner has one a second.
    """

    def __init__(
        self,
        client: RedisClient,
        books: ProjectionStore,
        *,
        prefix: str = PREFIX,
        ids: Callable[[], UUID] = uuid4,
    ) -> None:
        super().__init__(books)
        self._client, self._prefix, self._ids = client, prefix, ids
        # By collection and part: a revision of the books, and the token that it has here. As many
        # as there are generations; `_drop` forgets one.
        self._known: dict[tuple[str, int], tuple[int, str]] = {}

    async def open(
        self,
        projection: str,
        generation: int,
        version: int,
        state: GenerationState,
        partition: int = 0,
    ) -> Checkpoint:
        """See `ProjectionStore.open`."""
        opened = await self.behind.open(projection, generation, version, state, partition)
        for one in await self._look(projection, opening=generation):
            if (one.generation, one.partition) == (generation, partition):
                return one
        return opened

    async def checkpoints(self, projection: str) -> Sequence[Checkpoint]:
        """See `ProjectionStore.checkpoints`."""
        return await self._look(projection)

    async def commit(self, batch: ProjectionBatch) -> bool:
        """See `ProjectionStore.commit`; raises `ReadModelLost` too."""
        check_a("batch", batch, ProjectionBatch)
        begun = batch.checkpoint
        writes = _checked(batch)
        before = await self._token_of(begun)
        redo = _Redo(
            f"{begun.revision + 1}:{self._ids().hex}",
            before,
            begun.revision + 1,
            f"{batch.reached.txid}-{batch.reached.position}",
            writes,
        )
        kept: dict[str, Document | None] = {_redo_key(begun.partition): msgspec.to_builtins(redo)}
        if not await self.behind.commit(replace(batch, documents=kept)):
            return False
        # Cancelled or killed from here on, the next look does it.
        if not await self._apply(begun.collection, begun.partition, redo):
            raise ReadModelLost(begun.collection)
        return True

    async def swap(self, projection: str, generation: int) -> None:
        """See `ProjectionStore.swap`; one that was lost cannot be made live either."""
        known = await self._look(projection)
        if any(one.generation == generation and one.is_outdated for one in known):
            return
        await self.behind.swap(projection, generation)
        # Killed before it, `purge` does it.
        for one in known:
            if serves(one) and one.is_outdated and one.generation != generation:
                await self._drop(one.collection)

    async def purge(self, limit: int = 1000, *, older_than: timedelta = RETIRED_KEPT) -> int:
        """See `ProjectionStore.purge`."""
        check_limit(limit)
        before = await self._redo_count()
        # One row says which there is no way back to; what a batch left in the books is no row.
        rows = await self.behind.purge(1, older_than=older_than)
        gone = rows - before + (now := await self._redo_count())
        for collection in await self._collections():
            if gone < limit and await self._is_over(collection):
                gone += await self._remove(collection, limit - gone)
        if gone < limit:
            rows = await self.behind.purge(limit - gone, older_than=older_than)
            gone += rows - now + await self._redo_count()
        return gone

    async def _remove(self, collection: str, limit: int) -> int:
        removed = await self._client.run(_REMOVE, self._keys(collection), limit)
        assert isinstance(removed, int), removed
        if removed < limit:
            await self._drop(collection)
        return removed

    async def _is_over(self, collection: str) -> bool:
        """Whether there is no way back to a generation, or nobody knows of it any more."""
        return _is_left(await self._kept_of(collection))

    async def _redo_count(self) -> int:
        count = 0
        for collection in await self._collections():
            parts = await self._kept_of(collection)
            if parts and parts[0].state is GenerationState.RETIRED:
                count += sum(redo is not None for redo in await self._redos(parts))
        return count

    async def _kept_of(self, collection: str) -> list[Checkpoint]:
        """What the books say of a generation, by its collection's name."""
        name, generation = projection_of(collection)
        known = await self.behind.checkpoints(name) if name else []
        return [one for one in known if one.generation == generation]

    # The documents.

    async def get(self, collection: str, key: str) -> Document | None:
        """See `ProjectionStore.get`; raises `ReadModelLost` too, as do the others that read."""
        check_documents(collection)
        return (await self._read(collection, [key] if is_key(key) else [])).get(key)

    async def get_many(self, collection: str, keys: Sequence[str]) -> Mapping[str, Document]:
        """See `ProjectionStore.get_many`."""
        check_documents(collection)
        check_list("keys", keys)
        return await self._read(collection, [key for key in keys if is_key(key)])

    async def exists(self, collection: str, key: str) -> bool:
        """See `ProjectionStore.exists`."""
        check_documents(collection)
        if not is_key(key):
            return False
        if await self._client.call("HEXISTS", self._documents(collection), key):
            return True
        await self._read(collection, [])
        return False

    async def query(
        self, collection: str, *, prefix: str = "", after: str | None = None, limit: int = 100
    ) -> Sequence[tuple[str, Document]]:
        """See `ProjectionStore.query`."""
        check_documents(collection, prefix, after, limit)
        low, high = _range(prefix.encode(), None if after is None else after.encode())
        found = await self._client.run(_QUERY, self._keys(collection), low, high, limit)
        if found is None:
            await self._check_lost(collection)
            return []
        told = _list(found)
        pairs = zip(told[::2], told[1::2], strict=True)
        return [(_text(key), _document(text)) for key, text in pairs]

    async def tenants(
        self, collection: str, *, after: str | None = None, limit: int = 100
    ) -> Sequence[str]:
        """See `ProjectionStore.tenants`."""
        check_documents(collection, after=after, limit=limit)
        found = list[str]()
        for one in await self._collections():
            tenant, own = split_name(one)
            if tenant is None or own != collection or (after is not None and tenant <= after):
                continue
            if len(found) < limit and await self.query(one, limit=1):
                found.append(tenant)
        return found

    # What is here, and what the books say.

    async def _look(self, projection: str, *, opening: int | None = None) -> list[Checkpoint]:
        """The checkpoints of the books, once their documents are here; see the rules above."""
        told = list[Checkpoint]()
        known = await self.behind.checkpoints(projection)
        for generation in sorted({one.generation for one in known}):
            parts = [one for one in known if one.generation == generation]
            if _is_left(parts):
                await self._remove_forgotten(parts)
                told += parts
                continue
            is_whole = await self._is_whole(parts, is_opened=generation == opening)
            if not is_whole:
                parts = await self._given_up(parts)
            told += parts
        return told

    async def _given_up(self, parts: Sequence[Checkpoint]) -> list[Checkpoint]:
        """The checkpoints of a lost generation; one that was being built is never completed."""
        lost = [replace(one, is_outdated=True) for one in parts]
        if lost[0].state is not GenerationState.BUILDING:
            return lost
        # As one is that was outdated by a forgotten subject: whoever begins one begins another.
        retired = GenerationState.RETIRED
        await self.behind.set_state(lost[0].projection, lost[0].generation, retired)
        return [replace(one, state=retired) for one in lost]

    async def _remove_forgotten(self, parts: Sequence[Checkpoint]) -> None:
        """Remove what was made of a forgotten subject's fields, as the books have removed it.

        That moved its checkpoint without a batch. What is merely old is removed in pieces.
        """
        tokens = await self._tokens(parts) or []
        if any(
            int(token.partition(":")[0] or 0) != part.revision
            for part, token in zip(parts, tokens, strict=False)
        ):
            await self._drop(parts[0].collection)

    async def _is_whole(self, parts: Sequence[Checkpoint], *, is_opened: bool = False) -> bool:
        """Whether a generation is here as its checkpoints say, or could be completed."""
        collection = parts[0].collection
        for _ in range(_LOOKS_MAX):
            tokens = await self._tokens(parts)
            if tokens is not None and self._are_known(parts, tokens):
                return True
            redos = await self._redos(parts)
            if tokens != await self._tokens(parts):
                continue
            fresh = [
                redo is None and part.revision == 0 for part, redo in zip(parts, redos, strict=True)
            ]
            is_unbegun = all(
                is_fresh or (redo is not None and not redo.before)
                for is_fresh, redo in zip(fresh, redos, strict=True)
            )
            if tokens is None and is_unbegun:
                # Nothing was here yet but what the books have still.
                await self._begin(parts, None)
                continue
            if tokens is None:
                return False
            if is_opened and all(fresh) and any(tokens):
                # Another life's: these books begin it now.
                await self._begin(parts, tokens)
                continue
            return await self._is_completed(collection, parts, redos, tokens)
        return True

    async def _is_completed(
        self,
        collection: str,
        parts: Sequence[Checkpoint],
        redos: Sequence[_Redo | None],
        tokens: Sequence[str],
    ) -> bool:
        for part, redo, token in zip(parts, redos, tokens, strict=True):
            if redo is None:
                if token or part.revision:
                    return False
                self._known[collection, part.partition] = (0, "")
            elif token == redo.token:
                self._known[collection, part.partition] = (redo.revision, token)
            elif token != redo.before or not await self._apply(collection, part.partition, redo):
                return False
        return True

    def _are_known(self, parts: Sequence[Checkpoint], tokens: Sequence[str]) -> bool:
        return all(
            self._known.get((one.collection, one.partition)) == (one.revision, token)
            for one, token in zip(parts, tokens, strict=True)
        )

    async def _token_of(self, checkpoint: Checkpoint) -> str:
        """The token that a batch from there on follows; raises `ReadModelLost`."""
        place = (checkpoint.collection, checkpoint.partition)
        tokens = await self._tokens([checkpoint])
        if tokens is None or self._known.get(place) != (checkpoint.revision, tokens[0]):
            mine = await self._kept_of(checkpoint.collection)
            if mine and not await self._is_whole(mine):
                raise ReadModelLost(checkpoint.collection)
        return self._known.get(place, (0, ""))[1]

    async def _tokens(self, parts: Sequence[Checkpoint]) -> list[str] | None:
        """The token of each part, empty before its first batch; None for what is not here."""
        fields = [_field(one.partition) for one in parts]
        found = _list(await self._client.run(_TOKENS, self._keys(parts[0].collection), *fields))
        return [_text(one) for one in found] if found else None

    async def _redos(self, parts: Sequence[Checkpoint]) -> list[_Redo | None]:
        keys = [_redo_key(one.partition) for one in parts]
        found = await self.behind.get_many(parts[0].collection, keys)
        return [msgspec.convert(found[key], _Redo) if key in found else None for key in keys]

    async def _begin(self, parts: Sequence[Checkpoint], stale: Sequence[str] | None) -> None:
        collection = parts[0].collection
        # First: what is not told of here is never removed.
        await self._client.call("SADD", f"{self._prefix}all", collection)
        told = "" if stale is None else "".join(f"/{one}" for one in stale)
        fields = [_field(one.partition) for one in parts]
        await self._client.run(_BEGIN, self._keys(collection), told, *fields)

    async def _apply(self, collection: str, partition: int, redo: _Redo) -> bool:
        """Write a batch of the books here, once; False when what it follows is not here."""
        written: list[Part] = []
        for key, text in redo.writes.items():
            written += [key, text or ""]
        told = await self._client.run(
            _APPLY,
            self._keys(collection),
            _field(partition),
            redo.before,
            redo.token,
            redo.cursor,
            *written,
        )
        if told == 1:
            self._known[collection, partition] = (redo.revision, redo.token)
        return told != -1

    async def _read(self, collection: str, keys: Sequence[str]) -> dict[str, Document]:
        answer = await self._client.call("HMGET", self._documents(collection), _MARK, *keys)
        mark, *found = _list(answer)
        if mark is None:
            await self._check_lost(collection)
        return {
            key: _document(text) for key, text in zip(keys, found, strict=True) if text is not None
        }

    async def _check_lost(self, collection: str) -> None:
        """Raise `ReadModelLost` for a generation that is not here and should be."""
        kept = await self._kept_of(collection)
        if not _is_left(kept) and any(one.revision for one in kept):
            raise ReadModelLost(collection)

    async def _drop(self, collection: str) -> None:
        for place in [one for one in self._known if one[0] == collection]:
            del self._known[place]
        await self._client.call("UNLINK", *self._keys(collection))
        await self._client.call("SREM", f"{self._prefix}all", collection)

    async def _collections(self) -> list[str]:
        return sorted(map(_text, _list(await self._client.call("SMEMBERS", f"{self._prefix}all"))))

    def _documents(self, collection: str) -> str:
        return f"{self._prefix}documents:{collection}"

    def _keys(self, collection: str) -> tuple[Part, ...]:
        return (self._documents(collection), f"{self._prefix}keys:{collection}")


def _is_left(parts: Sequence[Checkpoint]) -> bool:
    """Whether there is no way back to a generation, as the books say; also to an unknown one."""
    return all(one.state is GenerationState.RETIRED and one.is_outdated for one in parts)


def _checked(batch: ProjectionBatch) -> dict[str, str | None]:
    """What is to be written, as JSON; what no store can keep is refused before any I/O."""
    try:
        for key in batch.documents:
            check_key(key)
        return {
            key: None if one is None else encoded(one).decode()
            for key, one in batch.documents.items()
        }
    except (TypeError, ValueError) as error:
        raise WritesRefused(batch.checkpoint.collection, error) from error


def _range(prefix: bytes, after: bytes | None) -> tuple[bytes, bytes]:
    """The ends of a range of keys, as a server is told them; UTF-8 has no byte 255 to end in."""
    low = b"[" + prefix if prefix else b"-"
    if after is not None and after >= prefix:
        low = b"(" + after
    return low, b"(" + prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else b"+"


def _redo_key(partition: int) -> str:
    return f"redis:{partition}"


def _field(partition: int) -> str:
    return f"{_MARK}{partition}"


def _list(reply: Reply) -> list[Reply]:
    assert isinstance(reply, list), reply
    return reply


def _text(reply: Reply) -> str:
    assert reply is None or isinstance(reply, bytes), reply
    return "" if reply is None else reply.decode()


def _document(reply: Reply) -> Document:
    assert isinstance(reply, bytes), reply
    return msgspec.json.decode(reply, type=_Stored).document
