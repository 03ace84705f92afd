"""Which values may enter an attribute, and which never do."""

from collections.abc import Callable

import pytest

from web.views import UnsafeAttribute, ViewError, csrf_token, dsid, element_id, local_path, nonce

MARKUP = ["", " ", "a b", 'a"b', "a'b", "a>b", "a<b", "a&b", "a`b", "a\nb", "a\x00b", "ä", "{{a}}"]


@pytest.mark.parametrize("value", ["a", "A-b_9", "0", "x" * 64, 7, 0])
def test_dsid_lets_ids_through(value: str | int) -> None:
    # SEC-61
    assert dsid(value) == str(value)


@pytest.mark.parametrize(
    "value", [*MARKUP, "x" * 65, "a/b", "a.b", "a:b", "$a", "@get('/x')", None, 1.5, True, b"a"]
)
def test_dsid_raises_on_anything_else(value: object) -> None:
    # SEC-61
    with pytest.raises(UnsafeAttribute) as caught:
        dsid(value)
    assert caught.value.value == value
    assert isinstance(caught.value, ViewError)


@pytest.mark.parametrize(
    "path", ["/", "/lab", "/lab#chat-demo", "/login?next=%2Faccount", "/a/b.css"]
)
def test_a_path_of_this_site_is_taken(path: str) -> None:
    assert local_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        *MARKUP,
        "lab",
        "//evil",
        "/\\evil",
        "\\/evil",
        "https://evil/",
        "javascript:alert(1)",
        "/a:b",
    ],
)
def test_another_site_or_scheme_is_no_path(path: str) -> None:
    # SEC-64, SITE-21
    with pytest.raises(UnsafeAttribute):
        local_path(path)


@pytest.mark.parametrize("make", [element_id, nonce, csrf_token])
@pytest.mark.parametrize("text", MARKUP)
def test_no_attribute_word_holds_markup(make: Callable[[str], str], text: str) -> None:
    # SEC-61
    with pytest.raises(UnsafeAttribute):
        make(text)


def test_a_nonce_below_128_bits_is_refused() -> None:
    # SEC-60
    assert nonce("A" * 22) == "A" * 22
    with pytest.raises(UnsafeAttribute):
        nonce("A" * 21)


def test_the_refusal_says_what_to_do() -> None:
    with pytest.raises(UnsafeAttribute, match="nothing was rendered"):
        element_id("<b>")
