"""A transfer: the source is debited, the target credited, or the debit is given back.

Between the two the money is in neither account: it is in flight, and the saga's log says so.
"""

from dataclasses import dataclass
from typing import Literal

from actors.persistence import Refusal
from actors.sagas import Saga, SagaState, Status, step
from docs.examples.banking.accounts import Credit, Debit, TakeBack, UndoDebit, amount_refusal

TransferStatus = Literal["initiated", "debited", "completed", "failed", "compensated"]


@dataclass(frozen=True)
class MoveMoney:
    transfer: str
    source: str
    target: str
    cents: int


class Transfer(Saga[MoveMoney]):
    debit = step(Debit, undo=UndoDebit)
    credit = step(Credit, undo=TakeBack)


def transfer_refusal(asked: MoveMoney) -> Refusal | None:
    """Call this before a transfer begins; what an account refuses ends the transfer itself."""
    if asked.source == asked.target:
        return Refusal("same-account", "A transfer is between two accounts.")
    return amount_refusal(asked.cents)


def status_of(state: SagaState) -> TransferStatus:
    """Call this for where a transfer stands, as a customer is told it."""
    if state.phase is Status.COMPLETED:
        return "completed"
    debit = state.step("debit")
    if state.phase is Status.FAILED:
        return "compensated" if debit.undo == "done" else "failed"
    return "debited" if debit.phase == "done" else "initiated"
