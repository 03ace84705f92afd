"""What an ended actor held is freed in slices, and only what it held alone."""

from __future__ import annotations

import weakref
from collections import ChainMap, OrderedDict, UserList, defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from unittest.mock import NonCallableMock

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import Ref, System
from actors.runtime.delivery.dispatcher import CHORE_STEPS
from actors.runtime.life.cell import cell_of
from actors.runtime.life.letting_go import SMALL_MAX, THINGS_A_STEP
from actors.testing import AnyPuppet, Call, Do, Puppet, PuppetMessage, raising
from tests.actors.runtime.test_slices import longest

# Twice what is let go in a turn, and more.
MANY = 10_000


class Row:
    """Counts how many of its kind there are."""

    alive = 0

    def __init__(self) -> None:
        Row.alive += 1

    def __del__(self) -> None:
        Row.alive -= 1


def rows() -> list[object]:
    return [Row() for _ in range(MANY)]


class Closing(list[object]):
    """Looks at what it holds when it goes."""

    found = 0

    def __del__(self) -> None:
        Closing.found = len(self)


class Slotted:
    __slots__ = ("held",)

    def __init__(self, held: object) -> None:
        self.held = held


@dataclass
class Holder:
    held: object


class OwnList(list[object]):
    def pop(self, *_: object) -> object:
        raise AssertionError("nobody calls it")


class OwnDict(dict[object, object]):
    def popitem(self) -> tuple[object, object]:
        raise AssertionError("nobody calls it")


@dataclass
class Knot:
    row: Row
    behind: Knot | None


def chained() -> Knot | None:
    knot: Knot | None = None
    for _ in range(MANY):
        knot = Knot(Row(), knot)
    return knot


