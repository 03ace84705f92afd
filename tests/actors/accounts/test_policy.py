"""What people type for an account: the one form of it, or a word beside the field."""

import contextlib
from urllib.parse import unquote

import pytest
from hypothesis import given

from actors.accounts import (
    BadField,
    browser_family,
    check_password,
    mask_email,
    parse_email,
    parse_username,
    safe_next,
)
from tests.any_text import any_text

COMMON = frozenset({"football", "qwertyuiop"})
PAGES = {"/", "/lab", "/protected", "/docs/a b", "/account"}


def is_page(path: str) -> bool:
    return path in PAGES


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("Ada", "ada"),
        ("  Ada Lovelace ", "ada lovelace"),
        ("a", "a"),
        ("x" * 20, "x" * 20),
        ("\uff21\uff24\uff21", "ada"),  # full width
        ("\u00c5se_1.2-3", "\u00e5se_1.2-3"),
        ("\u0661\u0662", "\u0661\u0662"),
        ("e\u0301lan", "\u00e9lan"),
        ("ada   lovelace", "ada lovelace"),  # as any page shows it
    ],
)
def test_a_name_has_one_form(typed: str, kept: str) -> None:
    # SITE-30
    assert parse_username(typed) == kept
    assert parse_username(kept) == kept


@pytest.mark.parametrize(
    "typed",
    [
        "", "   ", "x" * 21, "a\u202eb", "a\u200bb", "a\nb", "a\tb", "a\0b", "a<b", "a@b", "a/b",
        "demo", "Demo Bot", "bot", " ADMIN ", "moderator", "operator", "system", "\U0001f600",
        "\ufb01" * 11, "deleted:1", "demo  bot",
        # Letters that draw nothing.
        "\u3164", "admin\u3164", "\u115fada", "ad\u1160a", "ada\uffa0",
    ],
)  # fmt: skip
def test_a_name_that_breaks_a_rule_is_told_in_words(typed: str) -> None:
    # SITE-30
    with pytest.raises(BadField) as told:
        parse_username(typed)
    assert told.value.field == "username"


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        (" Ada@Example.ORG ", "ada@example.org"),
        ("x" * 64 + "@a.b", "x" * 64 + "@a.b"),
        ("demo@elsewhere.org", "demo@elsewhere.org"),
        ("a+b@m\u00fcnchen.example", "a+b@m\u00fcnchen.example"),
    ],
)
def test_an_address_has_one_form(typed: str, kept: str) -> None:
    # SITE-31
    assert parse_email(typed) == kept


@pytest.mark.parametrize(
    "typed",
    [
        "", "ada", "ada@", "@example.org", "a@b@c.org", "ada@localhost", "ada@a..b", "ada@.a.b",
        "x" * 65 + "@a.b", "a@" + "b" * 251 + ".c", "a b@c.d", "a\0b@c.d", "a@b\n.c",
        "demo.bot@example.com", "Demo@Example.com", "missing@example.com", "a\u200b@b.c",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_told_in_words(typed: str) -> None:
    # SITE-31
    with pytest.raises(BadField) as told:
        parse_email(typed)
    assert told.value.field == "email"


@pytest.mark.parametrize(
    "password",
    [
        "1234567", "x7#", "y" * 257, "football", "FootBall", "aaaaaaaa", "abababab", "abcabcabc",
        "grace hopper", "grace hopper12!", "greenroom", "Greenroom123", "hopper@example.org",
        "hopper@example.org1", "hopperab",
    ],
)  # fmt: skip
def test_a_password_that_is_guessed_is_refused(password: str) -> None:
    # SITE-32, SEC-70, SEC-72
    with pytest.raises(BadField) as told:
        check_password(password, "grace hopper", "hopper@example.org", COMMON)
    assert told.value.field == "password"
    assert password not in told.value.problem


@pytest.mark.parametrize(
    "password",
    [
        "x9 qv,tz",
        " x9qvtz ",
        "y1z" + "q" * 253,
        "\0\0nul\0\0a",
        "\U0001f600 smiles",
        "grace hopper1234",
    ],
)
def test_any_other_password_is_taken_as_it_is(password: str) -> None:
    # SITE-32, SEC-70, SEC-71
    check_password(password, "grace hopper", "hopper@example.org", COMMON)
    check_password(password, "", "", COMMON)


@pytest.mark.parametrize(
    "text", ["/lab", "/lab?a=1#chat-demo", "/", "/docs/a%20b", "/docs/a b", "/account"]
)
def test_a_page_of_this_site_is_gone_on_to(text: str) -> None:
    # SITE-42, SEC-67
    assert safe_next(text, unquote, is_page) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "lab", "//evil.example", "/\\evil.example", "https://evil.example", "/lab\\x",
        "/%2fevil.example", "/%5cevil", "/%5c%5cevil", "/logout", "/lab%0d%0aa", "/lab\u202e",
        "javascript:alert(1)", "/lab%00", "/lab\r\n", " /lab",
    ],
)  # fmt: skip
def test_another_site_is_never_gone_on_to(text: str) -> None:
    # SITE-42, SEC-67
    assert safe_next(text, unquote, is_page) == "/protected"


@given(any_text(), any_text(), any_text())
def test_whatever_is_typed_is_a_value_or_a_word(name: str, email: str, password: str) -> None:
    # SITE-30, SITE-31, SITE-32
    for parse, text in ((parse_username, name), (parse_email, email)):
        try:
            kept = parse(text)
        except BadField:
            continue
        assert parse(kept) == kept
    with contextlib.suppress(BadField):
        check_password(password, name, email, COMMON)
    assert safe_next(name, unquote, lambda path: True).startswith("/")
    assert not safe_next(name, unquote, lambda path: True).startswith(("//", "/\\"))


def test_a_browser_has_a_name_its_owner_knows() -> None:
    # SITE-45
    chrome = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/130.0 Safari/537.36"
    assert browser_family(chrome) == "Chrome on Linux"
    assert browser_family(chrome + " Edg/130") == "Edge on Linux"
    assert browser_family("Mozilla/5.0 (iPhone; CPU iPhone OS 18) Version/18 Safari/604") == (
        "Safari on iPhone"
    )
    assert browser_family("") == "Another program"
    assert browser_family("<script>" * 100) == "Another program"
    assert mask_email("ada@example.org") == "a***@example.org"  # SEC-132
