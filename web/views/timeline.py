"""What the timeline's panel shows: flows, and the events of the one that is chosen."""

from dataclasses import dataclass
from datetime import datetime

from web.views.words import ElementId, check_text, check_utc, element_id


@dataclass(frozen=True, slots=True)
class PairView:
    """A name and its value, as text."""

    name: str
    value: str


def tone_of(status: int | None) -> str:
    """Call this for the colour of a status: fine, refused, failed, or none yet."""
    if status is None:
        return "open"
    if status < 400:
        return "fine"
    return "refused" if status < 500 else "failed"


@dataclass(frozen=True, slots=True)
class FlowView:
    """One request in the list."""

    id: ElementId
    short: str
    title: str
    at: datetime
    status: int | None
    is_chosen: bool

    def __post_init__(self) -> None:
        element_id(self.id)
        check_text("title", self.title)
        check_utc("at", self.at)

    @property
    def tone(self) -> str:
        """The colour of its status."""
        return tone_of(self.status)


@dataclass(frozen=True, slots=True)
class EventView:
    """One thing that happened: when, where (`request`, `backend`, `sse`), what, and its values."""

    at: datetime
    stage: str
    kind: str
    level: str
    pairs: tuple[PairView, ...]

    def __post_init__(self) -> None:
        check_utc("at", self.at)


@dataclass(frozen=True, slots=True)
class FlowDetailView:
    """The chosen flow with its events; it may have left the list."""

    short: str
    title: str
    status: int | None
    is_listed: bool
    events: tuple[EventView, ...]

    @property
    def tone(self) -> str:
        """The colour of its status."""
        return tone_of(self.status)


@dataclass(frozen=True, slots=True)
class TimelineView:
    """The whole panel."""

    flows: tuple[FlowView, ...]
    chosen: FlowDetailView | None
