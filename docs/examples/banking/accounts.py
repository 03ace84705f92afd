"""One account: its commands, its events, and what is refused. Money is in whole cents.

Rule 1: a part of a transfer that comes twice is done once: an account remembers its transfers, each
as long as its stream does.
Rule 2: what is undone before it came is refused when it comes, and what was refused once stays so:
a command comes again after a crash, when its transfer may be over and the account full. So nobody
has to know whether a command is still on its way.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, assert_never

from actors.persistence import Aggregate, Decision, Refusal, event
from actors.reducers import Environment, Reply
from actors.sagas import command

HOLDER_CHARS_MAX = 100
# Ten thousand million in whole units: nine million such balances still fit 64 bits.
CENTS_MAX = 10**12


@dataclass(frozen=True)
class OpenAccount:
    holder: str


@dataclass(frozen=True)
class Deposit:
    cents: int


@dataclass(frozen=True)
class Withdraw:
    cents: int


@dataclass(frozen=True)
class CloseAccount:
    pass


# The parts of a transfer, as its saga sends them. An undo is told as much as what it undoes.


@command("accounts")
@dataclass(frozen=True)
class Debit:
    transfer: str
    source: str
    cents: int


@command("accounts")
@dataclass(frozen=True)
class UndoDebit:
    transfer: str
    source: str
    cents: int


@command("accounts")
@dataclass(frozen=True)
class Credit:
    transfer: str
    target: str
    cents: int


@command("accounts")
@dataclass(frozen=True)
class TakeBack:
    transfer: str
    target: str
    cents: int


@event()
@dataclass(frozen=True)
class AccountOpened:
    holder: str


@event()
@dataclass(frozen=True)
class MoneyDeposited:
    cents: int
    transfer: str = ""


@event()
@dataclass(frozen=True)
class MoneyWithdrawn:
    cents: int
    transfer: str = ""


@event()
@dataclass(frozen=True)
class TransferVoided:
    """A transfer was undone before its command came, which is refused from now on."""

    transfer: str


@event()
@dataclass(frozen=True)
class TransferRefused:
    """A part of a transfer was refused, for good."""

    transfer: str
    reason: str


@event()
@dataclass(frozen=True)
class AccountClosed:
    pass


Part = Literal["debited", "credited", "undone", "refused"]


@dataclass(frozen=True)
class Account:
    holder: str = ""
    cents: int = 0
    is_open: bool = False
    transfers: Mapping[str, Part] = field(default_factory=dict)
    refusals: Mapping[str, str] = field(default_factory=dict)  # why, by the transfers refused


PartCommand = Debit | UndoDebit | Credit | TakeBack
Command = OpenAccount | Deposit | Withdraw | CloseAccount | PartCommand
Moved = MoneyDeposited | MoneyWithdrawn | TransferVoided | TransferRefused
Happened = AccountOpened | AccountClosed | Moved


class Accounts(Aggregate[Account, Command, Happened]):
    category, state_type = "account", Account

    def initial(self) -> Account:
        return Account()

    def decide(self, state: Account, command: Command, env: Environment) -> Decision[Happened]:
        match command:
            case OpenAccount(holder):
                return _open(state, holder.strip())
            case UndoDebit() | TakeBack():
                return _undo(state, command)
            case Debit() | Credit() if command.transfer in state.transfers:
                return _again(state, command.transfer)
            case CloseAccount() if state.cents and state.is_open:
                return Refusal("not-empty", "There is money in the account.")
            case CloseAccount():
                return _not_there(state) or [AccountClosed()]
            case Deposit(cents):
                return _why_not(state, cents) or [MoneyDeposited(cents)]
            case Credit(transfer, _, cents):
                refused = _why_not(state, cents)
                return [_part(refused, transfer) or MoneyDeposited(cents, transfer)]
            case Withdraw(cents):
                return _why_not_out(state, cents) or [MoneyWithdrawn(cents)]
            case Debit(transfer, _, cents):
                refused = _why_not_out(state, cents)
                return [_part(refused, transfer) or MoneyWithdrawn(cents, transfer)]
        assert_never(command)

    def apply(self, state: Account, event: Happened) -> Account:
        match event:
            case AccountOpened(holder):
                return replace(state, holder=holder, is_open=True)
            case AccountClosed():
                return replace(state, is_open=False)
            case MoneyDeposited(cents, transfer):
                part: Part = "undone" if transfer in state.transfers else "credited"
                return _moved(state, cents, transfer, part)
            case MoneyWithdrawn(cents, transfer):
                part = "undone" if transfer in state.transfers else "debited"
                return _moved(state, -cents, transfer, part)
            case TransferVoided(transfer):
                return _moved(state, 0, transfer, "undone")
            case TransferRefused(transfer, reason):
                refusals = {**state.refusals, transfer: reason}
                return replace(_moved(state, 0, transfer, "refused"), refusals=refusals)
        assert_never(event)


def amount_refusal(cents: int) -> Refusal | None:
    """Call this to see whether an amount can be moved."""
    if cents <= 0:
        return Refusal("amount", "An amount is more than nothing.")
    if cents > CENTS_MAX:
        return Refusal("amount", f"An amount is at most {CENTS_MAX} cents.")
    return None


def _open(state: Account, holder: str) -> Decision[AccountOpened]:
    if state.holder:
        return Refusal("exists", "There is an account of this name already.")
    if not holder:
        return Refusal("holder", "An account needs a holder.")
    if len(holder) > HOLDER_CHARS_MAX:
        return Refusal("holder", f"A holder has at most {HOLDER_CHARS_MAX} characters.")
    return [AccountOpened(holder)]


def _not_there(state: Account) -> Refusal | None:
    if not state.holder:
        return Refusal("unknown", "There is no such account.")
    if not state.is_open:
        return Refusal("closed", "The account is closed.")
    return None


def _why_not(state: Account, cents: int) -> Refusal | None:
    return _not_there(state) or amount_refusal(cents)


def _why_not_out(state: Account, cents: int) -> Refusal | None:
    if refused := _why_not(state, cents):
        return refused
    if cents > state.cents:
        return Refusal("funds", "There is too little money in the account.")
    return None


def _part(refused: Refusal | None, transfer: str) -> TransferRefused | None:
    return None if refused is None else TransferRefused(transfer, refused.message)


def _again(state: Account, transfer: str) -> Decision[Happened]:
    """Answer a part of a transfer that came before as it was answered then."""
    match state.transfers[transfer]:
        case "refused":
            return Reply(TransferRefused(transfer, state.refusals[transfer]))
        case "undone":
            return Refusal("undone", "The transfer was taken back.")
        case "debited" | "credited":
            return []


def _undo(state: Account, command: UndoDebit | TakeBack) -> Decision[Happened]:
    """Also where the account was closed meanwhile: money that came from it goes back to it."""
    match state.transfers.get(command.transfer):
        case None:
            return [TransferVoided(command.transfer)]
        case "undone" | "refused":
            return []
        case "debited":
            return [MoneyDeposited(command.cents, command.transfer)]
        case "credited" if command.cents > state.cents:
            return Refusal("funds", "The money was spent meanwhile.")
        case "credited":
            return [MoneyWithdrawn(command.cents, command.transfer)]


def _moved(state: Account, cents: int, transfer: str, part: Part) -> Account:
    transfers = {**state.transfers, transfer: part} if transfer else state.transfers
    return replace(state, cents=state.cents + cents, transfers=transfers)
