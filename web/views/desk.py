# ruff: noqa: T201 - a sample shows its result
"""The program shown on the home page, as it runs: `python -m web.views.desk`."""

from actors.runtime import Actor, Ask, message
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
    desk.divider.tell(Divide(0))  # crashes, and is restarted
    print("back again:", await desk.divider.ask(Divide(4)))


if __name__ == "__main__":
    serve(Desk, main=main)
