"""HTTP/1.1, request after request, in the task of its connection.

What is read is judged by `web/server/reading`, handed to the application as ASGI wants it, and
answered in one write where that is possible. No task, nursery or channel is made for a request:
that is why it is fast. What an application has ready is written without even asking it by ASGI
(`MaybeReady`). A WebSocket's handshake is handed over, with what came behind it.
"""

from __future__ import annotations

import contextvars
import math
from collections.abc import Callable
from typing import cast
from urllib.parse import unquote

import trio
from hypercorn.typing import ASGIFramework, ConnectionState, HTTPScope

from actors.runtime import Log
from web.server.connection.http.answers import FixedHeaders, head_bytes, refusal_bytes
from web.server.connection.http.exchange import (
    LATE,
    Exchange,
    Link,
    Watchman,
    run_application,
    write_last,
)
from web.server.connection.http.keeping import Kept, keep
from web.server.connection.settings import Phase, TransportSettings, allowed_s
from web.server.reading.heads import Head, HeaderList, Refusal
from web.server.reading.requests import RequestReader

log = Log(__name__)

# An application finds this in `extensions` where the server itself cancels it when its client
# leaves: it need not listen for that. Under `HAND_OVER` in it stands the exchange's `hand_over`.
WATCHED = "greenroom.watched"
HAND_OVER = "hand_over"
# Under this, for an application that says `enters_scope`, the exchange itself: the server then
# enters no scope for a request, and the application tells `ends` which one of its own to cancel.
EXCHANGE = "exchange"
Address = tuple[str, int] | None
Ready = tuple[int, HeaderList, FixedHeaders, bytes]
# What an application leaves under this in the `state` of a scope that it turned away: called for
# the very same request, it turns that away in the same words, by an answer that is whole and leaves
# the connection open; None where it would not any more.
AGAIN = "greenroom.again"
Again = Callable[[], bytes | None]
# The longest request that is kept to know it again: browsers send up to 2 KiB.
_AGAIN_BYTES_MAX = 2 * 1024
# What an application may offer beside itself, under the name `maybe_ready`: status, headers and the
# body of a whole answer to a request without a body, at once; None where it is to be called.
MaybeReady = Callable[[HTTPScope], Ready | None]


