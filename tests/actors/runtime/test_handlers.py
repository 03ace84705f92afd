"""Mistakes in an actor class are found when it is made, with names."""

from __future__ import annotations

from typing import Generic, TypeVar

import pytest
import trio
import trio.lowlevel
import trio.testing
from trio.testing import MockClock

from actors.runtime import (
    Actor,
    Ask,
    Exited,
    Later,
    System,
    handler,
    message,
)
from actors.testing import AnyPuppet, AsyncPuppet, Puppet


@message
class Add:
    count: int = 1


@message
class Total(Ask[int]):
    pass


@message
class Other:
    pass


class Silent(Ask[int]):
    __slots__ = ()


T = TypeVar("T")


@message
class Count(Ask[int]):
    pass


class Mixed(Generic[T]):
    __slots__ = ()


class Text(Mixed[str]):
    __slots__ = ()


@message
class MixedCount(Text, Count):
    pass


def test_messages_have_slots_and_are_not_frozen_at_run_time() -> None:
    # ACT-39
    add = Add(2)
    assert not hasattr(add, "__dict__")
    add.count = 3  # type: ignore[misc]
    assert add == Add(3)
    assert hash(add) == hash(Add(3))


def test_every_member_needs_a_handler() -> None:
    # ACT-40
    with pytest.raises(TypeError, match=r"Half.*Total.* \(.*test_handlers\.py:\d+ in test_every"):

        class Half(Actor[Add | Total]):
            def on_add(self, message: Add) -> None: ...


def test_two_for_one_class_are_refused() -> None:
    # ACT-40
    with pytest.raises(TypeError, match=r"Twice\.on_.* and on_.* both handle Add"):

        class Twice(Actor[Add]):
            def on_add(self, message: Add) -> None: ...
            def on_more(self, message: Add) -> None: ...


def test_a_foreign_message_is_refused() -> None:
    # ACT-40
    with pytest.raises(TypeError, match=r"Foreign\.on_other handles Other.*\(.*test_handlers\.py"):

        class Foreign(Actor[Add]):
            def on_add(self, message: Add) -> None: ...
            def on_other(self, message: Other) -> None: ...


def test_a_wrong_return_annotation_is_refused() -> None:
    # ACT-40
    with pytest.raises(TypeError, match=r"Wrong\.on_total returns str, but Total .* int"):

        class Wrong(Actor[Total]):
            def on_total(self, message: Total) -> str:
                return ""

    with pytest.raises(TypeError, match=r"Tells\.on_add returns int, but Add .* NoneType"):

        class Tells(Actor[Add]):
            def on_add(self, message: Add) -> int:
                return 1


