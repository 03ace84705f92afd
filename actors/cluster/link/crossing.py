"""What crosses to other nodes as a message or a reply, and how: registered classes, strictly read.

Rule: a class is found by the name and version under which this program has registered it, and in
no other way. A name that came from outside is looked up, never imported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, cast, get_origin

import msgspec

from actors.cluster.link.words import (
    BODY_BYTES_MAX,
    MessageTooLarge,
    NotRemote,
    Refused,
    RefusedReason,
)
from actors.runtime import AnyRef, Ref
from actors.runtime.life.handlers import reply_type
from actors.runtime.words.messages import REMOTE

# Made once for a type that a class of this program promises; classes are few.
_Decode = Callable[[bytes], object]
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError)


class NotKnown(Exception):
    """Raised for a name and version under which nothing is registered here."""


class Crossing:
    """Bytes of messages and replies; `ref_of` makes the ref that a kind and id stand for."""

    def __init__(self, ref_of: Callable[[str, str], AnyRef]) -> None:
        self._ref_of = ref_of
        self._encoder = msgspec.msgpack.Encoder(enc_hook=_plain_ref)
        self._names: dict[type, tuple[str, int]] = {}
        self._decoders: dict[tuple[str, int], _Decode] = {}
        self._replies: dict[type, _Decode] = {}

    def __repr__(self) -> str:
        return f"<Crossing: {len(REMOTE)} classes may cross, {len(self._names)} did>"

    def written(self, path: str | Sequence[str], message: object) -> tuple[str, int, bytes]:
        """Call this for name, version and bytes of a message; `path`, or its parts, is for errors.

        Raises `NotRemote` for a class that is not registered or cannot be written, and
        `MessageTooLarge`.
        """
        kind = type(message)
        named = self._names.get(kind) or self._named(_whole(path), kind)
        try:
            body = self._encoder.encode(message)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise NotRemote(_whole(path), kind, str(error)) from None
        if len(body) > BODY_BYTES_MAX:
            raise MessageTooLarge(len(body), path=_whole(path))
        return named[0], named[1], body

    def _named(self, path: str, kind: type) -> tuple[str, int]:
        # The newest version of a class that is registered under several.
        found = [named for named, cls in REMOTE.items() if cls is kind]
        if not found:
            raise NotRemote(path, kind, "its class is not registered for that")
        named = max(found, key=lambda one: one[1])
        self._decoder(named, kind)
        self._names[kind] = named
        return named

    def _decoder(self, named: tuple[str, int], kind: type) -> _Decode:
        decode = self._decoders.get(named)
        if decode is None:
            try:
                decode = msgspec.msgpack.Decoder(kind, dec_hook=self._ref).decode
            except (TypeError, NameError) as error:
                raise NotRemote("", kind, str(error)) from None
            self._decoders[named] = decode
        return decode

    def read(self, name: str, version: int, body: bytes) -> object:
        """Call this for a message that came; gives a `Refused` for a body that is none.

        Raises `NotKnown` when nothing is registered under that name and version.
        """
        named = name, version
        decode = self._decoders.get(named)
        if decode is None:
            kind = REMOTE.get(named)
            if kind is None:
                raise NotKnown
            try:
                decode = self._decoder(named, kind)
            except NotRemote:
                raise NotKnown from None
        return _read(decode, body)

    def written_reply(self, value: object) -> bytes:
        """Call this for the bytes of a reply; raises `NotRemote` and `MessageTooLarge`."""
        try:
            body = self._encoder.encode(value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise NotRemote("the asker", type(value), str(error)) from None
        if len(body) > BODY_BYTES_MAX:
            raise MessageTooLarge(len(body))
        return body

    def read_reply(self, kind: type, body: bytes) -> object:
        """Call this for a reply to a message of a class; gives a `Refused` for what is none."""
        decode = self._replies.get(kind)
        if decode is None:
            promised = reply_type(kind)
            try:
                decode = msgspec.msgpack.Decoder(
                    object if promised is None else promised, dec_hook=self._ref
                ).decode
            except (TypeError, NameError) as error:
                return Refused(RefusedReason.BODY, f"no reply can be read as {promised}: {error}")
            self._replies[kind] = decode
        return _read(decode, body)

    def _ref(self, kind: type, raw: object) -> object:
        origin = get_origin(kind) or kind
        named = cast("list[object]", raw) if isinstance(raw, list) else []
        match named:
            case [str() as actor_kind, str() as id_] if issubclass(origin, Ref):
                return self._ref_of(actor_kind, id_)
            case _:
                raise ValueError("is no ref of an actor")


def _whole(path: str | Sequence[str]) -> str:
    return path if isinstance(path, str) else "/".join(path)


def _read(decode: _Decode, body: bytes) -> object:
    try:
        return decode(body)
    except _UNREADABLE as error:
        return Refused(RefusedReason.BODY, type(error).__name__)


def _plain_ref(value: object) -> object:
    """A ref crosses as the kind and id of its actor; of a local one nobody else could make use."""
    crosses = getattr(value, "crosses_as", None)
    if isinstance(value, Ref) and isinstance(crosses, tuple):
        return list(crosses)
    raise TypeError(f"a {type(value).__qualname__} does not cross")
