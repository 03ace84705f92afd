"""What is sent to a search server, and what an index of ours is: pure.

An index is a generation's. It is asked for by an alias, and named beside it, so that nothing is
written to one that was removed: a server would make it anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256

import msgspec

# As a server's own lines are; a document alone may be longer.
BULK_ITEMS_MAX, BULK_BYTES_MAX = 500, 5 * 1024 * 1024

_PLAIN = re.compile(r"[a-z0-9_.]{1,100}", re.ASCII)
_OTHER = re.compile(r"[^a-z0-9_.]", re.ASCII)

DOCUMENT, REMOVED, REFUSED, TOKEN = "document", "removed", "refused", "token"
IS_DOCUMENT = {"term": {"kind": DOCUMENT}}
_KEPT_ONLY = {"type": "keyword", "index": False, "doc_values": False}


def alias_of(prefix: str, collection: str) -> str:
    """Call this for the name by which an index is asked for; no two collections have one.

    A server takes no capitals, and few signs.
    """
    if _PLAIN.fullmatch(collection):
        return prefix + collection
    slug = _OTHER.sub("", collection.lower())[:50]
    return f"{prefix}{slug}-{sha256(collection.encode()).hexdigest()[:32]}"


def index_of(alias: str, number: int) -> str:
    """Call this for the name of an index; numbers count those that had to be begun anew."""
    return f"{alias}-n{number}"


def number_of(index: str) -> int:
    """Call this for the number of an index of ours."""
    return int(index.rpartition("-n")[2])


def id_of(key: str) -> str:
    """Call this for a document's id: a server's are shorter than keys may be."""
    return sha256(key.encode()).hexdigest()


def token_id(partition: int) -> str:
    """Call this for the id of a part's token, which is no document's."""
    return f"token-{partition}"


def made(alias: str, meta: Mapping[str, str], *, is_found: bool) -> dict[str, object]:
    """Call this for the body that makes an index; `is_found` by its alias.

    `meta` is what says whose it is. Nothing is guessed from documents: what is searched is written
    beside each, as texts, filters and a number, so that a value of another kind is refused before
    the server sees it.
    """
    return {
        "settings": {"index": {"number_of_shards": 1}},
        "aliases": {alias: {}} if is_found else {},
        "mappings": {
            "dynamic": "strict",
            "_meta": meta,
            "properties": {
                "key": {"type": "keyword"},
                "kind": {"type": "keyword"},
                "token": _KEPT_ONLY,
                "_cursor": _KEPT_ONLY,
                "_updated_at": {"type": "date", "format": "epoch_millis"},
                "document": {"type": "object", "enabled": False},
                "texts": {"type": "text"},
                "filters": {"type": "keyword"},
                "order": {"type": "long"},
            },
        },
    }


def bulk_lines(
    items: Sequence[tuple[str, Mapping[str, object]]], version: int
) -> Iterator[tuple[Sequence[str], bytes]]:
    """Call this for the pieces of a `_bulk`, each with the keys of its items.

    Of each document the highest version stays, whoever comes when.
    """
    keys, lines, size = list[str](), list[bytes](), 0
    for key, source in items:
        action = {"_id": id_of(key), "version": version, "version_type": "external"}
        line = msgspec.json.encode({"index": action}) + b"\n" + msgspec.json.encode(source) + b"\n"
        if keys and (len(keys) >= BULK_ITEMS_MAX or size + len(line) > BULK_BYTES_MAX):
            yield keys, b"".join(lines)
            keys, lines, size = [], [], 0
        keys.append(key)
        lines.append(line)
        size += len(line)
    if keys:
        yield keys, b"".join(lines)


def removals(keys: Sequence[str]) -> bytes:
    """Call this for the lines of a `_bulk` that removes documents."""
    return b"".join(msgspec.json.encode({"delete": {"_id": id_of(key)}}) + b"\n" for key in keys)


def by_key(prefix: str, after: str | None, limit: int) -> dict[str, object]:
    """Call this for the question after documents in the order of their keys."""
    filters: list[object] = [IS_DOCUMENT]
    if prefix:
        filters.append({"prefix": {"key": prefix}})
    if after is not None:
        filters.append({"range": {"key": {"gt": after}}})
    return _asked(filters, [{"key": "asc"}], limit)


def by_words(
    text: str, filters: Sequence[str], after: tuple[int, str] | None, limit: int
) -> dict[str, object]:
    """Call this for the question after documents with words.

    A `match` has no language of its own: whatever a person types are words.
    """
    wanted: list[object] = [IS_DOCUMENT]
    wanted += [{"term": {"filters": one}} for one in filters]
    if text:
        match = {"query": text, "operator": "and", "zero_terms_query": "none"}
        wanted.append({"match": {"texts": match}})
    asked = _asked(wanted, [{"order": "desc"}, {"key": "asc"}], limit)
    if after is not None:
        asked["search_after"] = list(after)
    return asked


def _asked(filters: Sequence[object], order: Sequence[object], limit: int) -> dict[str, object]:
    return {
        "query": {"bool": {"filter": filters}},
        "sort": order,
        "size": limit,
        "track_total_hits": False,
    }
