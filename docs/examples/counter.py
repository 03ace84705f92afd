"""A counter: state, three actions, a reducer, an environment, and the actor around them."""

from typing import assert_never

import msgspec
import trio

from actors.reducers import Environment, Next, ReducerActor, command, reducer, start_reducer
from actors.runtime import open_actors
from actors.testing import fixed_environment


class Count(msgspec.Struct, frozen=True):
    value: int = 0


@command
class Increment:
    by: int = 1


@command
class Decrement:
    by: int = 1


@command
class Reset:
    pass


@reducer
def count(state: Count, action: Increment | Decrement | Reset, env: Environment) -> Next[Count]:
    match action:
        case Increment(by):
            return Next(Count(state.value + by))
        case Decrement(by):
            return Next(Count(max(0, state.value - by)))
        case Reset():
            return Next(Count())
    assert_never(action)


class Counter(ReducerActor[Count, Increment | Decrement | Reset]):
    reducer = count

    def initial(self) -> Count:
        return Count()


async def main() -> None:
    async with open_actors() as system:
        counter = await start_reducer(system, Counter, fixed_environment())
        for action in (Increment(5), Decrement(2), Decrement(9), Reset(), Increment(3)):
            await counter.run(action)
            print(action, "->", await counter.state())


if __name__ == "__main__":
    trio.run(main)
