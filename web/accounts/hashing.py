"""Passwords: those that all guessers try first, and the Argon2id hashes of the others.

Hashes are made in threads of their own (SITE-36, SEC-74, SEC-75).

A hash takes a core for some 20 ms and 19 MiB for as long: so only a few are made at once, a bounded
number waits, and whoever comes then is told to try again.
"""

import os
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from runpy import run_path
from typing import cast

import trio
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from actors.accounts.members import NO_PASSWORD

# SEC-74, from OWASP's password storage guide. Of another shape these are as strong.
PASSES = 2
MEMORY_KIB = 19456
_STRONG_ENOUGH = ((1, 47104), (2, MEMORY_KIB), (3, 12288))
# Beyond this many a person waits for longer than they would try again.
WAITING_MAX = 64

# SEC-72: as many of the commonest that are long enough to be chosen here.
COMMON_KEPT = 3000
COMMON_LENGTH_MIN = 8

_NOBODYS = "nobody's password"


class HashingBusy(Exception):
    """Raised when too many passwords wait to be hashed; nothing was done. Try again in a second."""

    def __init__(self, waiting: int) -> None:
        super().__init__(f"{waiting} passwords wait to be hashed; nothing was done")
        self.waiting = waiting
        self.retry_after = 1.0


@cache
def common_passwords() -> frozenset[str]:
    """Call this for the passwords that many people use, in small letters (SEC-72).

    From the list of zxcvbn (https://github.com/dwolfhub/zxcvbn-python), the commonest first. It is
    read once, when the server starts: it takes a tenth of a second.
    """
    package = find_spec("zxcvbn")
    assert package is not None, "a dependency of this package"
    assert package.origin is not None, "which is a folder with files"
    # Only the file of the list is run: the package makes tables of 10 MB of it, for other uses.
    path = Path(package.origin).with_name("frequency_lists.py")
    words = cast("list[str]", run_path(str(path))["FREQUENCY_LISTS"]["passwords"])
    fitting = (word.lower() for word in words if len(word) >= COMMON_LENGTH_MIN)
    return frozenset(islice(fitting, COMMON_KEPT))


@dataclass(frozen=True, slots=True)
class Cost:
    """What a hash costs: `passes` over `memory_kib`. Raises ValueError below SEC-74's bounds."""

    passes: int = PASSES
    memory_kib: int = MEMORY_KIB

    def __post_init__(self) -> None:
        if not is_strong(self.passes, self.memory_kib):
            raise ValueError(f"{self.passes} passes over {self.memory_kib} KiB are too weak")


def is_strong(passes: int, memory_kib: int) -> bool:
    """Call this to ask whether a hash of that cost may be made here."""
    return any(passes >= least and memory_kib >= kib for least, kib in _STRONG_ENOUGH)


@dataclass(frozen=True, slots=True)
class Verified:
    """Whether a password is the right one, and whether its hash should be made anew."""

    is_right: bool
    is_weak: bool = False


# One cost in a site; a few where one process has several.
@lru_cache(8)
def _nobodys(cost: Cost) -> str:
    return _hasher(cost).hash(_NOBODYS)


def _hasher(cost: Cost) -> PasswordHasher:
    return PasswordHasher(time_cost=cost.passes, memory_cost=cost.memory_kib, parallelism=1)


class Passwords:
    """Makes and verifies hashes. Cancelled, a hash that is under way is finished and thrown away.

    `made` counts what was computed: a login of nobody counts as much as any other (SITE-35).
    """

    def __init__(
        self,
        cost: Cost | None = None,
        *,
        threads: int | None = None,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        cost = cost or Cost()
        self._hasher = _hasher(cost)
        common_passwords()  # now, and not while the first visitor waits
        self._limiter = trio.CapacityLimiter(threads or os.cpu_count() or 1)
        self._waiting_max = waiting_max
        # Compared with where there is no hash, so that nobody learns from the time that it is so.
        self._dummy = _nobodys(cost)
        self.made = 0

    def __repr__(self) -> str:
        return f"<Passwords waiting={self.waiting}>"

    @property
    def waiting(self) -> int:
        """Call this for how many wait for a thread."""
        return self._limiter.statistics().tasks_waiting

    async def hash(self, password: str) -> str:
        """Call this for the hash of a new password; raises `HashingBusy`."""
        self._refuse_if_full()
        return await trio.to_thread.run_sync(self._hash, password, limiter=self._limiter)

    async def verify(self, password_hash: str | None, password: str) -> Verified:
        """Call this with a kept hash, or None where there is none; raises `HashingBusy`."""
        self._refuse_if_full()
        return await trio.to_thread.run_sync(
            self._verify, password_hash, password, limiter=self._limiter
        )

    def _refuse_if_full(self) -> None:
        if self.waiting >= self._waiting_max:
            raise HashingBusy(self.waiting)

    def _hash(self, password: str) -> str:
        self.made += 1
        return self._hasher.hash(_bytes(password))

    def _verify(self, password_hash: str | None, password: str) -> Verified:
        self.made += 1
        if password_hash == NO_PASSWORD:
            password_hash = None  # and it takes as long to find out
        try:
            self._hasher.verify(password_hash or self._dummy, _bytes(password))
        except (VerificationError, InvalidHashError):
            return Verified(is_right=False)
        if password_hash is None:
            return Verified(is_right=False)
        return Verified(is_right=True, is_weak=self._hasher.check_needs_rehash(password_hash))


def _bytes(password: str) -> bytes:
    # As it was typed, whatever it is (SEC-71): half a surrogate pair has bytes here too.
    return password.encode("utf-8", "surrogatepass")