KINDS: dict[str, Callable[[], object]] = {
    "list": rows,
    "deque": lambda: deque(rows()),
    "set": lambda: set(rows()),
    "dict": lambda: dict(enumerate(rows())),
    "defaultdict": lambda: defaultdict(list, enumerate(rows())),
    "ordered": lambda: OrderedDict(enumerate(rows())),
    "tuple": lambda: tuple(rows()),
    "frozenset": lambda: frozenset(rows()),
    "attribute": lambda: Holder(rows()),
    "slot": lambda: Slotted(rows()),
    "wrapper": lambda: UserList(rows()),
    "maps": lambda: ChainMap({}, dict(enumerate(rows()))),
    "own list": lambda: OwnList(rows()),
    "own dict": lambda: OwnDict(enumerate(rows())),
    "view": lambda: dict(enumerate(rows())).values(),
    "deep": lambda: {"a": [{"b": Holder((Slotted(rows()),))}]},
    "wide": lambda: [[Row() for _ in range(100)] for _ in range(MANY // 100)],
    "chain": chained,
    "one of few": lambda: {"all": rows(), "none": 1},
    "one of many": lambda: [rows(), *range(SMALL_MAX)],
}


@pytest.mark.parametrize(
    ("kind", "crashes"),
    [(kind, True) for kind in KINDS.values()] + [(rows, False)],
    ids=[*KINDS, "list of one that stops"],
)
async def test_a_large_state_is_freed_in_slices(
    autojump_clock: MockClock,
    system: System,
    puppet: type[Puppet],
    kind: Callable[[], object],
    crashes: bool,
) -> None:
    # ACT-29
    ref: Ref[PuppetMessage] = await system.start(puppet)

    def fill(me: AnyPuppet) -> None:
        me.log = kind()  # type: ignore[assignment]

    await ref.ask(Call(fill))
    assert Row.alive == MANY
    with longest(lambda: -Row.alive) as turn:
        ref.tell(Do(raising(OSError("full")) if crashes else lambda me: me.stop()))
        while not cell_of(ref).gone:
            await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
    assert Row.alive == 0
    assert 0 < turn.rise <= CHORE_STEPS * THINGS_A_STEP


async def test_what_others_hold_stays_as_it_is(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-29: also when the others only take it over while it is let go
    shared: dict[object, object] = dict.fromkeys(range(MANY))
    inner: list[object] = list(range(MANY))
    ref: Ref[PuppetMessage] = await system.start(puppet)
    seen: list[weakref.ref[AnyPuppet]] = []

    def fill(me: AnyPuppet) -> None:
        me.state = shared  # type: ignore[assignment]
        me.log = [inner, *range(2 * SMALL_MAX)]
        seen.append(weakref.ref(me))

    await ref.ask(Call(fill))
    await ref.stop()
    await trio.testing.wait_all_tasks_blocked()
    assert seen[0]() is None
    assert len(shared) == len(inner) == MANY


async def test_what_ends_with_its_holder_ends_whole(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-29: code of its class finds it as it was
    ref: Ref[PuppetMessage] = await system.start(puppet)
    await ref.ask(Call(lambda me: me.log.append(Closing(rows()))))
    await ref.stop()
    await trio.testing.wait_all_tasks_blocked()
    assert Closing.found == MANY


async def test_a_kept_instance_keeps_what_it_holds(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-29
    ref: Ref[PuppetMessage] = await system.start(puppet)
    kept: list[AnyPuppet] = []

    def keep(me: AnyPuppet) -> None:
        me.log = list(range(MANY))
        kept.append(me)

    await ref.ask(Call(keep))
    await ref.stop()
    await trio.testing.wait_all_tasks_blocked()
    assert len(kept[0].log) == MANY


# Whatever is made of it. None of this is called: it would end the system, not only an actor.


class LyingDict(dict[object, object]):
    """Has code of its own for everything one asks of a table."""

    def __len__(self) -> int:
        raise AssertionError("nobody asks")

    def __iter__(self) -> Iterator[object]:
        raise AssertionError("nobody asks")

    values = keys = items = __iter__  # type: ignore[assignment]


class LyingTuple(tuple[object, ...]):
    __slots__ = ()

    def __iter__(self) -> Iterator[object]:
        raise AssertionError("nobody asks")

    def __len__(self) -> int:
        return 0


class Proxy:
    """Stands for something else that is not there, as those of web frameworks do."""

    @property  # type: ignore[misc]  # what it is for
    def __class__(self) -> type:
        raise RuntimeError("working outside of the application context")


class Nowhere:
    __module__ = None  # type: ignore[assignment]


class Keeping(type):
    def __getattribute__(cls, name: str) -> object:
        raise AssertionError("nobody asks a class")


class Kept(list[object], metaclass=Keeping):
    pass


class Key:
    """Can be hashed as long as it is told so."""

    is_open = True

    def __hash__(self) -> int:
        assert Key.is_open
        return 1


FEW = 2 * SMALL_MAX


def few() -> list[object]:
    return [Row() for _ in range(FEW)]


def behind_its_back() -> OrderedDict[object, object]:
    table: OrderedDict[object, object] = OrderedDict(enumerate(few()))
    dict.__delitem__(table, FEW - 1)
    return table


ODD: dict[str, Callable[[], object]] = {
    "table": lambda: LyingDict(enumerate(few())),
    "inner table": lambda: [LyingDict(enumerate(few())), 1],
    "first of many tables": lambda: [LyingDict(enumerate(few())), *range(FEW)],
    "tuple": lambda: LyingTuple(few()),
    "inner tuple": lambda: [LyingTuple(few()), *range(FEW)],
    "proxy": Proxy,
    "proxies": lambda: [Proxy() for _ in range(FEW)],
    "mock": lambda: NonCallableMock(spec=dict),
    "mocks": lambda: [NonCallableMock(spec=list), *range(FEW)],
    "class without module": Nowhere,
    "metaclass": lambda: [Kept(few()), *range(FEW)],
    "keys": lambda: [OrderedDict((Key(), Row()) for _ in range(100)), *range(FEW)],
    "ordered": behind_its_back,
}


@pytest.mark.parametrize("kind", ODD.values(), ids=ODD)
async def test_code_of_what_it_held_is_not_called(
    autojump_clock: MockClock,
    system: System,
    puppet: type[Puppet],
    monkeypatch: pytest.MonkeyPatch,
    kind: Callable[[], object],
) -> None:
    # ACT-5, ACT-29
    other = await system.start(puppet)

    def fill(me: AnyPuppet) -> None:
        me.log = [kind(), *range(FEW)]

    def bare(me: AnyPuppet) -> None:
        me.log = kind()  # type: ignore[assignment]

    for work in (fill, bare):
        ref: Ref[PuppetMessage] = await system.start(puppet)
        await ref.ask(Call(work))
        monkeypatch.setattr(Key, "is_open", False)
        await ref.stop()
        await trio.testing.wait_all_tasks_blocked()
        monkeypatch.undo()
    assert Row.alive == 0
    assert await other.ask(Call(lambda me: 1)) == 1


class Cached(dict[object, object]):
    """A table that can be referred to weakly."""


@pytest.mark.parametrize("kind", [Cached, OrderedDict])
async def test_what_can_still_be_found_is_found_whole(
    autojump_clock: MockClock,
    system: System,
    puppet: type[Puppet],
    kind: type[dict[object, object]],
) -> None:
    # ACT-29: a cache that holds weakly gives it to others until it has gone
    cache: weakref.WeakValueDictionary[str, dict[object, object]] = weakref.WeakValueDictionary()
    ref: Ref[PuppetMessage] = await system.start(puppet)

    def fill(me: AnyPuppet) -> None:
        cache["rows"] = me.state = kind(enumerate(rows()))  # type: ignore[assignment]

    await ref.ask(Call(fill))
    ref.tell(Do(lambda me: me.stop()))
    sizes = set()
    while (found := cache.get("rows")) is not None:
        sizes.add(len(found))
        del found
        await trio.lowlevel.checkpoint()
    assert sizes == {MANY}
    await trio.testing.wait_all_tasks_blocked()
    assert Row.alive == 0
