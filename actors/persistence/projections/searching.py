"""Searching read models by words: what of a document is searched, and who answers.

Pure but for the port: a search server and a scan of any store ask these functions, so both refuse
the same documents and the same questions. How a server keeps it stands in `storage/search`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from actors.persistence.errors import InvalidField
from actors.persistence.projections.projection import Document
from actors.persistence.projections.store import check_documents
from actors.persistence.words import BIGINT_MAX, KEY_BYTES_MAX, check_integer, check_text

# A sentence; nobody types more into a field, and each of its words is looked up.
TEXT_CHARS_MAX = 200
# What a server keeps of a value to compare: longer ones are texts, and are searched by words.
FILTER_BYTES_MAX = 512
# What one question gives at most; a cursor asks for what is behind.
PAGE_MAX = 1000

# Where a document stands among those found: its number, and its key.
Place: TypeAlias = tuple[int, str]


@dataclass(frozen=True, slots=True)
class SearchFields:
    """What of a projection's documents is searched; each is a path, as `customer.name`.

    In `texts` by words; `filters` are compared whole. The greatest number in `order` comes first;
    without, documents come by their keys. A path through a list means all its items. Raise the
    projection's `version` when you change them: what is searched is written with the document.
    """

    texts: tuple[str, ...]
    filters: tuple[str, ...] = ()
    order: str = ""


@dataclass(frozen=True, slots=True)
class Searchable:
    """What a document is found by."""

    texts: tuple[str, ...]
    filters: tuple[str, ...]
    order: int


@dataclass(frozen=True, slots=True)
class Found:
    """A document that was found; the next page begins behind `place`."""

    key: str
    document: Document
    place: Place


class ReadModelSearch(Protocol):
    """Who finds documents of a read model by words."""

    async def search(
        self,
        collection: str,
        text: str = "",
        *,
        filters: Mapping[str, str] | None = None,
        after: Place | None = None,
        limit: int = 20,
    ) -> Sequence[Found]:
        """Call this for documents that have all words of a text, and these values.

        An empty text asks for all, one without any word for none; no sign in it means anything.
        The order is that of `SearchFields`, so what is written meanwhile moves no page. Raises
        `InvalidField` for a filter, a limit or a text that cannot be asked for.
        """
        ...


def searchable(fields: SearchFields, document: Document) -> Searchable:
    """Call this for what a document is found by; ValueError for one that cannot be searched so.

    That is a filter or a text that is no text or number, a filter that is too long, an order that
    is no whole number of 64 bits. What is missing or None is no value.
    """
    filters = list[str]()
    for path in fields.filters:
        filters += [filter_of(path, value) for value in _texts_at(path, document)]
    return Searchable(
        tuple(text for path in fields.texts for text in _texts_at(path, document)),
        tuple(dict.fromkeys(filters)),
        _order_of(fields.order, document),
    )


def filter_of(path: str, value: str) -> str:
    """Call this for how a value is compared, also in a question."""
    if len(value.encode()) > FILTER_BYTES_MAX:
        raise ValueError(f"{path} has more than {FILTER_BYTES_MAX} bytes, too long for a filter")
    return f"{path}={value}"


def check_question(
    fields: SearchFields,
    collection: str,
    text: str,
    filters: Mapping[str, str],
    after: Place | None,
    limit: int,
) -> tuple[str, ...]:
    """Call this before a question is asked, for its filters; raises `InvalidField`."""
    check_documents(collection, limit=limit)
    if limit > PAGE_MAX:
        raise InvalidField("limit", f"is over {PAGE_MAX}")
    check_text("text", text, TEXT_CHARS_MAX * 4)
    if len(text) > TEXT_CHARS_MAX:
        raise InvalidField("text", f"has more than {TEXT_CHARS_MAX} characters")
    if after is not None:
        order, key = after
        check_text("after", key, KEY_BYTES_MAX)
        check_integer("after", order, -BIGINT_MAX, BIGINT_MAX)
    asked = list[str]()
    for path, value in filters.items():
        if path not in fields.filters:
            raise InvalidField("filters", f"have no {path!r}, only {', '.join(fields.filters)}")
        check_text(path, value, FILTER_BYTES_MAX)
        asked.append(filter_of(path, value))
    return tuple(asked)


def _order_of(path: str, document: Document) -> int:
    values = list(_at(path.split("."), document)) if path else []
    values = [value for value in values if value is not None]
    if not values:
        return 0
    [order, *more] = values
    if more or not isinstance(order, int) or isinstance(order, bool):
        raise ValueError(f"{path} is no whole number, by which documents are ordered")
    if not -BIGINT_MAX <= order <= BIGINT_MAX:
        raise ValueError(f"{path} is no number of 64 bits")
    return order


def _texts_at(path: str, document: Document) -> Iterator[str]:
    for value in _at(path.split("."), document):
        match value:
            case None:
                continue
            case bool():
                yield "true" if value else "false"
            case str() | int() | float():
                yield str(value)
            case _:
                raise ValueError(f"{path} is a {type(value).__name__}, and cannot be searched")


def _at(names: Sequence[str], value: object) -> Iterator[object]:
    if isinstance(value, (list, tuple)):
        for one in value:
            yield from _at(names, one)
    elif not names:
        yield value
    elif isinstance(value, Mapping) and names[0] in value:
        yield from _at(names[1:], value[names[0]])
