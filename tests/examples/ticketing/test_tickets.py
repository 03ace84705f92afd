"""Tickets: codes that nobody else can make, owners, and one who comes in."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, settings
from hypothesis import given as given_any
from hypothesis import strategies as st

from actors.persistence import Refusal
from actors.testing import FixedClock, fixed_environment, given
from docs.examples.ticketing.codes import Claims, KeyRing
from docs.examples.ticketing.tickets import (
    CheckIn,
    Command,
    Happened,
    Issue,
    PassOn,
    Ticket,
    TicketCheckedIn,
    TicketIssued,
    TicketPassedOn,
    Tickets,
    TicketVoided,
    Void,
)

NOW = FixedClock().now()
RING = KeyRing({"k1": b"1" * 32}, "k1")
CLAIMS = Claims("7", 1, "e", "A1")
ISSUED = TicketIssued("7", "r", "e", "s", "A1", "ann", NOW)
PASSED = TicketPassedOn("bob", 2, NOW)
VOIDED = TicketVoided("refund", NOW)
CAME_IN = TicketCheckedIn("B", NOW)
ISSUE = Issue("7", "r", "e", "s", "A1", "ann")
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~é\n"


@settings(max_examples=60, derandomize=True, database=None)
@given_any(
    st.builds(
        Claims,
        st.text("ab.é ", max_size=20),
        st.integers(0, 10**6),
        st.text("ab.é\x00=-", max_size=20),
        st.text("A1 .-", max_size=16),
    )
)
def test_a_code_says_what_was_written(claims: Claims) -> None:  # EX-50
    code = RING.code(claims)
    assert RING.read(code) == claims
    # What a QR code and a link take as it is.
    assert set(code) <= set(LETTERS[:65])


@settings(max_examples=200, derandomize=True, database=None)
@given_any(st.integers(0, 200), st.sampled_from(LETTERS))
def test_a_code_with_another_letter_is_none(place: int, letter: str) -> None:  # EX-50
    code = RING.code(CLAIMS)
    place %= len(code)
    other = code[:place] + letter + code[place + 1 :]
    assert (RING.read(other) == CLAIMS) == (other == code)
    assert other == code or RING.read(other) is None


@settings(max_examples=100, derandomize=True, database=None)
@given_any(st.text(LETTERS, max_size=100))
@example("")
@example(".....")
@example("a.b.c.d.k1.e")
@example("." * 2000)
def test_what_is_no_code_says_nothing(text: str) -> None:  # EX-50
    assert RING.read(text) is None


def test_parts_do_not_run_into_each_other() -> None:  # EX-50
    assert RING.code(replace(CLAIMS, show="eA", seat="1")) != RING.code(CLAIMS)
    with pytest.raises(ValueError, match="at most 100 bytes"):
        RING.code(replace(CLAIMS, seat="x" * 101))


def test_a_new_key_makes_new_codes_and_reads_the_old_ones() -> None:  # EX-50
    old = RING.code(CLAIMS)
    both = RING.rotated("k2", b"2" * 32)
    new = both.code(CLAIMS)
    assert new != old
    assert both.read(old) == both.read(new) == CLAIMS
    # Who has only one of the keys reads only its codes; a key is known by its id and its bytes.
    assert RING.read(new) is None
    assert KeyRing({"k2": b"2" * 32}, "k2").read(old) is None
    assert KeyRing({"k1": b"x" * 32}, "k1").read(old) is None
    # A signature of one key under another's name.
    assert both.read(old.replace(".k1.", ".k2.")) is None


@pytest.mark.parametrize(
    ("keys", "current"),
    [
        ({}, "k"),
        ({"k": b"1" * 32}, "j"),
        ({"k": b"1" * 31}, "k"),
        ({"K.": b"1" * 32}, "K."),
        ({f"k{n}": b"1" * 32 for n in range(121)}, "k1"),
    ],
)
def test_what_is_no_ring_is_refused(keys: dict[str, bytes], current: str) -> None:  # EX-50
    with pytest.raises(ValueError, match="key"):
        KeyRing(keys, current)


def test_a_key_is_never_replaced_nor_shown() -> None:  # EX-50
    with pytest.raises(ValueError, match="already"):
        RING.rotated("k1", b"2" * 32)
    assert "111" not in repr(RING)


@pytest.mark.parametrize(
    ("before", "command", "events"),
    [
        ([], ISSUE, [ISSUED]),
        ([ISSUED], ISSUE, []),
        ([ISSUED], PassOn("ann", "bob"), [PASSED]),
        ([ISSUED, PASSED], PassOn("bob", "ann"), [TicketPassedOn("ann", 3, NOW)]),
        ([ISSUED], Void("refund"), [VOIDED]),
        ([ISSUED, VOIDED], Void("again"), []),
        # Taken back before it came: it never does.
        ([], Void("refund"), [VOIDED]),
        ([ISSUED], CheckIn(CLAIMS, "B"), [CAME_IN]),
        ([ISSUED, PASSED], CheckIn(replace(CLAIMS, issue=2), "B"), [CAME_IN]),
        # Money can go back to who was there; the log says both.
        ([ISSUED, CAME_IN], Void("refund"), [VOIDED]),
    ],
)
def test_what_a_ticket_does(
    before: list[Happened], command: Command, events: list[Happened]
) -> None:  # EX-50
    given(Tickets(), *before).when(command).then(*events)


@pytest.mark.parametrize(
    ("before", "command", "code"),
    [
        ([], CheckIn(CLAIMS, "B"), "unknown"),
        ([], PassOn("ann", "bob"), "unknown"),
        ([VOIDED], ISSUE, "over"),
        ([ISSUED], PassOn("bob", "cem"), "unknown"),
        ([ISSUED], PassOn("ann", "ann"), "invalid"),
        ([ISSUED], PassOn("ann", " "), "invalid"),
        ([ISSUED, VOIDED], PassOn("ann", "bob"), "over"),
        ([ISSUED, CAME_IN], PassOn("ann", "bob"), "used"),
        ([ISSUED, PASSED], PassOn("ann", "cem"), "unknown"),
        # The former owner's code, one of another ticket, a gate without a name.
        ([ISSUED, PASSED], CheckIn(CLAIMS, "B"), "over"),
        ([ISSUED], CheckIn(replace(CLAIMS, ticket="8"), "B"), "unknown"),
        ([ISSUED], CheckIn(replace(CLAIMS, show="f"), "B"), "unknown"),
        ([ISSUED], CheckIn(replace(CLAIMS, seat="A2"), "B"), "unknown"),
        ([ISSUED], CheckIn(CLAIMS, ""), "invalid"),
        ([ISSUED], CheckIn(CLAIMS, "x" * 51), "invalid"),
        ([ISSUED, VOIDED], CheckIn(CLAIMS, "B"), "over"),
        ([ISSUED, CAME_IN], CheckIn(CLAIMS, "C"), "used"),
        ([ISSUED, CAME_IN], CheckIn(CLAIMS, "B"), "used"),
    ],
)
def test_what_a_ticket_refuses(before: list[Happened], command: Command, code: str) -> None:
    # EX-50
    given(Tickets(), *before).when(command).then_refused(code)


def test_the_second_gate_is_told_when_and_where() -> None:  # EX-50
    state = Ticket()
    for one in (ISSUED, CAME_IN):
        state = Tickets().apply(state, one)
    told = Tickets().decide(state, CheckIn(CLAIMS, "C"), fixed_environment())
    assert isinstance(told, Refusal)
    assert told.message == f"It came in already, at {NOW:%H:%M} UTC, gate B."
    assert told.detail == {"at": NOW.isoformat(), "gate": "B"}


def test_a_code_is_made_of_what_the_ticket_is_now() -> None:  # EX-50
    tickets, state = Tickets(), Ticket()
    assert state.claims is None
    state = tickets.apply(state, ISSUED)
    assert state.claims == CLAIMS
    assert tickets.apply(state, PASSED).claims == replace(CLAIMS, issue=2)
