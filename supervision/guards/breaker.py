"""A circuit breaker: stop calling what fails, look again later with one call at a time.

`BreakerState` is the state machine, without clock or task; `Breaker` guards calls with it.
Changes are handed to `on_change`: `partial(system.topics.publish, BREAKERS)` makes them events.
One that raises is logged, and disturbs no call.

Rule 1: cancellation counts as neither success nor failure.
Rule 2: every call that was let through is settled, also when `counts` raises: that error is the
caller's, and the call a failure. An error of which `counts` says None is neither, like a
cancellation: nothing was asked, or nobody waited for the answer.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, TypeVar

import trio

from actors.runtime import Crashed, Log
from actors.runtime.telling.log import failure_of
from actors.runtime.words.places import in_place
from actors.runtime.words.showing import shown
from supervision.specs.errors import NotCalled

T = TypeVar("T")
# Calls pass; are refused; one is let through to see.
State: TypeAlias = Literal["closed", "open", "half_open"]

_log = Log("supervision.breaker")

# A topic for the changes of breakers; one is published there when it has been made with
# `on_change=partial(system.topics.publish, BREAKERS)`.
BREAKERS: Final = "supervision.breakers"


class CircuitOpen(NotCalled):
    """Raised at once by an open breaker: nothing was called. Try again in `retry_in` s."""

    def __init__(self, name: str, retry_in: float) -> None:
        super().__init__(
            f"{name} has failed too often and is left alone; nothing was called. "
            f"Try again in {retry_in:.1f} s."
        )
        self.name, self.retry_in = name, retry_in


# Some 100 bytes a call. A share that is taken of a thousand calls has a standard error of 0.016 at
# the most, which is little beside any rate that somebody sets.
SEEN_MAX = 1000


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When to open: `failures` in a row, or a share of `rate` among `least` calls in `window` s.

    Of a busier service the newest `SEEN_MAX` calls of the window stand for all of them.

    After `open_for` seconds one probe at a time is let through; `successes` of them close it.
    """

    failures: int = 5
    rate: float = 0.5
    least: int = 10
    window: float = 30.0
    open_for: float = 60.0
    successes: int = 2

    def __post_init__(self) -> None:
        # Each the right way round: of what is no number every comparison is false.
        if not all(one >= 1 for one in (self.failures, self.least, self.successes)):
            raise ValueError(
                in_place(f"{self!r}: failures, least and successes must be at least 1")
            )
        if self.least > SEEN_MAX:
            raise ValueError(
                in_place(f"{self!r}: least is at most {SEEN_MAX}, which is all that is kept")
            )
        if not (0 < self.rate <= 1 and self.window > 0 and self.open_for > 0):
            raise ValueError(in_place(f"{self!r}: 0 < rate <= 1, window and open_for above 0"))


@dataclass(frozen=True, slots=True)
class BreakerStats:
    """What a breaker has seen; rates are of the calls in the window, 0.0 when there are none."""

    name: str
    state: State
    calls: int
    successes: int
    failures: int
    rejections: int
    failure_rate: float
    retry_in: float


@dataclass(frozen=True, slots=True)
class BreakerChange:
    """A breaker changed its state."""

    name: str
    before: State
    state: State
    at: float


# Of a call that is no probe.
NO_PROBE: Final = 0


