"""A dynamic supervisor in several partitions."""

from functools import partial

import pytest
from trio.testing import MockClock

from supervision import ChildSpec, DynamicFlags, Supervisor, child, open_system
from supervision.partition import Partitioned, partition_of
from tests.supervision.puppets import Crash, DefPuppet, Kit, Number, Stage, Word, settle

KEYS = [f"room-{i}" for i in range(100)]


def test_a_key_stays_in_its_partition() -> None:
    assert [partition_of(key, 4) for key in ("a", "b", "lobby")] == [3, 1, 3]
    spread = [sum(1 for key in KEYS if partition_of(key, 4) == i) for i in range(4)]
    assert min(spread) > 10


async def test_partitions_fail_alone(kit: Kit, autojump_clock: MockClock) -> None:
    flags = DynamicFlags(intensity=0, budget="escalate", key="child_id")
    template = ChildSpec("one", partial(kit.puppet, kit.stage))
    async with open_system(Partitioned[Word], 4, flags, template) as rooms:
        for key in KEYS:
            assert await rooms[key].ask(Number()) == 1
        assert (await rooms.counts()).active == 100
        assert len(await rooms.children()) == 100
        gone = partition_of("room-7", 4)
        rooms["room-7"].tell(Crash(ValueError("boom")))
        await settle()
        left = sum(1 for key in KEYS if partition_of(key, 4) != gone)
        assert (await rooms.counts()).active == left
        assert await rooms["room-7"].ask(Number()) == 1
        assert rooms["room-7"].path == f"partitioned/{gone}/room-7"
        result = await rooms.start_keyed("new")
        assert result.ref == rooms["new"]


class House(Supervisor):
    rooms = child(
        Partitioned[Word],
        4,
        flags=DynamicFlags(key="child_id"),
        template=ChildSpec("one", partial(DefPuppet, Stage())),
    )


async def test_a_partitioned_child_reads_as_its_handle(autojump_clock: MockClock) -> None:
    async with open_system(House) as house:
        assert await house.rooms["oak"].ask(Number()) == 1
        assert house.rooms["oak"].path == f"house/rooms/{partition_of('oak', 4)}/oak"


def test_what_cannot_be_partitioned() -> None:
    template = ChildSpec("one", dict)
    with pytest.raises(ValueError, match="at least 1"):
        Partitioned(0, DynamicFlags(key="k"), template)
    with pytest.raises(ValueError, match="keys"):
        Partitioned(4, DynamicFlags(), template)
