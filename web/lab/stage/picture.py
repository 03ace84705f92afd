"""The running actors of a sandbox as view models: chips, stories, one actor in detail.

Nothing is read but what is shown; kept is the stage of pages that are not live yet, for a moment.
"""

from collections.abc import Callable, Mapping

import trio

from actors.runtime import ActorStats, Cell, System
from supervision import Node, tree_of
from web.lab.sandbox.sandboxes import HEALED_AFTER_S, Sample, Sandbox, Sandboxes
from web.lab.sandbox.stories import Story
from web.lab.sandbox.words import ABOVE, DESK, PLACES, SUPERVISORS, Place, name_of
from web.lab.switch import LabSwitch
from web.routing.quota import Quota
from web.settings import LabMode
from web.views import (
    ActorStatus,
    ChipView,
    Decision,
    ExitView,
    InspectorView,
    PulseView,
    RestartWindow,
    SampleView,
    StageAccess,
    StageState,
    StageView,
    StepView,
    StoryView,
    StrategyBadge,
    element_id,
)

# What a place is when nobody stands there.
_KINDS: Mapping[Place, str] = {
    **{place: "Member" for place in PLACES if place.startswith("crew-")},
    **{place: "Room" for place in PLACES if place.startswith("rooms-")},
}
# LAB-11 cuts a state at 8 KiB as a whole; a line of it is as long as the panel is wide, ten times.
VALUE_LENGTH_MAX = 400
FIELDS_MAX = 24
# As long as an open page may show the same, see `feed.py`; its stream corrects a page that loads.
STILL_KEPT_S = 0.2


class StagePicture:
    """Draws sandboxes. It may be asked at any time, also while an actor is between two lives."""

    def __init__(
        self,
        system: Callable[[], System],
        sandboxes: Sandboxes,
        switch: LabSwitch,
        quota: Quota,
        streams: Callable[[], int],
    ) -> None:
        self._system, self._sandboxes, self._switch = system, sandboxes, switch
        self._quota, self._streams = quota, streams
        self._still: StageView | None = None
        self._still_chips: tuple[float, tuple[ChipView, ...]] | None = None
        # What the stage was made of; the same objects are not compared again.
        self._still_seen: tuple[object, ...] = ()

    def still(self) -> StageView:
        """Call this for the stage as a page shows it before it is live: the shared sandbox.

        The very same object as long as it looks the same, so a page is rendered once for many.
        However many pages load, its actors are looked at no more often than for an open one.
        """
        now, kept = trio.current_time(), self._still_chips
        if kept is None or now - kept[0] >= STILL_KEPT_S:
            kept = now, tuple(self.chips(self._sandboxes.shared).values())
            self._still_chips = kept
        chips = kept[1]
        access = self._closed() or StageAccess.SHARED
        seen, self._still_seen = self._still_seen, (chips, access, self._most)
        if self._still is not None and seen == self._still_seen:
            return self._still
        stage = StageView(chips, StageState(access, self._most, self._most))
        if stage != self._still:
            self._still = stage
        assert self._still is not None
        return self._still

    @property
    def _most(self) -> int:
        return self._quota.per_session_max

    def chips(self, sandbox: Sandbox) -> dict[Place, ChipView]:
        """Call this for every place, in the order it is drawn."""
        cells, tree = self._sandboxes.cells(sandbox), tree_of(self._system())
        return {
            place: _chip(place, tree.node(cells[place]) if place in cells else None)
            for place in PLACES
        }

    def state(self, sandbox: Sandbox, address: str) -> StageState:
        """Call this for what a visitor may do now."""
        left, wait = self._most, 0.0
        if sandbox.session is not None:
            left, wait = self._quota.left(sandbox.session, address)
        access = self._closed()
        if access is None and not sandbox.is_own:
            access = StageAccess.FULL
        healed_at = None if sandbox.acted_at is None else sandbox.acted_at + HEALED_AFTER_S
        heals_in_s = 0.0 if healed_at is None else healed_at - trio.current_time()
        open_or_not = access or StageAccess.OPEN
        return StageState(
            open_or_not, left, self._most, wait, sandbox.remade, healed_at, heals_in_s
        )

    def _closed(self) -> StageAccess | None:
        match self._switch.mode:
            case LabMode.PUBLIC:
                return None
            case LabMode.OFF:
                return StageAccess.OFF
            case LabMode.READONLY:
                return StageAccess.BUSY if self._switch.is_overloaded else StageAccess.READONLY

    def pulse(self, sandbox: Sandbox, number: int, *, is_first: bool) -> PulseView:
        """Call this for the newest half second, and for who comes those before."""
        samples = [_sample(one) for one in sandbox.samples]
        props = sandbox.props
        return PulseView(
            number=number,
            sample=samples[-1] if samples else SampleView(0),
            lost=props.lost,
            doubled=props.doubled,
            streams=self._streams(),
            past=tuple(samples[:-1]) if is_first else None,
        )

    def inspector(self, sandbox: Sandbox, place: Place) -> InspectorView:
        """Call this for one actor in detail, redacted and cut."""
        cell = self._sandboxes.cell(sandbox, place)
        now = trio.current_time()
        node = None if cell is None else tree_of(self._system()).node(cell)
        exits = tuple(
            ExitView(
                kind=note.exit.kind,
                cause=": ".join(filter(None, (note.exit.error, note.exit.message)))
                or note.exit.info
                or "",
                incarnation=note.exit.incarnation,
                ago_s=max(0, int(now - note.exit.at)),
                because=note.exit.because,
                by=None if note.exit.by is None else _shortened(sandbox, note.exit.by),
                leaves=note.leaves,
            )
            for note in reversed(sandbox.stories.exits[place])
        )
        stats = None if cell is None else self._system().stats(cell.ref)
        return InspectorView(
            chip=_chip(place, node),
            path="/".join(_path_of(place)),
            uptime_s=0 if stats is None else max(0, int(now - stats.started_at)),
            fields=() if cell is None or place in SUPERVISORS else self._fields(cell),
            figures=() if stats is None else _figures(stats, now),
            relations=() if stats is None else _relations(sandbox, stats),
            exits=exits,
        )

    def _fields(self, cell: Cell) -> tuple[tuple[str, str], ...]:
        state = self._system().status(cell.ref).state
        if not isinstance(state, Mapping):
            return () if state is None else (("state", str(state)[:VALUE_LENGTH_MAX]),)
        return tuple(
            (str(name), str(value)[:VALUE_LENGTH_MAX])
            for name, value in list(state.items())[:FIELDS_MAX]
        )


