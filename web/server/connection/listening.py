"""Listening sockets: opened with a typed error, accepted from without ever giving up.

`open_listeners` binds, `accept_forever` hands each connection to a callback. What happens on a
connection is in `transport.py`; who opens and closes the listeners is in `serving.py`.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable

import trio

from actors.runtime import Log
from web.server.errors import PortBusy, PortForbidden

# PERF-24: connections the kernel holds while the loop is busy. Thousands come back in one moment
# after a restart, and who finds the queue full tries again after one second, three, and seven. The
# kernel takes less where `somaxconn` says so; what waits costs it a few hundred bytes each.
BACKLOG = 4096
# REL-15: no descriptor, buffer or memory for another connection just now.
_CAPACITY_ERRNOS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
# The machine has no such address, or nothing of its whole family.
_ABSENT_ERRNOS = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
# Both families at once; `::` alone is version 6 only, whatever the machine's own default is.
EVERY_ADDRESS = "*"
_PAUSE_S = 0.1
# While a turn of the loop is long, one connection a turn would leave people waiting in the kernel
# who could be served, or told to come again. More of them would make a turn long by themselves.
ACCEPTED_PER_TURN = 32
_LOG_EVERY_S = 10.0

log = Log(__name__)


def open_listeners(host: str, port: int) -> list[socket.socket]:
    """Call this to bind and listen on every address of `host`; port 0 takes any free port.

    `*` stands for every address of both families. Of a name's addresses those that this machine
    does not have are left out, with a line in the log, as long as one remains: `localhost` names
    two, and in a container only one of them may exist. Raises `PortBusy` when another process holds
    the port, `PortForbidden` when this one may not have it, OSError for an address that cannot be;
    nothing stays open then.
    """
    found = socket.getaddrinfo(
        None if host == EVERY_ADDRESS else host,
        port,
        type=socket.SOCK_STREAM,
        flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV,
    )
    opened: list[socket.socket] = []
    absent: list[OSError] = []
    try:
        for family, kind, proto, _, address in dict.fromkeys(found):
            # All addresses of a name share the port the first one was given.
            wanted = opened[0].getsockname()[1] if opened and port == 0 else port
            try:
                opened.append(_open_one(family, kind, proto, str(address[0]), wanted))
            except OSError as error:
                if error.errno not in _ABSENT_ERRNOS:
                    raise
                absent.append(error)
        if not opened:
            raise absent[0]
    except OSError as error:
        for listener in opened:
            listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortBusy(host, port) from error
        if error.errno == errno.EACCES:
            raise PortForbidden(host, port) from error
        raise
    for missing in absent:
        log.warning("server.address_left_out", errno=errno.errorcode[missing.errno or 0])
    return opened


def _open_one(family: int, kind: int, proto: int, address: str, port: int) -> socket.socket:
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


async def accept_forever(
    listener: trio.SocketListener,
    serve: Callable[[trio.SocketStream], None],
    *,
    tcp_user_timeout_s: float,
) -> None:
    """Call this in a task of its own: each connection goes to `serve`; ends by cancellation.

    Without a free descriptor it waits 100 ms and goes on; the backlog holds the rest (REL-15).
    """
    quiet_until = float("-inf")
    raw = listener.socket._sock  # type: ignore[attr-defined]  # reason: trio's own accept is a checkpoint, and it shows no other
    while True:
        try:
            stream = await listener.accept()
        except OSError as error:
            if error.errno not in _CAPACITY_ERRNOS:
                raise
            if trio.current_time() >= quiet_until:
                log.error("server.accept_paused", errno=errno.errorcode[error.errno])
                quiet_until = trio.current_time() + _LOG_EVERY_S
            await trio.sleep(_PAUSE_S)
            continue
        _tune(stream, tcp_user_timeout_s)
        serve(stream)
        for _ in range(ACCEPTED_PER_TURN - 1):
            try:
                found, _address = raw.accept()
            except OSError:
                break  # nobody, or no descriptor: the wait above finds out
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(found))
            _tune(stream, tcp_user_timeout_s)
            serve(stream)


def _tune(stream: trio.SocketStream, tcp_user_timeout_s: float) -> None:
    """Let the kernel notice a peer that is gone without a word (REL-32)."""
    if not hasattr(socket, "TCP_USER_TIMEOUT"):
        return  # Linux only; elsewhere heartbeats and write deadlines find it
    milliseconds = struct.pack("I", int(tcp_user_timeout_s * 1000))
    try:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
    except OSError:
        pass  # already reset by the peer; the first read says so
