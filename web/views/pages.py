"""What each page shows: the frame around all of them, then home, the lab, an error.

View models only, one for a template of the same name in `templates/`, where the frame is
`templates/layout.html`. The panels on the pages have their own files: `tree.py`, `chat.py`,
`code.py`.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from markupsafe import Markup

from web.views.chat import ChatView
from web.views.code import CodeView
from web.views.demos import PanelView, ResultView
from web.views.stage import StageView
from web.views.tree import LastedView, TreeView
from web.views.words import (
    CsrfToken,
    ElementId,
    ImpossibleView,
    LocalPath,
    Nonce,
    Origin,
    check_count,
    check_milliseconds,
    check_text,
    check_utc,
    csrf_token,
    dsid,
    element_id,
    local_path,
    nonce,
    origin,
)

SUMMARY = "Supervised actors for Python on trio, shown by a site that runs on them."


@dataclass(frozen=True, slots=True)
class NavLink:
    """One entry of the navigation. Only routes that exist may be offered."""

    path: LocalPath
    text: str
    is_current: bool = False

    def __post_init__(self) -> None:
        local_path(self.path)
        check_text("text", self.text)


@dataclass(frozen=True, slots=True)
class StreamView:
    """What a page tells the server when it opens its stream: which tab, and which room.

    `tab_id` is new for every rendered page. `room` is a name of the closed set of rooms. `viewer`
    names for whom the page was rendered (`mark_of`): a browser that is somebody else's by now has
    to load it again.
    """

    tab_id: ElementId
    room: ElementId | None = None
    viewer: ElementId | None = None

    def __post_init__(self) -> None:
        element_id(self.tab_id)
        if self.room is not None:
            element_id(self.room)
        if self.viewer is not None:
            element_id(self.viewer)


@dataclass(frozen=True, slots=True)
class MemberView:
    """What the frame offers to who is signed in: their account, and the form that signs out."""

    csrf: CsrfToken
    account: LocalPath | None = None

    def __post_init__(self) -> None:
        csrf_token(self.csrf)
        if self.account is not None:
            local_path(self.account)


@dataclass(frozen=True, slots=True)
class QueueLink:
    """What the frame offers to moderators: the way to the queue, and how many wait there."""

    count: int

    def __post_init__(self) -> None:
        check_count("count", self.count)


@dataclass(frozen=True, slots=True)
class Shell:
    """All that the frame shows. `page` becomes the signal `ssePage`.

    A page without `stream` loads no browser runtime and opens no connection. Without a `member` it
    is a guest's, who is offered to sign in and to register where these paths are given. The foot
    of the page leads to the `documents` and the `licence`, where they are installed. With an
    `origin` it tells other sites what to show of a link to it: `summary`, and a picture.
    """

    title: str
    page: ElementId
    nonce: Nonce
    nav: tuple[NavLink, ...]
    viewer_name: str
    version: str
    stream: StreamView | None = None
    member: MemberView | None = None
    sign_in: LocalPath | None = None
    register: LocalPath | None = None
    queue: QueueLink | None = None
    summary: str = SUMMARY
    documents: LocalPath | None = None
    licence: LocalPath | None = None
    origin: Origin | None = None

    def __post_init__(self) -> None:
        check_text("title", self.title)
        check_text("summary", self.summary)
        if self.origin is not None:
            origin(self.origin)
        for path in (self.sign_in, self.register, self.documents, self.licence):
            if path is not None:
                local_path(path)
        element_id(self.page)
        nonce(self.nonce)
        check_text("viewer_name", self.viewer_name)
        check_text("version", self.version)


class FrameWords(NamedTuple):
    """What of a frame is one visitor's own; the words of attributes are checked when made."""

    nonce: Nonce
    viewer_name: str
    tab_id: ElementId | None
    viewer: ElementId | None
    sign_out: CsrfToken | None


# Points of a line, each (x, y), in a box of 100 by 20 with y downwards.
Line = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class ProofLines:
    """How four figures of the proof were in the last minutes; an empty line is not drawn."""

    actors_alive: Line = ()
    open_streams: Line = ()
    messages_delivered: Line = ()
    crashes: Line = ()


NO_LINES = ProofLines()


@dataclass(frozen=True, slots=True)
class ProofView:
    """Figures of one moment. `last_restart_ms` is None before the first of this process.

    `messages_delivered` and `lasted` are of all runs of the server, or of this process alone while
    the store was not asked yet, when `lasted` is None.
    """

    actors_alive: int
    open_streams: int
    messages_delivered: int
    restarts_survived: int
    last_restart_ms: float | None
    uptime_s: int
    lasted: LastedView | None = None
    lines: ProofLines = NO_LINES

    @property
    def crashes(self) -> int:
        """Call this for the crashes that were survived, over all runs where that is known."""
        if self.lasted is None:
            return self.restarts_survived
        return self.lasted.rooms + self.lasted.others

    def __post_init__(self) -> None:
        check_count("actors_alive", self.actors_alive)
        check_count("open_streams", self.open_streams)
        check_count("messages_delivered", self.messages_delivered)
        check_count("restarts_survived", self.restarts_survived)
        check_count("uptime_s", self.uptime_s)
        check_milliseconds("last_restart_ms", self.last_restart_ms)


