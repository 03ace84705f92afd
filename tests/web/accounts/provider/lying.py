"""A provider of our own, in this process, over real HTTP on loopback: honest until told to lie."""

from __future__ import annotations

import base64
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from urllib.parse import parse_qs, parse_qsl, unquote_plus, urlencode, urlsplit

import h11
import msgspec
import trio
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, RSAKey

from actors.accounts.ways.provider.judging import LOGOUT_EVENT, LOGOUT_TOKEN
from actors.accounts.ways.provider.words import Kind, Provider
from actors.runtime import Secret

Change = Callable[[dict[str, object]], None]
CLIENT, SECRET = "our id", "our secret: +/&"


@cache
def rsa(name: str) -> RSAKey:
    """A key pair; made once a process, for it takes a tenth of a second."""
    return RSAKey.generate_key(2048, {"kid": name, "use": "sig"}, private=True)


@cache
def curve(name: str) -> ECKey:
    return ECKey.generate_key("P-256", {"kid": name}, private=True)


@dataclass
class Grant:
    """What a code stands for."""

    nonce: str
    challenge: str
    back: str
    email: str
    subject: str


@dataclass
class Lies:
    """How it is to lie; nothing is the truth."""

    claims: Change = lambda claims: None
    header: Change = lambda header: None
    discovery: Change = lambda document: None
    tokens: Change = lambda answer: None
    userinfo: Change = lambda answer: None
    # Signs in its own way: given header and claims.
    sign: Callable[[dict[str, object], dict[str, object]], str] | None = None
    status: dict[str, int] = field(default_factory=dict)
    body: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, list[tuple[bytes, bytes]]] = field(default_factory=dict)
    # Paths that are not answered until the test lets them.
    held: dict[str, trio.Event] = field(default_factory=dict)
    # Of the query somebody comes back with.
    back: Change = lambda query: None
    # Of what it says when somebody left.
    logout: Change = lambda claims: None
    logout_header: Change = lambda header: None


@dataclass
class LyingProvider:
    """One provider. `keys` are those it shows, the last one signs."""

    name: str
    port: int = 0
    keys: list[RSAKey | ECKey] = field(default_factory=lambda: [rsa("one")])
    lies: Lies = field(default_factory=Lies)
    grants: dict[str, Grant] = field(default_factory=dict)
    refresh: set[str] = field(default_factory=set)
    calls: Counter[str] = field(default_factory=Counter)
    email: str = "ada@elsewhere.org"
    # No letters of a hexadecimal number alone: ids that are drawn must not happen to hold it.
    subject: str = "ada-first"
    has_email: bool = True
    # What it calls the session of who agrees; None: nothing.
    session: str | None = None
    has_end_session: bool = False
    # A refresh token is good once, and another comes with each answer.
    rotates: bool = True
    last_id_token: str = ""
    redirects: list[str] = field(default_factory=list)
    _made: int = 0

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def settings(self, **changes: object) -> Provider:
        made: dict[str, object] = {
            "name": self.name,
            "label": self.name.title(),
            "kind": Kind.OIDC,
            "issuer": self.issuer,
            "client_id": CLIENT,
            "client_secret": Secret(SECRET),
        }
        return Provider(**{**made, **changes})  # type: ignore[arg-type]

    def agree(self, location: str) -> str:
        """Be the person who agrees: given where they were sent, tell where they come back to."""
        asked = dict(parse_qsl(urlsplit(location).query, strict_parsing=True))
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        assert asked["client_id"] == CLIENT
        self._made += 1
        code = f"code-{self.name}-{self._made}"
        self.grants[code] = Grant(
            asked.get("nonce", ""),
            asked["code_challenge"],
            asked["redirect_uri"],
            self.email,
            self.subject,
        )
        query: dict[str, object] = {"state": asked["state"], "code": code, "iss": self.issuer}
        self.lies.back(query)
        given = {key: value for key, value in query.items() if value is not None}
        return f"{asked['redirect_uri']}?{urlencode(given, doseq=True)}"

    # -- what it answers ----------------------------------------------------------------------

    def answer(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, object]:
        path = urlsplit(target).path
        match path:
            case "/.well-known/openid-configuration":
                return 200, self._discovery()
            case "/keys":
                shown = [key.as_dict(private=False) for key in self.keys]
                return 200, {"keys": shown}
            case "/authorize":
                return 302, self.agree(f"{self.issuer}{target}")
            case "/token" if method == "POST":
                return self._token(headers, dict(parse_qsl(body.decode())))
            case "/leave":
                return 302, query_of(target)["post_logout_redirect_uri"]
            case "/userinfo":
                info: dict[str, object] = {
                    "sub": self.subject, "email": self.email, "email_verified": True
                }  # fmt: skip
                self.lies.userinfo(info)
                return 200, info
        return 404, {"error": "nothing here"}

    def _discovery(self) -> object:
        document: dict[str, object] = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "jwks_uri": f"{self.issuer}/keys",
            "authorization_response_iss_parameter_supported": True,
        }
        if self.has_end_session:
            document["end_session_endpoint"] = f"{self.issuer}/leave"
        self.lies.discovery(document)
        return document

    def _token(self, headers: Mapping[str, str], form: dict[str, str]) -> tuple[int, object]:
        if not self._knows_us(headers, form):
            return 401, {"error": "invalid_client"}
        if form["grant_type"] == "refresh_token":
            if form["refresh_token"] not in self.refresh:
                return 400, {"error": "invalid_grant"}
            tokens = self._tokens()
            if self.rotates:
                self.refresh.discard(form["refresh_token"])
            else:
                self.refresh.discard(str(tokens.pop("refresh_token")))
            self.lies.tokens(tokens)
            return 200, tokens
        grant = self.grants.pop(form["code"], None)  # a code is good once
        digest = sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if grant is None or grant.challenge != challenge or grant.back != form["redirect_uri"]:
            return 400, {"error": "invalid_grant", "error_description": "canary of the provider"}
        self.redirects.append(form["redirect_uri"])
        tokens = self._tokens()
        tokens["id_token"] = self.last_id_token = self.id_token(grant)
        self.lies.tokens(tokens)
        return 200, tokens

    def _tokens(self) -> dict[str, object]:
        self._made += 1
        refresh = f"refresh-{self._made}"
        self.refresh.add(refresh)
        return {
            "access_token": f"access-{self._made}",
            "token_type": "Bearer",
            "expires_in": 3600,
            "refresh_token": refresh,
        }

    def _knows_us(self, headers: Mapping[str, str], form: dict[str, str]) -> bool:
        scheme, _, pair = headers.get("authorization", "").partition(" ")
        if scheme == "Basic":
            name, _, secret = base64.b64decode(pair).decode().partition(":")
            return (unquote_plus(name), unquote_plus(secret)) == (CLIENT, SECRET)
        return (form.get("client_id"), form.get("client_secret")) == (CLIENT, SECRET)

    def id_token(self, grant: Grant) -> str:
        now, key = int(time.time()), self.keys[-1]
        claims: dict[str, object] = {
            "iss": self.issuer,
            "sub": grant.subject,
            "aud": CLIENT,
            "exp": now + 300,
            "iat": now,
            "nonce": grant.nonce,
        }
        if self.session is not None:
            claims["sid"] = self.session
        if self.has_email:
            claims |= {"email": grant.email, "email_verified": True}
        self.lies.claims(claims)
        algorithm = "RS256" if isinstance(key, RSAKey) else "ES256"
        header: dict[str, object] = {"alg": algorithm, "kid": key.kid, "typ": "JWT"}
        self.lies.header(header)
        if self.lies.sign is not None:
            return self.lies.sign(header, claims)
        return signed(header, claims, key)

    def logout_token(self, **given: object) -> str:
        """Say that somebody left."""
        now, key = int(time.time()), self.keys[-1]
        self._made += 1
        claims: dict[str, object] = {
            "iss": self.issuer,
            "aud": CLIENT,
            "iat": now,
            "exp": now + 120,
            "jti": f"said-{self._made}",
            "events": {LOGOUT_EVENT: {}},
            "sub": self.subject,
            "sid": self.session,
            **given,
        }
        self.lies.logout(claims)
        header: dict[str, object] = {"alg": "RS256", "kid": key.kid, "typ": LOGOUT_TOKEN}
        self.lies.logout_header(header)
        if self.lies.sign is not None:
            return self.lies.sign(header, claims)
        return signed(header, {name: one for name, one in claims.items() if one is not None}, key)


