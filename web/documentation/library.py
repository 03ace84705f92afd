"""The folder `docs/`: which pages there are, what they are for, and what is in them.

At start it is only looked for, and the reading paths are checked. It is read when somebody asks for
a page first, and each page is rendered when it is asked for first, in a thread, and kept: all of it
takes seconds, which a start has not got. Only names found in the folder are ever looked for, so no
path from outside meets the disk.
"""

import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import trio

from web.documentation import news
from web.documentation.markdown import (
    Article,
    Heading,
    Section,
    render,
    render_program,
    sections_of,
)
from web.documentation.searching import Index, index_of
from web.views import LocalPath, local_path

# The map of all pages. The folder whose map names our first page is ours; another `docs` that an
# installation has beside us is not.
HUB = "README.md"
_MARK = "](start/first-actor.md)"
ROOT = "/docs"
LICENCE_NAME = "licence"
REQUIREMENTS = "reference/requirements"
NAMES = "reference/api"

# What somebody reads in a minute, and how much of a page of code and tables they read at all.
WORDS_A_MINUTE = 220
MINUTES_MAX = 20
PATH_PAGES_MAX = 8
# What a search shows; further words say more than further results.
RESULTS_MAX = 30
QUERY_LENGTH_MAX = 100

_FOLDERS = {
    "start": "Start",
    "learn": "Learning paths",
    "how_to": "How to",
    "cookbook": "Cookbook",
    "runbooks": "Runbooks",
    "explain": "Explain",
    "reference": "Reference",
    NAMES: "Reference of names",
    "examples": "Examples",
    "news": "What changed",
}
_ROW = re.compile(r"^\| \[[^\]]+\]\(([^)#]+)\) \| (.+?) \|$", re.MULTILINE)
_WORD = re.compile(r"\w+")
# Who asks for an id that nobody gave wants no pages with its number.
_ID = re.compile(r"[A-Z]{2,5}-[0-9]+")
_FENCED = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)