class PlainHttp:
    """Speaks HTTP/1.1 on one connection; `serve` is its whole life."""

    def __init__(
        self,
        app: ASGIFramework,
        link: Link,
        settings: TransportSettings,
        watchman: Watchman,
        state: ConnectionState,
        addresses: tuple[Address, Address],
        *,
        is_tls: bool,
    ) -> None:
        self._app, self._link, self._settings = app, link, settings
        self._maybe_ready: MaybeReady | None = getattr(app, "maybe_ready", None)
        self._enters_scope: bool = getattr(app, "enters_scope", False)
        # Where the application enters none of its own: cancelled when a client has left.
        self._ends: trio.CancelScope | None = None
        self._watchman = watchman
        self._state = state
        self._client, self._server = addresses
        self._scheme = "https" if is_tls else "http"
        self.reader = RequestReader(settings.head_limits)
        self._served = 0
        # What `shed` made of the bytes that the next `receive` gives: they were read already, up to
        # this; and when it answered a request last.
        self._is_shown = False
        self._shown: Head | Refusal | None = None
        # The scope of that head, for which the application had nothing ready.
        self._asked: HTTPScope | None = None
        self._shed_at = -math.inf
        # What was turned away last, and how that is done again: who asks here asks the same, let in
        # meanwhile or not. None where a part of a request lies in the reader.
        self._again: tuple[bytes, Again] | None = None
        # The stream that goes on though its request is over, and whether it is sent in chunks.
        self._kept: Kept | None = None
        self._is_chunked = False
        # Of the connection's own task; each request gets a copy, so that a variable one sets is
        # seen by no other (REL-36).
        self._context = contextvars.copy_context()

    @property
    def has_started_head(self) -> bool:
        """Tell whether bytes that were not taken yet lie in the reader."""
        return len(self.reader) > 0

    @property
    def may_still_receive(self) -> bool:
        """Tell whether the client may be writing while our answer is on its way."""
        return self.reader.is_in_body or self.has_started_head

    async def serve(self) -> Head | None:
        """Serve until the connection is to end (None) or leaves HTTP by this handshake."""
        if self._enters_scope:
            return await self._serve()
        # One for all requests: it ends an application whose client has left, and then no further
        # request comes.
        with trio.CancelScope() as self._ends:
            return await self._serve()
        return None

    async def _serve(self) -> Head | None:
        try:
            while True:
                found = await self._next_head()
                if found is None:
                    return None
                if isinstance(found, Refusal):
                    await self._refuse(found)
                    return None
                if found.is_websocket:
                    return found
                self._served += 1
                may_go_on = await self._serve_one(found)
                # A stream is long, and so is rest: they need nothing of the request before them.
                found = None
                if self._kept is not None:
                    may_go_on = await self._stay_with(self._kept) and may_go_on
                if not may_go_on:
                    return None
        finally:
            if self._kept is not None:
                self._kept.hang_up()

    async def _next_head(self) -> Head | Refusal | None:
        """Wait for a head; None when the client left, or had nothing to say in its time."""
        # Takes effect with the task's next step, which is behind the wait for a head or, for a
        # pipelined one, behind the checkpoint.
        trio.lowlevel.current_task().context = self._context.copy()
        found = self.reader.next_head()
        if found is not None:
            await trio.lowlevel.checkpoint()
        began, was_due = 0.0, None
        while found is None:
            # A fresh connection owes its first request; later ones may rest for a while.
            is_begun = self.has_started_head
            if is_begun:
                # What comes is the rest of a head, and none by itself, whatever it looks like.
                self._again = None
            is_due = is_begun or not self._served
            if is_due is not was_due:
                # One deadline for a head that comes byte by byte, not one a byte.
                began, was_due = trio.current_time(), is_due
            if self._link.is_draining and not self.has_started_head:
                return None
            phase = Phase.HEAD if is_due else Phase.IDLE
            deadline = began + allowed_s(phase, self._settings)
            data = await self._link.receive(phase, deadline, self.shed)
            if data is None:
                is_late = is_due and self._shed_at < began and not self._link.is_draining
                return LATE if is_late else None
            if not data:
                return None
            found = await self._take(data)
        return found

    async def _take(self, data: bytes) -> Head | Refusal | None:
        """Give the head that ends with these bytes, if any does."""
        if not self._is_shown:
            self._again = None
            self.reader.feed(data)
            return self.reader.next_head()
        found, self._is_shown, self._shown = self._shown, False, None
        if not self._link.pipe.is_idle:
            # Not all of an answer is out: as behind any other, nothing is read before it is.
            self._link.enter(Phase.ANSWERING)
            await self._link.pipe.wait_idle()
        return found or self.reader.next_head()

    def shed(self, data: bytes) -> float | None:
        """Call this with what came for a connection at rest, while there is too much to do.

        It was one request, which is answered, and the connection is as before: until when. Or what
        is left of it is for the task (None), whose `receive` is to give these bytes.
        """
        again, is_same = self._again, False
        if again is not None and again[0] == data and self._may_shed:
            # Read as strictly as it was then: the same bytes are the same request.
            answer = again[1]()
            if answer is not None:
                return self._shed(answer)
            is_same = True
        is_begun = self.has_started_head
        self.reader.feed(data)
        found = self.reader.next_head()
        if isinstance(found, Head) and found.keeps_open and not is_same and self._may_shed:
            scope = self._scope(found)
            ready = None if found.is_websocket else self._maybe_ask(scope)
            if ready is not None:
                if not is_begun:
                    self._keep_again(found, data, scope["state"].get(AGAIN))
                status, headers, fixed, body = ready
                data = head_bytes(status, headers, fixed)
                return self._shed(data if found.method == b"HEAD" else data + body)
            self._asked = scope
        self._is_shown, self._shown = True, found
        return None

    @property
    def _may_shed(self) -> bool:
        """Tell whether the next request may be answered without its task, and not be the last."""
        if self._served + 1 >= self._settings.requests_max or self._link.is_draining:
            return False
        return self._link.pipe.is_idle

    def _shed(self, answer: bytes) -> float | None:
        """Write an answer to what was read; until when the connection is at rest, if it is."""
        self._served += 1
        now = self._shed_at = trio.current_time()
        pipe = self._link.pipe
        pipe.offer(answer)
        if not len(self.reader) and pipe.is_idle:
            return now + self._settings.keep_alive_s
        self._is_shown, self._shown = True, None
        return None

    def _keep_again(self, head: Head, data: bytes, again: Again | None) -> None:
        is_whole = not len(self.reader) and len(data) <= _AGAIN_BYTES_MAX
        if again is not None and is_whole and head.method != b"HEAD":
            self._again = data, again

    async def _refuse(self, refusal: Refusal) -> None:
        log.debug("server.request_refused", status=int(refusal.status), rule=refusal.rule)
        is_head = self.reader.was_begun_by(b"HEAD ")
        try:
            peer = self._link.peer
            data = refusal_bytes(refusal, self._settings, peer, is_head=is_head)
            await self._link.pipe.write(data)
        except trio.BrokenResourceError:
            pass  # it did not want to hear it

    async def _serve_one(self, head: Head) -> bool:
        """Answer one request; whether another may follow."""
        scope, self._asked = self._asked, None
        if scope is None:
            scope = self._scope(head)
            ready = self._maybe_ask(scope)
            if ready is not None:
                return await self._tell(head, *ready)
        return await self._answer(head, scope)

    def _maybe_ask(self, scope: HTTPScope) -> Ready | None:
        """Give what the application has ready for a request, if anything."""
        if self._maybe_ready is None or self.reader.is_in_body:
            return None
        try:
            return self._maybe_ready(scope)
        except Exception as error:
            # The application is asked as for any other request, and tells its client.
            log.error("server.application_failed", exc_info=error)
            return None

    async def _tell(
        self, head: Head, status: int, headers: HeaderList, fixed: FixedHeaders, body: bytes
    ) -> bool:
        """Write an answer that was ready; whether another request may follow.

        Nothing waits before it is written, so nobody has to see whether its client is still there.
        """
        # As for any answer: a drain waits for what a slow client has not taken yet.
        self._link.enter(Phase.ANSWERING)
        keeps = head.keeps_open and self._served < self._settings.requests_max
        keeps = keeps and not self._link.is_draining
        if not keeps:
            headers = [*headers, (b"connection", b"close")]
        data = head_bytes(status, headers, fixed)
        try:
            await write_last(self._link.pipe, data if head.method == b"HEAD" else data + body)
        except trio.BrokenResourceError:
            return False
        return keeps and not self._link.is_draining

    async def _answer(self, head: Head, scope: HTTPScope) -> bool:
        """Run the application for one request; whether another may follow."""
        may_stay = self._served < self._settings.requests_max
        exchange = Exchange(
            head, self.reader, self._link, self._settings, self._watchman, may_stay=may_stay
        )
        # A body that is here is not due from its client, though nobody may have come to read it: a
        # drain waits for the answer.
        is_body_due = self.reader.is_in_body and not self.reader.is_whole_body_here
        self._link.enter(Phase.BODY if is_body_due else Phase.ANSWERING)
        watched: dict[str, object] = {HAND_OVER: exchange.hand_over}
        scope["extensions"][WATCHED] = watched
        served = self._app, scope, exchange.receive, exchange.send
        has_failed = False
        self._watchman.add(exchange)
        try:
            try:
                if self._ends is None:
                    watched[EXCHANGE] = exchange
                else:
                    exchange.ends(self._ends)
                has_failed = await run_application(*served)
            finally:
                self._watchman.discard(exchange)
            return await exchange.finish(has_failed=has_failed or exchange.is_lost)
        finally:
            self._kept, self._is_chunked = exchange.kept, exchange.is_chunked

    async def _stay_with(self, kept: Kept) -> bool:
        """Wait for the end of a stream or its client; whether another request may follow."""
        # As in `_next_head`: with the task's next step. What the request set is for nobody here.
        trio.lowlevel.current_task().context = self._context
        limit = self._settings.head_limits.whole
        line = self._link
        is_whole = await keep(kept, self.reader, line, is_chunked=self._is_chunked, limit=limit)
        self._kept = None
        return is_whole and self._is_chunked and not line.is_draining

    def _scope(self, head: Head) -> HTTPScope:
        raw_path, _, query = head.target.partition(b"?")
        path = raw_path.decode("ascii")
        return cast(
            "HTTPScope",
            {
                "type": "http",
                "asgi": {"version": "3.0", "spec_version": "2.1"},
                "http_version": head.version.decode("ascii"),
                "method": head.method.decode("ascii"),
                "scheme": self._scheme,
                "path": unquote(path) if "%" in path else path,
                "raw_path": raw_path,
                "query_string": query,
                "root_path": "",
                "headers": head.headers,
                "client": self._client,
                "server": self._server,
                "state": ConnectionState(self._state.copy()),
                "extensions": {},
            },
        )
