"""What a person writes for a supervisor to call: its errors crash that supervisor, nobody else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from actors.runtime import Actor, Crashed, message
from supervision import (
    Backoff,
    Breaker,
    BreakerChange,
    BreakerPolicy,
    CircuitOpen,
    Dynamic,
    DynamicFlags,
    NotFound,
    RetryPolicy,
    Supervisor,
    child,
    handle_of,
    open_system,
)
from supervision.specs.specs import ChildSpec
from tests.supervision.puppets import (
    BOOM,
    MANY,
    Crash,
    Kit,
    Number,
    Troupe,
    Word,
    crash,
    ref_of,
    settle,
)


class Own(BaseException):
    """An error class of somebody who does not derive from Exception."""


BUGS = [OSError("jitter bug"), Own("jitter bug")]


class Jittery(Troupe):
    """A supervisor whose `jitter` does what the test says."""

    answer: object = 0.5

    def jitter(self) -> float:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer  # type: ignore[return-value]  # also what makes no sense


def jittery(kit: Kit, answer: object) -> ChildSpec:
    """A supervisor of one child with a backoff, whose jitter is broken in the first incarnation."""
    answers = iter([answer])

    def make() -> Jittery:
        made = Jittery(MANY, [kit.spec("a", backoff=Backoff(1.0))])
        made.answer = next(answers, 0.5)
        return made

    return ChildSpec("sub", make, type="supervisor")


@pytest.mark.parametrize("bug", [*BUGS, None, "soon", float("nan"), float("inf"), -99.0])
async def test_a_jitter_that_fails_crashes_its_supervisor(
    kit: Kit, bug: object, autojump_clock: MockClock
) -> None:
    # ACT-5, SUP-44: its parent restarts it, siblings notice nothing
    async with open_system(Troupe, MANY, [jittery(kit, bug), kit.spec("b")]) as sup:
        sub = handle_of(Jittery, ref_of(await sup.which_child("sub")))
        await crash(sub, "a")
        await trio.sleep(5.0)
        assert await sup.numbers() == {"sub": 2, "b": 1}
        last = sup.system.reports.kept[-1]
        assert last.path == "troupe/sub"
        assert isinstance(last.exit, Crashed)
        if isinstance(bug, BaseException):
            assert last.exit.error is bug
        # And the next incarnation works.
        await crash(sub, "a")
        await trio.sleep(5.0)
        assert await sub.numbers() == {"a": 2}


async def test_a_root_whose_jitter_fails_ends_the_system_with_that_error(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # ACT-5, SUP-42
    bug = OSError("jitter bug")

    async def scenario() -> None:
        specs = [kit.spec("a", backoff=Backoff(1.0)), kit.spec("b")]
        async with open_system(Jittery, MANY, specs) as sup:
            cell = sup.system.at("jittery")
            assert cell is not None
            assert cell.life is not None
            assert isinstance(cell.life.instance, Jittery)
            cell.life.instance.answer = bug
            await crash(sup, "a")
            await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        await scenario()
    assert caught.value.exceptions == (bug,)
    assert kit.stage.log[-1] == "stop b shutdown"


class Impatient(Backoff):
    """A backoff of somebody's own, with a bug."""

    def wait(self, attempt: int, u: float) -> float:
        raise ZeroDivisionError


