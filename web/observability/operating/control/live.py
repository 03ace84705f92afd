"""What can be asked of a running site: its tree, and the breakers of what it calls.

Looking takes nothing from others: what is told of many actors is made in slices.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Container, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import trio

from actors.runtime import Cell, Log, System
from supervision import Dependencies, DependencyStats, Node, UnknownDependency, tree_of
from web.observability.ending import Code, CommandFailed
from web.observability.operating.control.serving import Command, Tell
from web.observability.operating.control.words import text_of

log = Log("web.control")

# Some milliseconds of work at once.
_SLICE: Final = 100
# A person looks; what happens in between stands in the counts of an actor.
WATCH_S: Final = 0.5
_NONE: Final[Mapping[str, Command]] = MappingProxyType({})


class TreeCommands:
    """The supervision tree; whoever is below a path of `closed` is told of only when asked for."""

    def __init__(self, system: Callable[[], System], closed: Container[str]) -> None:
        self._system, self._closed = system, closed

    async def tell(self, words: Mapping[str, object], tell: Tell) -> None:
        """Tell all actors, or one and those below it: a row an actor, parents first.

        With `watch` go on until who asked leaves: those that changed, and those that are gone.
        """
        path, told = text_of(words, "path"), dict[str, Node]()
        while True:
            nodes = {node.path: node async for node in self._nodes(path)}
            for gone in told.keys() - nodes.keys():
                await tell({"path": gone, "status": "gone"})
            for node in nodes.values():
                if told.get(node.path) != node:
                    await tell(node.to_json())
            if words.get("watch") is not True:
                return
            told = nodes
            await trio.sleep(WATCH_S)

    async def _nodes(self, path: str) -> AsyncIterator[Node]:
        tree = tree_of(self._system())
        for number, cell in enumerate(self._cells(path), 1):
            yield tree.node(cell)
            if number % _SLICE == 0:
                await trio.lowlevel.checkpoint()

    def _cells(self, path: str) -> Sequence[Cell]:
        tree = tree_of(self._system())
        if not path:
            return tree.cells(self._closed)
        cell = self._system().at(path)
        if cell is None:
            raise CommandFailed(
                Code.UNKNOWN, f"there is no actor {path!r:.200}", "greenroom tree lists them"
            )
        return tree.cells(() if path in self._closed else self._closed, under=cell)


class BreakerCommands:
    """The breakers around what the site calls outside of itself."""

    def __init__(self, outside: Dependencies) -> None:
        self._outside = outside

    async def tell(self, words: Mapping[str, object], tell: Tell) -> None:
        """Tell each, by name."""
        for stats in self._outside.stats():
            await tell(breaker_row(stats))

    async def reset(self, words: Mapping[str, object], tell: Tell) -> None:
        """Close one: it is called again at once. Who asks has written of it in the audit."""
        try:
            found = self._outside.dependency(text_of(words, "name"))
        except UnknownDependency as error:
            known = ", ".join(error.known) or "this site calls nothing outside"
            raise CommandFailed(
                Code.UNKNOWN, f"nothing is called {error.name!r:.80}", f"There is: {known}"
            ) from error
        before = found.stats().breaker.state
        found.reset()
        log.info("outside.reset", dependency=found.name, before=before)
        await tell({"name": found.name, "before": before, "state": found.stats().breaker.state})


def breaker_row(stats: DependencyStats) -> dict[str, object]:
    """Call this for what is told of what is called outside."""
    breaker, bulkhead = stats.breaker, stats.bulkhead
    return {
        "name": stats.name,
        "state": breaker.state,
        "retry_in_s": round(breaker.retry_in, 1),
        "calls": breaker.calls,
        "failures": breaker.failures,
        "failure_rate": round(breaker.failure_rate, 3),
        "rejected": breaker.rejections + bulkhead.refused + stats.bucket.refused,
        "timed_out": stats.timed_out,
        "running": bulkhead.running,
        "waiting": bulkhead.waiting,
    }


def live_commands(
    tree: TreeCommands, breakers: BreakerCommands, more: Mapping[str, Command] = _NONE
) -> dict[str, Command]:
    """Call this for what can be asked, by name; `more` is what others answer."""
    return {
        **more,
        "tree": tree.tell,
        "breakers": breakers.tell,
        "breakers.reset": breakers.reset,
    }
