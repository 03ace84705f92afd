"""The actors of a sandbox: three that pass numbered messages on, and some that only work.

None of them touches anything but its sandbox's `Props` and its neighbour's mailbox.
"""

from collections.abc import Callable
from typing import TypeAlias

import trio

from actors.runtime import Actor, AnyRef, NoProc, Ref, message
from web.lab.sandbox.words import BEAT_S, Place, Props


class AsWanted(Exception):
    """What an actor crashes with when its visitor wanted it so; `flow` is that of the press.

    The message in hand may be of another: it was only the next one when the button was pressed.
    """

    def __init__(self, text: str, flow: str | None) -> None:
        super().__init__(text)
        self.flow = flow


class CrashedOnPurpose(AsWanted):
    """Raised by all but a router."""


class ShelfFell(AsWanted):
    """One half of a router's crash: such errors come in groups."""


@message
class Work:
    """One piece of work, as a flood brings a thousand of them."""


@message
class Break:
    """A nudge for who has nothing to do: somebody wants you to crash."""


@message
class Numbered:
    """One of the messages that run from the source to the sink."""

    number: int


@message
class Beat:
    """Time for the next number."""


Messages: TypeAlias = Work | Break | Numbered | Beat
FindNext: TypeAlias = Callable[[], AnyRef]


class Performer(Actor[Messages]):
    """Works for some milliseconds a message, and crashes when its visitor wants it to."""

    def __init__(self, props: Props, place: Place) -> None:
        self._props, self.place = props, place
        self.handled = 0
        props.made[place] = trio.current_time()
        # What an incarnation before was told is not for this one.
        props.cracks.pop(place, None)

    def on_start(self) -> None:
        """Note when the start began; it is a step of the story of a crash."""
        self._props.began[self.place] = trio.current_time()

    async def on_work(self, _: Work) -> None:
        """Take some time."""
        self.act()
        await trio.sleep_until(self._props.pace.done_at(trio.current_time()))

    def on_break(self, message: Break) -> None:
        """Crash, unless another message was faster."""
        self.act()

    def on_numbered(self, message: Numbered) -> None:
        """Override this to take part in the feed; all others have nothing to do with it."""

    def on_beat(self, message: Beat) -> None:
        """Override this to send something; all others have nothing to do with it."""

    def act(self) -> None:
        """Called with each message in hand."""
        if self.place in self._props.cracks:
            self.crash(self._props.cracks.pop(self.place))
        self.handled += 1

    def crash(self, flow: str | None) -> None:
        """Override this to crash in another way; `flow` is that of who pressed the button."""
        raise CrashedOnPurpose("somebody pressed Crash", flow)

    def redact(self, state: dict[str, object]) -> dict[str, object]:
        """Show what is its own, not what the whole sandbox shares."""
        return {name: value for name, value in state.items() if not name.startswith("_")}


class Source(Performer):
    """Begins: a number every tenth of a second, while somebody watches."""

    def __init__(self, props: Props, place: Place, find_next: FindNext) -> None:
        super().__init__(props, place)
        self._find_next = find_next

    def on_start(self) -> None:
        """Go on where the incarnation before ended."""
        super().on_start()
        self.after(BEAT_S, Beat(), key="beat")

    def on_break(self, message: Break) -> None:
        """Also what wakes it when somebody watches again."""
        super().on_break(message)
        self.after(BEAT_S, Beat(), key="beat")

    def on_beat(self, message: Beat) -> None:
        """Send the next number."""
        if not self._props.is_watched:
            return
        self.after(BEAT_S, Beat(), key="beat")
        self.act()
        self._props.sent += 1
        _pass_on(self._find_next, Numbered(self._props.sent))


class Router(Performer):
    """Passes on; when it crashes two things go wrong at once."""

    def __init__(self, props: Props, place: Place, find_next: FindNext) -> None:
        super().__init__(props, place)
        self._find_next = find_next

    def on_numbered(self, message: Numbered) -> None:
        """Hand a message to the sink."""
        self.act()
        _pass_on(self._find_next, message)

    def crash(self, flow: str | None) -> None:
        """Raise a group of two."""
        halves = [ShelfFell(f"the {side} one", flow) for side in ("left", "right")]
        raise ExceptionGroup("both shelves fell", halves)


class Sink(Performer):
    """Counts what arrives: what is missing, and what comes twice."""

    def on_numbered(self, message: Numbered) -> None:
        """Count it, unless this is the one it crashes with."""
        self.act()
        self._props.came(message.number)


class Member(Performer):
    """One of the crew: it waits for work."""


class Room(Performer):
    """One of any number of rooms."""


def _pass_on(find: FindNext, message: Numbered) -> None:
    try:
        found: Ref[Messages] = find()  # type: ignore[assignment]  # a sibling of the same plan
    except NoProc:
        return  # its supervisor is at work; the sink counts what is missing
    found.tell(message)