class ReadingPathBroken(Exception):
    """Raised at start when a reading path names a page that is not there, or has too many."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"reading path {path!r}: {problem}; nothing was started")
        self.path, self.problem = path, problem


@dataclass(frozen=True, slots=True)
class ReadingPath:
    """An ordered list of pages for one kind of reader."""

    name: str
    reader: str
    promise: str
    pages: tuple[str, ...]


# SITE-17
READING_PATHS = (
    ReadingPath(
        "newcomer",
        "Just arrived",
        "See it work, and have an actor of your own that survives a crash.",
        ("start/first-actor", "explain/supervision", "how_to/find-out-why-it-crashed",
         "how_to/choose-intensity", "examples/crawler.py"),
    ),
    ReadingPath(
        "builder",
        "Building a service",
        "From the first actor to one that keeps events, has clients and is deployed.",
        ("start/first-actor", "how_to/names-and-refs", "explain/event_store",
         "how_to/test-your-own-actors", "how_to/own-page", "how_to/own-stream",
         "how_to/own-topic", "how_to/deploy"),
    ),
    ReadingPath(
        "reviewer",
        "Judging it",
        "What is guaranteed, what it costs, and what was broken on purpose to find out.",
        ("explain/guarantees", "explain/supervision", "explain/event_store", "explain/http",
         "reference/reliability", "reference/performance", "reference/requirements"),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Page:
    """A page as it lies in the folder. `name` is its path without `.md`."""

    name: str
    title: str
    purpose: str
    text: str
    sections: tuple[Section, ...]
    minutes: int

    @property
    def headings(self) -> tuple[Heading, ...]:
        """Call this for the headings in their order."""
        return tuple(section.heading for section in self.sections)

    @property
    def folder(self) -> str:
        """Call this for the folder it lies in; empty at the top."""
        return posixpath.dirname(self.name)

    @property
    def is_code(self) -> bool:
        """Call this to learn whether it is a program, and no text."""
        return self.name.endswith(".py")


@dataclass(frozen=True, slots=True)
class Found:
    """One place that a search found."""

    page: Page
    heading: Heading


@dataclass
class Library:
    """All pages by name, in the order of the map."""

    pages: Mapping[str, Page]
    _articles: dict[str, Article] = field(default_factory=dict)
    _index: Index = field(init=False)
    # One at a time: the thread takes the interpreter from everybody else.
    _rendering: trio.Lock = field(default_factory=trio.Lock)

    def __post_init__(self) -> None:
        self._index = index_of(
            (page.name, f"{page.name} {page.title} {page.purpose}", page.sections)
            for page in self.pages.values()
        )

    def folders(self) -> list[tuple[str, list[Page]]]:
        """Call this for the navigation: every folder, and its pages in order."""
        shown: dict[str, list[Page]] = {}
        for page in self.pages.values():
            if page.folder:
                shown.setdefault(page.folder, []).append(page)
        order = list(_FOLDERS)
        known = sorted(shown, key=lambda name: order.index(name) if name in order else len(order))
        return [(name, shown[name]) for name in known]

    def folder_title(self, folder: str) -> str:
        """Call this for what a folder is called; the documents themselves for none."""
        # What is told of a name has a folder for each package.
        known = NAMES if folder.startswith(f"{NAMES}/") else folder
        return _FOLDERS.get(known, folder) or "Documents"

    async def article(self, name: str) -> Article:
        """Call this for a page that is in `pages`; the first time it is rendered, in a thread."""
        if name not in self._articles:
            async with self._rendering:
                if name not in self._articles:
                    page = self.pages[name]
                    self._articles[name] = await trio.to_thread.run_sync(self.rendered, page)
        return self._articles[name]

    def rendered(self, page: Page) -> Article:
        """Call this to render a page here and now; blocking."""
        if page.is_code:
            return Article(render_program(page.title, page.text), page.headings)
        return render(page.text, lambda written: self.target(page, written))

    def target(self, page: Page, written: str) -> str | None:
        """Call this for where a link of `page` leads on the site; None when nowhere."""
        place, _, anchor = written.partition("#")
        name = page.name
        if place:
            path = posixpath.normpath(posixpath.join(page.folder, unquote(place)))
            name = "" if path == HUB else path.removesuffix(".md")
            is_written_right = path.endswith((".md", ".py"))
            if not is_written_right or (name and name not in self.pages):
                return None
        if anchor and not self._has(name, anchor):
            return None
        if not place:
            return f"#{anchor}"
        return address(name) + (f"#{anchor}" if anchor else "")

    def _has(self, name: str, anchor: str) -> bool:
        if name not in self.pages:
            return False
        page = self.pages[name]
        if any(heading.anchor == anchor for heading in page.headings):
            return True
        return name == REQUIREMENTS and bool(self._requirement(anchor.upper()))

    def search(self, query: str) -> list[Found]:
        """Call this to find the sections that answer `query`; the best come first.

        How they are weighed says `searching`. An id of a requirement finds its row.
        """
        asked = query.strip().upper()
        if _ID.fullmatch(asked):
            return self._requirement(asked)
        return [
            Found(self.pages[entry.name], entry.section.heading)
            for entry in self._index.find(query)
        ]

    def _requirement(self, asked: str) -> list[Found]:
        page = self.pages.get(REQUIREMENTS)
        if page is None or f"\n| {asked} |" not in page.text:
            return []
        return [Found(page, Heading(2, asked, asked.lower()))]


def address(name: str) -> str:
    """Call this for the path of a page on the site; the hub's for an empty name."""
    return f"{ROOT}/{name}" if name else ROOT


