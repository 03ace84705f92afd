"""Who a browser is before anyone signs in, and the proof that a form is its own.

A browser's name is a signed random id in a cookie (SITE-43). A cookie with a bad signature counts
as none. The id keys the session actor; it is no proof of a sign-in.

Read from below: keys, one for each purpose; cookies, by name and mode; the visitor; CSRF tokens.
All pure, but for the random bytes. `edge.py` sets the headers.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from actors.runtime import Secret
from web.server.errors import CookieTooLong, SecretTooShort

# -- keys: what is signed here was made here -----------------------------------------------

# 256 bits of entropy are enough for HMAC-SHA256; the site asks for 64 bytes (SEC-125).
SECRET_BYTES_MIN = 32


class Key:
    """Signs and verifies for one purpose. Its repr and str show no key material."""

    __slots__ = ("_begun", "_previous", "purpose")

    def __init__(
        self, purpose: str, material: Secret[bytes], previous: Secret[bytes] | None
    ) -> None:
        self.purpose, self._begun = purpose, _begun(material)
        self._previous = None if previous is None else _begun(previous)

    def __repr__(self) -> str:
        return f"<Key for {self.purpose}>"

    def sign(self, data: bytes) -> bytes:
        """Call this to get the 32 bytes that prove `data` came from here."""
        return _hmac(self._begun, data)

    def verifies(self, data: bytes, signature: bytes) -> bool:
        """Call this to check a signature in constant time, by the current or previous secret."""
        if hmac.compare_digest(self.sign(data), signature):
            return True
        if self._previous is None:
            return False
        return hmac.compare_digest(_hmac(self._previous, data), signature)


# The two hashes of RFC 2104 as they are behind the key; hashed anew, it would be most of the work.
_Begun = tuple["hashlib._Hash", "hashlib._Hash"]
_BLOCK_BYTES = 64
_INNER, _OUTER = bytes(n ^ 0x36 for n in range(256)), bytes(n ^ 0x5C for n in range(256))


def _begun(key: Secret[bytes]) -> _Begun:
    material = key.reveal()
    if len(material) > _BLOCK_BYTES:
        material = hashlib.sha256(material).digest()
    block = material.ljust(_BLOCK_BYTES, b"\0")
    return hashlib.sha256(block.translate(_INNER)), hashlib.sha256(block.translate(_OUTER))


def _hmac(begun: _Begun, data: bytes) -> bytes:
    inner, outer = begun[0].copy(), begun[1].copy()
    inner.update(data)
    outer.update(inner.digest())
    return outer.digest()


class KeyRing:
    """Derives a `Key` for each purpose from the secrets (SITE-181).

    The current secret signs; it and the previous one verify, so a secret can be rotated without
    signing everyone out. Raises `SecretTooShort` at construction.
    """

    __slots__ = ("_previous", "_secret")

    def __init__(self, secret: Secret[bytes], previous: Secret[bytes] | None = None) -> None:
        for given in (secret, previous):
            if given is not None and len(given.reveal()) < SECRET_BYTES_MIN:
                raise SecretTooShort(len(given.reveal()), SECRET_BYTES_MIN)
        self._secret, self._previous = secret, previous

    def __repr__(self) -> str:
        return "<KeyRing>"

    def key(self, purpose: str) -> Key:
        """Call this to get the key for `purpose`; the same words give the same key for ever."""
        previous = None if self._previous is None else _derive(self._previous, purpose)
        return Key(purpose, _derive(self._secret, purpose), previous)


def _derive(secret: Secret[bytes], purpose: str) -> Secret[bytes]:
    # One key a purpose: what is signed as one thing can never be shown as another.
    return Secret(hmac.digest(secret.reveal(), b"greenroom/" + purpose.encode(), hashlib.sha256))


# -- cookies (SEC-10, SEC-11) -----------------------------------------------------------------

# What every browser keeps of one cookie, name and value together (SEC-10).
COOKIE_BYTES_MAX = 4096


def cookie_name(word: str, *, is_https: bool) -> str:
    """Call this with `visitor`, `auth`, `flow` or `device` to get the name in this mode."""
    return f"__Host-gr_{word}" if is_https else f"gr_{word}"


def set_cookie(
    name: str, value: str, *, is_https: bool, max_age_s: int | None = None
) -> tuple[bytes, bytes]:
    """Call this to get the header that sets a cookie; `max_age_s` None lasts for the session.

    Raises `CookieTooLong` over 4096 bytes and ValueError on characters a cookie cannot hold.
    """
    size = len(name) + len(value)
    if size > COOKIE_BYTES_MAX:
        raise CookieTooLong(name, size, COOKIE_BYTES_MAX)
    if not all("!" <= sign <= "~" and sign not in '",;\\' for sign in value):
        raise ValueError(f"the value of cookie {name} holds a character cookies cannot")
    parts = [f"{name}={value}", "Path=/", "HttpOnly", "SameSite=Lax"]
    if is_https:
        parts.append("Secure")
    if max_age_s is not None:
        parts.append(f"Max-Age={max_age_s}")
    return b"set-cookie", "; ".join(parts).encode("ascii")


def expire_cookie(name: str, *, is_https: bool) -> tuple[bytes, bytes]:
    """Call this to get the header that makes the browser forget a cookie."""
    return set_cookie(name, "", is_https=is_https, max_age_s=0)


def read_cookies(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Call this with a request's headers; of repeated names the first counts."""
    found: dict[str, str] = {}
    for name, value in headers:
        if name.lower() != b"cookie":
            continue
        for pair in value.decode("latin-1").split(";"):
            key, mark, content = pair.strip().partition("=")
            if mark and key not in found:
                found[key] = content
    return found


