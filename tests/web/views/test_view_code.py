"""The sample on the home page is short, whole, and runs."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.patience import PATIENCE_S
from tests.web.views import samples
from web.views.code import SAMPLE_LOG, SAMPLE_OUTPUT, code_pieces, sample_code, sample_source

ROOT = Path(__file__).parents[3]


def test_the_sample_has_the_fourteen_lines_it_says() -> None:
    # SITE-5
    lines = [line for line in sample_source().splitlines() if line.strip()]
    assert len(lines) == 14
    assert max(len(line) for line in lines) <= 72


def test_what_is_shown_is_the_source() -> None:
    # SITE-5
    assert "".join(piece.text for piece in sample_code().pieces) == sample_source()
    page = samples.read(samples.renderer().home_page(samples.home()))
    assert sample_source() in page.text


@pytest.mark.slow
def test_what_is_shown_runs() -> None:
    # SITE-5: exactly the text on the page, in a process of its own
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", sample_source()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    # It crashes on purpose, and its supervisor says so; nothing else is said.
    assert done.stdout == f"{SAMPLE_OUTPUT}\n"
    (line,) = done.stderr.splitlines()
    assert line.startswith(SAMPLE_LOG)


LINES = st.sampled_from(
    [
        "x = 1",
        "def f() -> int:\n    return 2",
        "class A:\n    '''text'''",
        "# note",
        "",
        "@g\ndef h(): ...",
        'y = f"a{x}b"',
    ]
)


@given(st.lists(LINES, max_size=8))
def test_colouring_loses_no_character(lines: list[str]) -> None:
    source = "\n".join(lines) + "\n"
    assert "".join(piece.text for piece in code_pieces(source)) == source


def test_words_are_told_apart() -> None:
    kinds = {piece.text: piece.kind for piece in code_pieces('@f\ndef g(): return "x" # y\n')}
    assert kinds["f"] == "definition"
    assert kinds["g"] == "definition"
    assert kinds["return"] == "keyword"
    assert kinds['"x"'] == "string"
    assert kinds["# y"] == "comment"
