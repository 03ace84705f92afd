"""Which error becomes which answer: one table of data (SITE-150).

A row holds everything a visitor may learn; causes stay in the log. Feature packages add their
rows when the application is composed: `table.add(RoomClosed, Answer.UNAVAILABLE)`. How an answer
looks (page, bare, JSON) is in `renderings.py`.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """Holds what a visitor and a client program are told about one kind of error."""

    status: int
    kind: str
    title: str
    text: str
    code: str
    retry_after_s: int | None = None


class Answer(enum.Enum):
    """The rows: every status the site answers errors with."""

    INVALID = ErrorRow(
        400, "invalid", "That did not work", "The request could not be read.", "BAD_REQUEST"
    )
    UNAUTHENTICATED = ErrorRow(
        401, "unauthenticated", "Please sign in", "This needs a sign-in.", "UNAUTHORIZED"
    )
    FORBIDDEN = ErrorRow(403, "forbidden", "Not allowed", "You may not do this here.", "FORBIDDEN")
    NOT_FOUND = ErrorRow(404, "not_found", "Not found", "There is nothing here.", "NOT_FOUND")
    METHOD = ErrorRow(
        405, "method", "Not possible", "This address does not do that.", "METHOD_NOT_ALLOWED"
    )
    LATE = ErrorRow(408, "late", "Too slow", "The request took too long to arrive.", "TIMEOUT")
    CONFLICT = ErrorRow(409, "conflict", "Already taken", "Somebody else was faster.", "CONFLICT")
    PRECONDITION = ErrorRow(
        412, "precondition", "Join first", "This tab has not joined a room.", "CONFLICT"
    )
    TOO_LARGE = ErrorRow(
        413, "too_large", "Too large", "That is more than fits here.", "PAYLOAD_TOO_LARGE"
    )
    URL_TOO_LONG = ErrorRow(
        414, "too_large", "Too long", "The address is too long.", "PAYLOAD_TOO_LARGE"
    )
    MEDIA_TYPE = ErrorRow(
        415, "media_type", "Wrong format", "This format is not read here.", "UNSUPPORTED_MEDIA_TYPE"
    )
    HOST = ErrorRow(
        421, "host", "Wrong address", "This server does not answer for that host.", "BAD_REQUEST"
    )
    VALIDATION = ErrorRow(
        422, "validation", "Please check", "Some fields are not right yet.", "VALIDATION_ERROR"
    )
    NO_STREAM = ErrorRow(
        428, "no_stream", "Not connected", "This tab has no live connection.", "CONFLICT"
    )
    RATE_LIMITED = ErrorRow(
        429, "rate_limited", "Slow down", "That was too often; wait a moment.",
        "TOO_MANY_REQUESTS", 1,
    )  # fmt: skip
    HEAD_TOO_LARGE = ErrorRow(
        431, "too_large", "Too large", "The request's headers are too large.", "PAYLOAD_TOO_LARGE"
    )
    INTERNAL = ErrorRow(
        500, "internal", "Our mistake", "An internal error occurred", "INTERNAL_SERVER_ERROR"
    )
    UNAVAILABLE = ErrorRow(
        503, "unavailable", "Back in a moment", "This is not available just now.",
        "SERVICE_UNAVAILABLE", 1,
    )  # fmt: skip


_BY_STATUS = {answer.value.status: answer.value for answer in Answer}
# SITE-154: of several errors the gravest is told.
_GRAVITY = {500: 3, 503: 2}


def row_of_status(status: int) -> ErrorRow:
    """Call this for errors the framework raises itself; an unlisted status keeps its number."""
    found = _BY_STATUS.get(status)
    if found is not None:
        return found
    base = Answer.INTERNAL.value if status >= 500 else Answer.INVALID.value
    return ErrorRow(status, base.kind, base.title, base.text, base.code)


class ErrorTable:
    """Maps error classes to rows; a class without a row takes its nearest base's."""

    def __init__(self) -> None:
        self._rows: dict[type[BaseException], ErrorRow] = {}

    def add(self, error: type[BaseException], answer: Answer, *, text: str | None = None) -> None:
        """Call this once for each error class; `text` replaces the row's, still a fixed text."""
        row = answer.value
        if error in self._rows:
            raise ValueError(f"{error.__name__} has a row already")
        if text is not None:
            row = ErrorRow(row.status, row.kind, row.title, text, row.code, row.retry_after_s)
        self._rows[error] = row

    def __contains__(self, error: type[BaseException]) -> bool:
        return error in self._rows

    def row(self, error: BaseException) -> ErrorRow:
        """Call this to get the answer to `error`; unmapped is 500, a group its gravest leaf.

        An error's own `retry_after` (seconds) replaces the row's.
        """
        if isinstance(error, BaseExceptionGroup):
            rows = [self.row(leaf) for leaf in error.exceptions]
            return max(rows, key=lambda row: (_GRAVITY.get(row.status, 0), row.status))
        for base in type(error).__mro__:
            row = self._rows.get(base)
            if row is not None:
                return _with_retry(row, getattr(error, "retry_after", None))
        return Answer.INTERNAL.value


def _with_retry(row: ErrorRow, retry_after: object) -> ErrorRow:
    if not isinstance(retry_after, (int, float)):
        return row
    seconds = max(1, math.ceil(retry_after))
    return ErrorRow(row.status, row.kind, row.title, row.text, row.code, seconds)
