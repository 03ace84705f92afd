"""Where a Redis is, and what can go wrong with it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from hashlib import sha1
from pathlib import Path
from urllib.parse import unquote, urlsplit

from actors.runtime import Secret
from storage.errors import InvalidField, StoreError
from storage.redis.codec import Refusal

DEFAULT_PORT = 6379
# The highest number that any server is set up for.
DATABASE_MAX = 100_000
# A server that says nothing for so long, though it was asked, is lost; an idle one is asked as
# often. Scripts of ours take microseconds; one that clears a large key
# may stand still for a second.
ANSWER_S_MAX = 2.0
# What a server says when who asks has no right to: waiting does not mend it.
_REJECTIONS = frozenset({"WRONGPASS", "NOAUTH", "NOPERM"})


class RedisRejected(StoreError):
    """Raised when a server will not have us: password, rights, certificate, an old version.

    Waiting does not help; the setting or the server must change. The password is not told.
    """

    code = "redis_rejected"

    def __init__(self, place: str, why: str) -> None:
        super().__init__(f"{place} refuses this program: {why}; nothing was done")
        self.place, self.why = place, why


class RedisRefused(StoreError):
    """Raised when a server answers a command with an error; `refusal` is what it said.

    A bug of ours, or a server that lacks a command. What a script had done until then is done.
    """

    code = "redis_refused"

    def __init__(self, refusal: Refusal) -> None:
        # The text may quote what the command was given.
        super().__init__(f"the server refused a command with {refusal.code}; see `refusal`")
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class Script:
    """A script that a server keeps by its digest, and is sent whole only when it has it not."""

    text: str
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        # The server's way to name it; nothing is secret here.
        made = sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "digest", made)


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """Which server, as whom, and which of its numbered databases; `of` reads an address."""

    host: str
    port: int = DEFAULT_PORT
    database: int = 0
    user: str = ""
    password: Secret[str] | None = None
    is_tls: bool = False
    ca_file: Path | None = None
    answer_s_max: float = ANSWER_S_MAX

    @staticmethod
    def of(url: Secret[str], ca_file: Path | None = None) -> RedisSettings:
        """Call this with `redis://user:password@host:port/database`, or `rediss://` for TLS.

        All but the host may be left out. Raises `InvalidField`, which tells nothing of it.
        """
        try:
            parts = urlsplit(url.reveal())
            host, port = parts.hostname, parts.port
        except ValueError:
            raise InvalidField("the address", "cannot be read") from None
        number = parts.path.removeprefix("/") or "0"
        if parts.scheme not in {"redis", "rediss"} or not host or port == 0:
            raise InvalidField("the address", "is redis://host:port or rediss://host:port")
        if parts.query or parts.fragment or not (number.isascii() and number.isdigit()):
            raise InvalidField("the address", "ends with the number of a database")
        if len(number) > 6 or int(number) > DATABASE_MAX:
            raise InvalidField("the address", f"names a database above {DATABASE_MAX}")
        if parts.username and not parts.password:
            raise InvalidField("the address", "names a user without a password")
        return RedisSettings(
            host,
            DEFAULT_PORT if port is None else port,
            int(number),
            unquote(parts.username or ""),
            Secret(unquote(parts.password)) if parts.password else None,
            parts.scheme == "rediss",
            ca_file,
        )

    @property
    def place(self) -> str:
        """Where it is, for people: without user and password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "rediss" if self.is_tls else "redis"
        return f"{scheme}://{host}:{self.port}/{self.database}"

    def context(self) -> ssl.SSLContext:
        """Call this for what TLS needs; raises `OSError` for a file that cannot be used."""
        return ssl.create_default_context(cafile=self.ca_file)


def maybe_rejection(place: str, refusal: Refusal) -> RedisRejected | None:
    """Call this with an answer to the first words of a connection; None when time may mend it."""
    if refusal.code in _REJECTIONS:
        return RedisRejected(place, f"it says {refusal.code} to these credentials")
    if refusal.code == "ERR" and "AUTH" in refusal.text:
        return RedisRejected(place, "it has no password, and was given one")
    if refusal.code == "ERR" and "index" in refusal.text:
        return RedisRejected(place, "it has no database of that number")
    return None
