"""What the pages under `/docs` show: the hub with its reading paths, what a search found, a page.

Titles and purposes are text. The `html` of a page is the one thing here that is markup already: it
was made by `web.documentation`, where all that came from a file is escaped.
"""

from dataclasses import dataclass, field

from markupsafe import Markup

from web.views.pages import Shell
from web.views.words import LocalPath, check_count, check_text, local_path


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
    """A page of the documents with what leads to others. All is the same for every reader."""

    shell: Shell
    title: str
    folder: str
    minutes: int
    html: Markup
    contents: tuple[DocumentLink, ...]
    folders: tuple[DocumentFolder, ...]
    steps: tuple[StepOfPath, ...] = field(default=())

    def __post_init__(self) -> None:
        check_text("title", self.title)
        check_count("minutes", self.minutes, least=1)
