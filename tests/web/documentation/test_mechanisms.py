"""What the mechanism pages say is checked when the site starts, file by file and field by field."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from web.documentation import maybe_documents
from web.documentation.work import BadContent, load_mechanisms
from web.documentation.work.mechanisms import CONTENT, SLUGS

ROOT = Path(__file__).parents[3]
ONE = "command-sse.toml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CONTENT, tmp_path / "content"))


def change(folder: Path, before: str, after: str) -> None:
    file = folder / ONE
    text = file.read_text()
    assert before in text, before
    file.write_text(text.replace(before, after, 1))


def test_there_is_one_for_each_page(folder: Path) -> None:  # SITE-10, SITE-14
    assert tuple(one.slug for one in load_mechanisms(folder)) == SLUGS


@pytest.mark.parametrize(
    ("before", "after", "field"),
    [
        ('title = "A click asks', 'titel = "A click asks', "titel"),
        ('title = "A click asks, the stream answers"\n', "", "title"),
        ('eyebrow = "Commands and streams"', 'eyebrow = " "', "eyebrow"),
        ('eyebrow = "Commands and streams"', "eyebrow = 7", "eyebrow"),
        ('eyebrow = "Commands', 'more = "x"\neyebrow = "Commands', "more"),
        ('lanes = ["tab A", "HTTP", "session actor", "streams", "tab B"]', "lanes = []", "lanes"),
        ('lanes = ["tab A",', 'lanes = [" ",', "lanes"),
        ("{ from = 0, to = 1,", "{ from = 0, to = 5,", "arrows[1].to"),
        ("{ from = 0, to = 1,", "{ from = 0, to = 0,", "arrows[1].to"),
        ("{ from = 0, to = 1,", "{ from = true, to = 1,", "arrows[1].from"),
        ('title = "It is refused by one table, or taken"', 'title = ""', "steps[2].title"),
        ('ids = ["SITE-101"]', "ids = []", "guarantees[1].ids"),
        ('ids = ["SITE-101"]', 'ids = ["site 101"]', "guarantees[1].ids"),
        ('path = "/lab"', 'path = "/labs"', "links[1].path"),
        ('path = "/lab"', 'path = "https://example.com/lab"', "links[1].path"),
        ('eyebrow = "Commands and streams"', "eyebrow = ", "file"),
    ],
)
def test_a_broken_file_stops_the_start_and_is_named(
    folder: Path, before: str, after: str, field: str
) -> None:  # SITE-14
    change(folder, before, after)
    with pytest.raises(BadContent) as caught:
        load_mechanisms(folder)
    assert (caught.value.file, caught.value.field) == (ONE, field)
    assert str(caught.value).startswith(f"{ONE}: {field} ")


def test_a_missing_and_an_unknown_file_stop_the_start(folder: Path) -> None:  # SITE-14
    shutil.copy(folder / ONE, folder / "another.toml")
    with pytest.raises(BadContent, match=r"another\.toml"):
        load_mechanisms(folder)
    (folder / "another.toml").unlink()
    (folder / ONE).unlink()
    with pytest.raises(BadContent, match=r"command-sse\.toml: file is missing"):
        load_mechanisms(folder)


def test_too_few_steps_stop_the_start(folder: Path) -> None:  # SITE-14
    file = folder / ONE
    head, *steps = file.read_text().split("[[steps]]")
    tail = steps[-1][steps[-1].index("[[guarantees]]") :]
    file.write_text(head + "".join(f"[[steps]]{one}" for one in steps[:3]) + tail)
    with pytest.raises(BadContent, match="steps must be a list of 4 to 8"):
        load_mechanisms(folder)


def test_what_they_name_is_there() -> None:  # SITE-10, SITE-14
    rows = (ROOT / "docs" / "reference" / "requirements.md").read_text()
    documents = maybe_documents(ROOT / "docs")
    assert documents is not None
    library = documents.read()
    for one in load_mechanisms():
        for name in [name for each in one.guarantees for name in each.ids]:
            assert re.search(rf"^\| {name} \|", rows, re.MULTILINE), name
        for link in one.links:
            place = link.path.removeprefix("/docs/")
            assert place == link.path or place in library.pages, link.path
