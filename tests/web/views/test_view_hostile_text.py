"""Whatever people write, a page has the same elements and attributes as for plain words."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.web.views import samples
from web.views import ErrorView, element_id

PAYLOADS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    '"><x',
    "'><x",
    '" onmouseover="alert(1)',
    "' autofocus onfocus='alert(1)",
    '" data-on:click="alert(1)',
    '" data-init="@get(\'//evil\')"',
    '<div data-on:click="alert(1)">x</div>',
    "<div data-signals=\"{sseTabId: 'x'}\"></div>",
    "</li></ol><h1>broken out</h1>",
    "</textarea><script>alert(1)</script>",
    "<!-- comment",
    "--><b>",
    "<![CDATA[<b>]]>",
    "&lt;b&gt; &amp; &#60;script&#62;",
    "{{ 7 * 7 }}",
    "{% raw %}{% endraw %}",
    "{# hidden #}",
    "${alert(1)} $sseTabId @post('/x')",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "line\r\nevent: datastar-patch-elements\ndata: x",
    "\u202eevil\u202c \u2066isolated\u2069",
    "zero\u200bwidth\u200djoined\ufeff",
    "\u2028line\u2029paragraph\u0085next",
    "<style>*{display:none}</style>",
    "<a href='//evil'>link</a>",
    "<iframe srcdoc='<script>1</script>'></iframe>",
    "＜script＞alert(1)＜/script＞",
    "\\\"\\'\\x3cscript\\x3e",
]
RENDERER = samples.renderer()


def lab_with(text: str) -> str:
    page = samples.lab(samples.message(1, author=text, body=text))
    lobby = replace(samples.node("Lobby"), name=text, kind=text, last_exit=text)
    return RENDERER.lab_page(
        replace(
            page,
            shell=samples.shell(viewer_name=text),
            tree=replace(page.tree, root=samples.root(lobby), crash=samples.crash(cause=text)),
            chat=samples.chat(samples.message(1, author=text, body=text), you_name=text),
        )
    )


def error_with(text: str) -> str:
    view = ErrorView(400, text, text, element_id(samples.REQUEST))
    return RENDERER.error_page(replace(samples.error(), error=view))


PLACES: dict[str, Callable[[str], str]] = {
    "lab": lab_with,
    "error page": error_with,
    "account": lambda text: RENDERER.account_page(samples.account(text)),
    "who is signed in": lambda text: RENDERER.sign_ins_page(samples.operated(text)),
    "acts": lambda text: RENDERER.acts_page(samples.acts(text)),
    "failures": lambda text: RENDERER.failures_page(samples.failures(text)),
    "traces": lambda text: RENDERER.traces_page(samples.traces(text)),
    "a trace": lambda text: RENDERER.trace_page(samples.trace(text)),
    "enrol": lambda text: RENDERER.enrol_page(samples.enrol(text)),
    "token": lambda text: RENDERER.token_page(samples.token(text)),
    "codes": lambda text: RENDERER.codes_page(samples.codes(text)),
    "prove": lambda text: RENDERER.prove_page(samples.prove(text)),
    "protected": lambda text: RENDERER.protected_page(samples.protected(text)),
    "message": lambda text: RENDERER.message(samples.message(1, author=text, body=text)).you,
    "tree row": lambda text: RENDERER.tree_row(
        replace(samples.node("Lobby"), name=text, kind=text, last_exit=text)
    ),
    "crash": lambda text: RENDERER.crash(
        replace(samples.crash(), name=text, cause=text, supervisor=text, affected=(text, text))
    ),
    "error fragment": lambda text: RENDERER.error_fragment(
        ErrorView(500, text, text, element_id(samples.REQUEST))
    ),
}


def without_marks(page: samples.Page) -> list[tuple[str, samples.Attributes]]:
    return [
        (name, tuple(one for one in attributes if one[0] != "data-mark"))
        for name, attributes in page.elements
    ]


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize("payload", PAYLOADS)
def test_hostile_text_adds_no_element_and_no_attribute(
    payload: str, place: Callable[[str], str]
) -> None:
    # SITE-21, SEC-62, SEC-63
    plain, hostile = samples.read(place("plain words")), samples.read(place(payload))
    # Marks differ, for they name the content; the alphabet they are made of is their test.
    assert without_marks(hostile) == without_marks(plain)
    assert all(re.fullmatch("[A-Za-z0-9_-]{1,32}", mark) for mark in hostile.values("data-mark"))
    assert hostile.text == plain.text.replace("plain words", payload)


def test_the_corpus_is_as_long_as_promised() -> None:
    # SEC-63
    assert len(set(PAYLOADS)) >= 30


@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_an_actor_says_of_itself_is_text_on_the_stage(payload: str) -> None:  # LAB-93
    for shown, plain in (
        (samples.story(payload), samples.story("plain")),
        (samples.story(payload, line=payload), samples.story("plain")),
    ):
        hostile, harmless = RENDERER.stage_story(shown), RENDERER.stage_story(plain)
        assert samples.read(hostile).elements == samples.read(harmless).elements
    hostile = RENDERER.stage_inspector(samples.inspector(payload))
    harmless = RENDERER.stage_inspector(samples.inspector("plain"))
    assert samples.read(hostile).elements == samples.read(harmless).elements
