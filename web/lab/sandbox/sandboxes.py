"""Whose sandbox is which: who looks on, what has changed, how long it lives.

Rule 1: membership changes at once, by plain calls of whoever opens and closes streams; only the
keeper starts and ends actors. Like an `Audience`, this outlives the incarnations of both.
Rule 2: a GET makes nothing (LAB-3): a page without a stream shows the shared sandbox.
Rule 3: without viewers the tree is not watched, and the source rests (LAB-5).
"""

import secrets
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import cast
from uuid import UUID

import trio

from actors.runtime import Cell, Crashed, Killed, Ref, System, current_context
from supervision import Report, TreeChange, tree_of
from web.lab.sandbox.cast import AsWanted, Break, Messages, Work
from web.lab.sandbox.desk import SANDBOXES_MAX
from web.lab.sandbox.stories import Stories, Story
from web.lab.sandbox.words import (
    LETTERS_PER_S,
    PLACES,
    QUEUED_MAX,
    SOURCE,
    SUPERVISORS,
    Pace,
    Place,
    Props,
    below,
    place_at,
)
from web.realtime import Stream

# LAB-3: so long after the last stream closed it ends; so long after the last action it heals.
KEPT_S = 600.0
HEALED_AFTER_S = 60.0
# LAB-20: a minute of queues, twice a second.
SAMPLES_MAX = 120
# What a page calls the panel with the stage.
STAGE = "tree"
LEAVES_MAX = 20
LEAF_LENGTH_MAX = 160


class NotNow(Exception):
    """Raised when an actor's state does not allow what was wanted; nothing was done."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One half second: what came since the one before, and what waits where."""

    came: int
    queued: dict[Place, int]


@dataclass(slots=True, eq=False)
class Viewer:
    """What one open page looks at: a panel, and in the tree an actor, or none."""

    sandbox: "Sandbox"
    panel: str
    place: Place | None = None


@dataclass(slots=True)
class Settled:
    """What its visitor did with a lost message, in one word of the page, and what is said of it.

    `duplicates` is how often more it was to be settled, which did nothing (LAB-40).
    """

    how: str
    note: str
    duplicates: int = 0


@dataclass(slots=True, eq=False)
class Sandbox:
    """One sandbox. `root` is the path of its desk, None while there is none."""

    session: UUID | None
    props: Props = field(default_factory=Props)
    stories: Stories = field(init=False)
    root: str | None = None
    # Names its stream of events, whatever its actors go through.
    record: str = field(default_factory=lambda: secrets.token_hex(8))
    # How often what is told of it has changed.
    seq: int = 0
    # How often its desk ended before its time, and in which words the last one did.
    remade: int = 0
    # The pages that show its stage.
    viewers: set[Stream] = field(default_factory=set)
    left_at: float = 0.0
    acted_at: float | None = None
    has_fewer_rooms: bool = False
    is_to_be_made_anew: bool = False
    # Of an actor that was killed: whether it had a letter in hand.
    in_hand: dict[Place, int] = field(default_factory=dict)
    # Which incarnation was killed last, and the flow of who wanted it.
    killed: dict[Place, tuple[int, str | None]] = field(default_factory=dict)
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=SAMPLES_MAX))
    # Which of its dead letters its visitor has settled; of those alone that are still kept.
    settled: dict[int, Settled] = field(default_factory=dict)
    # How often that has changed.
    settlings: int = 0
    # What was told since the feed looked last.
    told: dict[int, Story] = field(default_factory=dict)
    is_changed: bool = True

    def __post_init__(self) -> None:
        self.stories = Stories(self.props)

    @property
    def is_own(self) -> bool:
        """Whether its visitor may break it; the shared one is nobody's."""
        return self.session is not None


