"""What somebody is told whose post was refused: in words, with what they wrote. Pure.

Rule: a draft is never lost (SITE-64). An open page keeps it in the composer and says there what
these words are; without scripts the answer is the page again, with the text where it was.
"""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from quart import Response

from actors.accounts import Pane
from actors.chat import LOBBY, BadPost, RoomName
from web.routing.errors import (
    EnoughWaiting,
    InvalidForm,
    InvalidInput,
    NotAllowed,
    NotSignedIn,
    RateLimited,
    TabNotBound,
)
from web.views import ElementId, RefusalView, UnsafeAttribute, element_id

# What names the composer in the signals of a refusal (SITE-101): the page says it there and not at
# its top.
SOURCES = {Pane.YOU: "chat", Pane.DEMO: "chat-demo"}


@dataclass(frozen=True, slots=True)
class RefusedPost:
    """A plain form that was refused: what was written, with which id, and why."""

    pane: Pane
    draft: str
    client_id: str
    error: Exception
    # Where it was to be said: the page that comes back sends it there again.
    room: RoomName = LOBBY

    @property
    def view(self) -> RefusalView:
        """What its composer shows."""
        return RefusalView(str(self.pane), self.draft, words_for(self.error))

    @property
    def maybe_client_id(self) -> ElementId | None:
        """The id to send it again with: of some refused posts nobody knows whether they are stored.

        None for one that no page of ours has given.
        """
        try:
            return element_id(self.client_id)
        except UnsafeAttribute:
            return None


# Answers such a form with the page it came from.
ShowAgain = Callable[[RefusedPost], Awaitable[Response]]


def words_for(error: Exception) -> str:
    """Call this for what stands beside the composer: what happened, and what to do next."""
    match error:
        case EnoughWaiting(waiting_max=most):
            return (
                f"{most} of your messages wait for a moderator, and more may not. "
                "What is short and without links is shown at once."
            )
        case RateLimited(retry_after=wait):
            return f"That was too often: send it again in {max(1, math.ceil(wait))} s."
        case TabNotBound():
            return (
                "This page was in no room any more; send it again. If that does not help, "
                "let your browser keep this site's cookie."
            )
        case NotAllowed():
            return "This room has members: join it first."
        case NotSignedIn():
            return "Sign in to speak under your own name."
        case InvalidInput() | InvalidForm():
            cause = error.__cause__
            return f"Not sent: {cause.problem if isinstance(cause, BadPost) else error}."
    return "The room does not answer just now. Sending it again is safe."