def story_view(story: Story, sandbox: Sandbox, chips: Mapping[Place, ChipView]) -> StoryView:
    """Call this for a story as far as it has come."""
    above = ABOVE[story.place]
    badge = None if above is None else chips[above].strategy
    decision = None if story.decision is None else Decision(story.decision.decision)
    backoff = None if story.decision is None else story.decision.backoff
    return StoryView(
        number=story.number,
        place=element_id(story.place),
        name=name_of(story.place),
        cause=story.cause,
        by="the sandboxes' supervisor" if above is None else name_of(above),
        leaves=story.leaves,
        strategy=badge,
        decision=decision,
        affected=tuple(element_id(place) for place in story.affected),
        steps=_steps(story),
        waited=story.waited,
        in_hand=story.in_hand,
        lost=story.lost,
        backoff_ms=None if backoff is None else round(backoff * 1000),
        restart_us=story.restart_us,
        has_given_up=story.has_given_up,
        line=_line(story, chips),
    )


def _steps(story: Story) -> tuple[StepView, ...]:
    found = (
        ("exit raised", story.exit_at),
        ("supervisor told", story.told_at),
        ("decided", story.decided_at),
        ("instance made", story.made_at),
        ("on_start", story.began_at),
        ("running", story.running_at),
    )
    steps, last = [], 0
    for word, at in found:
        if at is not None and at >= story.exit_at:
            # Two clocks of one machine: never back in time.
            last = max(last, round((at - story.exit_at) * 1e6))
            steps.append(StepView(word, last))
    return tuple(steps)


_DECIDED = {
    "restart": "restarts it",
    "restart_rest": "restarts it and those after it",
    "restart_all": "restarts all of them",
    "stop": "lets it rest",
    "give_up": "has no restart left and gives up",
}


