"""What moderators and operators see: the queue of what waits for review, what was done, and the
running site.

View models only. What people wrote is for text nodes; ids are ours.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from web.views.nodes import NodesView
from web.views.pages import Shell
from web.views.words import (
    CsrfToken,
    ElementId,
    LocalPath,
    UnsafeAttribute,
    check_count,
    check_text,
    check_utc,
    csrf_token,
    element_id,
    local_path,
)

_DEPENDENCY = re.compile(r"[a-z][a-z0-9_.-]{0,63}")


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


@dataclass(frozen=True, slots=True)
class OperatedSignIn:
    """One sign-in, as an operator sees it. `address` is masked, or empty."""

    reference: ElementId
    username: str
    browser: str
    address: str
    created_at: datetime
    seen_at: datetime
    is_own: bool

    def __post_init__(self) -> None:
        element_id(self.reference)
        check_text("username", self.username)
        check_text("browser", self.browser)
        check_utc("created_at", self.created_at)
        check_utc("seen_at", self.seen_at)


@dataclass(frozen=True, slots=True)
class SignInsPage:
    """Who is signed in, the newest first; `user` is whom the search named, `ended` how many were.

    At most as many as are shown: more are told by the command line.
    """

    shell: Shell
    csrf: CsrfToken
    user: str
    sign_ins: tuple[OperatedSignIn, ...]
    ended: int = 0

    def __post_init__(self) -> None:
        csrf_token(self.csrf)
        check_count("ended", self.ended)


@dataclass(frozen=True, slots=True)
class ActView:
    """One row of the audit of accounts; ids and addresses are bare and masked, or empty."""

    id: int
    at: datetime
    action: str
    actor: str
    subject: str
    is_success: bool
    reason: str
    address: str
    browser: str
    request_id: str
    why: str = ""

    def __post_init__(self) -> None:
        check_count("id", self.id, least=1)
        check_utc("at", self.at)
        check_text("action", self.action)


@dataclass(frozen=True, slots=True)
class ActsPage:
    """What was done with accounts. `asked` are the fields of the search, `acts` what it offers."""

    shell: Shell
    asked: Mapping[str, str]
    acts: tuple[str, ...]
    entries: tuple[ActView, ...]
    older: LocalPath | None

    def __post_init__(self) -> None:
        if self.older is not None:
            local_path(self.older)


@dataclass(frozen=True, slots=True)
class OutsideView:
    """One thing that is called outside, and how it does; `not_made` are calls that were refused.

    `retry_in_s` is of one that is left alone; `failed_percent` of the calls that were made lately.
    """

    name: str
    state: Literal["closed", "open", "half_open"]
    retry_in_s: int
    calls: int
    failures: int
    failed_percent: int
    not_made: int
    late: int
    running: int
    waiting: int

    def __post_init__(self) -> None:
        # It stands in an attribute; dependencies are declared by names of these signs only.
        if _DEPENDENCY.fullmatch(self.name) is None:
            raise UnsafeAttribute("name of a dependency", self.name)


@dataclass(frozen=True, slots=True)
class OutsidePage:
    """What this process calls outside; `tried` is what is called again at once, or empty."""

    shell: Shell
    csrf: CsrfToken
    dependencies: tuple[OutsideView, ...]
    tried: str = ""

    def __post_init__(self) -> None:
        csrf_token(self.csrf)


@dataclass(frozen=True, slots=True)
class TraceView:
    """One trace in a list; `why` says what it is kept for."""

    id: str
    path: LocalPath
    at: datetime
    route: str
    took_ms: float
    span_count: int
    left_out: int
    why: str
    has_error: bool

    def __post_init__(self) -> None:
        local_path(self.path)
        check_utc("at", self.at)
        check_count("span_count", self.span_count)


@dataclass(frozen=True, slots=True)
class SpanView:
    """One span of a trace: how deep it stands, and its bar, `left` and `width` of a thousand."""

    depth: int
    name: str
    where: str
    fields: str
    after_ms: float
    took_ms: float
    left: int
    width: int
    error: str

    def __post_init__(self) -> None:
        for name in ("depth", "left", "width"):
            check_count(name, getattr(self, name))


@dataclass(frozen=True, slots=True)
class TracesPage:
    """The traces that are kept, `asked` being the fields of the search; all of them or one's own.

    Without `is_on` none is recorded.
    """

    shell: Shell
    asked: Mapping[str, str]
    traces: tuple[TraceView, ...]
    is_all: bool
    is_on: bool


@dataclass(frozen=True, slots=True)
class TracePage:
    """One trace as a tree. By a correlation id its log lines are found."""

    shell: Shell
    trace: TraceView
    spans: tuple[SpanView, ...]
    correlations: tuple[str, ...]
    is_operator: bool
    # Its lines of the log, for operators; they name what is nobody else's.
    lines: tuple[str, ...]


# -- the running site at a glance --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HotActor:
    """One actor: what it handled a second, the part of the time it took, and what waits for it.

    `busy_percent` is None where times are not taken.
    """

    path: str
    kind: str
    handled_per_s: float
    busy_percent: float | None
    queued: int
    capacity: int

    def __post_init__(self) -> None:
        check_text("path", self.path)
        check_text("kind", self.kind)
        check_count("queued", self.queued)


@dataclass(frozen=True, slots=True)
class Lagging:
    """What reads events, and how far behind it is; of a projection also how fast, and till when.

    `rate` is events a second, `left_s` when it has passed all at that pace; None is not known.
    `rebuilt_percent` is how far a rebuild is, None when none runs.
    """

    name: str
    behind: int
    seconds: float
    rate: float | None = None
    left_s: float | None = None
    rebuilt_percent: float | None = None

    def __post_init__(self) -> None:
        check_text("name", self.name)
        check_count("behind", self.behind)


@dataclass(frozen=True, slots=True)
class BreakerView:
    """One thing that is called outside, and whether it is left alone."""

    name: str
    state: str
    retry_in_s: int

    def __post_init__(self) -> None:
        if not _DEPENDENCY.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is no name of a dependency")


@dataclass(frozen=True, slots=True)
class StatementView:
    """One statement that took long: its text without values, how often it ran, and how long."""

    text: str
    calls: int
    mean_ms: float
    total_s: float

    def __post_init__(self) -> None:
        check_text("text", self.text)
        check_count("calls", self.calls)


@dataclass(frozen=True, slots=True)
class StatementsView:
    """The statements that took longest: of this process alone, or of all of its database."""

    found: tuple[StatementView, ...]
    is_own: bool


@dataclass(frozen=True, slots=True)
class OverviewView:
    """One look. What nobody knows is None: a rate before a second look, a store that is away.

    `statements` is None too where the store has none.
    """

    at: datetime
    uptime_s: int
    actors: int
    streams: int
    messages_per_s: float | None
    events_per_s: float | None
    loop_late_ms: float | None
    pool_in_use: int | None
    pool_max: int | None
    pool_waiting: int | None
    oldest_transaction_s: float | None
    outbox: int | None
    outbox_oldest_s: float | None
    letters: int | None
    # Pushed out of the last ones before their time, or not taken by the collector.
    spans_lost: int | None
    nodes: NodesView | None
    lags: tuple[Lagging, ...]
    breakers: tuple[BreakerView, ...]
    busiest: tuple[HotActor, ...]
    fullest: tuple[HotActor, ...]
    statements: StatementsView | None

    def __post_init__(self) -> None:
        check_utc("at", self.at)
        check_count("actors", self.actors)


@dataclass(frozen=True, slots=True)
class OverviewPage:
    """`/ops`."""

    shell: Shell
    overview: OverviewView
