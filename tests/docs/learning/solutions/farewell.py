"""One way to write the log."""

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
        self.lines: list[str] = []

    def on_write(self, message: Write) -> None:
        if not self.lines:
            self.after(5.0, Flush(), key="flush")
        self.lines.append(message.line)
        if len(self.lines) == 10:
            self.flush()

    def on_flush(self, message: Flush) -> None:
        self.flush()

    def on_stop(self, exit: Exit) -> None:  # noqa: A002 - the runtime's word
        """Called when it is stopped, and when it has crashed."""
        self.flush()

    def flush(self) -> None:
        if self.lines:
            self.write(self.lines)
            self.lines = []
