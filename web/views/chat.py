"""What the chat panel shows: one room, seen by two people side by side.

View models only. Templates: `templates/macros/chat.html`, `templates/fragments/`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from web.views.words import (
    CsrfToken,
    ElementId,
    ImpossibleView,
    LocalPath,
    check_count,
    check_text,
    check_utc,
    csrf_token,
    element_id,
    local_path,
    mark_of,
)

# Who says more within this is named once, with the time; the script of the page keeps it as well.
CONTINUES_FOR = timedelta(minutes=1)


class Speaker(StrEnum):
    """Who wrote a message, as this viewer sees it; decides in which pane it counts as own."""

    YOU = "you"
    DEMO = "demo"
    OTHER = "other"


class MessageState(StrEnum):
    """The word shown beside a message; `pending` is shown to its author and moderators only.

    `removed` stands in the place of a message for its author, who is told why it is gone.
    """

    VISIBLE = "visible"
    PENDING = "pending"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class MessageView:
    """One message, for one class of viewers. `author` and `body` are for text nodes only.

    One that was removed has no body; `reason` is the moderator's, "" for none.
    """

    id: ElementId
    seq: int
    author: str
    body: str
    at: datetime
    state: MessageState = MessageState.VISIBLE
    speaker: Speaker = Speaker.OTHER
    reason: str = ""

    def __post_init__(self) -> None:
        # Two pane prefixes stand before it: `chat-demo-` and 36 characters stay below 64.
        element_id(f"chat-demo-{self.id}")
        check_count("seq", self.seq, least=1)
        check_text("author", self.author)
        if self.state is not MessageState.REMOVED:
            check_text("body", self.body)
        check_utc("at", self.at)

    def follows(self, before: "MessageView") -> bool:
        """Call this to learn whether the author need not be named again behind `before`."""
        return (
            self.author == before.author
            and self.speaker is before.speaker
            and self.state is before.state is MessageState.VISIBLE
            and self.at - before.at < CONTINUES_FOR
        )

    @property
    def mark(self) -> str:
        """Call this to name what is shown of the message: another word, another mark."""
        return mark_of(
            self.id,
            self.author,
            self.body,
            self.at.isoformat(),
            self.state,
            self.speaker,
            self.reason,
        )


@dataclass(frozen=True, slots=True)
class MessageFragments:
    """One message rendered for both panes at once; the same text serves every such viewer."""

    you: str
    demo: str


@dataclass(frozen=True, slots=True)
class RefusalView:
    """A post of a plain form that was refused: whose composer, what was written, and why."""

    pane: str
    draft: str
    told: str

    def __post_init__(self) -> None:
        if self.pane not in ("you", "demo"):
            raise ImpossibleView("pane", self.pane, "you or demo")
        # Whatever was typed comes back; it is for a text node only.
        check_text("told", self.told)


@dataclass(frozen=True, slots=True)
class HereView:
    """A member who is in the room: in how many tabs, and since when, in UTC."""

    name: str
    tabs: int
    since: datetime

    def __post_init__(self) -> None:
        check_text("name", self.name)
        check_count("tabs", self.tabs, least=1)
        check_utc("since", self.since)


@dataclass(frozen=True, slots=True)
class PresenceView:
    """Who is in the room: members with their tabs, how many more of them, and how many guests."""

    names: tuple[HereView, ...]
    more: int
    guests: int

    def __post_init__(self) -> None:
        check_count("more", self.more)
        check_count("guests", self.guests)


@dataclass(frozen=True, slots=True)
class ChatView:
    """The whole chat panel. Client ids are new for every page.

    A draft is in here only with the `refusal` of a form; such a page is nobody else's.
    """

    room: ElementId
    you_name: str
    demo_name: str
    messages: tuple[MessageView, ...]
    tab_id: ElementId
    client_id: ElementId
    demo_client_id: ElementId
    csrf: CsrfToken
    has_older: bool = False
    refusal: RefusalView | None = None
    # Of a page that shows older ones without scripts there is a way back to the newest.
    is_newest: bool = True

    def __post_init__(self) -> None:
        for text in (self.room, self.tab_id, self.client_id, self.demo_client_id):
            element_id(text)
        if self.client_id == self.demo_client_id:
            raise ImpossibleView("demo_client_id", self.demo_client_id, "another id than client_id")
        check_text("you_name", self.you_name)
        check_text("demo_name", self.demo_name)
        csrf_token(self.csrf)

    @property
    def newest(self) -> LocalPath:
        """Where the newest messages are, for who has no scripts."""
        return local_path(f"/lab?room={self.room}#chat-demo")

    @property
    def older(self) -> LocalPath:
        """Where those before the first one are, if any are."""
        before = self.messages[0].seq if self.messages else 1
        return local_path(f"/lab?room={self.room}&before={before}#chat-demo")
