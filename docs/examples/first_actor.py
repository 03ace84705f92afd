"""A first actor: it crashes on one message, its supervisor restarts it, the next one is fine."""

from actors.runtime import Actor, ActorCrashed, Ask, message
from supervision import Supervisor, child, serve


@message
class Divide(Ask[float]):
    by: float


class Divider(Actor[Divide]):
    def on_divide(self, message: Divide) -> float:
        return 100 / message.by


class Desk(Supervisor):
    divider = child(Divider)


async def main(desk: Desk) -> None:
    try:
        await desk.divider.ask(Divide(0))
    except ActorCrashed as crash:
        print("crashed:", crash.error)
    print("restarted:", await desk.divider.ask(Divide(4)))


if __name__ == "__main__":
    serve(Desk, main=main)
