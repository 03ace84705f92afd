# ruff: noqa: T201 - a sample shows its result
"""The actor shown on the home page, as it runs: `python -m web.views.greeter`."""

import trio

from actors.runtime import Actor, Ask, message, open_actors


@message
class Greet(Ask[str]):
    name: str


class Greeter(Actor[Greet]):
    greeted = 0

    def on_greet(self, message: Greet) -> str:
        self.greeted += 1
        return f"Welcome {message.name}, guest number {self.greeted}."


async def main() -> None:
    async with open_actors() as system:
        greeter = await system.start(Greeter)
        print(await greeter.ask(Greet("Ada")))


if __name__ == "__main__":
    trio.run(main)
