"""What operators see of dead letters: which there are, and all that is kept of one.

View models only. Sources, errors and payloads are of anybody: for text nodes, and for the fields of
a form, which are escaped.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from web.views.moderation import OutsideView
from web.views.pages import Shell
from web.views.words import (
    CsrfToken,
    ElementId,
    LocalPath,
    check_count,
    check_utc,
    csrf_token,
    element_id,
    local_path,
    mark_of,
)


@dataclass(frozen=True, slots=True)
class LetterRow:
    """One dead letter in the list; `path` leads to its page."""

    id: int
    status: str
    kind: str
    source: str
    failures: int
    last_at: datetime
    error: str
    path: LocalPath

    def __post_init__(self) -> None:
        check_count("failures", self.failures)
        check_utc("last_at", self.last_at)
        local_path(self.path)


@dataclass(frozen=True, slots=True)
class LettersCount:
    """How many dead letters of each status there are, and how full their table is."""

    by_status: tuple[tuple[str, int], ...]
    full_percent: int
    health: str

    def __post_init__(self) -> None:
        check_count("full_percent", self.full_percent)


@dataclass(frozen=True, slots=True)
class FailureFacts:
    """What all see of failures; `letters` is None while nobody knows."""

    dependencies: tuple[OutsideView, ...]
    letters: LettersCount | None

    @property
    def mark(self) -> ElementId:
        """Call this for what a page says it shows of it."""
        return mark_of(repr(self))


@dataclass(frozen=True, slots=True)
class LostView:
    """Messages of one class that an actor of a sandbox lost for one reason; `message` the last."""

    place: str
    reason: str
    message_type: str
    message: str
    count: int
    at: datetime
    chain: tuple[str, ...]
    # The newest that nothing was done with, or the newest; how many of them wait, were told again,
    # were given up, and were to be settled once more; what is said of the last of them.
    letter: int
    waiting: int
    told: int = 0
    given_up: int = 0
    duplicates: int = 0
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_utc("at", self.at)
        for name in ("count", "letter", "waiting", "told", "given_up", "duplicates"):
            check_count(name, getattr(self, name))

    @property
    def id(self) -> ElementId:
        """Call this for what names the row as long as it is there."""
        return element_id(f"lost-{mark_of(self.place, self.reason, self.message_type)}")

    @property
    def path(self) -> LocalPath:
        """Call this for where `letter` is looked into."""
        return local_path(f"/lab/failures?letter={self.letter}#letter")


@dataclass(frozen=True, slots=True)
class LostList:
    """All that a sandbox lost, the newest first."""

    rows: tuple[LostView, ...]

    @property
    def mark(self) -> ElementId:
        """Call this for what a page says it shows of it."""
        return mark_of(repr(self.rows))


@dataclass(frozen=True, slots=True)
class LostLetterView:
    """One lost message that somebody looks into; `facts` are its names and numbers.

    Settled, it says `how`. Else `alike` wait, this one among them; `number` is what is typed or
    stands in it, None where nothing can be changed, and `why` is typed.
    """

    letter: int
    facts: tuple[tuple[str, str], ...]
    at: datetime
    chain: tuple[str, ...]
    how: str
    note: str
    alike: int
    number: str | None
    why: str

    def __post_init__(self) -> None:
        check_utc("at", self.at)
        check_count("letter", self.letter)
        check_count("alike", self.alike)


@dataclass(frozen=True, slots=True)
class FailuresPage:
    """`/lab/failures`."""

    shell: Shell
    facts: FailureFacts
    lost: LostList
    letter: LostLetterView | None
    is_operator: bool
    csrf: CsrfToken
    said: str
    problem: str


@dataclass(frozen=True, slots=True)
class RunView:
    """How far it is to hand many back; `ended` is empty while it goes on."""

    what: str
    by: str
    total: int
    handed_back: int
    refused: int
    came_back: int
    left: int
    last_error: str
    ended: str

    def __post_init__(self) -> None:
        for name in ("total", "handed_back", "refused", "came_back", "left"):
            check_count(name, getattr(self, name))


@dataclass(frozen=True, slots=True)
class LettersPage:
    """Dead letters, the oldest first; `asked` is what they were searched by."""

    shell: Shell
    csrf: CsrfToken
    asked: Mapping[str, str]
    statuses: tuple[str, ...]
    kinds: tuple[str, ...]
    letters: tuple[LetterRow, ...]
    counts: tuple[tuple[str, int], ...]
    full_percent: int
    health: str
    further: LocalPath | None = None
    run: RunView | None = None
    said: str = ""
    problem: str = ""

    def __post_init__(self) -> None:
        csrf_token(self.csrf)
        check_count("full_percent", self.full_percent)
        if self.further is not None:
            local_path(self.further)

    @property
    def is_running(self) -> bool:
        """Call this for whether the page shows something that goes on."""
        return self.run is not None and not self.run.ended


@dataclass(frozen=True, slots=True)
class LetterChangeView:
    """One line of a letter's audit."""

    at: datetime
    by: str
    what: str
    notes: str

    def __post_init__(self) -> None:
        check_utc("at", self.at)


@dataclass(frozen=True, slots=True)
class LetterPage:
    """One dead letter; `typed` is an edit that was not taken, `problem` says why.

    `mark` says which payload is shown, and is empty where none can be edited.
    """

    shell: Shell
    csrf: CsrfToken
    row: LetterRow
    facts: tuple[tuple[str, str], ...]
    first_at: datetime
    chain: str
    payload: str
    changes: tuple[LetterChangeView, ...]
    mark: str = ""
    typed: str | None = None
    typed_reason: str = ""
    said: str = ""
    problem: str = ""

    def __post_init__(self) -> None:
        csrf_token(self.csrf)
        check_utc("first_at", self.first_at)

    @property
    def is_pending(self) -> bool:
        """Call this for whether it can be tried again, edited or given up."""
        return self.row.status == "pending"
