"""What a spec, a flag, a plan and a class body may hold; each mistake has its own code."""

import math
from collections.abc import Callable
from functools import partial

import pytest

from actors.runtime import Actor, Ref
from supervision import (
    Backoff,
    ChildSpec,
    Dynamic,
    DynamicFlags,
    Flags,
    Plan,
    SpecError,
    Supervisor,
    TooManyChildren,
    child,
    child_method,
    dynamic,
    dynamic_method,
    open_system,
)
from supervision.specs.specs import read_flags
from tests.supervision.puppets import Crash, DefPuppet, Note, Number, Stage, Word


def refused(make: Callable[[], object]) -> str:
    with pytest.raises(SpecError) as caught:
        make()
    return caught.value.code


START = partial(DefPuppet, Stage(), "a")
GOOD: dict[str, object] = {"id": "a", "start": START}


def plan_of(*specs: object, flags: dict[str, object] | None = None) -> Plan:
    return Plan(flags, specs)


# SUP-2, SUP-110, SUP-122, SUP-146
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"id": "a/b"}, "bad_id"),
        ({"id": ""}, "bad_id"),
        ({"id": 7}, "bad_id"),
        ({"id": "x" * 201}, "bad_id"),
        ({"start": 7}, "bad_start"),
        ({"restart": "always"}, "bad_restart"),
        ({"shutdown": -1}, "bad_shutdown"),
        ({"shutdown": "soon"}, "bad_shutdown"),
        ({"shutdown": math.nan}, "bad_shutdown"),
        ({"shutdown": True}, "bad_shutdown"),
        ({"shutdown": 10**400}, "bad_shutdown"),
        ({"type": "boss"}, "bad_type"),
        ({"significant": "yes"}, "bad_significant"),
        ({"significant": True}, "bad_combination"),
        ({"significant": True, "restart": "temporary"}, "bad_combination"),
        ({"backoff": 3}, "bad_backoff"),
        ({"restart_on": 3}, "bad_policy"),
        ({"stop_on": (ValueError, "x")}, "bad_policy"),
        ({"escalate_on": int}, "bad_policy"),
        ({"name": "a/b"}, "bad_name"),
        ({"retsart": "permanent"}, "unknown_option"),
    ],
)
def test_each_bad_field_has_its_code(change: dict[str, object], code: str) -> None:
    assert refused(lambda: plan_of({**GOOD, **change})) == code


def test_missing_and_foreign_specs() -> None:
    # SUP-2, SUP-110, SUP-122
    assert refused(lambda: plan_of({"start": START})) == "missing_id"
    assert refused(lambda: plan_of({"id": "a"})) == "missing_start"
    assert refused(lambda: plan_of(7)) == "not_a_spec"
    assert refused(lambda: Plan(None, 7)) == "not_a_spec"  # type: ignore[arg-type]
    assert refused(lambda: plan_of(GOOD, GOOD)) == "duplicate_id"


# SUP-122: all valid combinations
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@pytest.mark.parametrize("shutdown", [0, 1.5, math.inf, "kill"])
@pytest.mark.parametrize("kind", ["worker", "supervisor"])
@pytest.mark.parametrize("significant", [True, False])
def test_valid_combinations_are_accepted(
    restart: str, shutdown: object, kind: str, significant: bool
) -> None:
    spec = {**GOOD, "restart": restart, "shutdown": shutdown, "type": kind}
    spec["significant"] = significant
    flags: dict[str, object] = {"auto_shutdown": "any"}
    if significant and restart == "permanent":
        assert refused(lambda: plan_of(spec, flags=flags)) == "bad_combination"
    else:
        assert plan_of(spec, flags=flags).specs[0].shutdown == shutdown


# SUP-123
@pytest.mark.parametrize(
    ("flags", "code"),
    [
        ({"strategy": "x"}, "bad_strategy"),
        ({"intensity": math.inf}, "bad_intensity"),
        ({"intensity": -1}, "bad_intensity"),
        ({"intensity": True}, "bad_intensity"),
        ({"period": 0}, "bad_period"),
        ({"period": math.inf}, "bad_period"),
        ({"auto_shutdown": "x"}, "bad_auto_shutdown"),
        ({"autoshutdown": "any"}, "unknown_option"),
        ({"dynamic": True, "auto_shutdown": "any"}, "bad_combination"),
        ({"dynamic": True, "budget": "x"}, "bad_budget"),
        ({"dynamic": True, "max_children": 0}, "bad_limit"),
        ({"dynamic": True, "cooldown": -1}, "bad_limit"),
        ({"dynamic": True, "key": "not a name"}, "bad_key"),
        (7, "not_flags"),
    ],
)
def test_each_bad_flag_has_its_code(flags: object, code: str) -> None:
    assert refused(lambda: read_flags(flags)) == code


