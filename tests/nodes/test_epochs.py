"""Who judges whose appends were whose finds what is wrong."""

from __future__ import annotations

from dataclasses import replace

from tests.nodes.epochs import Append, Owner, misplaced

_OWNERS = (Owner(1, 7, 1, "a"), Owner(2, 8, 1, "b"), Owner(5, 7, 2, None), Owner(6, 7, 3, "b"))
_APPENDS = (Append(3, "room-1 1", 7, "a"), Append(4, "room-2 1", 8, "b"), Append(7, "r 2", 7, "b"))


def test_an_append_of_another_than_the_owner_is_found() -> None:
    # CLU-43
    assert misplaced(_OWNERS, _APPENDS) == []
    late = replace(_APPENDS[0], place=8)
    assert misplaced(_OWNERS, [*_APPENDS[1:], late]) == [
        "room-1 1 is of a, its shard of b (epoch 3)"
    ]
    between = replace(_APPENDS[0], place=5)
    assert misplaced([*_OWNERS[:2], replace(_OWNERS[2], place=4)], [between]) == [
        "room-1 1 is of a, its shard of None (epoch 2)"
    ]
    early = replace(_APPENDS[0], place=0)
    assert misplaced(_OWNERS, [early]) == ["room-1 1 is of a, its shard of None"]


def test_epochs_that_do_not_rise_and_nothing_to_judge_are_found() -> None:
    # CLU-43
    again = replace(_OWNERS[3], epoch=2)
    assert misplaced([*_OWNERS[:3], again], _APPENDS) == ["shard 7: epoch 2 behind 2"]
    assert misplaced(_OWNERS, []) != []
