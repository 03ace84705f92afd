"""One connection that all share, whatever becomes of its server (PROJ-12)."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from actors.runtime import Secret
from storage.errors import InvalidField, StoreUnavailable
from storage.redis import RedisClient, RedisRefused, RedisRejected, RedisSettings, open_redis
from storage.redis.client import PATIENCE_S
from tests.logged import captured
from tests.patience import PATIENCE_S as PATIENCE_OF_TESTS_S
from tests.patience import until
from tests.redis_server import RedisServer

PASSWORD = "canary-of-redis"


async def test_answers_belong_to_who_asked(redis: RedisClient) -> None:
    # PROJ-12: a thousand at once on one connection, of which some no longer listen
    wrong: list[int] = []

    async def ask(number: int) -> None:
        if number % 10 == 0:
            with trio.CancelScope() as scope:
                scope.cancel()
                await redis.call("ECHO", number)
            with trio.move_on_after(0):
                await redis.call("ECHO", number)
        if await redis.call("ECHO", number) != str(number).encode():
            wrong.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(1000):
            nursery.start_soon(ask, number)
    assert wrong == []
    statistics = redis.statistics()
    assert (statistics.connects, statistics.waiting, statistics.unwritten_bytes) == (1, 0, 0)


async def test_every_kind_of_answer_comes_back(redis: RedisClient) -> None:
    assert await redis.call("SET", "k", b"\x00\r\n\xff") == b"OK"
    assert await redis.call("GET", "k") == b"\x00\r\n\xff"
    assert await redis.call("GET", "nobody") is None
    assert await redis.call("INCR", "n") == 1
    assert await redis.call("RPUSH", "l", 1, 2) == 2
    assert await redis.call("LRANGE", "l", 0, -1) == [b"1", b"2"]
    long = b"x" * 3_000_000
    await redis.call("SET", "long", long)
    assert await redis.call("GET", "long") == long
    with pytest.raises(RedisRefused) as refused:
        await redis.call("NO-SUCH-COMMAND", PASSWORD)
    assert refused.value.refusal.code == "ERR"
    assert PASSWORD not in str(refused.value)


async def test_a_server_that_is_killed_is_away_and_comes_back(server: RedisServer) -> None:
    # PROJ-12, AUTH-40
    async with open_redis(server.settings) as client:
        await client.call("SET", "k", 1)
        with captured() as lines:
            server.kill()
            await until(lambda: not client.statistics().is_up)
            await until(lambda: client.statistics().down_s > PATIENCE_S)
            # Nobody waits for one that is away: it is refused without a turn of the loop.
            turned: list[str] = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(turn, turned)
                with pytest.raises(StoreUnavailable) as away:
                    await client.call("GET", "k")
                assert (away.value.nothing_written, turned) == (True, [])
            server.start()
            await client.wait_up(PATIENCE_OF_TESTS_S)
            assert await client.call("GET", "k") is None
        assert {one["event"] for one in lines} == {"redis.down"}
        assert server.url + "/0" in {one["server"] for one in lines}
        assert client.statistics().connects == 2


async def test_a_server_that_says_nothing_is_left(server: RedisServer) -> None:
    # PROJ-12: what was asked is told as not known, all of it
    async with open_redis(replace(server.settings, answer_s_max=0.3)) as client:
        server.hang()
        told: list[StoreUnavailable] = []

        async def ask() -> None:
            try:
                await client.call("INCR", "n")
            except StoreUnavailable as error:
                told.append(error)

        with trio.fail_after(PATIENCE_OF_TESTS_S):
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(ask)
        assert len(told) == 20
        assert {one.nothing_written for one in told} == {False}
        # From here on a late answer is one of a busy machine.
        client.settings = replace(client.settings, answer_s_max=PATIENCE_OF_TESTS_S)
        server.go_on()
        await client.wait_up(PATIENCE_OF_TESTS_S)
        assert await client.call("PING") == b"PONG"


async def test_an_idle_connection_that_broke_is_noticed(server: RedisServer) -> None:
    # PROJ-12: before anybody needs it
    async with open_redis(replace(server.settings, answer_s_max=0.3)) as client:
        server.hang()
        await until(lambda: not client.statistics().is_up)
        assert "no answer" in client.statistics().reason
        server.go_on()
        await client.wait_up(PATIENCE_OF_TESTS_S)


async def test_more_than_can_wait_is_refused(server: RedisServer) -> None:
    # PROJ-12: a server that is too slow fills no memory
    async with open_redis(replace(server.settings, answer_s_max=0.3)) as client:
        server.hang()
        refused, lost = [0], [0]

        async def ask() -> None:
            try:
                await client.call("SET", "k", b"x" * 1_000_000)
            except StoreUnavailable as error:
                (refused if error.nothing_written else lost)[0] += 1

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(ask)
        assert refused[0] >= 40
        assert refused[0] + lost[0] == 50
        server.go_on()


async def test_a_password_opens_and_is_told_nowhere(tmp_path: Path) -> None:
    # PROJ-12, SEC-131
    options = ("--requirepass", PASSWORD, "--user", "site", "on", f">{PASSWORD}", "~*", "+@all")
    with RedisServer(tmp_path / "server", options) as server, captured() as lines:
        plain = server.settings
        for known in (
            replace(plain, password=Secret(PASSWORD)),
            replace(plain, user="site", password=Secret(PASSWORD)),
        ):
            async with open_redis(known) as client:
                assert await client.call("PING") == b"PONG"
                assert PASSWORD not in repr(client) + repr(known)
        for unknown in (plain, replace(plain, password=Secret("wrong"))):
            with pytest.RaisesGroup(RedisRejected, flatten_subgroups=True) as group:
                async with open_redis(unknown):
                    pass
            assert "refuses this program" in str(group.value.exceptions)
        beyond = replace(plain, password=Secret(PASSWORD), database=99)
        with pytest.RaisesGroup(RedisRejected, flatten_subgroups=True):
            async with open_redis(beyond):
                pass
    assert PASSWORD not in repr(lines)


async def test_databases_of_a_server_are_apart(server: RedisServer) -> None:
    third = replace(server.settings, database=3)
    async with open_redis(server.settings) as one, open_redis(third) as three:
        await one.call("SET", "k", 1)
        assert await three.call("GET", "k") is None


async def test_by_tls_only_who_is_trusted_is_spoken_to(tmp_path: Path) -> None:
    # PROJ-12
    make_certificate(tmp_path / "tls")
    with RedisServer(tmp_path / "server", certificate=tmp_path / "tls") as server:
        trusting = replace(server.settings, is_tls=True, ca_file=tmp_path / "tls" / "cert")
        async with open_redis(trusting) as client:
            assert await client.call("ECHO", "by TLS") == b"by TLS"
        for distrusting in (
            replace(server.settings, is_tls=True),
            replace(trusting, host="localhost"),
        ):
            with pytest.RaisesGroup(RedisRejected, flatten_subgroups=True):
                async with open_redis(distrusting):
                    pass


async def test_another_program_on_the_port_is_no_server() -> None:
    # PROJ-12
    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with trio.open_nursery() as nursery:
        serve = trio.serve_tcp
        (listener,) = await nursery.start(lambda task_status: serve(
            answer, 0, host="127.0.0.1", task_status=task_status
        ))  # fmt: skip
        port = listener.socket.getsockname()[1]
        client = RedisClient(RedisSettings("127.0.0.1", port))
        await nursery.start(client.serve)
        await until(lambda: "a reply of the kind" in client.statistics().reason)
        with pytest.raises(StoreUnavailable, match="a reply of the kind"):
            await client.wait_up(0)
        nursery.cancel_scope.cancel()


async def test_one_that_may_forget_limits_is_told_of(tmp_path: Path) -> None:
    # AUTH-40: whoever fills it could have limits forgotten
    options = ("--maxmemory-policy", "allkeys-lru")
    with RedisServer(tmp_path / "server", options) as server, captured() as lines:
        async with open_redis(server.settings):
            pass
    assert next(one["event"] for one in lines) == "redis.forgets"


@pytest.mark.parametrize(
    ("url", "known"),
    [
        ("redis://one", RedisSettings("one")),
        ("rediss://one:7/2", RedisSettings("one", 7, 2, is_tls=True)),
        ("redis://[::1]:7", RedisSettings("::1", 7)),
        ("redis://:p%40ss@one", RedisSettings("one", password=Secret("p@ss"))),
        ("redis://me:x@one/0", RedisSettings("one", user="me", password=Secret("x"))),
    ],
)
def test_an_address_is_read(url: str, known: RedisSettings) -> None:
    assert RedisSettings.of(Secret(url)) == known


@pytest.mark.parametrize(
    "url",
    [
        "", "one", "http://one", "redis://", "redis://one:0", "redis://one:99999999",
        "redis://one/x", "redis://one/-1", "redis://one/9999999", "redis://one?db=1",
        f"redis://{PASSWORD}@one", "redis://one/1#x", "redis://[one",
    ],
)  # fmt: skip
def test_another_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidField) as refused:
        RedisSettings.of(Secret(url))
    assert PASSWORD not in str(refused.value)


async def turn(turned: list[str]) -> None:
    """Tell that the loop has turned."""
    turned.append("it has")


def make_certificate(folder: Path) -> None:
    """Write `cert` and `key` of one who is 127.0.0.1."""
    folder.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis of tests")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = serialization.Encoding.PEM
    (folder / "cert").write_bytes(certificate.public_bytes(pem))
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key").write_bytes(key.private_bytes(pem, *plain))
