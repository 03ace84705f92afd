"""What the pages to be read show: under `/docs` the hub, what a search found and a page, and under
`/work` the mechanisms with their drawings.

Titles and purposes are text. The `html` of a page is the one thing here that is markup already: it
was made by `web.documentation`, where all that came from a file is escaped.
"""

from dataclasses import dataclass, field

from markupsafe import Markup

from web.views.pages import LabPage, NavLink, Shell
from web.views.words import (
    ElementId,
    LocalPath,
    check_count,
    check_text,
    element_id,
    local_path,
)


@dataclass(frozen=True, slots=True)
class DocumentLink:
    """A link to a page; `detail` says what it is for. `minutes` is None where nobody counted."""

    path: LocalPath
    title: str
    detail: str = ""
    minutes: int | None = None
    is_current: bool = False

    def __post_init__(self) -> None:
        local_path(self.path)
        check_text("title", self.title)
        if self.minutes is not None:
            check_count("minutes", self.minutes, least=1)


@dataclass(frozen=True, slots=True)
class DocumentFolder:
    """The pages of one folder, in the order of the map."""

    anchor: LocalPath
    title: str
    pages: tuple[DocumentLink, ...]

    def __post_init__(self) -> None:
        local_path(self.anchor)
        check_text("title", self.title)


@dataclass(frozen=True, slots=True)
class PathView:
    """A reading path: for whom, what for, and its pages in order."""

    reader: str
    promise: str
    pages: tuple[DocumentLink, ...]

    def __post_init__(self) -> None:
        check_text("reader", self.reader)
        check_text("promise", self.promise)

    @property
    def minutes(self) -> int:
        """Call this for what the whole path takes."""
        return sum(page.minutes or 0 for page in self.pages)


@dataclass(frozen=True, slots=True)
class FoundView:
    """What a search found: a heading, and the page it stands on."""

    path: LocalPath
    text: str
    page: str

    def __post_init__(self) -> None:
        local_path(self.path)
        check_text("text", self.text)


@dataclass(frozen=True, slots=True)
class SearchView:
    """What somebody looked for, in their words, and what there is; `is_cut` if there is more."""

    query: str
    found: tuple[FoundView, ...]
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class HubPage:
    """The whole of `/docs`; with a `search` its results stand first."""

    shell: Shell
    paths: tuple[PathView, ...]
    folders: tuple[DocumentFolder, ...]
    search: SearchView | None = None


@dataclass(frozen=True, slots=True)
class StepOfPath:
    """Where a page stands on a reading path, and what comes next on it; None at its end."""

    reader: str
    number: int
    count: int
    next: DocumentLink | None


@dataclass(frozen=True, slots=True)
class DocumentPage:
    """A page of the documents with what leads to others. All is the same for every reader.

    `as_markdown` is where its text is, for programs.
    """

    shell: Shell
    title: str
    folder: str
    minutes: int
    as_markdown: LocalPath
    html: Markup
    contents: tuple[DocumentLink, ...]
    folders: tuple[DocumentFolder, ...]
    steps: tuple[StepOfPath, ...] = field(default=())

    def __post_init__(self) -> None:
        check_text("title", self.title)
        check_count("minutes", self.minutes, least=1)


# -- the mechanisms --------------------------------------------------------------------------------

# The drawing's measures, in its own units; one unit is a pixel where there is room for all of it.
LANE_WIDTH, LANE_TOP, LANE_HEIGHT, ROW_HEIGHT = 160, 8, 34, 44


@dataclass(frozen=True, slots=True)
class ArrowView:
    """One numbered message of a drawing, from lane to lane, counted from 0."""

    number: int
    start: int
    end: int
    label: str

    def __post_init__(self) -> None:
        check_count("number", self.number, least=1)
        check_text("label", self.label)

    @property
    def y(self) -> int:
        """Call this for how far down it is drawn."""
        return LANE_TOP + LANE_HEIGHT + ROW_HEIGHT * self.number

    @property
    def x_start(self) -> int:
        """Call this for where it begins."""
        return lane_x(self.start)

    @property
    def x_end(self) -> int:
        """Call this for where its head is: a little before the lane."""
        return lane_x(self.end) + (7 if self.end < self.start else -7)

    @property
    def x_label(self) -> int:
        """Call this for where its words begin."""
        return lane_x(min(self.start, self.end)) + 26

    @property
    def x_number(self) -> int:
        """Call this for where its number stands."""
        return lane_x(min(self.start, self.end)) + 13


def lane_x(lane: int) -> int:
    """Call this for the middle of a lane."""
    return LANE_WIDTH // 2 + LANE_WIDTH * lane


@dataclass(frozen=True, slots=True)
class DiagramView:
    """A drawing of who sends what to whom; `words` says the same without it."""

    words: str
    lanes: tuple[str, ...]
    arrows: tuple[ArrowView, ...]

    def __post_init__(self) -> None:
        check_text("words", self.words)

    @property
    def width(self) -> int:
        """Call this for its width."""
        return LANE_WIDTH * len(self.lanes)

    @property
    def height(self) -> int:
        """Call this for its height."""
        return LANE_TOP + LANE_HEIGHT + ROW_HEIGHT * len(self.arrows) + 22

    @property
    def heads(self) -> tuple[tuple[int, str], ...]:
        """Call this for the middle and the name of each lane."""
        return tuple((lane_x(number), name) for number, name in enumerate(self.lanes))


@dataclass(frozen=True, slots=True)
class GuaranteeView:
    """What holds, and the ids that say so, each with the way to it where there is one."""

    text: str
    ids: tuple[tuple[str, LocalPath | None], ...]

    def __post_init__(self) -> None:
        check_text("text", self.text)


@dataclass(frozen=True, slots=True)
class MechanismView:
    """A mechanism as its page shows it. `steps` are titles with texts."""

    path: LocalPath
    eyebrow: str
    title: str
    summary: str
    diagram: DiagramView
    steps: tuple[tuple[str, str], ...]
    guarantees: tuple[GuaranteeView, ...]
    links: tuple[NavLink, ...]

    def __post_init__(self) -> None:
        local_path(self.path)
        check_text("title", self.title)


@dataclass(frozen=True, slots=True)
class WorkListPage:
    """The whole of `/work`."""

    shell: Shell
    mechanisms: tuple[MechanismView, ...]


@dataclass(frozen=True, slots=True)
class WorkPage:
    """The page of a mechanism. `panel` names the panel it shows live, of what `lab` holds."""

    shell: Shell
    mechanism: MechanismView
    panel: ElementId
    lab: LabPage

    def __post_init__(self) -> None:
        element_id(self.panel)
