"""What a purse decides, and what it keeps; green when it is written."""

import trio
from purse import Earn, Earned, Purse, Spend, Spent

from actors.persistence import AggregateActor, Refusal, ask_state, execute
from actors.runtime import open_actors
from actors.testing import fixed_environment
from storage.memory import MemoryEventStore

ENV = fixed_environment()


def test_what_is_earned_is_in_it() -> None:
    assert Purse().decide(0, Earn(500), ENV) == [Earned(500)]
    assert Purse().apply(200, Earned(500)) == 700


def test_no_more_is_spent_than_there_is() -> None:
    assert Purse().decide(500, Spend(500), ENV) == [Spent(500)]
    assert Purse().apply(700, Spent(500)) == 200
    refused = Purse().decide(500, Spend(501), ENV)
    assert isinstance(refused, Refusal)
    assert refused.code == "too_little"


def test_an_amount_of_nothing_is_refused() -> None:
    for command in (Earn(0), Spend(0), Earn(-5), Spend(-5)):
        refused = Purse().decide(500, command, ENV)
        assert isinstance(refused, Refusal)
        assert refused.code == "no_amount"


def test_it_outlives_its_process() -> None:
    store = MemoryEventStore()

    async def live(*commands: Earn | Spend) -> object:
        async with open_actors() as system:
            purse = await system.start(AggregateActor, Purse(), "ann", store, ENV)
            for command in commands:
                await execute(purse, command)
            return await ask_state(purse)

    assert trio.run(live, Earn(500), Spend(200), Spend(900)) == (2, 300)
    assert trio.run(live) == (2, 300)