class Documents:
    """The folder, and what is read of it once somebody asks."""

    def __init__(self, folder: Path, licence: str = "") -> None:
        """Raise `ReadingPathBroken`; call it where reading a folder blocks nobody."""
        self._folder, self._licence = folder, licence
        self._library: Library | None = None
        self._reading = trio.Lock()
        for path in READING_PATHS:
            check_path(path, lambda name: (folder / _file_of(name)).is_file())

    @property
    def has_licence(self) -> bool:
        """Call this to learn whether the licence is among the pages."""
        return bool(self._licence)

    async def library(self) -> Library:
        """Call this for the pages; the first time they are read, in a thread.

        Raises `OSError` for a file that cannot be read. Cancelling it loses nothing.
        """
        if self._library is None:
            async with self._reading:
                if self._library is None:
                    self._library = await trio.to_thread.run_sync(self.read)
        return self._library

    def read(self) -> Library:
        """Call this to read all pages here and now; blocking.

        Raises `OSError`, and `NewsMisnamed`, which the tests of a release have ruled out.
        """
        purposes = {
            posixpath.normpath(target).removesuffix(".md"): purpose
            for target, purpose in _ROW.findall(_text(self._folder / HUB))
        }
        files = {
            file.relative_to(self._folder).as_posix().removesuffix(".md"): file
            for pattern in ("*/**/*.md", "examples/**/*.py")
            for file in sorted(self._folder.glob(pattern))
            if not any(part.startswith((".", "__")) for part in _parts(file, self._folder))
            and _parts(file, self._folder)[0] != news.FOLDER
        }
        # What the map names comes in its order, what it does not name behind it.
        order = [*(name for name in purposes if name in files), *files]
        pages = {name: _page(name, files[name], purposes.get(name, "")) for name in order}
        if told := {file.name: _text(file) for file in self._folder.glob(f"{news.FOLDER}/*.md")}:
            pages[news.PAGE] = _page_of(news.PAGE, news.what_changed(told), news.PURPOSE)
        if self._licence:
            pages[LICENCE_NAME] = _licence_page(self._licence)
        return Library(pages)


def place_of_requirement(name: str) -> LocalPath:
    """Call this for where a requirement stands, by its id."""
    return local_path(f"{address(REQUIREMENTS)}#{name.lower()}")


def maybe_documents(folder: Path, licence: str = "") -> Documents | None:
    """Call this once at start; None where our `docs/` is not installed.

    Raises `ReadingPathBroken`, and `OSError` for a map that cannot be read. Blocking.
    """
    hub = folder / HUB
    is_ours = hub.is_file() and _MARK in _text(hub)
    return Documents(folder, licence) if is_ours else None


def check_path(path: ReadingPath, has_page: Callable[[str], bool]) -> None:
    """Call this to refuse a reading path nobody can walk; raises `ReadingPathBroken`."""
    if not 1 <= len(path.pages) <= PATH_PAGES_MAX:
        raise ReadingPathBroken(path.name, f"has to have 1 to {PATH_PAGES_MAX} pages")
    for name in path.pages:
        if not has_page(name):
            raise ReadingPathBroken(path.name, f"there is no page {name!r}")


def _file_of(name: str) -> str:
    return name if name.endswith(".py") else f"{name}.md"


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def _parts(file: Path, folder: Path) -> tuple[str, ...]:
    return file.relative_to(folder).parts


def _licence_page(text: str) -> Page:
    section = _section("Licence", "licence", text)
    purpose = "know what you may do with it"
    return Page(LICENCE_NAME, "Licence", purpose, f"# Licence\n\n{text}", (section,), 1)


def _page(name: str, file: Path, purpose: str) -> Page:
    text = _text(file)
    if file.suffix != ".py":
        return _page_of(name, text, purpose)
    # A part of an example that the map names as a whole says itself what it is for.
    purpose = purpose or text.lstrip('"').partition("\n")[0].rstrip('".')
    sections = (_section(file.name, "top", text),)
    return Page(name, file.name, purpose.replace("`", ""), text, sections, _minutes(text))


def _page_of(name: str, text: str, purpose: str) -> Page:
    sections = sections_of(text)
    title = sections[0].heading.text if sections else posixpath.basename(name)
    if name.startswith(f"{NAMES}/") and not purpose:
        # The map names the packages; what is below them says itself what it is of.
        purpose = f"look up names of {title.partition(':')[0]}"
    return Page(name, title, purpose.replace("`", ""), text, sections, _minutes(text))


def _section(title: str, anchor: str, text: str) -> Section:
    return Section(Heading(1, title, anchor), text)


def _minutes(text: str) -> int:
    words = len(_WORD.findall(_FENCED.sub("", text)))
    return max(1, min(MINUTES_MAX, round(words / WORDS_A_MINUTE)))
