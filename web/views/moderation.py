"""What moderators see: the queue of what waits for review, and the audit of what was done.

View models only. What people wrote is for text nodes; ids are ours.
"""

from dataclasses import dataclass
from datetime import datetime

from web.views.pages import Shell
from web.views.words import (
    CsrfToken,
    ElementId,
    LocalPath,
    check_count,
    check_text,
    check_utc,
    csrf_token,
    element_id,
    local_path,
)


@dataclass(frozen=True, slots=True)
class WaitingView:
    """One message that waits. `note` and `problem` are what was typed and what is wrong with it.

    Nobody decides about what they wrote: then `is_own`. One that `is_decided` waits no more: it is
    left where it stood, so that nothing moves under the hand of who is about to decide.
    """

    id: ElementId
    room: str
    author: str
    author_id: ElementId
    body: str
    at: datetime
    reason: str
    is_own: bool = False
    note: str = ""
    problem: str = ""
    is_decided: bool = False

    def __post_init__(self) -> None:
        element_id(f"waiting-{self.id}")
        element_id(self.author_id)
        for name in ("room", "author", "body", "reason"):
            check_text(name, getattr(self, name))
        check_utc("at", self.at)


@dataclass(frozen=True, slots=True)
class QueueView:
    """The messages that wait longest, for one moderator; `more` wait behind them."""

    items: tuple[WaitingView, ...]
    more: int
    csrf: CsrfToken

    def __post_init__(self) -> None:
        check_count("more", self.more)
        csrf_token(self.csrf)

    @property
    def is_done(self) -> bool:
        """Whether nothing of it waits any more."""
        return not self.more and all(one.is_decided for one in self.items)


@dataclass(frozen=True, slots=True)
class ModerationPage:
    """The queue's page. `notice` tells of what was done, `problem` why nothing was."""

    shell: Shell
    queue: QueueView
    notice: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class AuditView:
    """One line of the audit. `facts` are its metadata, in words."""

    id: int
    at: datetime
    action: str
    actor: str
    room: str
    facts: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        check_count("id", self.id, least=1)
        check_utc("at", self.at)
        for name in ("action", "actor", "room"):
            check_text(name, getattr(self, name))


@dataclass(frozen=True, slots=True)
class AuditPage:
    """A page of the audit, newest first; `older` is the way to the next one."""

    shell: Shell
    entries: tuple[AuditView, ...]
    older: LocalPath | None
    is_first: bool

    def __post_init__(self) -> None:
        if self.older is not None:
            local_path(self.older)