class Sandboxes:
    """All sandboxes of the site. It is the sink of the tree while somebody looks on."""

    def __init__(
        self,
        system: Callable[[], System],
        *,
        wake_keeper: Callable[[], None],
        wake_feed: Callable[[], None],
        path: str,
        most: int = SANDBOXES_MAX,
        tell_over: Callable[[str], None] = lambda record: None,
        letters_per_s: int = LETTERS_PER_S,
    ) -> None:
        # Told of the record of a sandbox that is over.
        self._tell_over = tell_over
        self._system, self._path, self._most = system, path, most
        self.wake_keeper, self._wake_feed = wake_keeper, wake_feed
        self._pace = Pace(letters_per_s)
        self.shared = Sandbox(None)
        self._own: dict[UUID, Sandbox] = {}
        self._by_key: dict[str, Sandbox] = {}
        self.viewers: dict[Stream, Viewer] = {}
        # Of them who shows the stage and was not sent it yet.
        self.newcomers: set[Stream] = set()
        self._watching, self._is_watching = ExitStack(), False

    def __len__(self) -> int:
        return len(self._own)

    @property
    def system(self) -> System:
        """The system they run in."""
        return self._system()

    def __iter__(self) -> Iterator[Sandbox]:
        return iter([self.shared, *self._own.values()])

    # -- who looks on ------------------------------------------------------------------------

    def of(self, session: UUID) -> Sandbox:
        """Call this for the sandbox that a session sees; it makes none."""
        return self._own.get(session, self.shared)

    @property
    def is_full(self) -> bool:
        """Whether who comes now sees the shared one."""
        return len(self._own) >= self._most

    def join(self, stream: Stream, panel: str) -> None:
        """Call this when a page of the lab opened its stream; `look` tells what it shows."""
        self.viewers[stream] = Viewer(self.shared, "")
        self.look(stream, panel)

    def look(self, stream: Stream, panel: str, place: Place | None = None) -> None:
        """Call this when a page shows another panel, or actor: the first stage makes a sandbox.

        Raises `KeyError` for a stream that has not joined.
        """
        viewer = self.viewers[stream]
        is_new, viewer.panel, viewer.place = viewer.panel != panel, panel, place
        if is_new:
            self._sit_down(stream, viewer) if panel == STAGE else self._stand_up(stream, viewer)
        # What is open of an actor is sent with the next look.
        viewer.sandbox.is_changed = True
        self._wake_feed()

    def leave(self, stream: Stream) -> None:
        """Call this when that stream closed; harmless when it had left."""
        viewer = self.viewers.pop(stream, None)
        if viewer is not None:
            self._stand_up(stream, viewer)

    def _sit_down(self, stream: Stream, viewer: Viewer) -> None:
        session = stream.key.session
        if session not in self._own and not self.is_full:
            self._own[session] = Sandbox(session, Props(self._pace))
        sandbox = viewer.sandbox = self.of(session)
        sandbox.viewers.add(stream)
        self.newcomers.add(stream)
        if not self._is_watching and sandbox.is_own:
            self._is_watching = True
            self._watching.enter_context(tree_of(self._system()).watch(self, self._path))
        self._set_watched(sandbox)
        self.wake_keeper()

    def _stand_up(self, stream: Stream, viewer: Viewer) -> None:
        sandbox = viewer.sandbox
        sandbox.viewers.discard(stream)
        self.newcomers.discard(stream)
        sandbox.left_at = trio.current_time()
        self._set_watched(sandbox)
        if self._is_watching and not any(one.viewers for one in self._own.values()):
            self._is_watching = False
            self._watching.close()

    def _set_watched(self, sandbox: Sandbox) -> None:
        # Nobody breaks the shared one, so nothing runs in it, however many look on.
        was = sandbox.props.is_watched
        sandbox.props.is_watched = sandbox.is_own and bool(sandbox.viewers)
        if sandbox.props.is_watched and not was:
            # A minute ago is another visit.
            sandbox.samples.clear()
            sandbox.is_changed = True
            self._tell(sandbox, SOURCE, Break())

    # -- for the keeper ----------------------------------------------------------------------

    def props_of(self, key: str) -> Props:
        """Called by a desk that starts."""
        return self._by_key[key].props

    def named(self, sandbox: Sandbox, key: str) -> None:
        """Called before the actors of a sandbox start, under this key."""
        self._by_key[key] = sandbox
        sandbox.root = f"{self._path}/{key}"
        sandbox.is_changed = True

    def ended(self, sandbox: Sandbox) -> None:
        """Called when they have ended, or did not start."""
        if sandbox.root is not None:
            self._by_key.pop(sandbox.root.rpartition("/")[2], None)
        sandbox.root = None
        sandbox.props.cracks.clear()
        sandbox.is_changed = True

    def forget(self, sandbox: Sandbox) -> None:
        """Called when nobody wants it any more."""
        self.ended(sandbox)
        if sandbox.session is not None:
            self._own.pop(sandbox.session, None)
            self._tell_over(sandbox.record)

    def at(self, root: str) -> Sandbox | None:
        """Call this for the sandbox whose desk stands at a path."""
        return self._by_key.get(root.rpartition("/")[2])

    def above(self, path: str) -> Sandbox | None:
        """Call this for the sandbox that an actor is of, by its path; None for all others."""
        if not path.startswith(f"{self._path}/"):
            return None
        return self._by_key.get(path[len(self._path) + 1 :].partition("/")[0])

    # -- what is seen ------------------------------------------------------------------------

    def cells(self, sandbox: Sandbox) -> dict[Place, Cell]:
        """Call this for the actors that are there now."""
        root, system = sandbox.root, self._system()
        desk = None if root is None else system.at(root)
        if root is None or desk is None:
            return {}
        found = {place_at(root, cell.path): cell for cell in tree_of(system).cells((), under=desk)}
        return {place: found[place] for place in PLACES if place in found}

    def cell(self, sandbox: Sandbox, place: Place) -> Cell | None:
        """Call this for the actor at one place."""
        return None if sandbox.root is None else self._system().at(below(sandbox.root, place))

    def changed(self, change: TreeChange) -> None:
        """Called by the tree for each change below the sandboxes' supervisor."""
        key = change.path.removeprefix(f"{self._path}/").partition("/")[0]
        sandbox = self._by_key.get(key)
        if sandbox is None or sandbox.root is None:
            return
        place = place_at(sandbox.root, change.path)
        sandbox.is_changed = True
        if place is not None:
            leaves, in_hand = self._facts_of(sandbox, place, change)
            story = sandbox.stories.told(place, change, leaves, in_hand)
            if story is not None:
                sandbox.told[story.number] = story
            if place == "rooms" and change.kind == "started":
                sandbox.has_fewer_rooms = True
                self.wake_keeper()
        self._wake_feed()

    def _facts_of(
        self, sandbox: Sandbox, place: Place, change: TreeChange
    ) -> tuple[tuple[str, ...], int]:
        if change.kind != "exited" or change.exit is None:
            return (), 0
        if change.exit.kind != "crashed":
            return (), sandbox.in_hand.pop(place, 0)
        # The runtime has just made its own report of it.
        kept = self._system().reports.kept
        if not kept or kept[-1].path != change.path:
            return (), 0
        report = kept[-1]
        assert isinstance(report.exit, Crashed)
        leaves = [
            f"{type(leaf).__name__}: {leaf}"[:LEAF_LENGTH_MAX]
            for leaf in report.exit.leaves()[:LEAVES_MAX]
        ]
        return tuple(leaves), 0 if report.message_id is None else 1

    def cause_of(self, report: Report) -> str | None:
        """Call this for the flow that an actor ended for: that of who pressed the button.

        Which message was in hand does not matter; a killed one may have had none.
        """
        path, incarnation = report.offender.path, report.offender.incarnation
        match report.reason:
            case Crashed() as crash:
                flows = (one.flow for one in crash.leaves() if isinstance(one, AsWanted))
                return next(flows, None) or report.correlation_id
            case Killed():
                sandbox = self._by_key.get(path.removeprefix(f"{self._path}/").partition("/")[0])
                if sandbox is not None and sandbox.root is not None:
                    place = place_at(sandbox.root, path)
                    killed = None if place is None else sandbox.killed.get(place)
                    if killed is not None and killed[0] == incarnation:
                        return killed[1]
            case _:
                pass
        return report.correlation_id

    # -- what a visitor does -------------------------------------------------------------------

    def check(self, sandbox: Sandbox, place: Place, action: str, count: int) -> None:
        """Call this before anything is counted: raises `NotNow` for what is not possible."""
        cell = self.cell(sandbox, place)
        if cell is None or cell.status != "running" or not sandbox.is_own:
            raise NotNow
        if place in SUPERVISORS and action != "kill":
            raise NotNow
        if action == "flood" and count > self._room_for(sandbox, cell):
            raise NotNow

    def _room_for(self, sandbox: Sandbox, cell: Cell) -> int:
        queued = sum(one.mailbox.queued for one in self.cells(sandbox).values())
        return max(0, min(QUEUED_MAX - queued, cell.mailbox.capacity - cell.mailbox.queued))

    def act(self, sandbox: Sandbox, place: Place, action: str, count: int) -> None:
        """Call this to crash, kill or flood an actor that `check` has found fit for it."""
        cell = self.cell(sandbox, place)
        sandbox.acted_at = trio.current_time()
        if cell is None:
            return
        context = current_context()
        flow = None if context is None else context.correlation_id
        match action:
            case "crash":
                sandbox.props.cracks.setdefault(place, flow)
                self._tell(sandbox, place, Break())
            case "kill":
                current = self._system().stats(cell.ref).current
                sandbox.in_hand[place] = 0 if current is None else 1
                if sandbox.killed.get(place, (0, None))[0] != cell.incarnation:
                    sandbox.killed[place] = cell.incarnation, flow
                cell.ref.kill()
            case _:
                # Others may have come between the check and now.
                ref, work = cast("Ref[Messages]", cell.ref), Work()
                for _ in range(min(count, self._room_for(sandbox, cell))):
                    ref.tell(work)
        sandbox.is_changed = True
        self._wake_feed()

    def handle_again(
        self, sandbox: Sandbox, place: Place, letter: int, instead: Messages | None
    ) -> None:
        """Call this to have a message that nobody handled told once more, or another `instead`.

        As a flood it is checked first. Raises KeyError for a letter that is not kept any more.
        """
        sandbox.acted_at = trio.current_time()
        if instead is None:
            self._system().dead_letters.resend(letter)
        else:
            self._tell(sandbox, place, instead)
        sandbox.is_changed = True
        self._wake_feed()

    def reset(self, sandbox: Sandbox) -> None:
        """Call this to have all of it made anew."""
        sandbox.acted_at = trio.current_time()
        sandbox.is_to_be_made_anew = True
        self.wake_keeper()

    def _tell(self, sandbox: Sandbox, place: Place, message: Messages) -> None:
        cell = self.cell(sandbox, place)
        if cell is not None:
            cast("Ref[Messages]", cell.ref).tell(message)

    def sample(self, sandbox: Sandbox, came: int) -> None:
        """Call this twice a second for the next point of its lines."""
        cells = self.cells(sandbox).items()
        queued = {place: cell.mailbox.queued for place, cell in cells if cell.mailbox.queued}
        sandbox.samples.append(Sample(came, queued))
