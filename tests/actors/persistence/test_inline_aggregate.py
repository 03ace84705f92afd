"""An aggregate whose append an inline projection refuses."""

import pytest

from actors.persistence import (
    AggregateActor,
    Done,
    InlineProjectionFailed,
    Projection,
    ProjectionTx,
    StoredEvent,
    ask_state,
    execute,
)
from actors.runtime import open_actors
from storage.memory import MemoryEventStore
from tests.actors.persistence.accounts import (
    TYPES,
    Account,
    Balance,
    Command,
    Deposit,
    Deposited,
    Withdrawn,
    environment,
)


class AtMostTen(Projection):
    """No deposit above ten, in any account."""

    name = "at_most_ten"
    handles = (Deposited,)
    types = TYPES
    inline = True

    async def apply(self, event: StoredEvent, tx: ProjectionTx) -> None:
        deposited = self.types.decode(event)
        assert isinstance(deposited, Deposited)
        if deposited.amount > 10:
            raise ValueError("more than ten")


async def test_a_refused_append_is_an_answer_and_the_aggregate_lives_on() -> None:
    # PROJ-9
    store = MemoryEventStore(inline=[AtMostTen()])

    def make() -> AggregateActor[Balance, Command, Deposited | Withdrawn]:
        return AggregateActor(Account(), "1", store, environment())

    async with open_actors() as system:
        ref = await system.start(make)
        assert isinstance(await execute(ref, Deposit(5)), Done)
        with pytest.raises(InlineProjectionFailed, match="more than ten"):
            await execute(ref, Deposit(11))
        assert isinstance(await execute(ref, Deposit(2)), Done)
        assert await ask_state(ref) == (2, Balance(7, 2))
