"""What each of the six panels finds out about the request that asks it (SITE-106).

Rule: a panel shows only what the asking visitor may know of themselves, by fixed words and masked:
no token, no whole address, nothing of anybody else. What it may be asked with is a closed set.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Final, TypeAlias

import msgspec
import trio

from actors.accounts import SIGN_IN_IDLE, SIGN_IN_KEPT, Accounts, Member, browser_family
from actors.chat import BadPost, ChatLog, RoomName, UnknownRoom
from actors.chat.policy import parse_body, parse_client_id
from web.realtime import Stream
from web.server import RequestState, masked

Rows: TypeAlias = tuple[tuple[str, str], ...]

# Both are reserved: nobody can register them, so the answer tells of nobody (SEC-77).
ADDRESSES: Final = ("demo@example.com", "missing@example.com")


@dataclass(frozen=True, slots=True)
class Asked:
    """The request a panel is asked by: who, with what, and from which kind of program."""

    state: RequestState
    member: Member | None
    choice: str
    method: str
    user_agent: str
    tabs: tuple[Stream, ...]


@dataclass(frozen=True, slots=True)
class PanelParts:
    """What the panels look at; `now` is the wall clock."""

    accounts: Accounts
    chat_log: ChatLog
    now: Callable[[], datetime]


Find: TypeAlias = Callable[[PanelParts, Asked], Awaitable[Rows]]


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: its title, who finds out, and what it can be asked with, if with anything."""

    title: str
    find: Find
    choices: tuple[str, ...] = ()


async def _ping(parts: PanelParts, asked: Asked) -> Rows:
    return (("server time", _instant(parts.now())),)


async def _auth_status(parts: PanelParts, asked: Asked) -> Rows:
    member = asked.member
    if member is None:
        return (("signed in", "no: a guest"),)
    mine = await parts.accounts.sign_ins(member.user_id)
    own = next((one for one in mine if one.reference == member.reference), None)
    if own is None:
        # Ended in this very moment, by another tab or its owner elsewhere.
        return (("signed in", "no more"),)
    expiry = min(own.created_at + SIGN_IN_KEPT, own.seen_at + SIGN_IN_IDLE)
    return (
        ("username", member.username),
        ("since", _instant(own.created_at)),
        ("expires, if unused", _instant(expiry)),
    )


async def _session_status(parts: PanelParts, asked: Asked) -> Rows:
    visitor = asked.state.visitor
    # Not the beginning of the id itself, which names the session to all of the site.
    reference = blake2b(visitor.id.bytes, digest_size=4, person=b"gr-reference").hexdigest()
    return (
        ("reference", reference),
        ("kept by this browser", "not yet" if visitor.is_new else "yes"),
        ("expires", "when the browser is closed"),
        ("open tabs", str(len(asked.tabs))),
    )


async def _request_meta(parts: PanelParts, asked: Asked) -> Rows:
    return (
        ("request id", asked.state.request_id),
        ("method", asked.method),
        ("address, masked", masked(asked.state.address)),
        ("browser", browser_family(asked.user_agent)),
    )


async def _db_check(parts: PanelParts, asked: Asked) -> Rows:
    began = trio.current_time()
    found = await parts.accounts.credentials(asked.choice)
    took_ms = (trio.current_time() - began) * 1000
    return (
        ("address", asked.choice),
        ("account", "none that can sign in" if found is None else "one"),
        ("took", f"{took_ms:.2f} ms"),
    )


# -- the boundaries of a post ------------------------------------------------------------------


class _Sample(msgspec.Struct, frozen=True):
    """A post, as the page sends it, and the room it is for."""

    room: str
    body: str = msgspec.field(name="chatDraftBody")
    client_id: str = msgspec.field(name="clientId")


_LAYERS: Final = ("form", "command", "domain", "storage")
_FINE: Final = {"room": "Lobby", "chatDraftBody": "A line of text.", "clientId": "sample"}
_SAMPLES: Final[Mapping[str, bytes]] = {
    "a fine post": msgspec.json.encode(_FINE),
    "cut in the middle": msgspec.json.encode(_FINE)[:30],
    "a number for a text": msgspec.json.encode({**_FINE, "chatDraftBody": 7}),
    "nothing but blanks": msgspec.json.encode({**_FINE, "chatDraftBody": " \n "}),
    "a room that is not there": msgspec.json.encode({**_FINE, "room": "Cellar"}),
}


async def _boundary_check(parts: PanelParts, asked: Asked) -> Rows:
    """Lead a post through the layers of a real one, to the store's look at its room; it is not
    kept."""
    passed, refusal = await _led_through(parts, _SAMPLES[asked.choice])
    rows = [(layer, "passed" if at < passed else "not asked") for at, layer in enumerate(_LAYERS)]
    if refusal is None:
        return (*rows, ("refused by", "nobody; nothing was stored"))
    layer = _LAYERS[passed]
    rows[passed] = (layer, f"refused: {refusal}")
    return (*rows, ("refused by", layer))


async def _led_through(parts: PanelParts, raw: bytes) -> tuple[int, str | None]:
    """Give how many layers it passed, and why the next one refused it."""
    try:
        fields = msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        return 0, str(error)
    try:
        sample = msgspec.convert(fields, _Sample)
    except msgspec.ValidationError as error:
        return 1, str(error)
    try:
        parse_body(sample.body)
        parse_client_id(sample.client_id)
    except BadPost as error:
        return 2, str(error)
    try:
        await parts.chat_log.head(RoomName(sample.room))
    except UnknownRoom as error:
        return 3, str(error)
    return 4, None


PANELS: Final[Mapping[str, Panel]] = {
    "ping": Panel("Ping", _ping),
    "auth-status": Panel("Who am I", _auth_status),
    "session-status": Panel("Session", _session_status),
    "request-meta": Panel("Request", _request_meta),
    "boundary-check": Panel("Boundaries", _boundary_check, tuple(_SAMPLES)),
    "db-check": Panel("Database", _db_check, ADDRESSES),
}


async def find(parts: PanelParts, name: str, asked: Asked) -> Rows:
    """Call this to ask a panel; its name and the choice were checked.

    Raises `StoreUnavailable` and its kin.
    """
    return await PANELS[name].find(parts, asked)


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
