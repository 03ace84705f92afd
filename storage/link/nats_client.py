"""The library's client, made to keep what the port promises. Used on the asyncio loop only.

It reaches into nats-py 2.16: each method here overrides one of the library's, and its docstring
says what goes wrong without it. `tests/storage/link` has a case for each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from nats import errors
from nats.aio.client import Client
from nats.aio.subscription import Subscription

from storage.link.nats_words import LinkFault, NoTls, PayloadTooSmall, fault_of

_CHUNK = 64 * 1024
# A message's line, beside what it carries.
_LINE_BYTES_MAX = 64 * 1024
_NOBODY = b"NATS/1.0 503"
# An orderly end says what it has to say within this, or is cut short.
END_S_MAX = 0.5

Take = Callable[[int, bytes, bytes, bytes, bool], None]


class Heard:
    """What the library asks of a subscription when it connects again or closes.

    Its own keeps a queue, a future and an iterator for each: thousands of topics would cost
    twice what they do (PERF-79).
    """

    __slots__ = ("_id", "_queue", "_subject")

    _max_msgs = _received = 0
    _wait_for_msgs_task = _message_iterator = _pending_next_msgs_calls = None

    def __init__(self, number: int, subject: str, group: str) -> None:
        self._id, self._subject, self._queue = number, subject, group


class LinkClient(Client):
    """One connection at a time to one of the servers.

    `take(sid, subject, reply, data, is_nobody)` is called for each message; `went_down` at the
    moment the connection is lost; `lost` with the reason when it is over for good.
    """

    def __init__(
        self,
        *,
        needs_tls: bool,
        payload_bytes_min: int,
        take: Take,
        went_down: Callable[[], None],
        lost: Callable[[BaseException], None],
    ) -> None:
        super().__init__()
        self._needs_tls, self._payload_bytes_min = needs_tls, payload_bytes_min
        self._take, self._went_down, self._lost = take, went_down, lost

    async def hear(self, subject: str, group: str = "") -> int:
        """Call this to subscribe; gives the number that `take` is called with."""
        self._sid += 1
        heard = cast(Subscription, Heard(self._sid, subject, group))
        self._subs[self._sid] = heard
        await self._send_subscribe(heard)
        return heard._id

    async def hear_no_more(self, sid: int) -> None:
        """Call this to end a subscription."""
        if self._subs.pop(sid, None) is not None and self.is_connected:
            await self._send_unsubscribe(sid)

    async def end(self) -> None:
        """Call this to say goodbye, for a moment; nothing is left open."""
        if self._flush_queue is None:
            return  # it never began
        try:
            async with asyncio.timeout(END_S_MAX):
                await self.close()
        except (TimeoutError, OSError, RuntimeError, errors.Error):
            pass
        finally:
            self.abort()

    def abort(self) -> None:
        """Call this to close the socket at once: an orderly close waits for who does not read."""
        transport = self._transport
        for writer in (
            getattr(transport, "_io_writer", None),
            getattr(transport, "_bare_io_writer", None),
        ):
            if writer is not None:
                writer.transport.abort()

    @property
    def info(self) -> dict[str, Any]:
        """What the server says of itself."""
        return self._server_info

    def _connect_command(self) -> bytes:
        """Say nothing in the clear: the library goes on without TLS when a server offers none."""
        if self._needs_tls and not self._server_info.get("tls_required"):
            raise NoTls("it offers no TLS")
        if int(self._server_info.get("max_payload", 0)) < self._payload_bytes_min:
            raise PayloadTooSmall(
                f"{self._server_info.get('max_payload')} bytes, a frame needs "
                f"{self._payload_bytes_min}"
            )
        return super()._connect_command()

    async def _connect_to_server(self, s: Any) -> None:
        """Give every failure a name that is tried again: another ends the library's task."""
        try:
            await super()._connect_to_server(s)
        except (OSError, errors.Error, TimeoutError):
            raise
        except Exception as error:
            raise errors.Error(f"nats: {error}") from error

    async def _process_connect_init(self) -> None:
        """As above; and a server that hangs up before its answer is no server that is there."""
        try:
            await super()._process_connect_init()
            if not self.is_connected:
                raise errors.UnexpectedEOF
        except (OSError, errors.Error, TimeoutError):
            self.abort()
            raise
        except Exception as error:
            self.abort()
            raise errors.Error(f"nats: {error}") from error

    async def _attempt_reconnect(self) -> None:
        """Be down at once: the library waits for a socket to close that may never do so.

        What was not written yet is dropped. The library sends it to the next server, where those
        who should hear it may not have subscribed again.
        """
        self._went_down()
        self.abort()
        self._pending.clear()
        self._pending_data_size = 0
        try:
            await super()._attempt_reconnect()
        except Exception as error:  # noqa: BLE001  (its task would end, and nobody would know)
            self._lost(error)

    async def _read_loop(self) -> None:
        """Read until the connection ends, and always tell that it did.

        The library's own ends without a word at a line that it cannot read, and keeps all that
        comes while it waits for the end of a line.
        """
        try:
            while True:
                assert self._transport is not None
                data = await self._transport.read(_CHUNK)
                if not data:
                    raise errors.UnexpectedEOF
                await self._ps.parse(data)
                if len(self._ps.buf) > self._max_payload + _LINE_BYTES_MAX:
                    raise errors.ProtocolError
        except asyncio.CancelledError:
            return
        except Exception as error:  # noqa: BLE001  (whatever it is, the connection is of no use)
            await self._process_op_err(error)

    async def _process_op_err(self, e: Exception) -> None:
        """Tell why a connection ends; the library tells some reasons to nobody."""
        if self.is_connected:
            await self._error_cb(e)
        await super()._process_op_err(e)

    async def _process_err(self, err_msg: str) -> None:
        """Tell what the server says; the library closes by waiting for a socket that hangs."""
        error = errors.Error(f"nats: {err_msg}")
        await self._error_cb(error)
        fault = fault_of(error)
        if fault is LinkFault.CONNECT:
            await super()._process_op_err(error)
        elif fault is not LinkFault.PERMISSION:
            self._lost(error)

    async def _process_pong(self) -> None:
        """Answer whoever waits still; the library's reader ends at one who does not."""
        self._pings_outstanding = 0
        if self._pongs:
            waiting = self._pongs.pop(0)
            if not waiting.done():
                waiting.set_result(True)

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None
    ) -> None:
        """Hand a message over as it is; the library's reader ends at a subject that is no text."""
        is_nobody = headers is not None and headers.startswith(_NOBODY) and not data
        self._take(sid, subject, reply, data, is_nobody)
