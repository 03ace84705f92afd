"""What is kept of an account, in memory; the twin of `storage/postgres/accounts/holdings.py`.

Of a membership the memory knows only what the audit of the chat says.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar
from uuid import UUID

from actors.accounts.holdings import (
    HELD_PAGE,
    Held,
    HeldAccount,
    HeldAct,
    HeldAddressChange,
    HeldApp,
    HeldChatAct,
    HeldDevice,
    HeldIdentity,
    HeldLogin,
    HeldMembership,
    HeldMessage,
    HeldPage,
    HeldPart,
    HeldPasskey,
    HeldProfile,
    HeldSession,
    HeldSignIn,
    HeldToken,
    check_held,
    message_place,
    parse_message_place,
    parse_place,
)
from actors.accounts.members import Role
from actors.chat import DEMO_USER_ID, ChatLogUnavailable, RoomName, Status
from actors.persistence import ERASED
from actors.persistence.words import check_uuid
from storage.errors import StoreUnavailable
from storage.memory.chat_log import AuditRow, MemoryChatLog
from storage.memory.database import DeviceRow, FactorsRow, LoginRow, SignInRow
from storage.memory.twin import Twin

R = TypeVar("R")


class MemoryHoldings(Twin):
    """The port `Holdings` on a `MemoryChatLog` and its database."""

    def __init__(self, log: MemoryChatLog) -> None:
        super().__init__(log.database)
        self._log = log

    async def account(self, user_id: UUID) -> HeldAccount | None:
        """See `Holdings.account`."""
        check_uuid("user_id", user_id)
        await self.pass_faults()
        database = self.database
        user = database.users.get(user_id)
        if user is None or user_id == DEMO_USER_ID:
            return None
        profile = HeldProfile(
            user_id,
            user.username,
            user.email,
            Role(user.role),
            user.created_at,
            None,
            user.email_verified_at,
            user.doubted_since,
        )
        sign_ins = sorted(
            (row.created_at, row.reference, row)
            for row in database.sign_ins.values()
            if row.user_id == user_id
        )
        joined = [row for row in self._acts(user_id) if row.action == "chat.room.join"]
        names = {room.id: name for name, room in self._log.rooms.items()}
        memberships = sorted((names[row.room_id], row.created_at) for row in joined)
        return HeldAccount(
            profile,
            tuple(_sign_in(row) for *_, row in sign_ins),
            tuple(HeldMembership(room, "member", at) for room, at in memberships),
            tuple(
                HeldPasskey(
                    one.id, one.name, one.added_at, one.used_at, one.is_backed_up, one.flagged_at
                )
                for one in database.passkeys.values()
                if one.user_id == user_id
            ),
            *self._factors(user_id),
            tuple(sorted(self._identities(user_id), key=lambda one: (one.linked_at, one.provider))),
            tuple(_device(one) for one in database.devices.values() if one.user_id == user_id),
            tuple(_login(one) for one in database.logins.values() if one.login.user_id == user_id),
            tuple(
                HeldAddressChange(one.former, one.email, one.asked_at, one.made_at)
                for one in database.address_changes.values()
                if one.user_id == user_id
            ),
            tuple(
                HeldToken(one.id, one.name, one.scopes, one.created_at, one.expires_at, one.used_at)
                for one in self.database.api_tokens.values()
                if one.user_id == user_id
            ),
        )

    def _factors(self, user_id: UUID) -> tuple[HeldApp | None, int]:
        row = self.database.factors.get(user_id, FactorsRow())
        app = None if row.totp is None else HeldApp(row.totp.added_at)
        return app, len(row.codes)

    def _identities(self, user_id: UUID) -> list[HeldIdentity]:
        return [
            HeldIdentity(
                row.provider, identity.issuer, identity.subject, row.linked_at, row.used_at
            )
            for identity, row in self.database.identities.items()
            if row.user_id == user_id
        ]

    async def page(
        self, user_id: UUID, part: HeldPart, *, after: str = "", limit: int = HELD_PAGE
    ) -> HeldPage:
        """See `Holdings.page`."""
        check_held(user_id, part, after, limit)
        await self.pass_faults()
        match part:
            case HeldPart.MESSAGES:
                return await self._messages(user_id, after, limit)
            case HeldPart.SESSIONS:
                ends = sorted(self.database.session_ends.items())
                found = [one for one in ends if user_id in one[1].members and one[0] > after]
                return _page(
                    found,
                    limit,
                    lambda one: one[0],
                    lambda one: HeldSession(one[1].ended_at, one[1].how),
                )
            case HeldPart.CHAT_ACTS:
                first = parse_place(after)
                acts = [row for row in self._acts(user_id) if row.id > first]
                return _page(
                    acts,
                    limit,
                    lambda row: str(row.id),
                    lambda row: HeldChatAct(row.created_at, row.action, row.metadata),
                )
            case HeldPart.ACTS:
                first = parse_place(after)
                done = [
                    row
                    for row in self.database.audit
                    if (row.kind, row.subject) == ("account", str(user_id)) and row.id > first
                ]
                return _page(
                    done,
                    limit,
                    lambda row: str(row.id),
                    lambda row: HeldAct(row.at, row.action, row.is_success),
                )

    async def _messages(self, user_id: UUID, after: str, limit: int) -> HeldPage:
        names: list[str] = sorted(self._log.rooms)
        room, client_id = parse_message_place(after, names)
        if room is None:
            return HeldPage((), None)
        try:
            written = await self._log.written_by(user_id, RoomName(room))
        except ChatLogUnavailable as error:
            raise StoreUnavailable(str(error)) from error
        messages = sorted(
            (
                one
                for one in written
                if one.client_id > client_id and one.status is not Status.REMOVED
            ),
            key=lambda one: one.client_id,
        )[:limit]
        held = tuple(
            HeldMessage(
                one.id,
                one.room,
                one.seq,
                one.status,
                one.client_id,
                one.created_at,
                None if one.body is ERASED else one.body,
            )
            for one in messages
        )
        if len(held) == limit:
            return HeldPage(held, message_place(room, held[-1].client_id))
        behind = names[names.index(room) + 1 :]
        return HeldPage(held, message_place(behind[0]) if behind else None)

    def _acts(self, user_id: UUID) -> list[AuditRow]:
        if user_id == DEMO_USER_ID:
            return []
        return [row for row in self._log.audit if row.actor_user_id == user_id]


def _sign_in(row: SignInRow) -> HeldSignIn:
    at = None if row.at_provider is None else row.at_provider[0]
    return HeldSignIn(
        row.reference,
        row.browser,
        row.created_at,
        row.seen_at,
        row.address,
        row.name,
        row.method,
        row.level,
        row.proven_at,
        row.device,
        row.is_limited,
        None if at is None else at.provider,
        None if at is None else at.session,
    )


def _device(row: DeviceRow) -> HeldDevice:
    return HeldDevice(
        row.id,
        row.browser,
        row.name,
        row.trust,
        row.logins,
        row.passkey,
        row.first_seen_at,
        row.seen_at,
    )


def _login(row: LoginRow) -> HeldLogin:
    login, past = row.login, row.past
    return HeldLogin(
        login.id,
        login.at,
        login.outcome,
        login.method,
        login.browser,
        login.country,
        past.latitude,
        past.longitude,
    )


def _page(
    found: Sequence[R], limit: int, place: Callable[[R], str], held: Callable[[R], Held]
) -> HeldPage:
    rows = found[:limit]
    return HeldPage(tuple(map(held, rows)), place(rows[-1]) if len(rows) == limit else None)
