"""Filled pages are the rendered ones, byte for byte, whoever looks and whatever was written."""

from __future__ import annotations

import gzip
import subprocess
import sys
from dataclasses import replace

import pytest
from markupsafe import Markup

from tests.web.views import samples
from web.server import STREAM_HEAD, GzipSum, deflated
from web.server.connection.gzip import WINDOW_BYTES
from web.views import (
    CsrfToken,
    FrameWords,
    HomePage,
    LabPage,
    MemberView,
    Renderer,
    StreamView,
    csrf_token,
    element_id,
    local_path,
    nonce,
)
from web.views import renderer as rendering
from web.views.renderer import (
    DOCUMENTS_KEPT_MAX,
    LENGTHS_KEPT_MAX,
    PAGES_KEPT_MAX,
    FilledPages,
)

HOSTILE = [
    "</bdi><script>alert(1)</script>",
    "\"'><img src=x>",
    "{{ 7*7 }}",
    "&lt;&amp;",
    "\x00é🎭",
]


def viewed(page: HomePage, number: int, name: str) -> HomePage:
    """The same page as another visitor sees it."""
    assert page.shell.stream is not None
    stream = StreamView(element_id(f"tab-{number}"), page.shell.stream.room)
    shell = replace(page.shell, nonce=nonce(f"{number:022d}"), viewer_name=name, stream=stream)
    return replace(page, shell=shell)


def viewed_lab(page: LabPage, number: int, name: str) -> LabPage:
    shell = viewed(replace(samples.home(), shell=page.shell), number, name).shell
    token: CsrfToken = csrf_token(f"token.{number}-_=")
    chat = replace(
        page.chat,
        you_name=name,
        tab_id=element_id(f"tab-{number}"),
        client_id=element_id(f"client-{number}"),
        demo_client_id=element_id(f"demo-{number}"),
        csrf=token,
    )
    return replace(page, shell=shell, chat=chat, count=str(number * 7))


@pytest.fixture
def renderer() -> Renderer:
    return samples.renderer()


@pytest.mark.parametrize("name", ["Quiet Heron 42", *HOSTILE])
def test_a_filled_page_is_the_rendered_one(renderer: Renderer, name: str) -> None:
    home, lab = samples.home(), samples.lab(samples.message(1), samples.message(2, body=name))
    for number in range(3):
        page, other = viewed(home, number, name), viewed_lab(lab, number, name)
        assert renderer.filled.home(page).body() == renderer.home_page(page).encode()
        assert renderer.filled.lab(other).body() == renderer.lab_page(other).encode()
    assert len(renderer.filled) == 2


def test_a_members_page_is_another_one_and_filled_with_their_own_words(renderer: Renderer) -> None:
    # SITE-4, SEC-32
    home = samples.home()
    assert home.shell.stream is not None
    for number in range(3):
        viewer = element_id(f"viewer-{number}")
        guest = replace(
            viewed(home, number, "a guest"),
            shell=replace(
                home.shell,
                stream=replace(home.shell.stream, viewer=viewer),
                sign_in=local_path("/login"),
                register=local_path("/register"),
            ),
        )
        member = MemberView(csrf_token(f"sign-out.{number}"), local_path("/account"))
        own = replace(guest, shell=replace(guest.shell, member=member, sign_in=None))
        for page in (guest, own):
            assert renderer.filled.home(page).body() == renderer.home_page(page).encode()
        assert b"sign-out" not in renderer.filled.home(guest).body()
    assert len(renderer.filled) == 2


def test_a_page_without_a_stream_is_another_one(renderer: Renderer) -> None:
    home = samples.home()
    quiet = replace(home, shell=replace(home.shell, stream=None))
    for page in (home, quiet, home, quiet):
        assert renderer.filled.home(page).body() == renderer.home_page(page).encode()


def test_what_all_see_is_rendered_once_and_again_when_it_changes(renderer: Renderer) -> None:
    # PERF-40
    rendered: list[str] = []

    def home(page: HomePage) -> str:
        rendered.append("home")
        return renderer.home_page(page)

    def lab(page: LabPage) -> str:
        rendered.append("lab")
        return renderer.lab_page(page)

    pages, first = FilledPages(home, lab, renderer.document_page), samples.lab(samples.message(1))
    for number in range(5):
        pages.home(viewed(samples.home(), number, "somebody"))
        pages.lab(viewed_lab(first, number, "somebody"))
    assert rendered.count("lab") == 1
    changed = [
        replace(first, tree=replace(first.tree)),
        replace(first, chat=replace(first.chat, messages=(samples.message(1), samples.message(2)))),
        replace(first, shell=replace(first.shell, version="2")),
        replace(first, shell=replace(first.shell, nav=first.shell.nav[:1])),
        replace(first, shell=replace(first.shell, title="Another")),
        replace(first, chat=replace(first.chat, demo_name="Another")),
    ]
    for count, page in enumerate(changed, 2):
        assert pages.lab(page).body() == renderer.lab_page(page).encode()
        assert rendered.count("lab") == count
    figures = samples.home()
    for alive in range(2):
        shown = replace(figures, proof=replace(figures.proof, actors_alive=alive))
        assert pages.home(shown).body() == renderer.home_page(shown).encode()


