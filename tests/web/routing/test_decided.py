"""A repeat is answered as the first was (SITE-102)."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from web.routing.decided import KEPT_S, CommandKey, Decided


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def key(session: UUID, command_id: str, route: str = "crash") -> CommandKey:
    return CommandKey(session, route, command_id)


def test_it_is_known_for_ten_minutes_to_its_session_and_route() -> None:
    clock, session = Clock(), uuid4()
    decided = Decided(clock)
    assert decided.get(key(session, "c1")) is None
    decided.put(key(session, "c1"), "done")
    assert decided.get(key(session, "c1")) == "done"
    assert decided.get(key(session, "c1", "kill")) is None
    assert decided.get(key(uuid4(), "c1")) is None
    clock.now = KEPT_S - 1
    assert decided.get(key(session, "c1")) == "done"
    clock.now = KEPT_S
    assert decided.get(key(session, "c1")) is None
    assert len(decided) == 0


@pytest.mark.parametrize("limits", [{"per_session_max": 3}, {"total_max": 3}])
def test_the_oldest_of_too_many_is_forgotten(limits: dict[str, int]) -> None:
    session, decided = uuid4(), Decided(Clock(), **limits)
    for number in range(4):
        decided.put(key(session, str(number)), "done")
    assert [decided.get(key(session, str(number))) for number in range(4)] == [
        None, "done", "done", "done",
    ]  # fmt: skip
    assert len(decided) == 3
