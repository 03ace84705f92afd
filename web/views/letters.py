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
    LocalPath,
    check_count,
    check_utc,
    csrf_token,
    local_path,
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
class LostView:
    """Messages of one class that an actor of a sandbox lost for one reason; `message` the last."""

    place: str
    reason: str
    message_type: str
    message: str
    count: int
    ago_s: int
    chain: tuple[str, ...]
    # The newest that nothing was done with, and how many there are; whether it can be changed.
    letter: int
    waiting: int
    is_editable: bool

    def __post_init__(self) -> None:
        for name in ("count", "ago_s", "letter", "waiting"):
            check_count(name, getattr(self, name))


@dataclass(frozen=True, slots=True)
class FailuresPage:
    """`/lab/failures`; `letters` is None while nobody knows."""

    shell: Shell
    dependencies: tuple[OutsideView, ...]
    letters: LettersCount | None
    lost: tuple[LostView, ...]
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
    last_error: str
    ended: str

    def __post_init__(self) -> None:
        for name in ("total", "handed_back", "refused", "came_back"):
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
