"""One line to a search server: requests out, answers in; its library is loaded with this file."""

from __future__ import annotations

import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx
import trio

from storage.errors import StoreUnavailable
from storage.search.words import SearchRejected, SearchSettings

# All at once that a program asks; more wait for a connection.
CONNECTIONS_MAX = 20
CONNECT_S_MAX = 2.0


class Line:
    """Sends requests, each once, over connections that are kept; `open_line` makes one."""

    def __init__(self, settings: SearchSettings, http: httpx.AsyncClient) -> None:
        self.settings, self._http = settings, http

    async def send(
        self, method: str, path: str, content: bytes, kind: str, params: Mapping[str, str]
    ) -> tuple[int, bytes]:
        """Call this for a status and an answer; raises `StoreUnavailable`, `SearchRejected`."""
        headers = {"content-type": kind} if content else {}
        asked = self._http.build_request(
            method, self.settings.path + path, content=content, params=params, headers=headers
        )
        asked.stream = _Whole(content)
        try:
            answer = await self._http.send(asked)
        except httpx.ConnectError as error:
            if _is_of_tls(error):
                why = "its certificate is not trusted"
                raise SearchRejected(self.settings.place, why) from error
            reason = "no connection to the search server"
            raise StoreUnavailable(reason, nothing_written=True) from error
        except httpx.HTTPError as error:
            raise StoreUnavailable(f"no answer ({type(error).__name__})") from error
        return answer.status_code, answer.content


class _Whole(httpx.AsyncByteStream):
    """A body in one piece. The library's own is a generator: left half read, nobody ends it."""

    def __init__(self, content: bytes) -> None:
        self._left = [content] if content else []

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()


@asynccontextmanager
async def open_line(settings: SearchSettings) -> AsyncIterator[Line]:
    """Call this for a line, as long as the block; raises `OSError` for a certificate's file."""
    tls = await trio.to_thread.run_sync(settings.context) if settings.is_tls else False
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    scheme = "https" if settings.is_tls else "http"
    async with httpx.AsyncClient(
        base_url=f"{scheme}://{host}:{settings.port}",
        verify=tls,
        headers=_who(settings),
        trust_env=False,
        follow_redirects=False,
        timeout=httpx.Timeout(settings.answer_s_max, connect=CONNECT_S_MAX),
        limits=httpx.Limits(max_connections=CONNECTIONS_MAX),
    ) as http:
        yield Line(settings, http)


def _who(settings: SearchSettings) -> dict[str, str]:
    if settings.api_key is not None:
        return {"authorization": f"ApiKey {settings.api_key.reveal()}"}
    if settings.password is None:
        return {}
    word = b64encode(f"{settings.user}:{settings.password.reveal()}".encode()).decode()
    return {"authorization": f"Basic {word}"}


def _is_of_tls(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