async def test_a_backoff_of_ones_own_that_fails_crashes_its_supervisor(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # ACT-5, SUP-44: of dynamic children too
    template = ChildSpec("one", partial(kit.puppet, kit.stage), backoff=Impatient())
    pool = ChildSpec("pool", partial(Dynamic, DynamicFlags(key="child_id"), template))
    async with open_system(Troupe, MANY, [pool]) as sup:
        rooms = sup.handle_of_child("pool")
        assert isinstance(rooms, Dynamic)
        rooms["oak"].tell(Crash(BOOM))
        await settle()
        assert await sup.numbers() == {"pool": 2}
        exit_ = sup.system.reports.kept[-1].exit
        assert isinstance(exit_, Crashed)
        assert isinstance(exit_.error, ZeroDivisionError)
        assert await rooms["oak"].ask(Number()) == 1


class Judge(type):
    """The metaclass of an error class that cannot be asked about."""

    def __instancecheck__(cls, instance: object) -> bool:
        raise LookupError("not to be asked")


class Odd(Exception, metaclass=Judge):
    """An error class that cannot be asked about."""


@pytest.mark.parametrize("option", ["restart_on", "stop_on", "escalate_on"])
@pytest.mark.parametrize("is_attempt", [False, True])
async def test_error_classes_that_cannot_be_asked_crash_the_supervisor(
    kit: Kit, option: str, is_attempt: bool, autojump_clock: MockClock
) -> None:
    # ACT-5, SUP-47: asked about a crash, and about an attempt that failed
    def sub() -> Troupe:
        return Troupe(MANY, [kit.spec("a", **{option: Odd})])

    async with open_system(Troupe, MANY, [ChildSpec("sub", sub, type="supervisor")]) as sup:
        handle = sup.handle_of_child("sub")
        assert isinstance(handle, Troupe)
        if is_attempt:
            kit.stage.will_start("a", OSError("not yet"))
            (await handle.refs())["a"].kill()
            await settle()
        else:
            await crash(handle, "a")
        assert await sup.numbers() == {"sub": 2}
        exit_ = sup.system.reports.kept[-1].exit
        assert isinstance(exit_, Crashed)
        assert isinstance(exit_.error, LookupError)
        assert await handle.numbers() == {"a": 1}


@message
class Go:
    """A message that says nothing."""


class Notified(Actor[Go]):
    """An actor with an `on_system` that fails."""

    def on_go(self, message: Go) -> None: ...

    def on_system(self, entry: object) -> None:
        assert isinstance(entry, BaseException)
        raise entry


class AsyncNotified(Notified):
    async def on_start(self) -> None: ...


@pytest.mark.parametrize("kind", [Notified, AsyncNotified])
@pytest.mark.parametrize("bug", BUGS)
async def test_an_on_system_that_fails_crashes_its_actor(
    kind: type[Notified], bug: BaseException, autojump_clock: MockClock
) -> None:
    # ACT-5
    async with open_system(Troupe, MANY, [ChildSpec("a", kind), ChildSpec("b", kind)]) as sup:
        cell = sup.system.at("troupe/a")
        assert cell is not None
        cell.post_system(bug)
        await settle()
        assert await sup.numbers() == {"a": 2, "b": 1}
        assert sup.system.reports.kept[-1].exit == Crashed(bug)


class Bad:
    """A value that cannot even be shown."""

    def __repr__(self) -> str:
        raise ValueError("no text")


class BadKey(str):
    """A text that can stand in no dictionary."""

    __slots__ = ()

    def __hash__(self) -> int:
        raise ValueError("no hash")


class BadMapping(Mapping[str, object]):
    """A spec that raises when it is read."""

    def __getitem__(self, key: str) -> object:
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        raise ZeroDivisionError

    def __len__(self) -> int:
        return 1


async def test_what_callers_hand_in_fails_for_them_alone(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-2, SUP-60
    async with open_system(Troupe, MANY, [kit.spec("a")]) as sup:
        with pytest.raises(NotFound):
            await sup.terminate_child(Bad())  # type: ignore[arg-type]
        with pytest.raises(NotFound):
            await sup.terminate_child(BadKey("b"))
        await sup.which_child(BadKey("a"))
        with pytest.raises(ZeroDivisionError):
            await sup.start_child(BadMapping())
        assert await sup.numbers() == {"a": 1}


async def test_a_key_with_a_hash_of_its_own_is_a_plain_text(
    kit: Kit, autojump_clock: MockClock
) -> None:
    # SUP-50, ACT-60
    template = ChildSpec("one", partial(kit.puppet, kit.stage))
    flags = DynamicFlags(key="child_id")
    async with open_system(Dynamic[Word], flags, template) as pool:
        await pool.start_child(key=BadKey("oak"))
        assert pool["oak"] == pool[BadKey("oak")]
        assert await pool["oak"].ask(Number()) == 1


# Guards: their callers get the errors, and the guard goes on


# Opens at the first failure, and closes with the first success.
FRAGILE = BreakerPolicy(failures=1, open_for=1.0, successes=1)


async def fails() -> None:
    raise OSError("no")


async def works() -> int:
    return 5


@pytest.mark.parametrize("bug", BUGS)
async def test_a_judge_of_errors_that_fails_leaves_no_breaker_half_open(
    bug: BaseException, autojump_clock: MockClock
) -> None:
    # ACT-5: the caller gets it, with the error of the call as its context
    def judge(error: BaseException) -> bool:
        raise bug

    breaker = Breaker("b", FRAGILE, counts=judge)
    for _ in range(2):
        with pytest.raises(type(bug)) as caught:
            await breaker.call(fails)
        assert isinstance(caught.value.__context__, OSError)
        assert breaker.state == "open"
        with pytest.raises(CircuitOpen):
            await breaker.call(works)
        await trio.sleep(1.0)  # The second time it is a probe that fails so.
    assert await breaker.call(works) == 5
    assert breaker.state == "closed"


@pytest.mark.parametrize("bug", BUGS)
async def test_a_listener_of_a_breaker_that_fails_costs_no_call(
    bug: BaseException, autojump_clock: MockClock
) -> None:
    # ACT-5
    heard: list[str] = []

    def listen(change: BreakerChange) -> None:
        heard.append(change.state)
        raise bug

    breaker = Breaker("b", FRAGILE, on_change=listen)
    with pytest.raises(OSError, match="no"):
        await breaker.call(fails)
    await trio.sleep(1.0)
    assert await breaker.call(works) == 5
    assert heard == ["open", "half_open", "closed"]


async def test_an_error_of_whatever_class_is_a_failure_to_a_breaker(
    autojump_clock: MockClock,
) -> None:
    # ACT-5: all but cancellation, and what ends the process
    async def raises(error: BaseException) -> None:
        raise error

    for error in (Own(), BaseExceptionGroup("two", [Own(), OSError()])):
        breaker = Breaker("b", FRAGILE)
        with pytest.raises(type(error)):
            await breaker.call(partial(raises, error))
        assert breaker.state == "open"
    breaker = Breaker("b", FRAGILE)
    with pytest.raises(KeyboardInterrupt):
        await breaker.call(partial(raises, KeyboardInterrupt()))
    with trio.move_on_after(1):
        await breaker.call(trio.sleep_forever)
    assert (breaker.state, breaker.stats().calls) == ("closed", 0)


def test_a_wait_between_many_attempts_has_its_limit() -> None:
    # SUP-44: 2.0 ** 2000 is no float
    assert RetryPolicy(attempts=3000, jitter=0.0).wait(2000, ConnectionError(), 0.0) == 30.0


# The default of `restart_on`


class Hollow(Actor[Crash]):
    def on_crash(self, message: Crash) -> None:
        raise message.error


class AsyncHollow(Actor[Crash]):
    async def on_crash(self, message: Crash) -> None:
        raise message.error


class Plain(Supervisor, intensity=100):
    hollow = child(Hollow)
    async_hollow = child(AsyncHollow)
    picky = child(Hollow, restart_on=Exception)


async def test_a_leaf_that_is_no_exception_is_restarted_too(autojump_clock: MockClock) -> None:
    # SUP-47: unless it was said which errors are
    async with open_system(Plain) as sup:
        for ref in (sup.hollow, sup.async_hollow, sup.picky):
            ref.tell(Crash(BaseExceptionGroup("both", [OSError(), Own()])))
        await settle()
        told = {one.id: one.incarnation for one in await sup.which_children()}
        assert told == {"hollow": 2, "async_hollow": 2, "picky": 0}
        assert ChildSpec("x", Hollow).restart_on == (BaseException,)
