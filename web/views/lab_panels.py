"""What the lab's tabs Connections, Sign-ins and Sagas show: what a visitor has, row by row.

Templates: `templates/fragments/lab_connections.html`, `templates/fragments/lab_sign_ins.html`,
`templates/fragments/lab_sagas.html`.
"""

from dataclasses import dataclass
from datetime import datetime

from web.views.words import ElementId, check_count, check_text, check_utc, element_id


@dataclass(frozen=True, slots=True)
class ConnectionView:
    """A page's stream, or a socket. `reconnects` None: it is another one each time.

    `queued_bytes` None: only messages are counted. `anew` is how often a reader that was behind
    was sent the whole instead of what it had missed.
    """

    id: ElementId
    name: str
    kind: str
    opened_at: datetime
    queued: int
    queued_bytes: int | None
    coalesced: int
    anew: int
    reconnects: int | None
    is_this: bool

    def __post_init__(self) -> None:
        element_id(self.id)
        check_text("name", self.name)
        check_text("kind", self.kind)
        check_utc("opened_at", self.opened_at)
        for count in (self.queued, self.queued_bytes, self.coalesced, self.anew, self.reconnects):
            check_count("count", count or 0)


@dataclass(frozen=True, slots=True)
class LabSignInView:
    """One sign-in of a member, with how many pages it has open. `reference` opens nothing."""

    reference: ElementId
    browser: str
    created_at: datetime
    seen_at: datetime
    streams: int
    is_this: bool

    def __post_init__(self) -> None:
        element_id(self.reference)
        check_text("browser", self.browser)
        check_utc("created_at", self.created_at)
        check_utc("seen_at", self.seen_at)
        check_count("streams", self.streams)


@dataclass(frozen=True, slots=True)
class LabMailView:
    """What became of a mail to a member: never its address, a token, or what it says.

    `recipient` is the beginning of the digest that stands for their address.
    """

    recipient: ElementId
    template: str
    state: str
    reason: str
    changed_at: datetime

    def __post_init__(self) -> None:
        element_id(self.recipient)
        check_text("template", self.template)
        check_text("state", self.state)
        check_utc("changed_at", self.changed_at)


@dataclass(frozen=True, slots=True)
class SagaStepView:
    """One step: what it is, how far it is in words, and what it looks like.

    `due_at` is when it is tried again, or given up.
    """

    name: ElementId
    title: str
    word: str
    tone: str
    due_at: datetime | None = None
    can_time_out: bool = False
    can_answer: bool = False

    def __post_init__(self) -> None:
        element_id(self.name)
        check_text("title", self.title)
        check_text("word", self.word)
        element_id(self.tone)
        if self.due_at is not None:
            check_utc("due_at", self.due_at)

    @property
    def due_ms(self) -> ElementId:
        """Call this, where it has one, for `due_at` as a name: milliseconds since 1970."""
        assert self.due_at is not None, "asked of a step without"
        return element_id(str(int(self.due_at.timestamp() * 1000)))

    def left_ms(self, now: datetime) -> ElementId:
        """Call this, where it has one, for how long it is until `due_at`."""
        return element_id(str(max(0, int(self.due_ms) - int(now.timestamp() * 1000))))


@dataclass(frozen=True, slots=True)
class SagaEventView:
    """One event of a saga's log, in words."""

    at: datetime
    text: str

    def __post_init__(self) -> None:
        check_utc("at", self.at)
        check_text("text", self.text)


@dataclass(frozen=True, slots=True)
class SagaView:
    """One saga of a visitor. `incarnation` None: its actor rests; `reason` may be empty."""

    id: ElementId
    title: str
    status: str
    started_at: datetime
    steps: tuple[SagaStepView, ...]
    incarnation: int | None
    reason: str
    can_confirm: bool
    can_cancel: bool
    can_crash: bool
    events: tuple[SagaEventView, ...] = ()

    def __post_init__(self) -> None:
        element_id(self.id)
        for name, text in (("title", self.title), ("status", self.status)):
            check_text(name, text)
        check_utc("started_at", self.started_at)
        check_count("incarnation", self.incarnation or 0)
