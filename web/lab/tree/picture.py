"""The running supervision tree as facts and views: what `views.py` needs, read from the tree.

Nothing here is kept but the wall-clock time of a crash already shown: the tree itself holds
what is true. Actors that visitors brought are counted, never read one by one: drawing the
tree costs the same with ten open pages and with ten thousand.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import trio

from actors.runtime import ExitSummary, System
from supervision import Node
from supervision import tree_of as watched_tree
from web.lab.views import ActorFacts, Crowd, TreeFacts, exit_words, tree_of
from web.server import BoundedMap
from web.views import (
    ActorStatus,
    Branch,
    CrashTarget,
    CrashView,
    Decision,
    LastedView,
    NodesView,
    NodeView,
    RestartWindow,
    StrategyBadge,
    element_id,
)

# Below these paths actors are named by what visitors brought: a number of a kind is shown,
# never one by one (LAB-93, LAB-10). What becomes of a sandbox is shown to its visitor only.
CROWDS: Mapping[str, str] = {
    "site/sessions": "SessionActor",
    "site/flows": "LinkFlow",
    "site/passkey-flows": "PasskeyFlow",
    "site/provider-flows": "ProviderFlow",
    "site/streams": "StreamActor",
    "site/sockets": "Connection",
    "site/sandboxes": "Sandbox",
    "site/counters": "CounterActor",
    "site/desks": "DeskActor",
    "site/checkouts/sagas": "CheckoutActor",
    "site/checkouts/steps": "AggregateActor",
}

# What a supervisor that gives up says first in its exit (SUP-42).
GAVE_UP = "reached_max_restart_intensity"
# Lives of the target that pages may still show; a page is told of another within a second.
OFFERED_KEPT = 64
NOWHERE = element_id("none")

_DECISIONS = {
    StrategyBadge.ONE_FOR_ONE: Decision.RESTART,
    StrategyBadge.DYNAMIC: Decision.RESTART,
    StrategyBadge.REST_FOR_ONE: Decision.RESTART_REST,
    StrategyBadge.ONE_FOR_ALL: Decision.RESTART_ALL,
}


class TreePicture:
    """Draws one tree. `target_path` is the actor a visitor may crash here, if any."""

    def __init__(
        self,
        system: Callable[[], System],
        now: Callable[[], datetime],
        target_path: str | None,
        lasted: Callable[[], LastedView | None] = lambda: None,
        nodes: Callable[[], NodesView | None] = lambda: None,
    ) -> None:
        self._lasted, self._nodes = lasted, nodes
        self._system, self._now, self._target_path = system, now, target_path
        self._shown: tuple[tuple[int, float], datetime] | None = None
        # Ids under which the target was shown: a page knows of another one a moment later.
        self._offered: BoundedMap[str, None] = BoundedMap(OFFERED_KEPT)

    def read(self) -> TreeFacts:
        """Call this to draw the tree, its target and its newest crash, with one look at it."""
        nodes = self._own_nodes()
        return TreeFacts(
            self._root(nodes),
            self._target(nodes),
            self._crash(nodes),
            self._lasted(),
            self._nodes(),
        )

    def root(self) -> Branch:
        """Call this to draw the whole tree as it is now."""
        return self._root(self._own_nodes())

    def target(self) -> CrashTarget | None:
        """Call this to get what the crash button crashes; None where nothing may be crashed."""
        return self._target(self._own_nodes())

    def has_offered(self, target: str) -> bool:
        """Tell whether an id was the target's, in this life of it or a former one."""
        return target in self._offered

    def crash(self) -> CrashView | None:
        """Call this to tell the newest crash of the site's own actors and what became of it.

        A supervisor that gave up counts as one: its end is that of all below it.
        """
        return self._crash(self._own_nodes())

    def _root(self, nodes: Sequence[Node]) -> Branch:
        ids = {node.path: str(node.id) for node in nodes}
        above = shown_above(nodes)
        crowds = [
            Crowd(ids[node.path], CROWDS[node.path], node.children)
            for node in nodes
            if node.path in CROWDS and node.children
        ]
        return tree_of([_facts(node, ids, above) for node in nodes], crowds=crowds)

    def _target(self, nodes: Sequence[Node]) -> CrashTarget | None:
        if self._target_path is None:
            return None
        label = f"the {self._target_path.rpartition('/')[2].capitalize()} room"
        node = next((node for node in nodes if node.path == self._target_path), None)
        if node is None:
            # Its supervisor gave up and is being restarted, and all below it with it.
            return CrashTarget(NOWHERE, label, is_running=False)
        target = str(node.id)
        self._offered.put(target, None)
        return CrashTarget(element_id(target), label, node.status == ActorStatus.RUNNING)

    def _crash(self, nodes: Sequence[Node]) -> CrashView | None:
        crashes = [
            (exit_, node)
            for node in nodes
            for exit_ in node.last_exits
            if exit_.kind == "crashed" or _is_give_up(exit_)
        ]
        if not crashes:
            return None
        exit_, node = max(crashes, key=lambda found: found[0].at)
        above = next((other for other in nodes if other.path == node.parent), None)
        strategy = StrategyBadge((above and above.strategy) or StrategyBadge.ONE_FOR_ONE)
        is_back = node.incarnation > exit_.incarnation and node.status == ActorStatus.RUNNING
        is_left = node.status == ActorStatus.STOPPED
        has_given_up = _is_give_up(exit_)
        below = [other for other in nodes if other.parent == node.path]
        running = [other for other in below if other.status == ActorStatus.RUNNING]
        return CrashView(
            name=node.name,
            cause=_give_up_words(exit_)
            if has_given_up
            else exit_words(exit_.error or "crash", None, exit_.message, None),
            supervisor="nobody" if above is None else above.name,
            strategy=strategy,
            decision=Decision.STOP if is_left else _DECISIONS[strategy],
            at=self._wall_clock(node, exit_),
            restart_ms=node.restart_s * 1000 if is_back and node.restart_s is not None else None,
            incarnation=node.incarnation if is_back else None,
            has_given_up=has_given_up,
            children_back=len(running) if has_given_up and is_back else None,
        )

    def restarts(self) -> tuple[int, float | None]:
        """Call this to get how many restarts were survived, and the milliseconds of the last."""
        # Told by cells, which count for every actor; only the few that restarted are read as nodes.
        restarted = [cell for cell in self._system().cells() if cell.counts.restarts]
        tree = watched_tree(self._system())
        back = [node for cell in restarted if (node := tree.node(cell)).restart_s is not None]
        last = max(back, key=lambda node: node.status_since, default=None)
        milliseconds = None if last is None or last.restart_s is None else last.restart_s * 1000
        return sum(cell.counts.restarts for cell in restarted), milliseconds

    def actor_count(self) -> int:
        """Call this to count the actors that are alive."""
        # A passivated child is only a name that can be woken.
        return sum(cell.status != "stopped" for cell in self._system().cells())

    def _own_nodes(self) -> list[Node]:
        """Read the site's own actors, parents first; the crowds are not among them."""
        tree = watched_tree(self._system())
        return [tree.node(cell) for cell in tree.cells(CROWDS)]

    def _wall_clock(self, node: Node, exit_: ExitSummary) -> datetime:
        # Exits tell the loop's time. Taken once for each crash, so that it never flickers.
        key = (node.id, exit_.at)
        if self._shown is None or self._shown[0] != key:
            ago = timedelta(seconds=trio.current_time() - exit_.at)
            self._shown = (key, self._now() - ago)
        return self._shown[1]


