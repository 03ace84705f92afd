"""What a search server answers, as far as anything of it is asked for."""

from __future__ import annotations

import msgspec


class ErrorTold(msgspec.Struct, frozen=True):
    type: str = "without a word"


class Refusal(msgspec.Struct, frozen=True):
    """An answer with an error, or a part of one; old servers tell some of them as a text."""

    error: ErrorTold | str | None = None

    @property
    def kind(self) -> str:
        """The class of an error, which quotes nothing."""
        return self.error.type if isinstance(self.error, ErrorTold) else "without a word"


class Version(msgspec.Struct, frozen=True):
    number: str
    # Elasticsearch was there first, and does not say what it is.
    distribution: str = "elasticsearch"


class Root(msgspec.Struct, frozen=True):
    version: Version


class Source(msgspec.Struct, frozen=True):
    """What an index of ours has."""

    kind: str
    key: str = ""
    token: str = ""
    document: dict[str, object] | None = None


class Got(Refusal, frozen=True, kw_only=True, rename={"id_": "_id", "source": "_source"}):
    id_: str
    found: bool = False
    source: Source | None = None


class AllGot(msgspec.Struct, frozen=True):
    docs: list[Got]


class Hit(msgspec.Struct, frozen=True, rename={"source": "_source"}):
    source: Source
    sort: list[int | str]


class Hits(msgspec.Struct, frozen=True):
    hits: list[Hit]


class Searched(msgspec.Struct, frozen=True):
    hits: Hits


class Item(Refusal, frozen=True):
    status: int = 0


class Bulk(msgspec.Struct, frozen=True):
    errors: bool
    items: list[dict[str, Item]]


class Shards(msgspec.Struct, frozen=True):
    failed: int


class Refreshed(msgspec.Struct, frozen=True, rename={"shards": "_shards"}):
    shards: Shards


class Meta(msgspec.Struct, frozen=True):
    collection: str | None = None
    prefix: str = ""


class Mappings(msgspec.Struct, frozen=True, rename={"meta": "_meta"}):
    meta: Meta = Meta()


class Index(msgspec.Struct, frozen=True):
    mappings: Mappings = Mappings()