# SUP-44
@pytest.mark.parametrize(
    "options",
    [
        {"first": 0},
        {"first": 2.0, "max": 1.0},
        {"factor": 0.5},
        {"jitter": 1.5},
        {"reset_after": 0},
        {"give_up_after": 0},
        {"max": math.inf},
    ],
)
def test_bad_backoffs(options: dict[str, float]) -> None:
    assert refused(lambda: Backoff(**options)) == "bad_backoff"  # type: ignore[arg-type]


def test_the_wait_of_a_backoff_never_overflows() -> None:
    # SUP-44
    backoff = Backoff()
    assert backoff.wait(5_000, 0.0) == 30.0
    assert backoff.wait(1, 1.0) == pytest.approx(0.12)
    assert backoff.wait(1, -1.0) == pytest.approx(0.08)


def test_defaults() -> None:
    spec = ChildSpec("a", START)
    assert (spec.restart, spec.shutdown, spec.type) == ("permanent", 5.0, "worker")
    assert ChildSpec("s", Supervisor).shutdown == math.inf
    assert ChildSpec("s", partial(Supervisor)).type == "supervisor"
    assert Flags() == Flags("one_for_one", 1, 5.0, "never")
    assert (DynamicFlags().intensity, DynamicFlags().period) == (5, 5.0)
    # SUP-46
    assert Plan(DynamicFlags(), [GOOD]).specs[0].backoff == Backoff()


class Leaf(Actor[Word]):
    """A child that answers with its arguments."""

    def __init__(self, first: str, second: int = 0, *, shelf: str = "") -> None:
        self.first, self.second, self.shelf = first, second, shelf

    def receive(self, message: Word) -> object:
        return self.second if isinstance(message, Number) else None


class Inner(Supervisor, strategy="one_for_all"):
    leaf = child(Leaf, "leaf", 4)


class Shop(Supervisor, strategy="rest_for_one", intensity=3, period=7.0):
    front = child(Leaf, "front", 3, restart="transient")
    inner = child(Inner)
    shelves = dynamic(Leaf, "shelf", 9, key="shelf", restart="transient", intensity=2)

    def __init__(self, number: int = 0) -> None:
        self.number = number

    @child_method(shutdown=2.0)
    def made(self) -> Leaf:
        return Leaf("made", self.number)

    @child_method()
    def nested(self) -> Inner:
        return Inner()

    @dynamic_method(key="room", max_children=7)
    def rooms(self, room: str) -> Leaf:
        return Leaf(room, self.number + len(room))


class BiggerShop(Shop, intensity=9):
    back = child(Leaf, "back")

    def room_like(self, room: str) -> Leaf:
        return Leaf(room)


def test_a_class_compiles_to_its_plan() -> None:
    # SUP-1, SUP-3
    plan = Shop().plan()
    assert isinstance(plan, Plan)
    assert plan.flags == Flags("rest_for_one", 3, 7.0)
    ids = ["front", "inner", "shelves", "made", "nested", "rooms"]
    assert [spec.id for spec in plan.specs] == ids
    kinds = [spec.type for spec in plan.specs]
    assert kinds == ["worker", "supervisor", "supervisor", "worker", "supervisor", "supervisor"]
    assert plan.specs[0].restart == "transient"
    assert plan.specs[3].shutdown == 2.0
    bigger = BiggerShop().plan()
    assert isinstance(bigger, Plan)
    assert bigger.flags == Flags("rest_for_one", 9, 7.0)
    assert [spec.id for spec in bigger.specs] == [*ids, "back"]


async def test_a_handle_reads_as_declared() -> None:
    # SUP-1, SUP-3, SUP-50
    async with open_system(Shop, 40, name="shop") as shop:
        front: Ref[Word] = shop.front
        assert front.path == "shop/front"
        assert await front.ask(Number()) == 3
        assert await shop.made.ask(Number()) == 40
        assert await shop.inner.leaf.ask(Number()) == 4
        assert await shop.nested.leaf.ask(Number()) == 4
        assert shop.nested.leaf.path == "shop/nested/leaf"
        assert await shop.shelves["oak"].ask(Number()) == 9
        assert shop.shelves["oak"].path == "shop/shelves/oak"
        assert await shop.rooms["lobby"].ask(Number()) == 45
        assert isinstance(shop.rooms, Dynamic)
        assert "handle" in repr(shop)
        shop.front.tell(Note("hello"))


