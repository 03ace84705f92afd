"""Passwords as hashes: exactly as typed, strong enough, in a bounded number at once."""

import pytest
import trio
from argon2 import PasswordHasher

from web.accounts.hashing import (
    Cost,
    HashingBusy,
    Passwords,
    common_passwords,
    is_strong,
)


async def test_a_password_is_compared_exactly_as_typed() -> None:
    # SEC-71, SITE-36
    passwords = Passwords()
    kept = await passwords.hash(" caf\u00e9\0 ")
    assert kept.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert (await passwords.verify(kept, " caf\u00e9\0 ")).is_right
    for other in ("caf\u00e9\0", " cafe\u0301\0 ", " Caf\u00e9\0 ", " caf\u00e9", " caf\u00e9\0  "):
        assert not (await passwords.verify(kept, other)).is_right
    assert not (await passwords.verify("$argon2id$broken", "x")).is_right


async def test_a_hash_of_less_is_to_be_renewed() -> None:
    # SITE-36, SEC-74
    weak = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("secret words")
    passwords = Passwords()
    assert (await passwords.verify(weak, "secret words")).is_weak
    assert not (await passwords.verify(await passwords.hash("x"), "x")).is_weak
    assert not (await passwords.verify(weak, "other words")).is_weak


async def test_nobodys_password_costs_as_much_and_is_never_right() -> None:
    # SITE-35, SEC-77
    passwords = Passwords()
    for word in ("nobody's password", "anything"):
        before = passwords.made
        assert not (await passwords.verify(None, word)).is_right
        assert passwords.made == before + 1


async def test_beyond_those_that_may_wait_nobody_waits() -> None:
    # SEC-75, SITE-36
    passwords = Passwords(threads=1, waiting_max=2)
    told: list[str] = []

    async def hash_one() -> None:
        try:
            await passwords.hash("secret words")
            told.append("made")
        except HashingBusy:
            told.append("busy")

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(hash_one)
    assert sorted(told) == ["busy"] * 3 + ["made"] * 3
    assert passwords.waiting == 0


async def test_who_hashes_takes_no_thread_from_others() -> None:
    # REL-90: with all its threads taken, what else waits for a thread has one at once
    others = trio.to_thread.current_default_thread_limiter()
    before, others.total_tokens = others.total_tokens, 1
    passwords = Passwords(threads=2)
    try:
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(passwords.hash, "secret words")
            while not passwords.waiting:
                await trio.lowlevel.checkpoint()
            assert others.available_tokens == 1
            await trio.to_thread.run_sync(bool)
            nursery.cancel_scope.cancel()
    finally:
        others.total_tokens = before


def test_less_than_is_advised_cannot_be_set() -> None:
    # SEC-74
    strong = [(2, 19456), (1, 47104), (3, 12288), (9, 10**6)]
    assert [is_strong(*cost) for cost in strong] == [True] * 4
    for cost in ((2, 19455), (1, 47103), (3, 12287), (99, 1)):
        assert not is_strong(*cost)
        with pytest.raises(ValueError, match="too weak"):
            Cost(*cost)


def test_the_common_ones_are_three_thousand_that_fit() -> None:
    # SEC-72
    common = common_passwords()
    assert len(common) == 3000
    assert {"password", "12345678", "football"} <= common
    assert min(map(len, common)) == 8
    assert all(word == word.lower() for word in common)
