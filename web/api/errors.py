"""The error table as functions: `raise not_found("Order", order_id)` (WEB-1).

Each takes a row of `web.server.Answer` and says it in the route's own words: a client program gets
`{"code": ..., "message": ...}`, a person a page of the same status. What is said is cut and shown
on one line, for it may quote what was sent; causes never stand in it.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from actors.persistence.errors import (
    ConcurrencyConflict,
    ConditionFailed,
    EventTooLarge,
    Fenced,
    ForeignTenant,
    IdempotencyInFlight,
    IdempotencyMismatch,
    StoreUnavailable,
)
from actors.runtime import AskError, MailboxFull, MailboxOverflow
from actors.runtime.telling.log import one_line
from web.server import Answer, ErrorAnswer, ErrorRow, ErrorTable, FieldProblem

# A sentence or two, with an id in it; a client that sent a page of text knows it already.
MESSAGE_CHARS_MAX = 500

STEP_UP_HEADER = b"x-greenroom-step-up"

_IN_FLIGHT = replace(
    Answer.CONFLICT.value,
    text="A request with this Idempotency-Key is being handled; ask again in a moment.",
    code="IDEMPOTENCY_IN_FLIGHT",
    retry_after_s=1,
)
_MISMATCH = replace(
    Answer.VALIDATION.value,
    text="This Idempotency-Key was used for another request; a new request needs a new key.",
    code="IDEMPOTENCY_MISMATCH",
)


def told(row: ErrorRow, message: str) -> ErrorAnswer:
    """Call this to say a row of the table in words of one's own; without words its own stand."""
    text = one_line(message[:MESSAGE_CHARS_MAX]) or row.text
    return ErrorAnswer(replace(row, text=text))


def bad_request(message: str) -> ErrorAnswer:
    """Call this for what cannot be read at all: 400."""
    return told(Answer.INVALID.value, message)


def unauthorized(message: str = "") -> ErrorAnswer:
    """Call this for a credential that is missing or none here: 401."""
    return told(Answer.UNAUTHENTICATED.value, message)


def payment_failed(message: str = "") -> ErrorAnswer:
    """Call this when money did not come: 402."""
    return told(Answer.PAYMENT_FAILED.value, message)


def forbidden(message: str = "") -> ErrorAnswer:
    """Call this for what needs a role or right the caller has not: 403.

    For a private thing of somebody else say `not_found`: that it exists is private too.
    """
    return told(Answer.FORBIDDEN.value, message)


def step_up(level: str) -> ErrorAnswer:
    """Call this for what needs a stronger sign-in, with its level: 403, and a header.

    ValueError for a level that is no word of ASCII letters.
    """
    if not (level.isascii() and level.isalpha()):
        raise ValueError(f"a level is a word of ASCII letters, not {level!r}")
    row = replace(Answer.FORBIDDEN.value, code="STEP_UP_REQUIRED")
    row = replace(row, headers=((STEP_UP_HEADER, level.encode("ascii")),))
    return told(row, f"This needs a sign-in of level {level}.")


def not_found(resource: str, id_: object) -> ErrorAnswer:
    """Call this for an unknown id, and for private things of others: 404."""
    return told(Answer.NOT_FOUND.value, f"{resource} with id {id_} not found")


def method_not_allowed(*allowed: str) -> ErrorAnswer:
    """Call this where a thing does not take this method now: 405, with those it takes.

    Methods without a route are answered alike by the application. ValueError without one.
    """
    if not allowed:
        raise ValueError("an answer 405 names the methods that are allowed")
    names = ", ".join(sorted(allowed)).encode("ascii")
    return told(replace(Answer.METHOD.value, headers=((b"allow", names),)), "")


def timeout(message: str = "") -> ErrorAnswer:
    """Call this when the outcome of a command did not come in time: 408; for a page 503.

    The command may still succeed, so the message tells where that can be seen.
    """
    return told(Answer.LATE.value, message or "The outcome did not come in time; look again later.")


def conflict(message: str = "") -> ErrorAnswer:
    """Call this for what the present state does not allow, and lost races: 409."""
    return told(Answer.CONFLICT.value, message)


def in_flight() -> ErrorAnswer:
    """Call this while a request of the same key is being handled: 409, to be sent again."""
    return ErrorAnswer(_IN_FLIGHT)


def too_large(limit_bytes: int) -> ErrorAnswer:
    """Call this for what is longer than `limit_bytes`: 413."""
    return told(Answer.TOO_LARGE.value, f"At most {limit_bytes} bytes fit here.")


def unsupported(message: str = "") -> ErrorAnswer:
    """Call this for a media type that is not read here: 415."""
    return told(Answer.MEDIA_TYPE.value, message)


def validation(message: str, details: Sequence[FieldProblem] = ()) -> ErrorAnswer:
    """Call this for right JSON of a wrong shape: 422, with up to 20 fields and their problems."""
    shown = tuple(FieldProblem(_cut(one.field), _cut(one.problem)) for one in details)
    found = told(Answer.VALIDATION.value, message)
    return ErrorAnswer(replace(found.row, details=shown))


def mismatch() -> ErrorAnswer:
    """Call this when a key comes back with another request: 422."""
    return ErrorAnswer(_MISMATCH)


def too_many(retry_after: float) -> ErrorAnswer:
    """Call this at a limit: 429, to be tried again in so many seconds, rounded up."""
    return ErrorAnswer(replace(Answer.RATE_LIMITED.value, retry_after_s=_whole(retry_after)))


def internal() -> ErrorAnswer:
    """Call this for a failure of ours: 500 with a fixed text; `raise internal() from error`."""
    return ErrorAnswer(Answer.INTERNAL.value)


def unavailable(message: str = "", retry_after: float = 1.0) -> ErrorAnswer:
    """Call this when a part is away: 503, to be tried again in so many seconds, rounded up."""
    return told(replace(Answer.UNAVAILABLE.value, retry_after_s=_whole(retry_after)), message)


def add_errors(table: ErrorTable) -> None:
    """Call this once for a site's table: what actors and the store raise gets its row."""
    for error, row in (
        (AskError, Answer.UNAVAILABLE.value),
        (MailboxFull, Answer.UNAVAILABLE.value),
        (MailboxOverflow, Answer.UNAVAILABLE.value),
        (StoreUnavailable, Answer.UNAVAILABLE.value),
        (Fenced, Answer.UNAVAILABLE.value),
        (ConcurrencyConflict, Answer.CONFLICT.value),
        (ConditionFailed, Answer.CONFLICT.value),
        (IdempotencyInFlight, _IN_FLIGHT),
        (IdempotencyMismatch, _MISMATCH),
        (EventTooLarge, Answer.TOO_LARGE.value),
        # What belongs to another tenant is not there.
        (ForeignTenant, Answer.NOT_FOUND.value),
    ):
        table.add(error, row)


def _cut(text: str) -> str:
    return one_line(text[:MESSAGE_CHARS_MAX])


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds))