def test_nonsense_is_refused_when_the_class_is_made() -> None:
    # SUP-2, SUP-3
    def bad_restart() -> None:
        class Bad(Supervisor):
            leaf = child(Leaf, "x", restart="often")  # type: ignore[call-arg]

    def bad_flag() -> None:
        class Bad(Supervisor, intensity=-1):
            pass

    def unknown_flag() -> None:
        class Bad(Supervisor, intensty=1):  # type: ignore[arg-type]
            pass

    def unknown_option() -> None:
        class Bad(Supervisor):
            leaf = child(Leaf, "x", retsart="permanent")  # type: ignore[call-arg]

    def significant() -> None:
        class Bad(Supervisor):
            leaf = child(Leaf, "x", restart="temporary", significant=True)

    assert refused(bad_restart) == "bad_restart"
    assert refused(bad_flag) == "bad_intensity"
    assert refused(unknown_flag) == "unknown_option"
    assert refused(unknown_option) == "unknown_option"
    assert refused(significant) == "bad_combination"
    assert refused(dynamic) == "bad_template"  # type: ignore[arg-type]
    assert refused(lambda: dynamic(Leaf, Leaf)) == "bad_template"
    assert refused(lambda: child(7)) == "bad_start"  # type: ignore[call-overload]
    with pytest.raises(SpecError) as caught:
        Plan(DynamicFlags(), [])
    assert (caught.value.code, caught.value.field, caught.value.value) == (
        "bad_template",
        "specs",
        0,
    )


class Room(Actor[Word]):
    """A class with an argument that has the name of an option."""

    def __init__(self, name: str, size: int = 0) -> None:
        self.name, self.size = name, size

    def receive(self, message: Word) -> object:
        return self.size if isinstance(message, Number) else None


class Block(Supervisor):
    def __init__(self, floors: int, *, deep: bool = False) -> None:
        self.floors, self.deep = floors, deep

    @child_method()
    def leaf(self) -> Leaf:
        return Leaf("x", self.floors + self.deep)


class Town(Supervisor):
    by_name = child(Leaf, first="x", second=5)
    mixed = child(Leaf, "x", second=6, restart="transient")  # type: ignore[call-arg]
    chained = child(Leaf, "x", second=7).options(restart="temporary", shutdown="kill")
    partly = child(partial(Leaf, "x", second=8), restart="transient")
    inner = child(Block, floors=8, deep=True).options(shutdown=9.0)
    room = child(partial(Room, name="lobby"), name="registered")
    placed = child(Room, "hall", name="placed")
    pool = dynamic(Leaf, "x", second=9).options(max_children=1)
    keyed = dynamic(partial(Leaf, second=10), key="first")
    loose = dynamic(Leaf, second=11, key="first")  # type: ignore[call-overload]


async def test_arguments_of_the_class_are_given_by_name() -> None:
    # SUP-2
    plan = Town().plan()
    assert isinstance(plan, Plan)
    specs = {spec.id: spec for spec in plan.specs}
    assert [specs[one].restart for one in ("by_name", "mixed", "chained", "partly")] == [
        "permanent", "transient", "temporary", "transient",
    ]  # fmt: skip
    assert (specs["chained"].shutdown, specs["inner"].shutdown) == ("kill", 9.0)
    assert (specs["room"].name, specs["placed"].name) == ("registered", "placed")
    async with open_system(Town) as town:
        refs = [town.by_name, town.mixed, town.chained, town.partly, town.inner.leaf]
        assert [await ref.ask(Number()) for ref in refs] == [5, 6, 7, 8, 9]
        assert await (await town.pool.start_child()).started.ask(Number()) == 9
        with pytest.raises(TooManyChildren):
            await town.pool.start_child()
        assert await town.keyed["oak"].ask(Number()) == 10
        assert await town.loose["elm"].ask(Number()) == 11
        assert town.system.whereis("registered", Room) == town.room


async def test_one_child_of_a_pool_is_given_arguments_by_name() -> None:
    # SUP-2
    flags = DynamicFlags(intensity=3)
    async with open_system(Dynamic[Word], flags, ChildSpec("one", Leaf)) as pool:
        ref = (await pool.start_child("a", second=4)).started
        assert await ref.ask(Number()) == 4
        for _ in range(2):
            with pytest.raises(SpecError) as caught:
                await pool.start_child("a", second=4, secnd=4)
            assert (caught.value.code, caught.value.field) == ("unknown_option", "secnd")
        # They come back with the child.
        ref.tell(Crash(ValueError("boom")))
        assert len(await pool.which_children()) == 1
    keyed = DynamicFlags(key="first")
    async with open_system(Dynamic[Word], keyed, ChildSpec("one", Leaf)) as pool:
        assert await (await pool.start_child(key="b", second=5)).started.ask(Number()) == 5
        assert await pool["b"].ask(Number()) == 5