def _is_give_up(exit_: ExitSummary) -> bool:
    return exit_.kind == "shutdown" and (exit_.info or exit_.message or "").startswith(GAVE_UP)


def _give_up_words(exit_: ExitSummary) -> str:
    words = (exit_.info or exit_.message or "").removeprefix(GAVE_UP).removeprefix(": ")
    return exit_words(words or "too many crashes", None, None, None)


def shown_above(nodes: Sequence[Node]) -> Mapping[str, str]:
    """Call this for the path below which each is drawn that is not drawn below its supervisor."""
    named = {one.path: one.shown_below for one in nodes if one.shown_below != one.parent}
    paths = {one.path for one in nodes}
    found: dict[str, str] = {}
    for path, above in named.items():
        passed, at = {path}, above
        # Up to one below its supervisor; who stands below itself would be drawn nowhere.
        while at in named and at not in passed:
            passed.add(at)
            at = named[at]
        if above is not None and at in paths and at not in passed:
            found[path] = above
    return found


def _facts(node: Node, ids: Mapping[str, str], above: Mapping[str, str]) -> ActorFacts:
    is_supervisor = node.type == "supervisor"
    window = node.window if is_supervisor else None
    row = NodeView(
        id=element_id(str(node.id)),
        name=node.name,
        kind=node.class_name or "actor",
        status=ActorStatus(node.status),
        incarnation=max(1, node.incarnation),
        restarts=node.restarts,
        queued=node.queued,
        capacity=None if is_supervisor else node.capacity,
        strategy=StrategyBadge(node.strategy) if node.strategy else None,
        window=None if window is None else RestartWindow(window.used, window.max, window.period),
        last_exit=_last_exit(node),
        # Whoever may say below whom it is seen may have others below it.
        holds=node.about is not None and "below" in node.about,
    )
    supervisor = above.get(node.path, node.parent)
    return ActorFacts(None if supervisor is None else ids.get(supervisor, "gone"), row)


def _last_exit(node: Node) -> str | None:
    if not node.last_exits:
        return None
    exit_ = node.last_exits[-1]
    return exit_words(exit_.kind, exit_.error, exit_.message, exit_.info)
