"""What routes raise when they refuse, and the one table that turns errors into answers.

Each class is one thing a visitor can do next. The texts are fixed: no value of a request
stands in an answer.
"""

from collections.abc import Iterable

from actors.chat import ChatLogUnavailable, UnknownRoom
from web.api import add_errors
from web.realtime import (
    BadClientId,
    BadTabId,
    CallerUnknown,
    StreamsFull,
    TooManyStreams,
    TopicRefused,
)
from web.realtime import Refused as SocketRefused
from web.server import Answer, ErrorTable

# When a moderator decides nobody knows; who asks each minute hears soon enough, and costs nothing.
ASK_AGAIN_S = 60.0


class Refused(Exception):
    """Base of what routes raise; nothing was changed."""

    # Told of a span's end (`actors.runtime.delivery.span`): it was an answer, and no failure.
    is_refusal = True


class InvalidInput(Refused):
    """Raised for a command or query that breaks a rule of its fields; answered 400."""


class InvalidForm(Refused):
    """Raised for a plain form that breaks a rule of its fields; answered 422."""


class TabNotBound(Refused):
    """Raised for a tab that is bound to no room; answered 412: load the page again."""


class NotSignedIn(Refused):
    """Raised for a credential that is none here, such as a bearer token; answered 401."""


class NoSuchThing(Refused):
    """Raised for an unknown path, slug or actor, also for others' ones; answered 404."""


class DocsNotInstalled(Refused):
    """Raised for a page of the documents where only the program was installed; answered 404."""


class FailedOnPurpose(Exception):
    """Raised by the demonstration of an error page: answered as a failure of ours, 500."""


class NotPossible(Refused):
    """Raised when the thing is in a state that does not allow it; answered 409."""


class NotAllowed(Refused):
    """Raised for what needs a role or a membership one does not have; answered 403."""


class Guarded(NotAllowed):
    """Raised for what is sensitive, of an account that was recovered within a day; answered 403."""


class LabClosed(Refused):
    """Raised for an action while LAB_MODE is `readonly` or `off`; answered 503."""


class NoLiveStream(Refused):
    """Raised for a command of a tab without stream; answered 428: wait until it reconnects."""


class RateLimited(Refused):
    """Raised at a limit; answered 429 with `retry-after` rounded up from `retry_after` seconds.

    `rate_limits` are headers that say which limit it is.
    """

    def __init__(self, retry_after: float, rate_limits: Iterable[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(f"a limit is reached; try again in {retry_after:.1f} s")
        self.retry_after, self.rate_limits = retry_after, tuple(rate_limits)


class EnoughWaiting(RateLimited):
    """Raised for a message that would wait for review beside as many of its author as may."""

    def __init__(self, waiting_max: int) -> None:
        super().__init__(ASK_AGAIN_S)
        self.waiting_max = waiting_max


class NotAvailable(Refused):
    """Raised when a part of the site does not answer; answered 503: try again."""

    is_refusal = False


# The second half: without its cookie a browser is somebody new at each request.
_UNBOUND = (
    "This tab is bound to no room; load the page again. If that does not help, "
    "let your browser keep this site's cookie."
)


_GUARDED = (
    "This account was recovered less than a day ago. Until the day is over nothing can be changed "
    "that opens it."
)


def error_table() -> ErrorTable:
    """Call this to get the table of all errors the site answers on purpose."""
    table = ErrorTable()
    add_errors(table)
    for error, answer, text in (
        (InvalidInput, Answer.INVALID, "A value is missing or outside its rule."),
        (InvalidForm, Answer.VALIDATION, None),
        (TabNotBound, Answer.PRECONDITION, _UNBOUND),
        (NotSignedIn, Answer.UNAUTHENTICATED, None),
        (NoSuchThing, Answer.NOT_FOUND, None),
        (DocsNotInstalled, Answer.NOT_FOUND, "The documents are not installed with this site."),
        (UnknownRoom, Answer.NOT_FOUND, "There is no such room."),
        (NotPossible, Answer.CONFLICT, "This is not possible in its present state."),
        (NotAllowed, Answer.FORBIDDEN, None),
        (Guarded, Answer.FORBIDDEN, _GUARDED),
        (NoLiveStream, Answer.NO_STREAM, None),
        (RateLimited, Answer.RATE_LIMITED, None),
        (EnoughWaiting, Answer.RATE_LIMITED, "Enough of your messages wait for review already."),
        (NotAvailable, Answer.UNAVAILABLE, None),
        (ChatLogUnavailable, Answer.UNAVAILABLE, None),
        (BadTabId, Answer.INVALID, None),
        (BadClientId, Answer.INVALID, None),
        (CallerUnknown, Answer.UNAUTHENTICATED, None),
        (TopicRefused, Answer.FORBIDDEN, "There is no topic of that name for you."),
        (SocketRefused, Answer.UNAVAILABLE, None),
        (TooManyStreams, Answer.RATE_LIMITED, "Too many open streams; close a tab first."),
        (StreamsFull, Answer.UNAVAILABLE, None),
    ):
        table.add(error, answer, text=text)
    # Everybody may look at it, and a failure that was asked for is none for the log.
    table.add(FailedOnPurpose, Answer.INTERNAL, is_refusal=True)
    # An operator's word, or a busy minute: each click would be a traceback in the log.
    closed = "The lab is not open for actions just now."
    table.add(LabClosed, Answer.UNAVAILABLE, text=closed, is_refusal=True)
    return table
