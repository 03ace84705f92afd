"""The feed of the tabs Connections, Sign-ins and Sagas: each page is sent what its own session has.

Rule 1: with nobody looking at one of them there is no timer, and nothing is read (LAB-1, LAB-5).
Rule 2: once a second it is looked at, and sent where it is another than before.
Rule 3: only the own session's: a stream is asked for by its session, a sign-in by its member.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

import trio

from actors.accounts import Accounts, SignIn
from actors.persistence import KnownMail, MailStates, StoreError
from actors.runtime import Actor, message
from web.lab.demos.checkout.showing import saga_view
from web.lab.demos.checkout.visitors import Checkouts
from web.lab.panels.dropping import Connections
from web.lab.panels.open_now import OpenNow, socket_view, stream_view
from web.lab.sandbox.sandboxes import Sandboxes
from web.mail.words import address_digest
from web.realtime import Stream, joined, patch_elements
from web.server import SignedIn
from web.views import ConnectionView, LabMailView, LabSignInView, Renderer, element_id

PERIOD_S = 1.0
CONNECTIONS, SIGN_INS, SAGAS = "connections", "sign-ins", "sagas"
PANELS_OPEN = frozenset({CONNECTIONS, SIGN_INS, SAGAS})
# LAB-35 asks for 200 ms; a saga that runs changes some twenty times within one.
CHANGED_S = 0.1
# Those of a sign-in that went wrong, and some before.
MAILS_SHOWN = 5
# Of a digest as many signs as tell a few thousand apart.
DIGEST_SHOWN = 12


@dataclass(frozen=True, slots=True)
class OpenParts:
    """Where the feed looks."""

    sandboxes: Sandboxes
    connections: Connections
    open_now: OpenNow
    accounts: Accounts
    renderer: Renderer
    now: Callable[[], datetime]
    checkouts: Checkouts | None = None
    # What became of mails; none where nobody keeps it.
    mails: MailStates | None = None


@dataclass(frozen=True, slots=True)
class _Own:
    """What a member has: sign-ins, and mails to their address."""

    sign_ins: Sequence[SignIn]
    mails: Sequence[KnownMail] = ()


@message
class Wake:
    """Somebody looks at another tab."""


@message
class Changed:
    """A saga looks different."""


@message
class Look:
    """Time to look again."""


Messages = Wake | Changed | Look


class PanelsFeed(Actor[Messages]):
    """Sends the two tabs to who sees them."""

    def __init__(self, parts: OpenParts) -> None:
        self._parts = parts
        # What each page was sent last, by panel; and since when what is shown is open.
        self._sent: dict[Stream, dict[str, object]] = {}
        self._opened: dict[str, datetime] = {}
        self._is_soon = False

    def on_start(self) -> None:
        """Serve the pages of an incarnation before."""
        self.after(PERIOD_S, Look(), key="look")

    async def on_wake(self, _: Wake) -> None:
        """Look at once."""
        await self._look()

    def on_changed(self, _: Changed) -> None:
        """Look a moment later, once for all that changes by then."""
        if self._sent and not self._is_soon:
            self._is_soon = True
            self.after(CHANGED_S, Look(), key="look")

    async def on_look(self, _: Look) -> None:
        """Send what is another than before."""
        await self._look()

    async def _look(self) -> None:
        self._is_soon = False
        seen = {
            stream: viewer.panel
            for stream, viewer in self._parts.sandboxes.viewers.items()
            if viewer.panel in PANELS_OPEN
        }
        self._sent = {stream: self._sent.get(stream, {}) for stream in seen}
        if not seen:
            self._opened.clear()
            return
        self.after(PERIOD_S, Look(), key="look")
        shown: set[str] = set()
        known: dict[UUID, _Own | None] = {}
        for stream, panel in seen.items():
            if panel == CONNECTIONS:
                rows = self._connections(stream)
                shown.update(row.id for row in rows)
                render = partial(self._parts.renderer.lab_connections, rows)
                self._send(stream, panel, rows, render)
            elif panel == SAGAS:
                await self._send_sagas(stream)
            else:
                member = self._parts.open_now.member(stream)
                if member is not None and member.user_id not in known:
                    known[member.user_id] = await self._own(member.user_id)
                self._send_sign_ins(stream, member, known)
            # Each is a page of its own to draw: others have their turn between two of them.
            await trio.lowlevel.checkpoint()
        self._opened = {name: at for name, at in self._opened.items() if name in shown}

    def _connections(self, own: Stream) -> tuple[ConnectionView, ...]:
        parts, session = self._parts, own.key.session
        rows = [
            stream_view(
                one, own, parts.open_now.reconnects(one.key),
                self._since(str(one.key.tab), one.opened_at),
            )
            for one in parts.connections.streams.tabs(session)
        ]  # fmt: skip
        for socket in parts.connections.sockets_of(session):
            since = self._since(f"socket-{socket.number}", socket.opened_at)
            rows.append(socket_view(socket, since))
        return tuple(sorted(rows, key=lambda row: (not row.is_this, row.opened_at, row.id)))

    def _since(self, name: str, opened_at: float) -> datetime:
        # Taken once: two clocks compared again and again never give the same moment. A stream that
        # was opened anew under its name has another.
        ago = timedelta(seconds=trio.current_time() - opened_at)
        at = self._parts.now() - ago
        kept = self._opened.get(name)
        if kept is None or abs((kept - at).total_seconds()) > PERIOD_S / 2:
            kept = self._opened[name] = at
        return kept

    async def _own(self, user: UUID) -> _Own | None:
        accounts, states = self._parts.accounts, self._parts.mails
        try:
            sign_ins = await accounts.sign_ins(user)
            whose = None if states is None else await accounts.credentials_of(user)
            if states is None or whose is None:
                return _Own(sign_ins)
            digest = address_digest(whose.email)
            return _Own(sign_ins, await states.newest(MAILS_SHOWN, recipient=digest))
        except StoreError:
            return None  # what is shown stays; the next look asks again

    async def _send_sagas(self, stream: Stream) -> None:
        checkouts = self._parts.checkouts
        session = stream.key.session
        facts = [] if checkouts is None else await checkouts.facts(session)
        ahead_h = 0 if checkouts is None else checkouts.ahead_h(session)
        rows = tuple(map(saga_view, reversed(facts)))
        render = partial(self._parts.renderer.lab_sagas, rows, self._parts.now(), ahead_h)
        self._send(stream, SAGAS, (rows, ahead_h), render)

    def _send_sign_ins(
        self,
        stream: Stream,
        member: SignedIn | None,
        known: dict[UUID, _Own | None],
    ) -> None:
        if member is None:
            return  # the page tells guests how their cookie works, and is right as it is
        found = known[member.user_id]
        if found is None:
            return
        rows = tuple(
            LabSignInView(
                reference=element_id(str(one.reference)),
                browser=one.browser,
                created_at=one.created_at,
                seen_at=one.seen_at,
                streams=self._parts.open_now.streams_of(one.reference),
                is_this=one.reference == member.reference,
            )
            for one in found.sign_ins
        )
        mails = tuple(map(_mail_view, found.mails))
        render = partial(self._parts.renderer.lab_sign_ins, rows, mails)
        self._send(stream, SIGN_INS, (rows, mails), render)

    def _send(self, stream: Stream, panel: str, rows: object, render: Callable[[], str]) -> None:
        if not stream.is_open or self._sent[stream].get(panel) == rows:
            return
        self._sent[stream][panel] = rows
        stream.put_panel(f"lab-{panel}", joined([patch_elements(render())]))


def _mail_view(known: KnownMail) -> LabMailView:
    return LabMailView(
        recipient=element_id(known.mail.recipient.hex()[:DIGEST_SHOWN]),
        template=known.mail.template,
        state=known.state.value,
        reason=known.reason,
        changed_at=known.changed_at,
    )
