"""Lists in pieces: where a page begins is a signed cursor, so nobody can write one (WEB-15)."""

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec
from quart import Response, request

from web.api.errors import bad_request, validation
from web.api.outcomes import ok
from web.server import FieldProblem, KeyRing

P = TypeVar("P")
R = TypeVar("R")

# What fits a screen, and what one query gives without anybody noticing.
PAGE_LIMIT = 20
# What a client may ask for at once: five screens.
PAGE_LIMIT_MAX = 100
# A position is a number or a name; with its signature still far below what an address may hold.
CURSOR_CHARS_MAX = 2048

_SIGNATURE_BYTES = 32
_LIMIT = re.compile("[0-9]{1,3}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Page(Generic[P]):
    """What a client asks for: at most `limit` items behind the position `after`; None: from first.

    Ask the store for `limit + 1`: `Pages.answer` sees by the one too many that there is more.
    """

    limit: int
    after: P | None


class Pages(Generic[P]):
    """Reads and answers the pages of one route; `position` is the type of where an item stands.

    A cursor holds for the path it was made for, and for ever: it is a place, and no right.
    """

    def __init__(self, ring: KeyRing, position: type[P]) -> None:
        self._key = ring.key("page cursor")
        self._decoder = msgspec.msgpack.Decoder(position)

    def read(self) -> Page[P]:
        """Call this for what the query says: `limit` (20, at most 100) and `after`.

        Another limit is answered 422, a cursor that was not made here for this path 400.
        """
        return Page(self._limit(), self._after())

    def answer(
        self,
        page: Page[P],
        rows: Sequence[R],
        position: Callable[[R], P],
        shown: Callable[[R], object] = lambda row: row,
    ) -> Response:
        """Call this with up to `limit + 1` rows: answers `items`, and `next` or null at the end.

        `position` tells where a row stands, `shown` how it is told.
        """
        kept = rows[: page.limit]
        after = self._cursor(position(kept[-1])) if len(rows) > page.limit else None
        return ok({"items": [shown(row) for row in kept], "next": after})

    def _limit(self) -> int:
        given = _only("limit")
        if given is None:
            return PAGE_LIMIT
        limit = int(given) if _LIMIT.fullmatch(given) else 0
        if not 1 <= limit <= PAGE_LIMIT_MAX:
            problem = f"must be a whole number from 1 to {PAGE_LIMIT_MAX}"
            raise validation(f"limit {problem}", [FieldProblem("limit", problem)])
        return limit

    def _after(self) -> P | None:
        given = _only("after")
        if given is None:
            return None
        try:
            if len(given) > CURSOR_CHARS_MAX:
                raise ValueError("too long")
            raw = base64.b64decode(given.encode("ascii"), altchars=b"-_", validate=True)
            if base64.urlsafe_b64encode(raw) != given.encode("ascii"):
                raise ValueError("spelled in another way than here")
            signature, place = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
            if not self._key.verifies(_signed(place), signature):
                raise ValueError("not signed here for this path")
            return self._decoder.decode(place)
        except (ValueError, binascii.Error, UnicodeEncodeError, msgspec.DecodeError) as error:
            raise bad_request("after is no cursor of this list") from error

    def _cursor(self, position: P) -> str:
        place = msgspec.msgpack.encode(position)
        found = base64.urlsafe_b64encode(self._key.sign(_signed(place)) + place).decode("ascii")
        assert len(found) <= CURSOR_CHARS_MAX, "a position is a number or a name"
        return found


def _signed(place: bytes) -> bytes:
    return request.path.encode() + b"\0" + place


def _only(name: str) -> str | None:
    given = request.args.getlist(name)
    if len(given) > 1:
        raise bad_request(f"{name} comes {len(given)} times in the query")
    return given[0] if given else None
