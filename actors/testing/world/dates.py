"""`datetime.now` and its kin on the virtual clock, however a module came by the class.

The class is C; another one under its name would be found by few and would fail every look at an
exact type (msgspec's for one). So its own methods are exchanged, in the dict of the type, which
CPython hides behind a read-only view. `virtual_dates` looks whether it worked.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta, tzinfo
from threading import get_ident
from typing import Final, TypeVar, cast

import trio

from actors.testing.world.names import Function

D = TypeVar("D", bound=date)

# What `datetime.now(timezone.utc)` is at the beginning of every simulation. Zones of the machine
# have no say: a time without zone is that of UTC.
EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)


def _as_it_is_now(cls: type[date], name: str) -> Function:
    def look_it_up(*args: object, **options: object) -> object:
        return getattr(cls, name)(*args, **options)

    return look_it_up


# Methods taken off the class before a run (`default_factory=datetime.now`) are those of old.
STAND_INS: Final[Mapping[Function, Function]] = {
    getattr(cls, name): _as_it_is_now(cls, name)
    for cls, name in ((datetime, "now"), (datetime, "utcnow"), (datetime, "today"), (date, "today"))
}


@contextmanager
def virtual_dates(clock: trio.abc.Clock) -> Iterator[None]:
    """Call this to let dates follow `clock` in this thread.

    Raises RuntimeError when this Python does not let itself be changed; nothing is then.
    """
    here = get_ident()
    times, days = _members(datetime), _members(date)
    now, utcnow, today = times["now"], times["utcnow"], days["today"]

    def moment() -> datetime:
        return EPOCH + timedelta(seconds=clock.current_time())

    def virtual_now(cls: type[datetime], tz: tzinfo | None = None) -> datetime:
        if get_ident() != here:
            return _real(now, cls)(tz)
        at = moment().replace(tzinfo=None) if tz is None else moment().astimezone(tz)
        return at if cls is datetime else cls.combine(at.date(), at.timetz())

    def virtual_utcnow(cls: type[datetime]) -> datetime:
        return virtual_now(cls) if get_ident() == here else _real(utcnow, cls)()

    def virtual_today(cls: type[date]) -> date:
        if get_ident() != here:
            return _real(today, cls)()
        if issubclass(cls, datetime):
            return virtual_now(cls)
        at = moment()
        return cls(at.year, at.month, at.day)

    try:
        times["now"], times["utcnow"] = classmethod(virtual_now), classmethod(virtual_utcnow)
        days["today"] = classmethod(virtual_today)
        _forget_lookups()
        if datetime.now(UTC) != moment():
            raise RuntimeError("this Python keeps its own datetime.now; it cannot be simulated")
        yield
    finally:
        times["now"], times["utcnow"], days["today"] = now, utcnow, today
        _forget_lookups()


def _members(cls: type) -> dict[str, object]:
    """The dict of a type itself; its `__dict__` is a view that only refers to it."""
    found = [held for held in gc.get_referents(cls.__dict__) if isinstance(held, dict)]
    if len(found) != 1:
        raise RuntimeError(f"this Python hides the methods of {cls}; its time cannot be simulated")
    return found[0]


def _real(method: object, cls: type[D]) -> Callable[..., D]:  # type: ignore[explicit-any]  # of all three
    get = getattr(method, "__get__")  # noqa: B009 - a checker knows no such attribute of object
    return cast(Callable[..., D], get(None, cls))  # type: ignore[explicit-any]


def _forget_lookups() -> None:
    """Types remember what was found in them, until they are told that they have changed."""
    for cls in (date, datetime):
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(cls))
