"""Read models in Redis, beside the books of a store that loses nothing (PROJ-12).

How a batch comes here stands in `storage/beside_books.py`.

One hash holds a generation's documents and tokens, so a server cannot lose some of them; a sorted
set beside it holds the keys in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID, uuid4

import msgspec

from actors.persistence import Checkpoint, Document, ProjectionStore
from actors.persistence.projections.store import check_documents
from storage.beside_books import BesideBooks, ReadModelLost, Redo
from storage.redis.client import RedisClient
from storage.redis.codec import Part, Reply
from storage.redis.words import Script

PREFIX = "greenroom:model:"

# No key of a document has a NUL: the tokens are beside the documents, and are none.
_MARK = "\x00"

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


class _Stored(msgspec.Struct, frozen=True):
    document: dict[str, object]


class RedisProjections(BesideBooks):
    """The port `ProjectionStore` on a `RedisClient`, with `books` that keep the checkpoints.

    Two sites on one server need a `prefix` each.
    """

    kind = "redis"

    def __init__(
        self,
        client: RedisClient,
        books: ProjectionStore,
        *,
        prefix: str = PREFIX,
        ids: Callable[[], UUID] = uuid4,
    ) -> None:
        super().__init__(books, ids=ids)
        self._client, self._prefix = client, prefix

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

    async def _tokens(self, parts: Sequence[Checkpoint]) -> list[str] | None:
        fields = [_field(one.partition) for one in parts]
        found = _list(await self._client.run(_TOKENS, self._keys(parts[0].collection), *fields))
        return [_text(one) for one in found] if found else None

    async def _begin(self, parts: Sequence[Checkpoint], stale: Sequence[str] | None) -> None:
        collection = parts[0].collection
        # First: what is not told of here is never removed.
        await self._client.call("SADD", f"{self._prefix}all", collection)
        told = "" if stale is None else "".join(f"/{one}" for one in stale)
        fields = [_field(one.partition) for one in parts]
        await self._client.run(_BEGIN, self._keys(collection), told, *fields)

    async def _write(self, collection: str, partition: int, redo: Redo) -> bool:
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
        if told == -1:
            raise ReadModelLost(collection)
        return told == 1

    async def _read(self, collection: str, keys: Sequence[str]) -> dict[str, Document]:
        answer = await self._client.call("HMGET", self._documents(collection), _MARK, *keys)
        mark, *found = _list(answer)
        if mark is None:
            await self._check_lost(collection)
        return {
            key: _document(text) for key, text in zip(keys, found, strict=True) if text is not None
        }

    async def _is_there(self, collection: str, key: str) -> bool:
        if await self._client.call("HEXISTS", self._documents(collection), key):
            return True
        await self._read(collection, [])
        return False

    async def _remove_some(self, collection: str, limit: int) -> int:
        removed = await self._client.run(_REMOVE, self._keys(collection), limit)
        assert isinstance(removed, int), removed
        return removed

    async def _remove_whole(self, collection: str) -> None:
        await self._client.call("UNLINK", *self._keys(collection))
        await self._client.call("SREM", f"{self._prefix}all", collection)

    async def _collections(self) -> list[str]:
        return sorted(map(_text, _list(await self._client.call("SMEMBERS", f"{self._prefix}all"))))

    def _documents(self, collection: str) -> str:
        return f"{self._prefix}documents:{collection}"

    def _keys(self, collection: str) -> tuple[Part, ...]:
        return (self._documents(collection), f"{self._prefix}keys:{collection}")


def _range(prefix: bytes, after: bytes | None) -> tuple[bytes, bytes]:
    """The ends of a range of keys, as a server is told them; UTF-8 has no byte 255 to end in."""
    low = b"[" + prefix if prefix else b"-"
    if after is not None and after >= prefix:
        low = b"(" + after
    return low, b"(" + prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else b"+"


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
