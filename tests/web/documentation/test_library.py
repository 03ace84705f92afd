"""The folder of documents: what is in it, where its links lead, and what a search finds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from web.documentation import READING_PATHS, Library, ReadingPathBroken, markdown, maybe_documents
from web.documentation.library import PATH_PAGES_MAX, check_path

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def library() -> Library:
    documents = maybe_documents(ROOT / "docs", "As it is.")
    assert documents is not None
    return documents.read()


def test_every_file_is_a_page(library: Library) -> None:  # SITE-15
    docs = ROOT / "docs"
    files = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")} - {"README.md"}
    files |= {
        path.relative_to(docs).as_posix()
        for path in (docs / "examples").rglob("*.py")
        if not path.name.startswith("__")
    }
    assert {name.removesuffix(".md") for name in files} | {"licence"} == set(library.pages)
    assert all(page.title and page.purpose for page in library.pages.values())


@pytest.mark.slow
def test_every_link_of_every_page_leads_somewhere(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:  # SITE-16
    # What takes the time is the colour.
    monkeypatch.setattr(markdown, "highlight", lambda text, *_: "")
    for page in library.pages.values():
        article = library.rendered(page)
        assert article.headings == page.headings or page.is_code, page.name
        for written in article.dead_links:
            # To other files of the project a page here cannot lead; they have to be there.
            place = (ROOT / "docs" / page.folder / written.partition("#")[0]).resolve()
            assert place.is_file(), (page.name, written)
            assert not place.is_relative_to(ROOT / "docs"), (page.name, written)


@pytest.mark.parametrize(
    ("written", "leads_to"),
    [
        ("../explain/supervision.md", "/docs/explain/supervision"),
        (
            "../explain/supervision.md#what-may-be-written",
            "/docs/explain/supervision#what-may-be-written",
        ),
        ("../explain/supervision.md#nowhere", None),
        ("#an-actor", "#an-actor"),
        ("#nowhere", None),
        ("../README.md", "/docs"),
        ("../examples/crawler.py", "/docs/examples/crawler.py"),
        ("../reference/requirements.md#sup-30", "/docs/reference/requirements#sup-30"),
        ("../reference/requirements.md#sup-99999", None),
        ("../../../../etc/passwd", None),
        ("../../README.md", None),
        ("../explain/supervision", None),
        ("/etc/passwd.md", None),
    ],
)
def test_where_a_link_leads(library: Library, written: str, leads_to: str | None) -> None:
    page = library.pages["start/first-actor"]
    assert library.target(page, written) == leads_to


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("backup", "how_to/production_database"),
        ("restore", "how_to/backup"),
        ("mailbox full", "how_to/overflow-policy"),
        ("slow actor", "how_to/overflow-policy"),
        ("websocket", "reference/websocket"),
        ("password", "explain/accounts"),
        ("asyncio", "how_to/from-asyncio"),
        ("threads", "how_to/from-threads"),
        ("intensity", "how_to/choose-intensity"),
        ("timers", "how_to/timers-and-stash"),
        ("stash", "how_to/timers-and-stash"),
        ("forget a person", "how_to/forget-a-person"),
        ("snapshots", "explain/event_store"),
        ("tenants", "how_to/multi-tenant"),
        ("settings", "reference/settings"),
        ("mypy", "how_to/check-types"),
        ("monitor", "how_to/links-and-monitors"),
        ("retry", "how_to/guard-a-call"),
        ("proxy", "how_to/deploy"),
        ("your first actor", "start/first-actor"),
        ("archive a stream", "how_to/close-a-stream"),
        ("rename events", "how_to/evolve-events"),
        ("performance", "reference/performance"),
        ("what is guaranteed", "explain/guarantees"),
        ("MailboxFull", "reference/api/actors"),
        ("SUP-30", "reference/requirements"),
        (" sup-30 ", "reference/requirements"),
        ("greenroom timers", "reference/command_line"),
        ("crawler", "examples/crawler.py"),
    ],
)
def test_a_search_finds_the_page_one_would_look_for(
    library: Library, query: str, expected: str
) -> None:
    names = [found.page.name for found in library.search(query)[:3]]  # DOC-6
    assert expected in names


@pytest.mark.parametrize("query", ["", "   ", "%%%", "xyzzy-plugh", "SUP-99999", "\x00"])
def test_a_search_for_nothing_finds_nothing(library: Library, query: str) -> None:
    assert library.search(query) == []


def test_reading_paths_can_be_walked(library: Library) -> None:  # SITE-17
    assert [path.name for path in READING_PATHS] == ["newcomer", "builder", "reviewer"]
    for path in READING_PATHS:
        check_path(path, lambda name: name in library.pages)
    with pytest.raises(ReadingPathBroken, match="no page 'gone'"):
        check_path(replace(path, pages=("gone",)), lambda name: name in library.pages)
    with pytest.raises(ReadingPathBroken, match="1 to 8 pages"):
        check_path(replace(path, pages=path.pages[:1] * (PATH_PAGES_MAX + 1)), lambda _: True)


def test_another_folder_of_that_name_is_not_ours(tmp_path: Path) -> None:  # SITE-15
    assert maybe_documents(tmp_path / "docs") is None
    (tmp_path / "README.md").write_text("# Another project\n")
    assert maybe_documents(tmp_path) is None
    (tmp_path / "README.md").write_text("| [a](start/first-actor.md) | have one |\n")
    with pytest.raises(ReadingPathBroken, match="start/first-actor"):
        maybe_documents(tmp_path)


def test_hidden_files_are_no_pages(tmp_path: Path) -> None:  # SITE-15
    for path in READING_PATHS:
        for name in path.pages:
            file = tmp_path / (name if name.endswith(".py") else f"{name}.md")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("# A page\n")
    for name in (".hidden/x.md", "start/.x.md", "start/__pycache__/y.md", "start/x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("# Secret\n")
    (tmp_path / "README.md").write_text("| [a](start/first-actor.md) | have one |\n")
    documents = maybe_documents(tmp_path)
    assert documents is not None
    titles = {page.title for page in documents.read().pages.values()}
    assert "Secret" not in titles
    assert "A page" in titles
