"""The first connection: what is refused, with one sentence and at once; what is waited for."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import nkeys
import pytest
import trio

from actors.cluster.link import FRAME_BYTES_MAX, LinkAbsent, LinkRefused
from storage.link.nats import open_nats_link
from storage.link.nats_words import NatsCredentials, NatsSettings, NatsTls
from tests.logged import silenced
from tests.nats_server import (
    PASSWORD,
    NatsServer,
    ServerFile,
    User,
    missing,
)
from tests.patience import PATIENCE_S
from tests.processes.ports import free_ports
from tests.storage.link.nodes import N_B, PREFIX, Heard, opened, settings, settled
from tests.web.server.certificate import make_context

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

# Two keys of nobody.
SEEDS = [nkeys.encode_seed(bytes([n] * 32), nkeys.PREFIX_BYTE_USER).decode() for n in (1, 2)]


def public(seed: str) -> str:
    return bytes(nkeys.from_seed(bytearray(seed.encode())).public_key).decode()


def kept(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


async def refused(of: NatsSettings, *, wait_s: float = PATIENCE_S) -> str:
    """The sentence of a start that is refused; nothing of a secret is in it."""
    with silenced(), pytest.RaisesGroup(LinkRefused, flatten_subgroups=True) as told:
        async with open_nats_link(of, wait_s=wait_s):
            pytest.fail("it was let in")
    return str(told.value.exceptions[0])


async def speaks(of: NatsSettings, other: NatsSettings | None = None) -> bool:
    """Whether two nodes hear each other."""
    heard = Heard()
    async with opened(of, other or of) as (a, b):
        await b.subscribe(N_B, heard)
        await a.publish(N_B, b"x")
        await settled(a, b)
    return heard.data == [b"x"]


async def test_a_wrong_password_is_refused_and_a_right_one_not(tmp_path: Path) -> None:
    # CLU-4
    # CLU-55
    with NatsServer(tmp_path / "server") as server:
        wrong = NatsCredentials(user="node", password_file=kept(tmp_path, "wrong", "another"))
        said = await refused(settings(server, credentials=wrong))
        assert said == (
            f"127.0.0.1:{server.port} does not let this node in (Authorization Violation): check "
            "the credentials on both sides"
        )
        assert "another" not in said
        assert "Authorization" in await refused(settings(server, credentials=NatsCredentials()))
        assert await speaks(settings(server))


async def test_a_key_of_a_node_lets_it_in_and_another_does_not(tmp_path: Path) -> None:
    # CLU-4
    # CLU-55
    file = ServerFile(users=[User(nkey=public(SEEDS[0]))])
    with NatsServer(tmp_path / "server", file) as server:
        right, other, broken = (
            NatsCredentials(nkey_file=kept(tmp_path, f"key-{n}", text))
            for n, text in enumerate((SEEDS[0], f"{SEEDS[1]}\n", "SUNOKEY"))
        )
        assert await speaks(settings(server, credentials=right))
        assert "Authorization" in await refused(settings(server, credentials=other))
        assert "the key is none" in await refused(settings(server, credentials=broken))
        absent = NatsCredentials(nkey_file=tmp_path / "absent")
        assert "cannot be read" in await refused(settings(server, credentials=absent))


async def test_a_token_lets_a_node_in_and_another_does_not(tmp_path: Path) -> None:
    # CLU-4
    # CLU-55
    with NatsServer(tmp_path / "server", ServerFile(token="a-token-of-tests")) as server:
        right, wrong = (
            NatsCredentials(token_file=kept(tmp_path, text, text))
            for text in ("a-token-of-tests", "wrong")
        )
        assert await speaks(settings(server, credentials=right))
        assert "Authorization" in await refused(settings(server, credentials=wrong))


async def test_tls_asks_for_a_certificate_that_is_trusted(tmp_path: Path) -> None:
    # CLU-4
    # CLU-55
    for name in ("right", "other"):
        make_context(tmp_path / name)
    file = ServerFile(certificate=tmp_path / "right")
    with NatsServer(tmp_path / "server", file) as server:
        url = f"tls://localhost:{server.port}"
        trusting, other = (NatsTls(ca_file=tmp_path / name / "cert") for name in ("right", "other"))
        assert await speaks(settings(server, tls=trusting, url=url))
        for tls in (other, NatsTls()):
            said = await refused(settings(server, tls=tls, url=url))
            assert "do not agree on TLS" in said
            assert "certificate" in said.lower()
        # The certificate is for another name.
        assert "TLS" in await refused(
            settings(server, tls=trusting, url=f"tls://127.0.0.1:{server.port}")
        )
        absent = NatsTls(ca_file=tmp_path / "absent")
        assert "files of this node" in await refused(settings(server, tls=absent, url=url))
        broken = NatsTls(ca_file=kept(tmp_path, "broken", "no certificate"))
        assert "files of this node" in await refused(settings(server, tls=broken, url=url))


async def test_a_server_may_ask_for_the_certificate_of_a_node(tmp_path: Path) -> None:
    # CLU-55
    make_context(tmp_path / "both")
    file = ServerFile(certificate=tmp_path / "both", asks_certificate=True)
    with NatsServer(tmp_path / "server", file) as server:
        url, cert = f"tls://localhost:{server.port}", tmp_path / "both" / "cert"
        own = NatsTls(cert, cert, tmp_path / "both" / "key")
        assert await speaks(settings(server, tls=own, url=url))
        said = await refused(settings(server, tls=NatsTls(ca_file=cert), url=url))
        assert "TLS" in said


@pytest.mark.parametrize("kind", ["n", "s", "all", "t", "any"])
@pytest.mark.parametrize("way", ["publish", "subscribe"])
async def test_each_permission_that_is_missing_is_seen_at_the_start(
    kind: str, way: str, tmp_path: Path
) -> None:
    # CLU-4
    # CLU-55
    tails = {"n": "n.>", "s": "s.>", "all": "all", "t": "t.>", "any": "any.>"}
    some = [f"{PREFIX}.{tail}" for one, tail in tails.items() if one != kind]
    user = User(publish=some) if way == "publish" else User(subscribe=some)
    with NatsServer(tmp_path / "server", ServerFile(users=[user])) as server:
        said = await refused(settings(server))
    assert f"permit {PREFIX}.> both ways" in said
    assert f"ermissions violation for {'publish' if way == 'publish' else 'subscription'}" in said


async def test_a_server_that_takes_less_than_a_frame_is_refused(tmp_path: Path) -> None:
    # CLU-4
    small = ServerFile(max_payload=str(FRAME_BYTES_MAX - 1))
    with NatsServer(tmp_path / "server", small) as server:
        of = settings(server, payload_bytes_min=FRAME_BYTES_MAX)
        assert "raise its max_payload" in await refused(of)
        server.reload(replace(small, max_payload=str(FRAME_BYTES_MAX)))
        assert await speaks(of)


async def test_a_server_that_is_not_there_is_waited_for_and_then_named(tmp_path: Path) -> None:
    # CLU-4
    (port,) = free_ports(1)
    of = NatsSettings((f"nats://127.0.0.1:{port}",))
    words, wait_s = "", 0.5
    while "[Errno 111]" not in words:
        assert wait_s < PATIENCE_S, words
        with silenced(), pytest.RaisesGroup(LinkAbsent, flatten_subgroups=True) as told:
            async with open_nats_link(of, wait_s=wait_s):
                pytest.fail("there is none")
        words = str(told.value.exceptions[0])
        assert words.startswith(f"no answer from 127.0.0.1:{port} for {wait_s:g} s: ")
        wait_s *= 8  # a busy machine may not have tried yet
    # One that comes while it is waited for is found.
    server = NatsServer(tmp_path / "server", port=port)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, server.start)
        try:
            assert await speaks(settings(server))
        finally:
            server.kill()


Serve = Callable[[trio.SocketStream], Awaitable[None]]
INFO = b'INFO {"server_id":"x","version":"2.15.1","headers":true,"max_payload":1048576%s}\r\n'


@asynccontextmanager
async def pretending(serve: Serve) -> AsyncIterator[str]:
    """A server that is none."""

    async def served(stream: trio.SocketStream) -> None:
        try:
            async with stream:
                await serve(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, served, listeners)
        yield f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


def says(*parts: bytes, waits: bool = True) -> Serve:
    async def serve(stream: trio.SocketStream) -> None:
        for part in parts:
            await stream.send_all(part)
        while waits and await stream.receive_some():
            pass

    return serve


_STRANGE = {
    "nothing": says(),
    "hangs up": says(waits=False),
    "hangs up after its greeting": says(INFO % b"", waits=False),
    "another protocol": says(b"HTTP/1.1 400 Bad Request\r\n\r\n", waits=False),
    "no end of a line": says(b"INFO " + b"x" * 200_000),
    "a greeting that is none": says(b"INFO {\r\n"),
    "a greeting of another form": says(b"INFO [1,2]\r\n"),
    "bytes": says(bytes(range(256)) * 40),
    "no answer to a greeting": says(INFO % b"", b"\xff\xfe\r\n"),
    "no answer to a flush": says(INFO % b"", b"PONG\r\n"),
    "a message of a terabyte": says(
        INFO % b"", b"PONG\r\nMSG a 1 1000000000000\r\n" + bytes(2**21)
    ),
    "an error without words": says(INFO % b"", b"PONG\r\n-ERR \r\n-ERR\r\n"),
}


@pytest.mark.parametrize("kind", _STRANGE)
async def test_what_is_no_server_is_told_as_absent_and_never_hangs(kind: str) -> None:
    # CLU-4
    async with pretending(_STRANGE[kind]) as place:
        of = NatsSettings((f"nats://{place}",))
        with silenced(), pytest.RaisesGroup(LinkAbsent, flatten_subgroups=True) as told:
            async with open_nats_link(of, wait_s=0.3):
                pytest.fail("it is none")
    assert place in str(told.value.exceptions[0])


@contextmanager
def half_open() -> Iterator[str]:
    """A port whose queue is full and that nobody takes from: who connects gets no answer."""
    with socket.socket() as listens, ExitStack() as stack:
        listens.bind(("127.0.0.1", 0))
        listens.listen(0)
        for _ in range(3):
            waits = stack.enter_context(socket.socket())
            waits.setblocking(False)
            waits.connect_ex(listens.getsockname())
        yield f"127.0.0.1:{listens.getsockname()[1]}"


@pytest.mark.slow
async def test_a_server_that_says_nothing_is_told_as_that() -> None:
    """An attempt has 4 s at most; what came of it is known before the start gives up."""
    # CLU-4
    wait_s = 6.0

    async def given_up(place: str) -> None:
        of = NatsSettings((f"nats://{place}",))
        with pytest.RaisesGroup(LinkAbsent, flatten_subgroups=True) as told:
            async with open_nats_link(of, wait_s=wait_s):
                pytest.fail("nobody is there")
        (error,) = told.value.exceptions
        assert str(error) == f"no answer from {place} for 6 s: it says nothing"

    with silenced(), half_open() as behind, trio.fail_after(PATIENCE_S):
        async with pretending(says()) as silent, trio.open_nursery() as nursery:
            nursery.start_soon(given_up, silent)
            nursery.start_soon(given_up, behind)


async def test_nothing_is_said_to_a_server_that_offers_no_tls_where_it_must(
    tmp_path: Path,
) -> None:
    # CLU-55
    said = bytearray()

    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(INFO % b"")
        while part := await stream.receive_some():
            said.extend(part)

    password = kept(tmp_path, "password", PASSWORD)
    async with pretending(serve) as place:
        credentials = NatsCredentials(user="node", password_file=password)
        of = NatsSettings((f"tls://{place}",), credentials=credentials)
        assert "offers no TLS" in await refused(of)
    assert said == b""


async def test_a_start_that_is_cancelled_leaves_nothing_open() -> None:
    # CLU-4
    ended = trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        connected.set()
        while await stream.receive_some():
            pass
        ended.set()

    connected = trio.Event()
    async with pretending(serve) as place:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                async def cancel() -> None:
                    await connected.wait()
                    scope.cancel()

                nursery.start_soon(cancel)
                async with open_nats_link(NatsSettings((f"nats://{place}",))):
                    pytest.fail("it is none")
        with trio.fail_after(PATIENCE_S):
            await ended.wait()
    assert scope.cancelled_caught


def test_files_for_tls_are_checked_where_they_are_read(tmp_path: Path) -> None:
    make_context(tmp_path / "own")
    cert, key = tmp_path / "own" / "cert", tmp_path / "own" / "key"
    assert isinstance(NatsTls(cert, cert, key).context(), ssl.SSLContext)
    with pytest.raises(ssl.SSLError):
        NatsTls(cert, cert, cert).context()