def signed(
    header: dict[str, object], claims: dict[str, object], key: RSAKey | ECKey | OctKey
) -> str:
    """Sign claims, with whatever header."""
    registry = jws.JWSRegistry(algorithms=[str(header["alg"])], strict_check_header=False)
    return jws.serialize_compact(header, msgspec.json.encode(claims), key, registry=registry)


def unsigned(header: dict[str, object], claims: dict[str, object]) -> str:
    """A token with nothing behind its last dot."""
    parts = (base64.urlsafe_b64encode(msgspec.json.encode(one)) for one in (header, claims))
    return ".".join(part.decode().rstrip("=") for part in parts) + "."


@asynccontextmanager
async def open_provider(name: str = "example") -> AsyncIterator[LyingProvider]:
    """Open a provider on a free port of this machine."""
    provider = LyingProvider(name)
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        provider.port = listener.socket.getsockname()[1]

        async def serve(stream: trio.SocketStream) -> None:
            async with stream:
                try:
                    await _serve_one(provider, stream)
                except (trio.BrokenResourceError, h11.RemoteProtocolError):
                    pass  # whoever called has enough of it

        nursery.start_soon(trio.serve_listeners, serve, [listener])
        try:
            yield provider
        finally:
            nursery.cancel_scope.cancel()


async def _serve_one(provider: LyingProvider, stream: trio.SocketStream) -> None:
    connection, body = h11.Connection(h11.SERVER), bytearray()
    request: h11.Request | None = None
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(65_536))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            break
        else:
            return
    assert request is not None
    headers = {name.decode().lower(): value.decode() for name, value in request.headers}
    target = request.target.decode()
    path, lies = urlsplit(target).path, provider.lies
    provider.calls[path] += 1
    if path in lies.held:
        await lies.held[path].wait()
    status, said = provider.answer(request.method.decode(), target, headers, bytes(body))
    given: list[tuple[bytes, bytes]] = list(lies.headers.get(path, []))
    if status == 302:
        given.append((b"location", str(said).encode()))
    content = lies.body.get(path, msgspec.json.encode(said))
    status = lies.status.get(path, status)
    given += [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
    ]
    head = h11.Response(status_code=status, headers=given)
    await stream.send_all(connection.send(head) or b"")
    await stream.send_all(connection.send(h11.Data(data=content)) or b"")
    await stream.send_all(connection.send(h11.EndOfMessage()) or b"")


def query_of(url: str) -> dict[str, str]:
    """Call this for what is in the query of an address, each once."""
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
