"""Hosts of others, on this machine: by their names, with certificates of a test's authority."""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import h11
import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from web.routing import outward

_PEM = serialization.Encoding.PEM
_PLAIN = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


@dataclass
class Authority:
    """Signs certificates for the names of hosts."""

    folder: Path
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.roots.write_bytes(self._signed("an authority of tests", self.key).public_bytes(_PEM))

    @property
    def roots(self) -> Path:
        """The file that a program trusts it by."""
        return self.folder / "roots"

    def context(self, name: str) -> ssl.SSLContext:
        """The server's side for a host of this name."""
        key, at = ec.generate_private_key(ec.SECP256R1()), self.folder / name
        at.write_bytes(
            key.private_bytes(_PEM, *_PLAIN) + self._signed(name, key).public_bytes(_PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(at)
        return context

    def _signed(self, name: str, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
        now, is_root = datetime.now(UTC), key is self.key
        by = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority of tests")])
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(by).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(self.key, hashes.SHA256())
        )  # fmt: skip


@dataclass
class Host:
    """What a host answers: by its path, the bytes of a whole answer. Nothing: it hangs up."""

    answers: dict[str, bytes] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)

    async def serve(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        connection = h11.Connection(h11.SERVER)
        try:
            while not isinstance(request := connection.next_event(), h11.Request):
                if request is not h11.NEED_DATA:
                    return
                connection.receive_data(bytes(await stream.receive_some(65_536)))
            path = request.target.decode()
            self.asked[path] += 1
            await stream.send_all(self.answers.get(path, b""))
        except trio.BrokenResourceError:
            pass  # whoever called does not trust it, or has enough of it
        finally:
            await trio.aclose_forcefully(stream)


def answer_of(body: bytes, status: int = 200, *headers: str) -> bytes:
    """Call this for the bytes of a whole answer."""
    head = [f"HTTP/1.1 {status} x", f"content-length: {len(body)}", "connection: close", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


class _Names(trio.abc.HostnameResolver):
    """Names of this test are this machine, whatever their port."""

    def __init__(self, ports: dict[str, int]) -> None:
        self._ports = ports

    async def getaddrinfo(  # type: ignore[override]
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002 - the name of the standard library
        proto: int = 0,
        flags: int = 0,
    ) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        here = ("127.0.0.1", self._ports[(host or b"").decode()])
        return [(trio.socket.AF_INET, trio.socket.SOCK_STREAM, 6, "", here)]

    async def getnameinfo(self, sockaddr: object, flags: int) -> tuple[str, str]:
        raise OSError("nobody asks for names of addresses")


@asynccontextmanager
async def https_hosts(
    roots: Path, contexts: Mapping[str, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Host]:
    """Be hosts of these names to a program of this process, which trusts these roots."""
    host, ports = Host(), dict[str, int]()
    monkeypatch.setenv("SSL_CERT_FILE", str(roots))
    outward.tls_context.cache_clear()
    async with trio.open_nursery() as nursery:
        for name, context in contexts.items():
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            ports[name] = listener.socket.getsockname()[1]
            over_tls = trio.SSLListener(listener, context)
            nursery.start_soon(trio.serve_listeners, host.serve, [over_tls])
        former = trio.socket.set_custom_hostname_resolver(_Names(ports))
        try:
            yield host
        finally:
            trio.socket.set_custom_hostname_resolver(former)
            outward.tls_context.cache_clear()
            nursery.cancel_scope.cancel()