class BreakerState:
    """The state machine: ask `admit` before a call, tell `succeeded` or `failed` after it.

    What is told names the call's probe, which `probe` was when it was let through: others end
    meanwhile that were let through before, and theirs is not its end.
    """

    def __init__(self, name: str, policy: BreakerPolicy) -> None:
        self.name = name
        self.policy = policy
        self.state: State = "closed"
        self.calls = self.successes = self.failures = self.rejections = 0
        self._in_a_row = 0
        self._seen: deque[tuple[float, bool]] = deque(maxlen=SEEN_MAX)
        self._opened_at = 0.0
        # The one under way, by its number.
        self.probe = NO_PROBE
        self._probes = 0
        self._probed_well = 0

    def admit(self, now: float) -> float | None:
        """Call this before a call: None lets it through, a number is the seconds to wait."""
        if self.state == "open" and now >= self._opened_at + self.policy.open_for:
            self.state, self._probed_well, self.probe = "half_open", 0, NO_PROBE
        if self.state == "open" or (self.state == "half_open" and self.probe):
            self.rejections += 1
            return max(0.0, self._opened_at + self.policy.open_for - now)
        if self.state == "half_open":
            # Two calls at once would be two probes; the others are refused until this one is back.
            self._probes += 1
            self.probe = self._probes
        self.calls += 1
        return None

    def succeeded(self, now: float, probe: int = NO_PROBE) -> None:
        """Call this when an admitted call went well."""
        self.successes += 1
        self._in_a_row = 0
        self._note(now, is_failure=False)
        if self._ends_probe(probe) and self.state == "half_open":
            self._probed_well += 1
            if self._probed_well >= self.policy.successes:
                self.reset()

    def failed(self, now: float, probe: int = NO_PROBE) -> None:
        """Call this when an admitted call failed."""
        self._ends_probe(probe)
        self.failures += 1
        self._in_a_row += 1
        self._note(now, is_failure=True)
        # Half open, one failure is enough, also of a call that was let through before it opened:
        # its news is as fresh as a probe's.
        if self.state == "half_open" or self._is_too_bad():
            self.state, self._opened_at, self.probe = "open", now, NO_PROBE

    def withdrawn(self, probe: int = NO_PROBE) -> None:
        """Call this when an admitted call was cancelled: it says nothing."""
        self.calls -= 1
        self._ends_probe(probe)

    def reset(self) -> None:
        """Call this to close it, by hand too; what was seen before is forgotten."""
        self.state, self._in_a_row, self.probe = "closed", 0, NO_PROBE
        self._seen.clear()

    def _ends_probe(self, probe: int) -> bool:
        """Take note that a call is back; True when it is the probe that is waited for."""
        if probe == NO_PROBE or probe != self.probe:
            return False
        self.probe = NO_PROBE
        return True

    def stats(self, now: float) -> BreakerStats:
        """Call this for the numbers."""
        self._forget(now)
        bad = sum(is_failure for _, is_failure in self._seen)
        rate = bad / len(self._seen) if self._seen else 0.0
        wait = self._opened_at + self.policy.open_for - now if self.state == "open" else 0.0
        return BreakerStats(
            self.name,
            self.state,
            self.calls,
            self.successes,
            self.failures,
            self.rejections,
            rate,
            max(0.0, wait),
        )

    def _note(self, now: float, *, is_failure: bool) -> None:
        self._seen.append((now, is_failure))
        self._forget(now)

    def _forget(self, now: float) -> None:
        while self._seen and now - self._seen[0][0] > self.policy.window:
            self._seen.popleft()

    def _is_too_bad(self) -> bool:
        if self.state != "closed":
            return False
        if self._in_a_row >= self.policy.failures:
            return True
        bad = sum(is_failure for _, is_failure in self._seen)
        return len(self._seen) >= self.policy.least and bad >= self.policy.rate * len(self._seen)


class Breaker:
    """Guards calls to one dependency: `await breaker.call(fetch)`."""

    def __init__(
        self,
        name: str,
        policy: BreakerPolicy = BreakerPolicy(),
        *,
        counts: Callable[[BaseException], bool | None] = lambda error: True,
        on_change: Callable[[BreakerChange], object] | None = None,
    ) -> None:
        self._machine = BreakerState(name, policy)
        self._counts = counts
        self._on_change = on_change

    def __repr__(self) -> str:
        return f"<Breaker {self._machine.name} {self._machine.state}>"

    @property
    def state(self) -> State:
        """`closed`, `open` or `half_open`."""
        return self._machine.state

    def stats(self) -> BreakerStats:
        """Call this for calls, successes, failures, rejections and the rate of failures."""
        return self._machine.stats(trio.current_time())

    def reset(self) -> None:
        """Call this to close it by hand."""
        before = self._machine.state
        self._machine.reset()
        self._tell(before)

    async def call(self, make: Callable[[], Awaitable[T]]) -> T:
        """Call this to make a guarded call.

        Raises `CircuitOpen` at once when it is open, else whatever the call raises. Errors for
        which `counts` is false, a refusal of the domain, pass as successes.
        """
        machine = self._machine
        before = machine.state
        # Asking changes the state too: the time an open one waited for may have come.
        retry_in = machine.admit(trio.current_time())
        self._tell(before)
        if retry_in is not None:
            await trio.lowlevel.checkpoint()
            raise CircuitOpen(machine.name, retry_in)
        probe = machine.probe
        try:
            result = await make()
        except BaseException as error:
            self._note_error(error, probe)
            raise
        self._settle(probe, is_failure=False)
        return result

    def _note_error(self, error: BaseException, probe: int) -> None:
        if not _is_outcome(error):
            self._machine.withdrawn(probe)
            return
        try:
            is_failure = self._counts(error)
        except BaseException:
            # Whoever judges is broken: its error is the caller's. The call has failed all the
            # same, and a probe that is never settled would keep everybody out for good.
            self._settle(probe, is_failure=True)
            raise
        if is_failure is None:
            self._machine.withdrawn(probe)
        else:
            self._settle(probe, is_failure=is_failure)

    def _settle(self, probe: int, *, is_failure: bool) -> None:
        before = self._machine.state
        now = trio.current_time()
        if is_failure:
            self._machine.failed(now, probe)
        else:
            self._machine.succeeded(now, probe)
        self._tell(before)

    def _tell(self, before: State) -> None:
        after = self._machine.state
        if after != before and self._on_change is not None:
            change = BreakerChange(self._machine.name, before, after, trio.current_time())
            error = failure_of(self._on_change, change)
            if error is not None:
                name = self._machine.name
                _log.warning("breaker_listener_failed", breaker=name, error=shown(error))


def _is_outcome(error: BaseException) -> bool:
    """Whether an error says something about what was called: cancellation does not."""
    leaves = [leaf for leaf in Crashed(error).leaves() if not isinstance(leaf, trio.Cancelled)]
    ends_all = (KeyboardInterrupt, SystemExit, GeneratorExit)
    return bool(leaves) and not any(isinstance(leaf, ends_all) for leaf in leaves)
