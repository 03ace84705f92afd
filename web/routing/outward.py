"""One call to another host over HTTP, whose answer is read up to a limit and shown to nobody.

Rule 1: who calls has looked at the address; a redirect is no answer, and no proxy of the
        environment is asked.
Rule 2: TLS is verified, by one context a process; `SSL_CERT_FILE` names other roots than the usual.
Rule 3: what is past the limit is not read. How long it takes is for the guard that is called by.
"""

import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    import httpx


# Of seconds: more digits are no time that anybody waits.
_PATIENCE_DIGITS = 9


class NoAnswer(Exception):
    """Raised when nothing came that can be read: an error of the line, a redirect, too much."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What another host said; `is_good` for a 200; `retry_after` when it asked for patience."""

    status: int
    body: bytes
    retry_after: float | None = None

    @property
    def is_good(self) -> bool:
        """Call this for whether it is what was asked for."""
        return self.status == 200


async def ask(
    method: str,
    url: str,
    *,
    bytes_max: int,
    step_s_max: float,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Answered:
    """Call this to ask once, behind a guard with a time; raises `NoAnswer`.

    `step_s_max` is for each step of it: to connect, to write, to read on.
    """
    tls = await trio.to_thread.run_sync(tls_context)
    import httpx  # noqa: PLC0415  (only who asks another host needs it)

    sent = {"accept-encoding": "identity", **(headers or {})}
    try:
        async with httpx.AsyncClient(
            verify=tls, trust_env=False, follow_redirects=False, timeout=step_s_max
        ) as client:
            request = client.build_request(method, url, headers=sent, content=body)
            request.stream = _body_kind()(body or b"")
            async with aclosing(await client.send(request, stream=True)) as answer:
                patience = _patience(answer.headers.get("retry-after", ""))
                return Answered(answer.status_code, await _read(answer, bytes_max), patience)
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:  # the last: no host's name
        raise NoAnswer(type(error).__name__) from None


def _patience(told: str) -> float | None:
    """In seconds; a date is not read: it is by another host's clock."""
    is_number = told.isascii() and told.isdigit() and len(told) < _PATIENCE_DIGITS
    return float(told) if is_number else None


async def _read(answer: "httpx.Response", bytes_max: int) -> bytes:
    if answer.is_redirect:
        raise NoAnswer("redirect")
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise NoAnswer("encoding")
    body = bytearray()
    # Ended by cancelling: the library's generators, left half read, would be ended by nobody.
    with trio.CancelScope() as reading:
        async for piece in answer.aiter_raw():
            body += piece
            if len(body) > bytes_max:
                reading.cancel()
    if len(body) > bytes_max:
        raise NoAnswer("huge")
    return bytes(body)


class _Pieces:
    """The pieces of a body; no generator, which a cancelled write would leave half used."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._left = iter(pieces)

    def __aiter__(self) -> "_Pieces":
        return self

    async def __anext__(self) -> bytes:
        try:
            return next(self._left)
        except StopIteration:
            raise StopAsyncIteration from None


@cache
def _body_kind() -> "Callable[[bytes], httpx.AsyncByteStream]":
    import httpx  # noqa: PLC0415  (as above)

    class Body(httpx.AsyncByteStream):
        def __init__(self, data: bytes) -> None:
            self._data = data

        def __aiter__(self) -> _Pieces:
            return _Pieces([self._data])

    return Body


@cache
def tls_context() -> ssl.SSLContext:
    """Loads the libraries and the roots they trust, once: a tenth of a second, in a thread."""
    import httpx  # noqa: PLC0415  (as above)

    return httpx.create_ssl_context()
