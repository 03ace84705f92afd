"""Links of nodes to servers of tests, and what such tests wait for."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from storage.link.nats import NatsLink, open_nats_link
from storage.link.nats_words import NatsCredentials, NatsSettings, NatsTls
from storage.testing.link import Heard
from tests.nats_server import PASSWORD, USER, NatsServer
from tests.patience import PATIENCE_S, until

__all__ = ["Heard", "fast", "opened", "password_file", "settings", "settled", "until"]

PREFIX = "gr.suite"
N_B = f"{PREFIX}.n.b"
# A server that stands still is noticed in a fifth of a second.
FAST_PING_S = 0.05
# How often something is said again that may have been lost.
AGAIN_S = 0.05


def password_file(folder: Path, password: str = PASSWORD) -> Path:
    """A file that holds a password."""
    path = folder / "password"
    path.write_text(f"{password}\n")
    return path


def settings(
    servers: NatsServer | Sequence[NatsServer],
    *,
    credentials: NatsCredentials | None = None,
    tls: NatsTls | None = None,
    payload_bytes_min: int = 0,
    ping_interval_s: float = 1.0,
    url: str = "",
) -> NatsSettings:
    """Settings of a node that knows the password."""
    listed = [servers] if isinstance(servers, NatsServer) else list(servers)
    known = NatsCredentials(user=USER, password_file=password_file(listed[0].folder))
    return NatsSettings(
        (url,) if url else tuple(one.url for one in listed),
        "node",
        PREFIX,
        known if credentials is None else credentials,
        tls or NatsTls(),
        payload_bytes_min,
        ping_interval_s,
    )


def fast(servers: NatsServer | Sequence[NatsServer]) -> NatsSettings:
    """Settings by which a server that stands still is noticed soon."""
    return settings(servers, ping_interval_s=FAST_PING_S)


@asynccontextmanager
async def opened(*of: NatsSettings) -> AsyncIterator[Sequence[NatsLink]]:
    """Links that are up, one for each of the settings."""
    links: list[NatsLink] = []

    @asynccontextmanager
    async def rest(left: Sequence[NatsSettings]) -> AsyncIterator[None]:
        if not left:
            yield
            return
        async with open_nats_link(left[0], wait_s=PATIENCE_S) as link:
            links.append(link)
            async with rest(left[1:]):
                yield

    async with rest(of):
        yield links


async def settled(sender: NatsLink, receiver: NatsLink) -> None:
    """Wait until the receiver has all that the sender has published."""
    last = Heard()
    subscription = await receiver.subscribe(f"{PREFIX}.last", last)
    with trio.fail_after(PATIENCE_S):
        while not last.deliveries:
            # Said again: between servers word of a subscription takes its time.
            await sender.publish(f"{PREFIX}.last", b"")
            with trio.move_on_after(AGAIN_S):
                await last.wait_for(1)
    await subscription.end()


async def when(link: NatsLink, *, is_up: bool, beyond: int = 0) -> None:
    """Wait until the link is so; with `beyond` on a later connection than that one."""
    await until(lambda: link.status().is_up is is_up and link.status().connects > beyond - 1)


class Stranger:
    """Someone who has the credentials of the account, and speaks the protocol by hand."""

    def __init__(self, server: NatsServer, user: str = USER, password: str = PASSWORD) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), PATIENCE_S)
        self._socket.settimeout(PATIENCE_S)
        self.say(
            b'CONNECT {"verbose":false,"headers":true,"no_responders":true,"user":"%s",'
            b'"pass":"%s"}\r\nPING\r\n' % (user.encode(), password.encode())
        )
        self.read_until(b"PONG\r\n")

    def say(self, raw: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(raw)

    def read_until(self, end: bytes) -> bytes:
        """What the server says, until it says that."""
        said = b""
        while end not in said:
            more = self._socket.recv(65536)
            assert more, f"the server hung up: {said!r}"
            said += more
        return said

    def settle(self) -> None:
        """Wait until the server has all."""
        self.say(b"PING\r\n")
        self.read_until(b"PONG\r\n")

    def close(self) -> None:
        """Hang up."""
        self._socket.close()
