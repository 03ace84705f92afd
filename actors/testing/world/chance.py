"""Chance and ids from the seed: `random`, `uuid`, `secrets`, `os.urandom`.

Everything in Python that is random comes from two springs: the generators of `random`, and bytes of
the operating system (`os.urandom`; `secrets`, `uuid4` and `SystemRandom` draw on it). Both are
exchanged, so whatever is built on them follows, by whatever name it is called.
"""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from random import Random
from threading import get_ident
from typing import Final

from actors.testing.world.names import Function

_real_urandom: Final = os.urandom
_real_getrandom: Callable[[int, int], bytes] | None = getattr(os, "getrandom", None)
_real_seed: Final = Random.seed
# The generator behind `random.random()` and its like.
_shared: Final = random.seed.__self__  # type: ignore[attr-defined]  # a method, known as a function
# Bits for whoever wants a generator and gives no seed: as many as an id has.
SEED_BITS: Final = 128
# Not the network card of this machine; the standard asks made-up addresses to have this bit set.
NODE: Final = 1 << 40


class Spring:
    """Where bytes come from in the thread of a simulation."""

    def __init__(self) -> None:
        self._thread: int | None = None
        self._bytes = Random(0)

    def open(self, seed: int) -> None:
        """Call this at the begin of a run."""
        self._thread, self._bytes = get_ident(), Random(f"{seed} bytes")

    def close(self) -> None:
        """Call this at its end."""
        self._thread = None

    def draw(self, size: int) -> bytes | None:
        """Call this for so many bytes; None outside a simulation."""
        if self._thread != get_ident():
            return None
        if size < 0:
            raise ValueError("negative argument not allowed")
        return self._bytes.randbytes(size)


_spring: Final = Spring()


def _urandom(size: int, /) -> bytes:
    drawn = _spring.draw(size)
    return _real_urandom(size) if drawn is None else drawn


def _getrandom(size: int, flags: int = 0) -> bytes:
    drawn = _spring.draw(size)
    if drawn is not None:
        return drawn
    assert _real_getrandom is not None
    return _real_getrandom(size, flags)


def _seed(self: Random, a: int | float | str | bytes | None = None, version: int = 2) -> None:
    if a is None:
        a = _spring.draw(SEED_BITS // 8)
    _real_seed(self, a, version)


def _seed_shared(a: int | float | str | bytes | None = None, version: int = 2) -> None:
    _seed(_shared, a, version)


# Functions that modules may hold by names of their own, and what stands in for them.
STAND_INS: Final[Mapping[Function, Function]] = {
    os.urandom: _urandom,
    random.seed: _seed_shared,
    **({} if _real_getrandom is None else {_real_getrandom: _getrandom}),
}


@contextmanager
def seeded_chance(seed: int) -> Iterator[None]:
    """Call this to let chance follow the seed; the generator of `random` is as before afterwards.

    `STAND_INS` have to be put in by the caller.
    """
    with ExitStack() as stack:
        _spring.open(seed)
        stack.callback(_spring.close)
        _set(stack, Random, "seed", _seed)
        # What `uuid1` asks of the machine, and what the last id was; the names differ by version.
        _set(stack, uuid, "_node", NODE)
        for name, value in list(vars(uuid).items()):
            if name in ("_generate_time_safe", "_UuidCreate"):
                _set(stack, uuid, name, None)
            elif name.startswith("_last_"):
                _set(stack, uuid, name, 0 if isinstance(value, int) and "counter" in name else None)
        seed_anew(stack, _shared, f"{seed} random")
        yield


def seed_anew(stack: ExitStack, generator: Random, seed: str) -> None:
    """Call this to let a generator begin anew; it goes on as before when the stack is closed."""
    stack.callback(generator.setstate, generator.getstate())
    generator.seed(seed)


def _set(stack: ExitStack, owner: object, name: str, value: object) -> None:
    stack.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)
