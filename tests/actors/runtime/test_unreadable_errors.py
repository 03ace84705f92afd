"""Errors whose own code fails when somebody looks at them: the crash of one actor, no more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors.runtime import ActorCrashed, Crashed, Exit, StartError, StopActor, System
from actors.testing import AnyPuppet, Call, Do, Puppet, raising
from supervision import Supervisor, child, open_system

Make: TypeAlias = Callable[[], BaseException]
# Deeper than Python's limit of recursion, so that nothing can go down by calls.
DEEP = 3000


class _Arguments(Exception):
    @property
    def args(self) -> tuple[object, ...]:  # type: ignore[override]
        raise RuntimeError("no args")


class _NoTuple(Exception):
    args = 5  # type: ignore[assignment]


class _Cause(Exception):
    @property
    def __cause__(self) -> BaseException | None:  # type: ignore[override]
        raise RuntimeError("no cause")


class _Class(Exception):
    @property  # type: ignore[misc]
    def __class__(self) -> type[BaseException]:  # type: ignore[override]
        raise RuntimeError("no class")


class _Nothing(Exception):
    def __getattribute__(self, name: str) -> object:
        raise RuntimeError(name)


class _Meta(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no name")


class _Nameless(Exception, metaclass=_Meta):
    pass


class _Members(ExceptionGroup[Exception]):
    @property
    def exceptions(self) -> tuple[Exception, ...]:
        raise RuntimeError("no members")


class _Whole(BaseExceptionGroup[BaseException]):
    def derive(self, _: object) -> BaseExceptionGroup[BaseException]:  # type: ignore[override]
        raise RuntimeError("cannot be split")


def _deep() -> BaseException:
    error: Exception = OSError("at the bottom")
    for _ in range(DEEP):
        error = ExceptionGroup("deeper", [error])
    return error


def _behind() -> BaseException:
    error = OSError("in front")
    error.__cause__ = _Cause()
    return error


UNREADABLE: dict[str, Make] = {
    "args": _Arguments,
    "no_tuple": _NoTuple,
    "cause": _Cause,
    "class": _Class,
    "nothing": _Nothing,
    "nameless": _Nameless,
    "members": lambda: _Members("x", [OSError()]),
    "whole": lambda: _Whole("x", [OSError(), StopActor()]),
    "deep": _deep,
    "behind": _behind,
    "in_group": lambda: ExceptionGroup("x", [OSError(), _Arguments()]),
}


@pytest.fixture(params=UNREADABLE)
def make(request: pytest.FixtureRequest) -> Make:
    return UNREADABLE[request.param]


async def test_an_error_that_cannot_be_read_crashes_its_actor_alone(
    autojump_clock: MockClock, make: Make, puppet: type[Puppet]
) -> None:
    # ACT-5, SUP-91
    class Root(Supervisor, intensity=100):
        first = child(puppet)
        other = child(puppet)

    async with open_system(Root) as root:
        root.first.tell(Do(raising(make())))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ActorCrashed):
            await root.first.ask(Call(raising(make())))
        assert [report.stack != "" for report in root.system.reports.kept] == [True, True]
        assert await root.first.ask(Call(lambda me: 1)) == 1
        assert (await root.which_child("first")).incarnation == 3
        assert (await root.which_child("other")).incarnation == 1


async def test_a_start_or_stop_or_child_task_with_one_fails_alone(
    autojump_clock: MockClock, system: System, make: Make, puppet: type[Puppet]
) -> None:
    # ACT-5, ACT-48, ACT-50
    def fails(_: AnyPuppet, exit_: Exit) -> None:
        raise make()

    async def fails_later() -> None:
        await trio.sleep(1)
        raise make()

    with pytest.raises(StartError):
        await system.start(puppet, None, raising(make()))
    stopping = await system.start(puppet, None, None, fails)
    await stopping.stop()
    working = await system.start(puppet)
    await working.ask(Call(lambda me: me.start_soon(fails_later)))
    exit_ = await system.wait_down(working)
    assert isinstance(exit_, Crashed)
    assert len(system.reports.kept) == 2


async def test_what_stands_for_it_names_its_class_and_where_it_was_raised(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-5
    ref = await system.start(puppet)
    ref.tell(Do(raising(_Arguments())))
    exit_ = await system.wait_down(ref)
    assert isinstance(exit_, Crashed)
    (report,) = system.reports.kept
    assert str(report.exit.error) == "_Arguments cannot be read: RuntimeError"
    assert "raise_it" in report.stack


@dataclass(frozen=True)
class _Frozen(Exception):
    """Refuses every attribute that is set, `__context__` too."""

    text: str


async def test_a_frozen_error_of_on_stop_has_the_first_one_as_its_context(
    autojump_clock: MockClock, system: System, puppet: type[Puppet]
) -> None:
    # ACT-48
    first = OSError("first")

    def fails(_: AnyPuppet, exit_: Exit) -> None:
        raise _Frozen("second")

    ref = await system.start(puppet, None, None, fails)
    ref.tell(Do(raising(first)))
    exit_ = await system.wait_down(ref)
    assert isinstance(exit_, Crashed)
    assert exit_.error == _Frozen("second")
    assert exit_.error.__context__ is first
