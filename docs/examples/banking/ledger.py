"""What the page shows: accounts and transfers as rows, written in the append of each event.

So a page that is rendered after an answer shows what was answered. The rows of transfers have keys
that begin with the newest, see `transfer_name`.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from actors.persistence import Projection, ProjectionStore, ProjectionTx, StoredEvent
from actors.persistence import inline_collection as collection
from actors.sagas import SagaId
from actors.sagas.words.log import SagaCompleted, SagaFailed, SagaStarted, StepSucceeded
from docs.examples.banking.accounts import (
    AccountClosed,
    AccountOpened,
    MoneyDeposited,
    MoneyWithdrawn,
)
from docs.examples.banking.transfers import MoveMoney, Transfer, TransferStatus

# A page of them; the ledger keeps all.
ACCOUNTS_SHOWN = 200
TRANSFERS_SHOWN = 10
# After the year 2286 names would sort the other way.
_LAST_MS = 10**13

_ACCOUNT, _TRANSFER = "account/", "transfer/"


class AccountRow(msgspec.Struct, frozen=True):
    name: str
    holder: str
    cents: int = 0
    is_open: bool = True


class TransferRow(msgspec.Struct, frozen=True):
    source: str
    target: str
    cents: int
    status: TransferStatus = "initiated"
    reason: str = ""


def transfer_name(at: datetime, one: UUID) -> str:
    """Call this for the name of a transfer that begins now: later ones come first in the order."""
    return f"{_LAST_MS - int(at.timestamp() * 1000):013d}-{one.hex[:12]}"


class Ledger(Projection):
    name = "bank_ledger"
    inline = True
    handles = (
        AccountOpened,
        MoneyDeposited,
        MoneyWithdrawn,
        AccountClosed,
        SagaStarted,
        StepSucceeded,
        SagaCompleted,
        SagaFailed,
    )

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        kind, _, name = event.stream_id.partition("-")
        if kind == "account":
            await self._of_account(name, self.types.decode(event), tx)
        elif kind == Transfer.definition().kind:
            await self._of_transfer(name, self.types.decode(event), tx)

    async def _of_account(self, name: str, happened: object, tx: ProjectionTx) -> None:
        key = f"{_ACCOUNT}{name}"
        kept = await tx.get(key)
        row = AccountRow(name, "") if kept is None else msgspec.convert(kept, AccountRow)
        match happened:
            case AccountOpened(holder):
                row = AccountRow(name, holder)
            case MoneyDeposited(cents):
                row = msgspec.structs.replace(row, cents=row.cents + cents)
            case MoneyWithdrawn(cents):
                row = msgspec.structs.replace(row, cents=row.cents - cents)
            case AccountClosed():
                row = msgspec.structs.replace(row, is_open=False)
        tx.put(key, msgspec.to_builtins(row))

    async def _of_transfer(self, name: str, happened: object, tx: ProjectionTx) -> None:
        key = f"{_TRANSFER}{name}"
        if isinstance(happened, SagaStarted):
            asked = msgspec.convert(happened.data, MoveMoney)
            row = TransferRow(asked.source, asked.target, asked.cents)
        else:
            row = _after(msgspec.convert(await tx.get(key), TransferRow), happened)
        tx.put(key, msgspec.to_builtins(row))


def _after(row: TransferRow, happened: object) -> TransferRow:
    match happened:
        case StepSucceeded(step="debit"):
            return msgspec.structs.replace(row, status="debited")
        case SagaCompleted():
            return msgspec.structs.replace(row, status="completed")
        case SagaFailed(reason):
            status: TransferStatus = "compensated" if row.status == "debited" else "failed"
            return msgspec.structs.replace(row, status=status, reason=reason)
    return row


async def accounts(rows: ProjectionStore) -> Sequence[AccountRow]:
    """Call this for the accounts by their names, at most `ACCOUNTS_SHOWN`."""
    found = await rows.query(collection(Ledger()), prefix=_ACCOUNT, limit=ACCOUNTS_SHOWN)
    return [msgspec.convert(document, AccountRow) for _, document in found]


async def transfers(rows: ProjectionStore) -> Sequence[TransferRow]:
    """Call this for the newest transfers, at most `TRANSFERS_SHOWN`."""
    found = await rows.query(collection(Ledger()), prefix=_TRANSFER, limit=TRANSFERS_SHOWN)
    return [msgspec.convert(document, TransferRow) for _, document in found]


def transfer_id(name: str) -> SagaId:
    """Call this for the saga of a transfer's name."""
    return SagaId.of(Transfer.definition().kind, name)