def test_an_unresolvable_annotation_is_refused() -> None:
    # ACT-40
    with pytest.raises(TypeError, match=r"Lost\.on_add .* cannot be resolved"):

        class Lost(Actor[Add]):
            def on_add(self, message: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821


def test_a_handler_takes_one_annotated_parameter() -> None:
    # ACT-40
    with pytest.raises(TypeError, match=r"exactly one parameter"):

        class Many(Actor[Add]):
            def on_add(self, message: Add, more: int) -> None: ...

    with pytest.raises(TypeError, match=r"must annotate"):

        class Bare(Actor[Add]):
            def on_add(self, message) -> None: ...  # type: ignore[no-untyped-def]


def test_unions_laters_and_generic_bases_are_understood() -> None:
    # ACT-40, ACT-44
    m = TypeVar("m")

    class Base(Actor[m], Generic[m]):
        pass

    class Both(Base[Add | Other | Total]):
        def on_any(self, message: Add | Other) -> None: ...
        def on_total(self, message: Total) -> int | Later[int]:
            return self.reply_later(message)

    assert set(Both.__table__.handlers) == {Add, Other, Total}
    assert not Both.__table__.is_task


class Adds(Actor[Add]):
    """What several actors do with one message."""

    def on_add(self, message: Add) -> None: ...


class AsksToo(Actor[Total]):
    async def on_total(self, message: Total) -> int:
        return 1


V = TypeVar("V")


class AddsAnd(Actor[Add | V], Generic[V]):
    """The same for checkers: whoever derives says what it takes besides."""

    def on_add(self, message: Add) -> None: ...


def test_a_base_with_handlers_can_be_extended() -> None:
    # ACT-40
    class Both(Adds, Actor[Add | Total]):
        def on_total(self, message: Total) -> int:
            return 1

    class Third(Both, Actor[Other]):
        def on_other(self, message: Other) -> None: ...

    class Joined(Adds, AsksToo):
        pass

    class Filled(AddsAnd[Total | Other]):
        def on_total(self, message: Total) -> int:
            return 1

        def on_other(self, message: Other) -> None: ...

    class LeftOver(AddsAnd[V], Actor[Other]):
        def on_other(self, message: Other) -> None: ...

    assert set(Both.__table__.handlers) == {Add, Total}
    assert set(Third.__table__.handlers) == {Add, Total, Other}
    assert set(Joined.__table__.handlers) == {Add, Total}
    assert Joined.__table__.is_task
    assert set(Filled.__table__.handlers) == {Add, Total, Other}
    assert set(LeftOver.__table__.handlers) == {Add, Other}


def test_what_no_base_names_is_refused_and_what_one_names_is_needed() -> None:
    # ACT-40
    with pytest.raises(TypeError, match=r"Foreign\.on_other handles Other, which Actor"):

        class Foreign(Adds, Actor[Add | Total]):
            def on_total(self, message: Total) -> int:
                return 1

            def on_other(self, message: Other) -> None: ...

    with pytest.raises(TypeError, match=r"Half names Total"):

        class Half(Adds, Actor[Total]):
            pass

    with pytest.raises(TypeError, match=r"Lacks names Other"):

        class Lacks(AddsAnd[Other]):
            pass


async def test_an_extended_base_serves_both(autojump_clock: MockClock, system: System) -> None:
    # ACT-40
    class Both(AddsAnd[Total]):
        def __init__(self) -> None:
            self.sum = 0

        def on_add(self, message: Add) -> None:
            self.sum += message.count

        def on_total(self, message: Total) -> int:
            return self.sum

    ref = await system.start(Both)
    ref.tell(Add(3))
    assert await ref.ask(Total()) == 3


def test_classes_local_to_a_function_are_found_through_the_union() -> None:
    # ACT-40
    @message
    class Here:
        pass

    class Answer:
        pass

    @message
    class Question(Ask[list[Answer] | None]):
        pass

    # Annotations are texts in this file, and a function's own classes are no globals.
    class Local(Actor[Here | Question]):
        def on_here(self, message: Here) -> None: ...
        async def on_question(self, message: Question) -> list[Answer] | None:
            return []

    assert set(Local.__table__.handlers) == {Here, Question}

    with pytest.raises(TypeError, match=r"Unnamed\.on_more .* cannot be resolved"):

        class Unnamed(Actor[Here]):
            def on_here(self, message: Here) -> None: ...
            def on_more(self, message: Question) -> None: ...


def test_a_local_class_hides_one_of_the_same_name_at_the_top() -> None:
    # ACT-40
    @message
    class Other:
        pass

    class Takes(Actor[Other]):
        def on_other(self, message: Other) -> None: ...

    assert set(Takes.__table__.handlers) == {Other}


def test_trapping_exits_needs_a_handler() -> None:
    # ACT-40, ACT-65
    with pytest.raises(TypeError, match="Exited"):

        class Deaf(Actor[Add]):
            trap_exits = True

            def on_add(self, message: Add) -> None: ...

    class Hears(Actor[Add]):
        trap_exits = True

        def on_add(self, message: Add) -> None: ...
        def on_exited(self, message: Exited) -> None: ...

    assert Exited in Hears.__table__.handlers


def test_the_kind_follows_from_async_def() -> None:
    # ACT-42
    assert not Puppet.__table__.is_task
    assert AsyncPuppet.__table__.is_task

    class Hook(Actor[Add]):
        async def on_start(self) -> None: ...
        def on_add(self, message: Add) -> None: ...

    assert Hook.__table__.is_task


async def test_receive_replaces_the_table(autojump_clock: MockClock, system: System) -> None:
    # ACT-41
    class Taker(Actor[Add | Total]):
        def __init__(self) -> None:
            self.total = 0

        def receive(self, message: Add | Total) -> object:
            match message:
                case Add(count=count):
                    self.total += count
                    return None
                case Total():
                    return self.total

    class AsyncTaker(Actor[Add | Total]):
        def __init__(self) -> None:
            self.total = 0

        async def receive(self, message: Add | Total) -> object:
            await trio.lowlevel.checkpoint()
            if isinstance(message, Add):
                self.total += message.count
                return None
            return self.total

    for kind in (Taker, AsyncTaker):
        ref = await system.start(kind)
        ref.tell(Add(2))
        ref.tell(Add(3))
        assert await ref.ask(Total()) == 5


async def test_lookup_is_by_exact_class(autojump_clock: MockClock, system: System) -> None:
    # ACT-41
    class Special(Add):
        pass

    class Counts(Actor[Add]):
        def on_add(self, message: Add) -> None: ...

    ref = await system.start(Counts)
    ref.tell(Special())
    await trio.testing.wait_all_tasks_blocked()
    assert system.dead_letters.by_reason == {"unhandled": 1}


async def test_one_message_at_a_time(autojump_clock: MockClock, system: System) -> None:
    # ACT-43
    log: list[object] = []

    class Slow(Actor[Add]):
        async def on_add(self, message: Add) -> None:
            log.append("in")
            await trio.sleep(1)
            log.append("out")

    ref = await system.start(Slow)
    for _ in range(3):
        ref.tell(Add())
    await trio.sleep(4)
    assert log == ["in", "out"] * 3


async def test_cancel_late_cuts_a_handler_at_its_deadline(
    autojump_clock: MockClock, system: System
) -> None:
    # ACT-14
    log: list[object] = []

    class Patient(Actor[Total]):
        @handler(cancel_late=True)
        async def on_total(self, message: Total) -> int:
            try:
                await trio.sleep(60)
            finally:
                log.append(trio.current_time())
            return 1

    ref = await system.start(Patient)
    with pytest.raises(Exception, match="handling"):
        await ref.ask(Total(), timeout=2)
    await trio.testing.wait_all_tasks_blocked()
    assert log == [2]
    assert system.stats(ref).expired == 1
    assert system.stats(ref).status == "running"
    with pytest.raises(TypeError, match="async def"):
        handler(cancel_late=True)(test_the_kind_follows_from_async_def)


async def test_plain_arguments_are_called_anew(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-47, ACT-55
    def starts(me: AnyPuppet) -> None:
        assert me.path == "named"
        assert me.system is system

    ref = await system.start(puppet, None, starts, name="named")
    assert ref.path == "named"
    assert repr(ref).startswith("<Ref named#")
    assert len({ref, system.whereis("named")}) == 1


def test_the_reply_type_is_found_behind_other_generic_bases() -> None:  # ACT-40
    with pytest.raises(TypeError, match="returns str"):

        class Wrong(Actor[MixedCount]):
            def on_count(self, message: MixedCount) -> str:
                return "five"