@dataclass(frozen=True, slots=True)
class MeasuredView:
    """A row of what was measured: the figure of each, as the page of figures writes it."""

    what: str
    ours: str
    others: tuple[str, ...]

    def __post_init__(self) -> None:
        check_text("what", self.what)
        check_text("ours", self.ours)


@dataclass(frozen=True, slots=True)
class Doorway:
    """A way into the documents: where it begins, for whom, and what for."""

    path: LocalPath
    title: str
    text: str

    def __post_init__(self) -> None:
        local_path(self.path)
        check_text("title", self.title)
        check_text("text", self.text)


@dataclass(frozen=True, slots=True)
class HomePage:
    """The whole home page. `doorways` is empty where no documents are installed."""

    shell: Shell
    proof: ProofView
    code: CodeView
    stage: StageView
    measured: tuple[MeasuredView, ...] = ()
    doorways: tuple[Doorway, ...] = ()


@dataclass(frozen=True, slots=True)
class StillView:
    """What a visitor's own panels hold, for who has no scripts: counts in digits.

    `flows` comes from `Renderer.still_flows`.
    """

    flows: Markup = field(default_factory=Markup)
    open_count: str = "0"
    tokens: str = "5000"

    def __post_init__(self) -> None:
        dsid(self.open_count)
        dsid(self.tokens)


@dataclass(frozen=True, slots=True)
class LabPage:
    """The whole lab page. `count` is the visitor's own number of the counter, in digits."""

    shell: Shell
    tree: TreeView
    chat: ChatView
    stage: StageView
    panels: tuple[PanelView, ...] = ()
    count: str = "0"
    still: StillView = field(default_factory=StillView)

    def __post_init__(self) -> None:
        dsid(self.count)


@dataclass(frozen=True, slots=True)
class PanelPage:
    """A panel's result as a page of its own, for browsers without scripts."""

    shell: Shell
    panels: tuple[PanelView, ...]
    title: str
    result: ResultView
    back: LocalPath

    def __post_init__(self) -> None:
        local_path(self.back)
        check_text("title", self.title)


@dataclass(frozen=True, slots=True)
class MailPreview:
    """A template of mail with sample data: what a reader sees of it, and the way to the whole."""

    name: str
    language: str
    subject: str
    text: str
    html: str
    whole: LocalPath

    def __post_init__(self) -> None:
        local_path(self.whole)


@dataclass(frozen=True, slots=True)
class MailPreviewsPage:
    """All templates of mail, for who writes them."""

    shell: Shell
    mails: tuple[MailPreview, ...]


@dataclass(frozen=True, slots=True)
class ErrandsPage:
    """What a browser without scripts has running, and the forms that start and cancel it.

    `at` is when it was asked, `run_s` how many seconds one errand takes; `status` and `counts` are
    empty where none was started.
    """

    shell: Shell
    at: datetime
    message: str
    status: str
    counts: str
    run_s: int
    tab_id: ElementId
    command_id: ElementId
    csrf: CsrfToken
    back: LocalPath

    def __post_init__(self) -> None:
        check_utc("at", self.at)
        for text in (self.tab_id, self.command_id):
            element_id(text)
        csrf_token(self.csrf)
        local_path(self.back)
        check_text("message", self.message)
        check_count("run_s", self.run_s)


@dataclass(frozen=True, slots=True)
class ErrorView:
    """A refusal or failure in fixed words. The cause stays in the log, under `request_id`."""

    status: int
    title: str
    message: str
    request_id: ElementId

    def __post_init__(self) -> None:
        if not 400 <= self.status <= 599:
            raise ImpossibleView("status", self.status, "an HTTP error status, 400 to 599")
        check_text("title", self.title)
        check_text("message", self.message)
        element_id(self.request_id)


@dataclass(frozen=True, slots=True)
class ErrorPage:
    """A whole error page: what one can do, and the ways back.

    `back` is the page one came from, None where nobody knows; home is offered always.
    """

    shell: Shell
    error: ErrorView
    back: LocalPath | None = None
    advice: tuple[str, ...] = ()
    retry_after_s: int | None = None

    def __post_init__(self) -> None:
        if self.back is not None:
            local_path(self.back)
        if self.retry_after_s is not None:
            check_count("retry_after_s", self.retry_after_s, least=1)
        for text in self.advice:
            check_text("advice", text)