def test_a_home_page_is_known_before_its_frame_is_made(renderer: Renderer) -> None:
    # PERF-40
    filled, first, other = renderer.filled, viewed(samples.home(), 1, "a guest"), object()
    second = viewed(first, 2, HOSTILE[0])
    stream = second.shell.stream
    assert stream is not None
    words = FrameWords(second.shell.nonce, HOSTILE[0], stream.tab_id, stream.viewer, None)
    known = first.proof, first.stage, True
    assert filled.maybe_home(known, words) is None
    assert filled.new_home(known, first).body() == renderer.home_page(first).encode()
    found = filled.maybe_home(known, words)
    assert found is not None
    assert found.body() == renderer.home_page(second).encode()
    for changed in ((other, *known[1:]), (known[0], other, True), (*known[:2], False)):
        assert filled.maybe_home(changed, words) is None
    for _ in range(PAGES_KEPT_MAX):
        filled.new_home((object(), True), first)
    assert filled.maybe_home(known, words) is None
    assert len(filled._frameless) == PAGES_KEPT_MAX


def test_a_document_is_filled_as_it_is_rendered(renderer: Renderer) -> None:
    page = samples.document()
    for name in HOSTILE:
        shell = replace(page.shell, viewer_name=name)
        for shown in (replace(page, shell=shell), replace(page, shell=shell, html=Markup("<p>b"))):
            assert renderer.filled.document(shown).body() == renderer.document_page(shown).encode()
    member = MemberView(csrf_token("token"), local_path("/account"))
    shown = replace(page, shell=replace(page.shell, member=member))
    assert renderer.filled.document(shown).body() == renderer.document_page(shown).encode()
    for number in range(DOCUMENTS_KEPT_MAX + 5):
        renderer.filled.document(replace(page, html=Markup(f"<p>{number}")))
    assert len(renderer.filled) == DOCUMENTS_KEPT_MAX


def test_pages_are_kept_within_a_limit(renderer: Renderer) -> None:
    for alive in range(PAGES_KEPT_MAX + 5):
        page = samples.home()
        renderer.filled.home(replace(page, proof=replace(page.proof, actors_alive=alive)))
    assert len(renderer.filled) == PAGES_KEPT_MAX


def test_the_pieces_of_a_page_are_packed_once_and_its_words_by_themselves(
    renderer: Renderer,
) -> None:
    # REL-61
    packed: list[bytes] = []

    def pack(piece: bytes, before: bytes) -> bytes:
        packed.append(piece)
        assert len(before) <= WINDOW_BYTES
        return deflated(piece, before)

    lab = samples.lab(
        *[samples.message(number, body=HOSTILE[4] * 40 + "\x00" * 50) for number in range(1, 51)]
    )
    for number in range(2):
        page = renderer.filled.lab(viewed_lab(lab, number, "somebody"))
        packed.clear()
        whole, total = page.body(), GzipSum()
        total.add(whole)
        sent = STREAM_HEAD + page.packed(pack) + total.end()
        assert gzip.decompress(sent) == whole
        assert len(sent) < len(whole) / 4
        if number:
            assert packed == list(page.words)
    # Names of many lengths: each page is whole, and no more are kept than a few.
    for length in range(1, 3 * LENGTHS_KEPT_MAX):
        page = renderer.filled.lab(viewed_lab(lab, 1, "x" * length))
        whole, total = page.body(), GzipSum()
        total.add(whole)
        assert gzip.decompress(STREAM_HEAD + page.packed(pack) + total.end()) == whole
        assert len(page.filling._packed) <= LENGTHS_KEPT_MAX


def test_what_is_one_visitors_is_in_no_compressed_piece(renderer: Renderer) -> None:
    # SEC-32: the same guess beside a name is as long as another one, whatever the name is.
    lab = samples.lab(samples.message(1, body="a guess: qwertyuiop"))
    sizes = []
    for name in ("qwertyuiop", "asdfghjklz"):
        page = renderer.filled.lab(viewed_lab(lab, 1, name))
        sizes.append(len(page.packed(deflated)))
    assert sizes[0] == sizes[1]


def test_what_a_visitor_writes_is_no_mark(renderer: Renderer) -> None:
    # SEC-64: marks cannot be guessed and are in no page; other numbers than ours fill nothing.
    lab = viewed_lab(samples.lab(samples.message(1, body="0" * 32 + "07")), 1, "0" * 32 + "03")
    body = renderer.filled.lab(lab).body()
    assert body == renderer.lab_page(lab).encode()
    assert rendering._MARKS.encode() not in body
    assert len(rendering._MARKS) == 32


def test_another_process_has_other_marks() -> None:
    code = "from web.views import renderer as rendering; print(rendering._MARKS)"
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True
    )
    assert done.stdout.strip() != rendering._MARKS
