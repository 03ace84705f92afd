"""What an actor class declares and overrides, as far as the runtime reads and calls it.

`Actor` inherits this and adds what an actor itself calls; the runtime knows no more of an actor
than stands here, and the table of its handlers (`handlers.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import FunctionType
from typing import ClassVar, Final, Generic, Never, TypeAlias, TypeVar

from actors.runtime.delivery.mailbox import DEFAULT_CAPACITY
from actors.runtime.delivery.overflow import Overflow
from actors.runtime.delivery.ref import AnyRef, Ref
from actors.runtime.life.handlers import Table
from actors.runtime.words.counting import Level
from actors.runtime.words.exits import Exit
from actors.runtime.words.showing import redact_names

M = TypeVar("M", contravariant=True)  # noqa: PLC0105 - the M of Actor[M], in every signature

START_TIMEOUT_S: Final[float] = 10.0
# As many as an actor handles in a turn. What costs as much for one as for many (a commit, a round
# trip) is shared by 64 already to a sixty-fourth, and a crash takes no more than these with it.
BATCH_MAX: Final = 64
# What a parked task holds is most of an idle actor, and to be woken costs one task more: who has
# been silent for a minute is not going to notice.
HIBERNATE_AFTER_S: Final[float] = 60.0


class Hooks(Generic[M]):
    """The settings and hooks of an actor that takes messages of type M."""

    # How many user messages may wait, and what happens to one more tell.
    capacity: ClassVar[int] = DEFAULT_CAPACITY
    overflow: ClassVar[Overflow] = "drop_new"
    # After so many messages, or seconds, others get their turn.
    budget: ClassVar[tuple[int, float]] = (64, 0.001)
    # So many waiting messages at most are given together to a handler that takes a `Batch`.
    batch_max: ClassVar[int] = BATCH_MAX
    # Whether the end of a linked actor comes as a message (`Exited`).
    trap_exits: ClassVar[bool] = False
    # A task actor that was idle for so many seconds gives its task back; the next message brings
    # another. By default after a minute, which a virtual clock does not count; None for never,
    # where something belongs to the very task: a lock of trio or a token of a limiter.
    hibernate_after: ClassVar[float | None] = HIBERNATE_AFTER_S
    # `on_start` that takes longer fails as StartTimeout.
    start_timeout: ClassVar[float] = START_TIMEOUT_S
    # What is measured: off, counters, sampled (times of one message in 16) or full.
    level: ClassVar[Level] = "counters"
    # What others hold of an actor whose class is known before it starts; made with its cell.
    ref_class: ClassVar[type[AnyRef]] = Ref
    # For supervisors: the incarnation opens a nursery for its children's tasks.
    opens_nursery: ClassVar[bool] = False

    __table__: ClassVar[Table] = Table()
    # The names of what an actor calls, nobody else's on a class or an instance (`reserve`).
    __reserved__: ClassVar[frozenset[str]] = frozenset()
    # The incarnation it is the instance of (`Life` in `cell.py`), set before `on_start`.
    _life: object

    # They return `object` here so that `def` and `async def` both may override them.

    def on_start(self) -> object:
        """Override this to begin; may be `async`, return IGNORE or `Started(info)`, or raise.

        Runs at each start, behind `__init__` and before the first message. Whoever starts the actor
        waits for it, at most `start_timeout` seconds.
        """
        return None

    def on_stop(self, exit: Exit) -> object:  # noqa: A002 - the word of the whole runtime for this
        """Override this to clean up; may be `async`. Runs after a crash too, not after a kill.

        Once for each incarnation that was started, within the shutdown time (5 s, or what its
        supervisor says), and before the next one begins.
        """
        return None

    def receive(self, message: M) -> object:
        """Override this to take every message yourself, with a `match`; may be `async`."""
        raise TypeError("receive is only called where it is overridden")

    def redact(self, state: dict[str, object]) -> dict[str, object]:
        """Override this to hide secrets from reports; by default they are known by their names."""
        return redact_names(state)

    # Of supervisors

    def on_system(self, entry: object) -> None:
        """Override this to take entries given to `cell.post_system`, ahead of user messages."""

    async def wind_down(self, exit: Exit) -> None:  # noqa: A002
        """Override this to end the children; called for every ending, after `on_stop`."""


# An actor of whatever type, where the runtime needs only its hooks.
AnyHooks: TypeAlias = Hooks[Never]


# Names that are the runtime's own

# Set on every instance by the runtime itself.
_LIFE: Final = "_life"


def reserve(cls: type[AnyHooks], *, hooks: frozenset[str] = frozenset()) -> None:
    """Called behind a class of the runtime: its methods may be called, not replaced.

    An attribute of that name would take the method's place without a word, on one instance or on
    all; a property's would be refused with words that say nothing. `hooks` may be overridden.
    """
    own = {
        name: found
        for name, found in vars(cls).items()
        if isinstance(found, FunctionType | property)
        and not name.startswith("__")
        and name not in hooks
    }
    for name, found in own.items():
        if isinstance(found, property):
            setattr(cls, name, found.setter(partial(_refuse_value, name)))
    cls.__reserved__ = cls.__reserved__.union(own)


def _refuse_value(name: str, instance: object, _: object) -> Never:
    raise TypeError(_taken(type(instance), name))


def check_class_names(cls: type[AnyHooks]) -> None:
    """Called when an actor class is made: TypeError when it takes a name of the runtime's.

    What a class of the runtime replaces on purpose it lists in `__replaces__`.
    """
    meant = vars(cls).get("__replaces__", frozenset())
    for base in cls.__mro__:
        if base is not cls and "__reserved__" in vars(base):
            return  # From here on it is the runtime's own.
        for name in sorted((cls.__reserved__ | {_LIFE}) & vars(base).keys()):
            if name not in meant:
                raise TypeError(_taken(base, name))


def taken_name(instance: AnyHooks) -> TypeError | None:
    """Called when it has been made, and when it has started: the same for `self.stop = ...`.

    Asked of a class until one of its instances has started; what one sets, all set. A look into
    the attributes of each would give each a dictionary that CPython else does without, and make
    every reading of `self.x` in its handlers slower: by a tenth of a tell.
    """
    table = type(instance).__table__
    if table.names_are_free:
        return None
    return taken_among(type(instance), instance.__dict__)


def taken_among(cls: type[AnyHooks], attributes: Mapping[str, object]) -> TypeError | None:
    """The same for attributes that an instance shall have."""
    if cls.__reserved__.isdisjoint(attributes):
        return None
    return TypeError(_taken(cls, min(cls.__reserved__ & attributes.keys())))


def _taken(cls: type, name: str) -> str:
    return (
        f"{cls.__qualname__}.{name} takes the place of self.{name}, which every actor has from "
        "the runtime; choose another name"
    )
