"""From the library to what the pages show; what is the same for all readers is made once."""

from dataclasses import dataclass, field
from urllib.parse import quote

from markupsafe import Markup

from web.documentation.library import (
    NAMES,
    READING_PATHS,
    Found,
    Library,
    Page,
    ReadingPath,
    address,
)
from web.documentation.markdown import Heading
from web.views import (
    DocumentFolder,
    DocumentLink,
    DocumentPage,
    Doorway,
    FoundView,
    LocalPath,
    PathView,
    Shell,
    StepOfPath,
    local_path,
)

# A list of contents that is longer than a window helps nobody; then only chapters are named.
CONTENTS_MAX = 24
_CHAPTER, _SECTION = 2, 3


@dataclass(frozen=True, slots=True)
class _Parts:
    """All of a page but its frame."""

    page: Page
    html: Markup
    contents: tuple[DocumentLink, ...]
    folders: tuple[DocumentFolder, ...]
    steps: tuple[StepOfPath, ...]


@dataclass
class DocumentViews:
    """Makes what is shown of a library."""

    library: Library
    _parts: dict[str, _Parts] = field(default_factory=dict)

    async def page(self, name: str, shell: Shell) -> DocumentPage:
        """Call this for a page that the library has; `shell` is the reader's."""
        parts = self._parts.get(name)
        if parts is None:
            page = self.library.pages[name]
            article = await self.library.article(name)
            # Two who come at once get the same: what is kept of the page goes by its identity.
            parts = self._parts.setdefault(
                name,
                _Parts(
                    page,
                    Markup(article.html),  # made by `markdown`, which lets nothing through
                    _contents(page),
                    self.folders(name),
                    tuple(self._steps(name)),
                ),
            )
        found = parts.page
        return DocumentPage(
            shell,
            found.title,
            self.library.folder_title(found.folder),
            found.minutes,
            local_path(f"{address(name)}.md"),
            parts.html,
            parts.contents,
            parts.folders,
            parts.steps,
        )

    def folders(self, current: str = "") -> tuple[DocumentFolder, ...]:
        """Call this for the navigation, with the page one is on.

        Of the reference of names it has the packages; each leads to the pages of its subjects.
        """
        return tuple(
            DocumentFolder(
                local_path(f"{address('')}#{folder.replace('/', '-')}"),
                self.library.folder_title(folder),
                tuple(_link(page, is_current=_is_at(current, page)) for page in pages),
            )
            for folder, pages in self.library.folders()
            if not folder.startswith(f"{NAMES}/")
        )

    def paths(self) -> tuple[PathView, ...]:
        """Call this for the reading paths."""
        return tuple(
            PathView(path.reader, path.promise, tuple(self._link(name) for name in path.pages))
            for path in READING_PATHS
        )

    def _link(self, name: str) -> DocumentLink:
        return _link(self.library.pages[name])

    def _steps(self, name: str) -> list[StepOfPath]:
        return [self._step(path, name) for path in READING_PATHS if name in path.pages]

    def _step(self, path: ReadingPath, name: str) -> StepOfPath:
        at = path.pages.index(name)
        is_last = at + 1 == len(path.pages)
        following = None if is_last else self._link(path.pages[at + 1])
        return StepOfPath(path.reader, at + 1, len(path.pages), following)


def doorways() -> tuple[Doorway, ...]:
    """Call this for where each reading path begins."""
    return tuple(
        Doorway(local_path(address(path.pages[0])), path.reader, path.promise)
        for path in READING_PATHS
    )


def found_view(found: Found) -> FoundView:
    """Call this for one line of what a search found."""
    page, heading = found.page, found.heading
    is_title = heading.level == 1
    place = local_path(address(page.name)) if is_title else _place(page, heading)
    # The title is the page; what it is for says more than its title twice.
    return FoundView(place, heading.text, page.purpose if is_title else page.title)


def _is_at(current: str, page: Page) -> bool:
    """Whether one is on a page, or on one of a package's subjects."""
    is_within = page.folder == NAMES and current.startswith(f"{page.name}/")
    return is_within or page.name == current


def _link(page: Page, *, is_current: bool = False) -> DocumentLink:
    return DocumentLink(
        local_path(address(page.name)), page.title, page.purpose, page.minutes, is_current
    )


def _place(page: Page, heading: Heading) -> LocalPath:
    return local_path(f"{address(page.name)}#{quote(heading.anchor)}")


def _contents(page: Page) -> tuple[DocumentLink, ...]:
    shown = [one for one in page.headings if one.level in (_CHAPTER, _SECTION)]
    if len(shown) > CONTENTS_MAX:
        shown = [one for one in shown if one.level == _CHAPTER]
    return tuple(
        DocumentLink(_place(page, one), one.text, "section" if one.level == _SECTION else "")
        for one in shown
    )