# -- the visitor --------------------------------------------------------------------------------


class Visitor:
    """The browser of one request. `rotate` when someone signs in or out (SEC-13).

    Without an id it is new, and gets one when somebody asks for it: a probe never does.
    """

    __slots__ = ("_id", "_text", "is_new", "must_be_set")

    def __init__(self, visitor_id: uuid.UUID | None, *, is_new: bool) -> None:
        self._id = visitor_id
        # Of which id, and what it is as a text: asked for several times a request.
        self._text: tuple[uuid.UUID | None, str] = (None, "")
        self.is_new = is_new
        self.must_be_set = False

    @property
    def id(self) -> uuid.UUID:
        """Tell which browser this is; the same at every look."""
        if self._id is None:
            self._id = uuid.uuid4()
        return self._id

    @property
    def text(self) -> str:
        """Tell the same as a text."""
        visitor_id = self.id
        if self._text[0] is not visitor_id:
            self._text = visitor_id, str(visitor_id)
        return self._text[1]

    def adopt(self, visitor_id: uuid.UUID) -> None:
        """Call this when a sign-in says which browser this is: it goes by that id from now on."""
        if self._id != visitor_id:
            self._id = visitor_id
            self.is_new, self.must_be_set = False, True

    def rotate(self) -> uuid.UUID:
        """Call this to give the browser another id with this answer; returns the new one."""
        self._id = uuid.uuid4()
        self.is_new = self.must_be_set = True
        return self._id


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who is signed in on the browser of a request; `reference` names the sign-in, and opens none.

    `role` is what they may do, in the words of whoever told (`WebApp`, `identify`).
    """

    user_id: uuid.UUID
    name: str
    role: str
    reference: uuid.UUID
    # What an API token was made for; None for a sign-in, which may all that its member may.
    scopes: frozenset[str] | None = None


_ID_BYTES = 16
# As `base64` does it, without two functions around it: read once a request.
_FROM_URL = bytes.maketrans(b"-_", b"+/")


class VisitorSigner:
    """Turns ids into cookie values and back; a `purpose` of its own for another cookie."""

    __slots__ = ("_key",)

    def __init__(self, ring: KeyRing, purpose: str = "visitor cookie") -> None:
        self._key: Key = ring.key(purpose)

    def value(self, visitor_id: uuid.UUID) -> str:
        """Call this to get the cookie value of an id."""
        return f"{visitor_id.hex}.{_text(self._key.sign(visitor_id.bytes))}"

    def maybe_visitor_id(self, value: str) -> uuid.UUID | None:
        """Call this with what the browser sent; None unless it was signed here."""
        name, _, signature = value.partition(".")
        try:
            number = bytes.fromhex(name)
            padded = signature.encode("ascii") + b"=" * (-len(signature) % 4)
            given = binascii.a2b_base64(padded.translate(_FROM_URL))
        except (ValueError, binascii.Error):
            return None
        # The spelling counts too: one id is written in one way.
        if len(number) != _ID_BYTES or name != number.hex():
            return None
        return uuid.UUID(bytes=number) if self._key.verifies(number, given) else None


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


# -- CSRF tokens, for browsers that tell neither origin nor site (SEC-32) ----------------------

_SIZE = 32


class CsrfTokens:
    """Makes and checks tokens under a key of their own.

    A token proves that the page was rendered for this visitor and sign-in.
    """

    __slots__ = ("_key",)

    def __init__(self, ring: KeyRing) -> None:
        self._key = ring.key("csrf token")

    def make(self, visitor: uuid.UUID, sign_in: str = "") -> str:
        """Call this once a form; `sign_in` is the auth session's reference, empty for guests."""
        # Masked with fresh bytes each time: a page that is compressed never holds the same secret
        # twice, so its length tells nothing about it (the BREACH attack).
        mask = secrets.token_bytes(_SIZE)
        proof = self._key.sign(_subject(visitor, sign_in))
        return base64.urlsafe_b64encode(mask + _xor(mask, proof)).decode("ascii")

    def verifies(self, token: str, visitor: uuid.UUID, sign_in: str = "") -> bool:
        """Call this with the field or header a request brought; never raises."""
        try:
            raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        except (binascii.Error, UnicodeEncodeError):
            return False
        if len(raw) != 2 * _SIZE:
            return False
        proof = _xor(raw[:_SIZE], raw[_SIZE:])
        return self._key.verifies(_subject(visitor, sign_in), proof)


def _subject(visitor: uuid.UUID, sign_in: str) -> bytes:
    return visitor.bytes + sign_in.encode()


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))
