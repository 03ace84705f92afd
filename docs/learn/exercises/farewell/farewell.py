"""A log that writes what it has in one go, and loses nothing when the program is stopped.

Write `on_write`, `on_flush` and `on_stop`. Lines are kept until there are ten of them, or until 5
seconds have gone by since the first of them came; then they are written together, by `self.write`.
What is kept when the actor stops is written then. `write` is never called with nothing.
"""

from collections.abc import Callable

from actors.runtime import Actor, Exit, message


@message
class Write:
    line: str


@message
class Flush:
    pass


class Log(Actor[Write | Flush]):
    def __init__(self, write: Callable[[list[str]], None]) -> None:
        self.write = write

    def on_write(self, message: Write) -> None:
        raise NotImplementedError

    def on_flush(self, message: Flush) -> None:
        raise NotImplementedError

    def on_stop(self, exit: Exit) -> None:  # noqa: A002 - the runtime's word
        """Called when it is stopped, and when it has crashed."""
