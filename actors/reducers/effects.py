"""What a reducer wants to be done, as values: compared in tests, carried out by its actor.

    return Next(state, Delay(30, Expired(order_id), key=order_id), Dispatch(stock, Reserve(...)))

An effect is a frozen dataclass. What comes of it is an action, which is fed back to the reducer.
One of your own is a class with `run`, or a value that the actor is given an interpreter for:

    @effect
    class Greet(Effect):
        name: str

        async def run(self, env: Environment) -> Greeted:
            return Greeted(self.name)

Effects that need a store are in `actors.persistence`. How they are carried out is `performing.py`.

Rule 1: effects equal each other when they would do the same. So what they call back are functions
at the top of a module, or classes: a lambda or a closure equals nothing, and is refused.
Rule 2: what cannot be carried out is refused when the effect is made, at its line.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from dataclasses import dataclass, field, replace
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import ClassVar, Final, Never, Protocol, Self, TypeAlias, TypeVar, dataclass_transform

import msgspec

from actors.reducers.messages import here, is_event, place_of
from actors.runtime import AnyRef, Ask, Ref

T = TypeVar("T")
E_contra = TypeVar("E_contra", contravariant=True)

# Longer than a healthy call to another service takes, shorter than somebody waits for nothing.
FUTURE_TIMEOUT_S: Final = 30.0
# As an ask of any actor.
DISPATCH_TIMEOUT_S: Final = 5.0
# More at once are a loop in the reducer; a queue of its own would serve them better.
EFFECTS_MAX: Final = 256

# What a call of such a function gives is no action.
_WAITING: Final = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR

# A hundred years: whatever waits longer is a slip, and its end would be no date.
SECONDS_MAX: Final = 3_155_760_000

# The key of a durable delay is a part of a timer's name.
KEY_CHARS_MAX: Final = 100

# Makes an action, or None for no action, of a result, an error or another action.
Callback: TypeAlias = Callable[[Never], object]


class Operation(Protocol[E_contra]):
    """What `Future` runs: a frozen dataclass that gives one action, or None.

    One that calls something outside names it on the class: `dependency: ClassVar = "gateway"`. It
    is run through the `outside` of its actor's environment then, with all guards of that name, and
    may be run again when it failed in a way that passes.
    """

    def run(self, env: E_contra) -> Awaitable[object]:
        """Do it; cancelled when its time is over, its key is cancelled or its actor ends."""
        ...


class StreamOperation(Protocol[E_contra]):
    """What `Stream` runs: a frozen dataclass that gives actions one by one."""

    def run(self, env: E_contra) -> AsyncIterator[object]:
        """Give them; the next is asked for when the last one was reduced."""
        ...


@dataclass(frozen=True)
class Effect:
    """Base of all effects: one frozen value that describes something to be done."""

    # What each action that comes of it is put through, in order; `map` adds to it.
    maps: tuple[Callback, ...] = field(default=(), kw_only=True, repr=False)

    # Whether it waits instead of doing something, and takes no place among the running ones.
    is_idle: ClassVar[bool] = False
    # Whether it belongs to the moment of its action, so that it cannot stand within others.
    is_at_once: ClassVar[bool] = False

    def map(self, f: Callback) -> Effect:
        """Call this for the same effect with `f` put around each action that can come of it.

        `e.map(f).map(g)` is `e` with `g(f(action))`. None, no action, stays None. TypeError for a
        lambda or a closure.
        """
        check_callback(f, "map")
        return replace(self, maps=(*self.maps, f))


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def effect(cls: type[T]) -> type[T]:
    """Call this (as a decorator) on a class derived from `Effect` to make an effect of your own.

    Its fields come first, so that it can be made without naming them. TypeError when it derives
    from no effect, or its `run` is no coroutine function.
    """
    if not issubclass(cls, Effect):
        raise TypeError(f"{place_of(cls)} must derive from Effect ({here()})")
    run = getattr(cls, "run", None)
    if run is not None and not _is_coroutine(run) and not inspect.isasyncgenfunction(run):
        raise TypeError(f"{place_of(cls)}.run must be `async def` ({here()})")
    made: type[T] = dataclass(frozen=True)(cls)
    return made


# Nothing, waiting, and what is done together or in turn


class _Silent(Effect):
    """One that no action comes of, so that there is nothing to map."""

    def map(self, f: Callback) -> Self:
        """Call this as of any effect; it stays what it is."""
        check_callback(f, "map")
        return self


@effect
class Nothing(_Silent):
    """Does nothing; the unit of `par` and `seq`."""


@effect
class Delay(Effect):
    """Feeds `action` back in `seconds`, unless its key is cancelled or its actor ends first.

    A `durable` one survives the actor and its process. It is over when it is written, and its
    action comes at least once, to whoever has the actor's path then; its key is a text, or None.
    """

    seconds: float
    action: object
    key: Hashable = None
    durable: bool = False

    is_idle: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_seconds(self, "seconds", self.seconds, least=0.0)
        _check_hashable(self)
        if isinstance(self.action, type | Effect):
            raise TypeError(f"Delay.action is {self.action!r}, which is no action ({here()})")
        if not isinstance(self.durable, bool):
            raise TypeError(f"Delay.durable is {self.durable!r}; it is True or False ({here()})")
        if self.durable and self.key is not None and not _is_name(self.key):
            raise ValueError(
                f"Delay.key is {self.key!r}; of a durable one it must be a text of 1 to "
                f"{KEY_CHARS_MAX} characters ({here()})"
            )

    def map(self, f: Callback) -> Effect:
        """Call this for the same delay of `f(action)`: made now, so that it can be compared."""
        check_callback(f, "map")
        return replace(self, action=f(self.action))  # type: ignore[arg-type]


@effect
class Cancel(_Silent):
    """Cancels what runs in this actor under `key`: a Future, Stream, Delay or effect of your own.

    Durable delays of former lives too, where the actor has them. An action of it that waits in the
    mailbox is not reduced either. Unknown keys are counted.
    """

    key: Hashable

    def __post_init__(self) -> None:
        if self.key is None:
            raise TypeError(f"Cancel needs a key, not None ({here()})")
        _check_hashable(self)


class _Several(Effect):
    """Several effects as one; `effects` are 0 to 256."""

    effects: tuple[Effect, ...]

    def __init__(self, *effects: Effect) -> None:
        name = type(self).__name__
        if len(effects) > EFFECTS_MAX:
            raise ValueError(f"{name} takes {EFFECTS_MAX} effects, not {len(effects)} ({here()})")
        for one in effects:
            check_effect(one, f"{name}(...)")
            if one.is_at_once:
                raise TypeError(
                    f"{name} takes no {type(one).__name__}, which is done at once: return it "
                    f"beside ({here()})"
                )
        object.__setattr__(self, "effects", effects)
        object.__setattr__(self, "maps", ())

    def map(self, f: Callback) -> Self:
        """Call this for the same effects, each of them mapped."""
        return type(self)(*(one.map(f) for one in self.effects))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.effects))})"


@dataclass(frozen=True, init=False, repr=False)
class Parallel(_Several):
    """All at once; done when all are done. One that fails does not stop the others.

    Its outcome is the first failure, in the order of the list.
    """

    effects: tuple[Effect, ...]


@dataclass(frozen=True, init=False, repr=False)
class Sequential(_Several):
    """One after another, each begun when the one before is wholly done and its actions reduced.

    One that fails, or is cancelled, ends the chain.
    """

    effects: tuple[Effect, ...]


def par(*effects: Effect) -> Effect:
    """Call this for effects that run together, as flat as can be: without `Nothing`."""
    return _flat(Parallel, effects)


def seq(*effects: Effect) -> Effect:
    """Call this for effects that run in turn, as flat as can be: without `Nothing`."""
    return _flat(Sequential, effects)


def _flat(kind: type[Parallel] | type[Sequential], effects: tuple[Effect, ...]) -> Effect:
    flat: list[Effect] = []
    for one in effects:
        check_effect(one, kind.__name__)
        if isinstance(one, kind):
            flat += one.effects
        elif not isinstance(one, Nothing) and one not in (Parallel(), Sequential()):
            flat.append(one)
    if not flat:
        return Nothing()
    return flat[0] if len(flat) == 1 else kind(*flat)


# Work


@effect
class Future(Effect):
    """Runs `op.run(env)` once and feeds back the action that it gives, if any.

    After `timeout` seconds it is cancelled, and has failed with `EffectTimeout`. `failed` makes an
    action of an error; without it the effect becomes a dead letter, which can be sent again.
    """

    op: Operation[Never]
    timeout: float = FUTURE_TIMEOUT_S
    key: Hashable = None
    failed: Callback | None = None

    def __post_init__(self) -> None:
        _check_operation(self, self.op, is_stream=False)
        _check_seconds(self, "timeout", self.timeout, least=0.0)
        _check_hashable(self)
        check_callback(self.failed, "Future.failed")


@effect
class Stream(Effect):
    """Feeds back the actions that `op.run(env)` gives, each when the one before was reduced.

    Closed when its key is cancelled, it fails or the actor ends. `failed` as in `Future`.
    """

    op: StreamOperation[Never]
    key: Hashable = None
    failed: Callback | None = None

    def __post_init__(self) -> None:
        _check_operation(self, self.op, is_stream=True)
        _check_hashable(self)
        check_callback(self.failed, "Stream.failed")


@effect
class Dispatch(Effect):
    """Tells another actor `message`; with `ok` asks it, and feeds `ok(reply)` back.

    `failed` makes an action of the `AskError`. Lost when the process dies: what must not be goes
    into the outbox, with the events it belongs to.
    """

    to: AnyRef
    message: object
    ok: Callback | None = None
    failed: Callback | None = None
    timeout: float = DISPATCH_TIMEOUT_S

    def __post_init__(self) -> None:
        if not isinstance(self.to, Ref):
            raise TypeError(f"Dispatch.to is no ref but {self.to!r} ({here()})")
        if self.ok is not None and not isinstance(self.message, Ask):
            raise TypeError(
                f"Dispatch has ok, but {type(self.message).__name__} is no Ask: nobody will answer "
                f"({here()})"
            )
        _check_seconds(self, "timeout", self.timeout, least=0.0)
        check_callback(self.ok, "Dispatch.ok")
        check_callback(self.failed, "Dispatch.failed")


@effect
class Publish(Effect):
    """Publishes a message that is no stored event, in order per `key`.

    Stored events leave through the outbox, in one transaction with what they tell; so a class that
    is marked as an event is refused. The actor is given the interpreter: a bus.
    """

    topic: str
    key: str
    payload: object
    ok: Callback | None = None
    failed: Callback | None = None

    def __post_init__(self) -> None:
        texts: tuple[object, ...] = (self.topic, self.key)
        for given in texts:
            if not isinstance(given, str) or not given:
                raise ValueError(f"Publish needs a topic and a key, texts ({here()})")
        if is_event(self.payload):
            kind = self.payload if isinstance(self.payload, type) else type(self.payload)
            raise TypeError(
                f"{place_of(kind)} is a stored event; it leaves through the outbox, "
                f"Append(outbox=...), never by Publish ({here()})"
            )
        check_callback(self.ok, "Publish.ok")
        check_callback(self.failed, "Publish.failed")


@effect
class Reply(_Silent):
    """Answers whoever asked with the action in hand; of an aggregate: and changes nothing.

    A `Refusal` is a value like any other. What nobody asked is counted and dropped.
    """

    value: object

    is_at_once: ClassVar[bool] = True


# What is refused


def check_effect(value: object, where: str) -> None:
    """Called where effects are taken; TypeError for what is none."""
    if not isinstance(value, Effect):
        raise TypeError(f"{where} takes effects, not {value!r} ({here()})")


def check_callback(f: Callback | None, where: str) -> None:
    """Call this in an effect of your own; TypeError for what cannot be compared, with its place."""
    if f is None or isinstance(f, type):
        return
    if isinstance(f, FunctionType):
        code = f.__code__
        if code.co_flags & _WAITING:
            raise TypeError(
                f"{where} is {f.__qualname__} ({code.co_filename}:{code.co_firstlineno}), a "
                "coroutine or generator function; give a plain one, which makes an action at once"
            )
        if f.__closure__ is None and "<" not in f.__qualname__:
            return
        raise TypeError(
            f"{where} is {f.__qualname__} ({code.co_filename}:{code.co_firstlineno}), a lambda or "
            "closure, which equals no other; give a function at the top of a module, or a class"
        )
    if isinstance(f, BuiltinFunctionType) and isinstance(f.__self__, ModuleType | None):
        return
    raise TypeError(
        f"{where} is {f!r}; give a function at the top of a module, or a class ({here()})"
    )


def _check_operation(of: Effect, op: object, *, is_stream: bool) -> None:
    kind = type(op)
    name, where = type(of).__name__, place_of(kind)
    if isinstance(op, msgspec.Struct):
        is_frozen = bool(op.__struct_config__.frozen)
    else:
        parameters = getattr(kind, "__dataclass_params__", None)
        is_frozen = parameters is not None and parameters.frozen
    if not is_frozen:
        raise TypeError(f"{name}.op is {where}, which is no frozen dataclass ({here()})")
    run = getattr(kind, "run", None)
    if is_stream and not inspect.isasyncgenfunction(run):
        raise TypeError(f"{where}.run must be `async def` with `yield`, for a Stream ({here()})")
    if not is_stream and not _is_coroutine(run):
        raise TypeError(f"{where}.run must be `async def run(self, env)` ({here()})")
    outside = getattr(kind, "dependency", None)
    if outside is not None and (is_stream or not isinstance(outside, str) or not outside):
        raise TypeError(
            f"{where}.dependency is {outside!r}; it names what a Future calls outside ({here()})"
        )


def _check_seconds(of: Effect, name: str, value: object, *, least: float) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not least <= value <= SECONDS_MAX:  # type: ignore[operator]
        raise ValueError(
            f"{type(of).__name__}.{name} is {value!r}; it must be seconds >= {least:g} and at most "
            f"{SECONDS_MAX} ({here()})"
        )


def _check_hashable(of: Delay | Cancel | Future | Stream) -> None:
    if of.key == "":
        # The id of something that has none: whatever lacks one would be cancelled together.
        raise ValueError(f"{type(of).__name__}.key is empty ({here()})")
    try:
        hash(of.key)
    except TypeError as error:
        raise TypeError(
            f"{type(of).__name__}.key is {of.key!r}, which has no hash ({here()})"
        ) from error


def _is_name(key: object) -> bool:
    return isinstance(key, str) and 0 < len(key) <= KEY_CHARS_MAX and key.isprintable()


def is_durable(effect: Effect) -> bool:
    """Whether it is a delay that is to be kept."""
    return isinstance(effect, Delay) and effect.durable


def _is_coroutine(function: object) -> bool:
    return inspect.iscoroutinefunction(function)
