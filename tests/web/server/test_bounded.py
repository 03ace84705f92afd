"""A map that clients fill forgets what was put longest ago, and nothing else."""

from __future__ import annotations

import pytest

from web.server import BoundedMap


def test_what_was_put_longest_ago_goes_first() -> None:
    # REL-71
    kept: BoundedMap[str, int] = BoundedMap(3)
    for number, key in enumerate("abcad"):
        kept.put(key, number)
    assert [*kept] == ["c", "a", "d"]
    assert (kept.get("a"), kept.get("b"), "b" in kept) == (3, None, False)
    assert (len(kept), kept.forgotten) == (3, 1)
    # To look at one does not make it newer.
    kept.get("c")
    kept.put("e", 5)
    assert [*kept] == ["a", "d", "e"]
    assert repr(kept) == "<BoundedMap 3 of 3, 2 forgotten>"


def test_a_value_may_be_none_and_is_there_nevertheless() -> None:
    kept: BoundedMap[str, None] = BoundedMap(1)
    kept.put("a", None)
    assert "a" in kept
    kept.clear()
    assert (len(kept), kept.forgotten) == (0, 0)


def test_a_million_names_leave_as_many_as_there_is_room_for() -> None:
    # REL-72
    kept: BoundedMap[int, int] = BoundedMap(64)
    for number in range(1_000_000):
        kept.put(number, number)
    assert [*kept] == [*range(999_936, 1_000_000)]


@pytest.mark.parametrize("room", [0, -1])
def test_a_map_without_room_is_refused(room: int) -> None:
    with pytest.raises(ValueError, match="keeps nothing"):
        BoundedMap(room)