def _line(story: Story, chips: Mapping[Place, ChipView]) -> str:
    above = ABOVE[story.place]
    name = name_of(story.place)
    by = "the keeper" if above is None else name_of(above)
    if story.has_given_up:
        spent = f" ({story.window.max} in {story.window.period:g} s)" if story.window else ""
        if above is None:
            return f"desk gave up{spent}: the sandbox is over, and made anew."
        if story.running_at is None:
            return f"{name} gave up{spent} → {by} has to act."
        back = sum(
            str(chip.above) == story.place and chip.status is ActorStatus.RUNNING
            for chip in chips.values()
        )
        took = (story.running_at - story.exit_at) * 1000
        children = "no child" if back == 0 else "1 child" if back == 1 else f"{back} children"
        return f"{name} gave up{spent} → {by} restarted {name}, {children} back after {took:.1f} ms"
    if story.decision is None:
        return f"{by} has been told."
    words = f"{by} {_DECIDED[story.decision.decision]}"
    if story.affected:
        words += f" (also {', '.join(name_of(place) for place in story.affected)})"
    if story.decision.backoff:
        words += f", after a pause of {story.decision.backoff * 1000:.0f} ms"
    if story.running_at is not None:
        words += f"; running again after {(story.running_at - story.exit_at) * 1000:.2f} ms"
    return words


def _chip(place: Place, node: Node | None) -> ChipView:
    above = ABOVE[place]
    parent = None if above is None else element_id(above)
    if node is None:
        badge = None
        if place in SUPERVISORS:
            badge = StrategyBadge.DYNAMIC if place == "rooms" else StrategyBadge.ONE_FOR_ONE
        kind = _KINDS.get(place, "Supervisor" if badge else "Actor")
        return ChipView(element_id(place), parent, name_of(place), kind, None, strategy=badge)
    is_supervisor = node.strategy is not None
    window = node.window if is_supervisor else None
    pause = node.next_restart_at
    return ChipView(
        place=element_id(place),
        above=parent,
        name=name_of(place),
        kind=(node.class_name or "Actor").removesuffix("Supervisor") or "Supervisor",
        status=ActorStatus(node.status),
        incarnation=max(1, node.incarnation),
        queued=0 if is_supervisor else node.queued,
        capacity=max(1, node.capacity),
        strategy=StrategyBadge(node.strategy) if node.strategy else None,
        window=None if window is None else RestartWindow(window.used, window.max, window.period),
        backoff_ms=None if pause is None else max(0, round((pause - node.status_since) * 1000)),
    )


def _sample(sample: Sample) -> SampleView:
    return SampleView(
        sample.came, tuple((element_id(place), count) for place, count in sample.queued.items())
    )


def _path_of(place: Place) -> list[str]:
    above = ABOVE[place]
    return [DESK] if above is None else [*_path_of(above), name_of(place)]


def _shortened(sandbox: Sandbox, path: str) -> str:
    """The path without what only names the sandbox."""
    root = sandbox.root
    if root is not None and (path == root or path.startswith(root + "/")):
        return DESK + path[len(root) :]
    return path.rpartition("/")[2] or path


def _figures(stats: ActorStats, now: float) -> tuple[tuple[str, str], ...]:
    current = stats.current
    hand = "nothing"
    if current is not None:
        since = "" if current.since is None else f", for {max(0.0, now - current.since):.1f} s"
        hand = f"{current.message}{since}"
    losses = [
        f"{count:,} {word}"
        for count, word in (
            (stats.overflowed, "at a full mailbox"),
            (stats.expired, "too late"),
            (stats.unhandled, "not understood"),
        )
        if count
    ]
    rows = [
        ("in hand", hand),
        ("waiting", f"{stats.queued:,} of {stats.capacity:,}"),
        ("most that waited", f"{stats.peak:,}"),
        ("handled", "not counted" if stats.handled is None else f"{stats.handled:,}"),
        ("lost", ", ".join(losses) or "none"),
        ("crashes", f"{stats.crashes:,}"),
    ]
    if stats.waiting_on is not None:
        rows.insert(1, ("waits for", stats.waiting_on))
    return tuple(rows)


def _relations(sandbox: Sandbox, stats: ActorStats) -> tuple[tuple[str, str], ...]:
    rows = [
        ("links", [_shortened(sandbox, path) for path in stats.links]),
        ("monitors", [_shortened(sandbox, path) for path in stats.monitors]),
        ("timers", [f"every {timer.interval:g} s" if timer.interval else "once"
                    for timer in stats.timers]),
    ]  # fmt: skip
    return tuple((name, ", ".join(found[:8])) for name, found in rows if found)
