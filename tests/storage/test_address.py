"""Addresses as they are handed out: what goes through, is left out, or is refused by name."""

from __future__ import annotations

import pytest

from storage.errors import StoreRejected
from storage.postgres.connecting.address import WRITABLE, named_in_environment, read_address


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("", ""),
        ("sslmode=require", "?sslmode=require"),
        # As Neon, Supabase and others show it for copying.
        ("sslmode=require&channel_binding=require", "?sslmode=require"),
        ("connect_timeout=10", ""),
        ("keepalives=1&keepalives_idle=30&tcp_user_timeout=9", ""),
        ("gssencmode=disable&sslsni=1", ""),
        ("options=-c%20search_path%3Da", "?options=-c%20search_path%3Da"),
        ("unheard_of=1", "?unheard_of=1"),
    ],
)
def test_what_only_libpq_knows_is_left_out(query: str, kept: str) -> None:
    # SITE DATABASE_URL
    base = "postgresql://me:p%23w@db.example/site"
    url = f"{base}?{query}" if query else base
    assert read_address(url, {}).text == base + kept


@pytest.mark.parametrize(
    "parameter",
    [
        "require_auth=scram-sha-256",
        "requirepeer=postgres",
        "hostaddr=10.0.0.1",
        "gssencmode=require",
    ],
)
def test_a_wish_that_cannot_be_met_is_refused_by_name(parameter: str) -> None:
    with pytest.raises(StoreRejected, match=parameter.partition("=")[0]) as caught:
        read_address(f"postgresql://me:hunter2@h/d?{parameter}", {})
    assert "hunter2" not in str(caught.value)


def test_a_server_that_takes_writes_is_wanted_unless_another_is_named() -> None:
    # REL-81
    assert read_address("postgresql://h/d", {}).session_attrs == WRITABLE
    assert read_address("postgresql://h/d?target_session_attrs=any", {}).session_attrs is None
    assert read_address("postgresql://h/d", {"PGTARGETSESSIONATTRS": "any"}).session_attrs is None


def test_variables_that_have_a_say_are_named() -> None:
    said = named_in_environment({"PGSSLMODE": "verify-full", "PGUSER": "", "PATH": "/bin"})
    assert said == " (and PGSSLMODE, which the environment sets)"
    assert named_in_environment({}) == ""