def test_words_that_are_no_options_are_checked_against_the_class() -> None:
    # SUP-2, SUP-110
    def refusal(make: Callable[[], object]) -> tuple[str, str]:
        with pytest.raises(SpecError) as caught:
            make()
        return caught.value.code, str(caught.value)

    code, text = refusal(lambda: child(Leaf, "x", secnd=5))  # type: ignore[call-arg]
    assert code == "unknown_option"
    assert "neither an option here nor an argument of Leaf. Did you mean 'second'?" in text
    code, text = refusal(lambda: child(Leaf, "x", retsart="transient"))  # type: ignore[call-arg]
    assert (code, "Did you mean 'restart'?" in text) == ("unknown_option", True)
    code, text = refusal(lambda: child(Leaf, "x", colour=5))  # type: ignore[call-arg]
    assert (code, "Did you mean" in text) == ("unknown_option", False)
    code, text = refusal(lambda: dynamic(Leaf, "x", secnd=5))  # type: ignore[call-arg]
    assert code == "unknown_option"
    code, text = refusal(lambda: child(Room, name="lobby"))
    assert code == "ambiguous_option"
    assert "functools.partial(Room, name=...)" in text
    code, text = refusal(lambda: child(Leaf))  # type: ignore[call-arg, arg-type]
    assert code == "bad_arguments"
    assert "missing a required argument: 'first'" in text
    code, text = refusal(lambda: child(Leaf, "x", 1, 2))  # type: ignore[call-arg, arg-type]
    assert (code, "too many positional arguments" in text) == ("bad_arguments", True)
    code, text = refusal(lambda: child(Leaf, "x", first="y"))  # type: ignore[misc]
    assert code == "bad_arguments"
    code, text = refusal(lambda: child(Supervisor, deep=True))  # type: ignore[call-overload]
    assert code == "unknown_option"
    code, text = refusal(lambda: dynamic(Leaf, "x", 1, 2))
    assert code == "bad_arguments"
    code, text = refusal(lambda: dynamic(Leaf, key="frist"))
    assert (code, "Leaf takes no argument of that name" in text) == ("bad_key", True)
    code, text = refusal(lambda: dynamic_method(key="rom")(BiggerShop.room_like))
    assert (code, "room_like takes no argument of that name" in text) == ("bad_key", True)
    code, text = refusal(lambda: dynamic(Leaf, "oak", key="first"))
    assert code == "bad_arguments"


def test_options_that_follow_are_checked_with_the_class() -> None:
    # SUP-2
    def misspelt() -> None:
        class Bad(Supervisor):
            leaf = child(Leaf, first="x").options(retsart="often")  # type: ignore[call-arg]

    def wrong() -> None:
        class Bad(Supervisor):
            leaf = child(Leaf, first="x").options(restart="often")  # type: ignore[arg-type]

    def wrong_pool() -> None:
        class Bad(Supervisor):
            leaves = dynamic(Leaf, first="x").options(max_children=0)

    assert refused(misspelt) == "unknown_option"
    assert refused(wrong) == "bad_restart"
    assert refused(wrong_pool) == "bad_limit"


async def test_the_root_takes_arguments_by_name() -> None:
    # SUP-2
    async with open_system(Block, floors=3) as block:
        assert await block.leaf.ask(Number()) == 3
    async with open_system(partial(Block, floors=3, deep=True), name="b") as block:
        assert (block.leaf.path, await block.leaf.ask(Number())) == ("b/leaf", 4)

    class Calls(Supervisor):
        def __init__(self, name: str) -> None: ...

    with pytest.raises(TypeError, match=r"partial\(.*Calls, name=\.\.\.\)"):
        async with open_system(Calls, name="x"):
            pass


def test_an_option_that_makes_no_sense_is_refused_where_it_is_written() -> None:
    # SUP-2: with its own line, not that of the class around it, and outside of one as well
    def made(self: Block) -> Leaf:
        return Leaf("x")

    for write in (
        lambda: child(Leaf, "x", restart="sometimes"),  # type: ignore[call-arg]
        lambda: child(Leaf, "x", shutdown=-1.0),
        lambda: child(Leaf, "x").options(restart="sometimes"),  # type: ignore[arg-type]
        lambda: child_method(shutdown=-1.0)(made),
        lambda: dynamic(Leaf, "x", restart="sometimes"),  # type: ignore[call-arg]
    ):
        line = write.__code__.co_firstlineno
        with pytest.raises(SpecError, match=rf"bad_(restart|shutdown).*test_specs\.py:{line} in"):
            write()
    # What goes with what is known at the end.
    spec = child(Leaf, "x", significant=True).options(restart="temporary").spec("leaf", None)
    assert spec.significant
