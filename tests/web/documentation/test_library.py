"""The folder of documents: what is in it, where its links lead, and what a search finds."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.web.documentation.questions import QUESTIONS
from web.documentation import READING_PATHS, Library, ReadingPathBroken, markdown, maybe_documents
from web.documentation.library import PATH_PAGES_MAX, check_path
from web.documentation.plain import list_for_readers, markdown_of

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def library() -> Library:
    documents = maybe_documents(ROOT / "docs", "As it is.")
    assert documents is not None
    return documents.read()


def test_every_file_is_a_page(library: Library) -> None:  # SITE-15
    docs = ROOT / "docs"
    files = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")} - {"README.md"}
    files = {name for name in files if not name.startswith("news/")} | {"news/what-changed"}
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


def test_there_are_questions_enough() -> None:  # DOC-6
    assert len(dict(QUESTIONS)) == len(QUESTIONS) >= 40


@pytest.mark.parametrize(("query", "expected"), QUESTIONS)
def test_a_search_finds_the_page_one_would_look_for(
    library: Library, query: str, expected: str
) -> None:
    names = [found.page.name for found in library.search(query)[:3]]  # DOC-6
    assert expected in names


NOTHING = ["", "   ", "%%%", "xyzzy-plugh", "SUP-99999", "\x00", "🦀 ∀ <xqb>"]


@pytest.mark.parametrize("query", NOTHING)
def test_a_search_for_nothing_finds_nothing(library: Library, query: str) -> None:
    assert library.search(query) == []


def test_a_page_stands_once_before_its_other_sections(library: Library) -> None:  # DOC-6
    # Many sections of one page say it; the others are not hidden below them.
    names = [found.page.name for found in library.search("retry")[:3]]
    assert len(set(names)) == 3


def test_every_page_is_markdown_too(library: Library) -> None:  # DOC-8
    for page in library.pages.values():
        text = markdown_of(page)
        assert text.startswith("# "), page.name
        # A program stands in one block: what is in it ends none.
        assert not page.is_code or text.count("````") == 2, page.name
    listed = re.findall(r"\]\((\S+)\)", list_for_readers(library, "1.2.3", "https://a.test"))
    whole = {f"https://a.test/docs/{name}.md" for name in library.pages if "/" in name}
    assert len(listed) == len(whole)
    assert set(listed) == whole


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
