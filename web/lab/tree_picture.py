"""The running supervision tree as facts and views: what `views.py` needs, read from the snapshot.

Nothing here is kept but the wall-clock time of a crash already shown: the snapshot itself
holds what is true.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import trio

from actors.runtime import ExitJson
from supervision import Node, Tree
from web.lab.views import ActorFacts, exit_words, tree_of
from web.views import (
    ActorStatus,
    Branch,
    CrashTarget,
    CrashView,
    Decision,
    RestartWindow,
    StrategyBadge,
    element_id,
)

# Named by what visitors brought: shown as a number, never one by one (LAB-93).
COUNTED_KINDS = frozenset({"SessionActor", "StreamActor", "Connection"})

_DECISIONS = {
    StrategyBadge.ONE_FOR_ONE: Decision.RESTART,
    StrategyBadge.DYNAMIC: Decision.RESTART,
    StrategyBadge.REST_FOR_ONE: Decision.RESTART_REST,
    StrategyBadge.ONE_FOR_ALL: Decision.RESTART_ALL,
}


class TreePicture:
    """Draws one tree. `target_path` is the actor a visitor may crash here, if any."""

    def __init__(
        self, tree: Callable[[], Tree], now: Callable[[], datetime], target_path: str | None
    ) -> None:
        self._tree, self._now, self._target_path = tree, now, target_path
        self._shown: tuple[tuple[int, float], datetime] | None = None

    def root(self) -> Branch:
        """Call this to draw the whole tree as it is now."""
        nodes = self._tree().snapshot().actors
        ids = {node.path: str(node.id) for node in nodes}
        return tree_of([_facts(node, ids) for node in nodes], counted=COUNTED_KINDS)

    def target(self) -> CrashTarget | None:
        """Call this to get what the crash button crashes; None while it does not run."""
        node = self._target_node()
        if node is None or node.status != ActorStatus.RUNNING:
            return None
        return CrashTarget(element_id(str(node.id)), f"the {node.name.capitalize()} room")

    def crash(self) -> CrashView | None:
        """Call this to tell the newest crash of the site's own actors and what became of it."""
        nodes = self._tree().snapshot().actors
        crashes = [
            (exit_, node)
            for node in nodes
            if node.class_name not in COUNTED_KINDS
            for exit_ in node.last_exits
            if exit_["kind"] == "crashed"
        ]
        if not crashes:
            return None
        exit_, node = max(crashes, key=lambda found: found[0]["at"])
        above = next((other for other in nodes if other.path == node.parent), None)
        strategy = StrategyBadge((above and above.strategy) or StrategyBadge.ONE_FOR_ONE)
        is_back = node.incarnation > exit_["incarnation"] and node.status == ActorStatus.RUNNING
        is_left = node.status == ActorStatus.STOPPED
        return CrashView(
            name=node.name,
            cause=exit_words(exit_["error"] or "crash", None, exit_["message"], None),
            supervisor="nobody" if above is None else above.name,
            strategy=strategy,
            decision=Decision.STOP if is_left else _DECISIONS[strategy],
            at=self._wall_clock(node, exit_),
            restart_ms=node.restart_s * 1000 if is_back and node.restart_s is not None else None,
            incarnation=node.incarnation if is_back else None,
        )

    def restarts(self) -> tuple[int, float | None]:
        """Call this to get how many restarts were survived, and the milliseconds of the last."""
        nodes = self._tree().snapshot().actors
        restarted = [node for node in nodes if node.restarts and node.restart_s is not None]
        last = max(restarted, key=lambda node: node.status_since, default=None)
        milliseconds = None if last is None or last.restart_s is None else last.restart_s * 1000
        return sum(node.restarts for node in nodes), milliseconds

    def actor_count(self) -> int:
        """Call this to count the actors that are alive."""
        return len(self._tree().snapshot().actors)

    def _target_node(self) -> Node | None:
        if self._target_path is None:
            return None
        nodes = self._tree().snapshot(under=self._target_path).actors
        return nodes[0] if nodes else None

    def _wall_clock(self, node: Node, exit_: ExitJson) -> datetime:
        # Exits tell the loop's time. Taken once for each crash, so that it never flickers.
        key = (node.id, exit_["at"])
        if self._shown is None or self._shown[0] != key:
            ago = timedelta(seconds=trio.current_time() - exit_["at"])
            self._shown = (key, self._now() - ago)
        return self._shown[1]


def _facts(node: Node, ids: dict[str, str]) -> ActorFacts:
    is_supervisor = node.type == "supervisor"
    window = node.window if is_supervisor else None
    return ActorFacts(
        id=str(node.id),
        supervisor=None if node.parent is None else ids.get(node.parent, "gone"),
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
    )


def _last_exit(node: Node) -> str | None:
    if not node.last_exits:
        return None
    exit_ = node.last_exits[-1]
    return exit_words(exit_["kind"], exit_["error"], exit_["message"], exit_["info"])
