"""The four ways to answer a client program (WEB-3), each a line or two of a route.

- fire and forget: `accept` puts a message into a mailbox and answers 202 with where to look
- wait for the outcome: `carry_out` a command and answer 200 or 201; 408 when it takes too long
- read without a command: `read_state`
- wait for the first milestone: `wait_milestone`, and 202 with what is known by then

An aggregate's no becomes an answer through the `Refusals` of its feature (WEB-2).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, Protocol, TypeVar

import msgspec
import trio
from quart import Response

from actors.persistence import AggregateRef, Done, Refusal, ask_state, execute
from actors.runtime import AskTimeout, MailboxFull, Ref
from actors.runtime.system.topics import Sink
from web.api.errors import not_found, timeout, told, unavailable
from web.api.idempotency import effect_key, maybe_done
from web.api.positions import add_positions, keep_position
from web.server import Answer, ErrorAnswer, current_request_state

T = TypeVar("T")
M = TypeVar("M")

# What a person waits for without a doubt that anything happens; of a request's ten seconds a rest
# stays to answer in.
OUTCOME_S_MAX = 9.5
MILESTONE_S_MAX = 5.0
# Room in a mailbox that is full comes soon or not at all.
ROOM_S_MAX = 1.0
_REST_S = 0.25

_JSON = "application/json"


class Refusals:
    """One table a feature: which answer belongs to which code of its refusals.

    `Refusals({"sold_out": Answer.CONFLICT})`. The refusal's own message is told; a code that is
    not listed is answered 400.
    """

    def __init__(self, answers: Mapping[str, Answer] | None = None) -> None:
        self._answers = dict(answers or {})

    def __repr__(self) -> str:
        return f"<Refusals of {len(self._answers)} codes>"

    def answer(self, refused: Refusal) -> ErrorAnswer:
        """Call this to get what a route raises for a refusal."""
        return told(self._answers.get(refused.code, Answer.INVALID).value, refused.message)


# -- answers -------------------------------------------------------------------------------------


def ok(value: object, *, status: int = 200, at: str | None = None) -> Response:
    """Call this to answer `value` as JSON; `at` is where the thing is found from now on."""
    # What one client was told is nobody else's, and old the moment after.
    response = Response(
        msgspec.json.encode(value),
        status=status,
        content_type=_JSON,
        headers={"cache-control": "no-store"},
    )
    if at is not None:
        response.headers["location"] = at
    add_positions(response)
    return response


def created(value: object, *, at: str) -> Response:
    """Call this when something new stands at the path `at`: 201 with `Location`."""
    return ok(value, status=201, at=at)


def accepted(value: object = None, *, at: str) -> Response:
    """Call this when it is under way, and its outcome will be seen at `at`: 202 with `Location`.

    `value` is what is known by now; None answers an empty object.
    """
    return ok({} if value is None else value, status=202, at=at)


# -- the patterns --------------------------------------------------------------------------------


async def accept(ref: Ref[M], message: M, *, at: str) -> Response:
    """Call this to hand a message over and answer 202: it is in the mailbox, and no more is known.

    A mailbox that stays full is answered 503, as is an actor that is gone; nothing was delivered.
    """
    try:
        await ref.send(message, _at_most(ROOM_S_MAX))
    except MailboxFull as error:
        raise unavailable("There is too much to do just now; nothing was taken.") from error
    return accepted(at=at)


async def carry_out(
    ref: AggregateRef, command: object, refusals: Refusals, *, within_s: float = OUTCOME_S_MAX
) -> Done:
    """Call this to have an aggregate carry out a command, and wait for it.

    What it says to a no, and when time is over, is as for `wait_outcome`. On a route with an
    `Idempotency-Key` the append itself carries the key: also a request that died half-way has one
    effect. A repeat then comes back with `Done.replayed`, and without events; so does one that is
    refused only for what the first has done.
    """
    limit, effect = _at_most(within_s), effect_key()
    done = await _in_time(execute(ref, command, timeout=limit, idempotency=effect), limit)
    if not isinstance(done, Refusal):
        keep_position(done.cursor)
        return done
    version = None if effect is None else await maybe_done(effect)
    if version is None:
        raise refusals.answer(done)
    return Done(version, replayed=True)


async def wait_outcome(
    asked: Awaitable[T | Refusal], refusals: Refusals, *, within_s: float = OUTCOME_S_MAX
) -> T:
    """Call this with any ask that may be refused: gives its answer.

    Raises the answer to a refusal, and 408 when none came within `within_s` seconds, or the
    request's own time: the command may still succeed. Cancelled, it withdraws what still waits.
    """
    found = await _in_time(asked, _at_most(within_s))
    if isinstance(found, Refusal):
        raise refusals.answer(found)
    return found


async def _in_time(asked: Awaitable[T], seconds: float) -> T:
    try:
        with trio.fail_after(seconds):
            return await asked
    except (AskTimeout, trio.TooSlowError) as error:
        raise timeout() from error


async def read_state(ref: AggregateRef, kind: type[T], resource: str, id_: object) -> T:
    """Call this for an aggregate's state, after all earlier commands: a read changes nothing.

    One without events is answered 404 in the words of `not_found(resource, id_)`. TypeError for a
    state that is no `kind`.
    """
    version, state = await ask_state(ref, timeout=_at_most(OUTCOME_S_MAX))
    if version == 0:
        raise not_found(resource, id_)
    if not isinstance(state, kind):
        raise TypeError(f"the state of {ref.path} is {type(state).__name__}, no {kind.__name__}")
    return state


class Subscribing(Protocol):
    """The topics of a system, as far as a milestone needs them."""

    def subscribe(self, topic: str, subscriber: Sink, /) -> None:
        """See `Topics.subscribe`."""

    def unsubscribe(self, topic: str, subscriber: Sink, /) -> None:
        """See `Topics.unsubscribe`."""


async def wait_milestone(
    topics: Subscribing,
    topic: str,
    begin: Callable[[], Awaitable[object]],
    maybe_reached: Callable[[object], T | None],
    *,
    within_s: float = MILESTONE_S_MAX,
) -> T | None:
    """Call this to begin something long, and wait for the first of its events that matters.

    Listens to `topic` before `begin` is awaited, so no event is missed. `maybe_reached` gives what
    is known by an event, or None to wait on. None after `within_s` seconds: it goes on, and is not
    decided yet. Raises what either function does; listens no more in every case.
    """
    waiting = _Milestone(maybe_reached)
    topics.subscribe(topic, waiting)
    try:
        with trio.move_on_after(_at_most(within_s)):
            await begin()
            await waiting.is_over.wait()
    finally:
        topics.unsubscribe(topic, waiting)
    if waiting.error is not None:
        raise waiting.error
    return waiting.found


class _Milestone(Generic[T]):
    """Takes the events of a topic until one of them matters."""

    def __init__(self, maybe_reached: Callable[[object], T | None]) -> None:
        self._maybe_reached = maybe_reached
        self.is_over = trio.Event()
        self.found: T | None = None
        self.error: Exception | None = None

    def deliver(self, message: object) -> None:
        """Take an event, while the actor publishes it."""
        if self.is_over.is_set():
            return
        try:
            self.found = self._maybe_reached(message)
        except Exception as error:  # noqa: BLE001 - it is the route's, and raised there
            self.error = error
        if self.found is not None or self.error is not None:
            self.is_over.set()


def _at_most(seconds: float) -> float:
    """The seconds there are, with a rest of the request's time to answer in."""
    left = current_request_state().deadline - trio.current_time() - _REST_S
    return max(0.0, min(seconds, left))
